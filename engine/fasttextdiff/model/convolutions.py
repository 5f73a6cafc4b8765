"""The head's 3x3 convolutions: the textbook form of each, and a faster form with the same result.

Knows shapes only.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


def convolve_upsampled_reference(convolution: nn.Conv2d, maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """As in figure 2 of the paper: upsample every scale, concatenate, convolve. See :func:`convolve_upsampled`."""
    upsampled = [functional.interpolate(m, size, mode="bilinear", align_corners=False) for m in maps]
    joined: Tensor = convolution(torch.cat(upsampled, dim=1))
    return joined


def convolve_upsampled(convolution: nn.Conv2d, maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """A 3x3 convolution, padded by one, of the channels of all maps, each upsampled bilinearly to one size.

    Equal to :func:`convolve_upsampled_reference` up to rounding, without the large map of all channels. A convolution
    is linear in its input channels, so each map contributes separately:
    conv(cat(up(m_1), ..., up(m_K))) = bias + sum_k conv_k(up(m_k)).
    Write the kernel as three rows w_-1, w_0, w_1. Upsampling along y and convolving along x commute, so that
    conv(up(m)) = sum_r shift_r(up_y(w_r * up_x(m))): the rows convolve at the map's own height. Upsampling along y and
    shifting is a product with a matrix, and one product does it for all rows of all maps.

    Args:
        convolution: of sum(C_k) channels to C.
        maps: (B, C_k, h_k, w_k), in the order of the convolution's channels.
        size: (H, W).

    Returns:
        (B, C, H, W).
    """
    weights = convolution.weight.split([m.shape[1] for m in maps], dim=1)
    assert convolution.bias is not None
    result = convolution.bias[None, :, None, None]
    rows, matrices = [], []
    for small, weight in zip(maps, weights, strict=True):
        if tuple(small.shape[2:]) == size:
            result = result + functional.conv2d(small, weight, padding=1)
        else:
            rows.append(_convolved_by_rows(small, weight, size[1]))
            matrices.append(_upsample_and_shift(small, size[0]))
    return result + torch.cat(matrices, dim=1) @ torch.cat(rows, dim=2) if rows else result


def _convolved_by_rows(small: Tensor, weight: Tensor, width: int) -> Tensor:
    """Upsample a map (B, C_k, h, w) along x, and convolve with each row of the kernel: (B, C, 3 h, width)."""
    wide = functional.interpolate(small, (small.shape[2], width), mode="bilinear", align_corners=False)
    kernels = weight.transpose(1, 2).flatten(0, 1).unsqueeze(2)  # (3 C, C_k, 1, 3), the rows of an output together
    return functional.conv2d(wide, kernels, padding=(0, 1)).unflatten(1, (-1, 3)).flatten(2, 3)


def _upsample_and_shift(small: Tensor, height: int) -> Tensor:
    """The matrix (height, 3 h) that upsamples the results of the three rows for a map of h rows, shifts and adds them.

    Rows shifted out of the map are dropped, as with zero padding.
    """
    unit = torch.eye(small.shape[2], device=small.device, dtype=small.dtype)
    upsample = functional.interpolate(unit[None, None], (height, small.shape[2]), mode="bilinear", align_corners=False)
    padded = functional.pad(upsample[0, 0], (0, 0, 1, 1))
    return torch.cat([padded[row : row + height] for row in range(3)], dim=1)


def convolve_to_few(convolution: nn.Conv2d, image: Tensor) -> Tensor:
    """A 3x3 convolution, padded by one, to a few channels: equal to `convolution(image)` up to rounding.

    out(y, x) = bias + sum over the nine taps (r, s) of w_rs . image(y + r, x + s). The products of all taps are one
    matrix product (9 * few, C) @ (C, H * W); the resulting planes are shifted and added.

    Args:
        convolution: of C channels to a few.
        image: (B, C, H, W).

    Returns:
        (B, few, H, W).
    """
    if torch.jit.is_tracing():  # type: ignore[attr-defined]
        converted: Tensor = convolution(image)
        return converted
    assert convolution.bias is not None
    few, (height, width) = convolution.out_channels, image.shape[2:]
    taps = convolution.weight.permute(2, 3, 0, 1).flatten(0, 2) @ image.flatten(2)
    padded = convolution.bias[:, None, None].expand(len(image), -1, height + 2, width + 2).clone()
    for tap, planes in enumerate(taps.unflatten(2, (height, width)).split(few, dim=1)):
        down, right = 2 - tap // 3, 2 - tap % 3
        padded[:, :, down : down + height, right : right + width] += planes
    return padded[:, :, 1:-1, 1:-1]
