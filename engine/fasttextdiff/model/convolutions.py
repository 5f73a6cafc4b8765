"""The head's 3x3 convolutions: the textbook form of each, and a faster form with the same result.

Knows shapes only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
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

    Args:
        convolution: of sum(C_k) channels to C.
        maps: (B, C_k, h_k, w_k), in the order of the convolution's channels.
        size: (H, W).

    Returns:
        (B, C, H, W).
    """
    if torch.jit.is_tracing():  # type: ignore[attr-defined]
        return _convolve_upsampled_traced(convolution, maps, size)
    weights = convolution.weight.split([m.shape[1] for m in maps], dim=1)
    assert convolution.bias is not None
    result = convolution.bias.expand(maps[0].shape[0], *size, -1).clone()
    for small, weight in zip(maps, weights, strict=True):
        if tuple(small.shape[2:]) == size:
            in_order = weight.contiguous(memory_format=torch.channels_last)  # else the map would lose this layout
            result += functional.conv2d(small, in_order, padding=1).permute(0, 2, 3, 1)
        else:
            result = _add_convolved(result, small, weight)
    return result.permute(0, 3, 1, 2)


def _add_convolved(result: Tensor, small: Tensor, weight: Tensor) -> Tensor:
    """Add to `result` (B, H, W, out), in place, the 3x3 convolution of a map (B, C, h, w) after upsampling.

    Write the kernel as three rows w_-1, w_0, w_1. Upsampling along y and convolving along x commute, so that
    conv(up(m)) = sum_r shift_r(up_y(w_r * up_x(m))): the three row convolutions run at the map's original height.
    """
    height, width = result.shape[1:3]
    wide = functional.interpolate(small, (small.shape[2], width), mode="bilinear", align_corners=False)
    for row in range(3):
        kernel = weight[:, :, row : row + 1].contiguous(memory_format=torch.channels_last)
        convolved = functional.conv2d(wide, kernel, padding=(0, 1))
        tall = functional.interpolate(convolved, (height, width), mode="bilinear", align_corners=False)
        result = _AddShifted.apply(result, tall.permute(0, 2, 3, 1), row - 1)
    return result


def _convolve_upsampled_traced(convolution: nn.Conv2d, maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """:func:`convolve_upsampled` for conversion: without our own function; channels first, as OpenVINO prefers."""
    weights = convolution.weight.split([m.shape[1] for m in maps], dim=1)
    assert convolution.bias is not None
    result = convolution.bias[None, :, None, None]
    for small, weight in zip(maps, weights, strict=True):
        if tuple(small.shape[2:]) == size:
            result = result + functional.conv2d(small, weight, padding=1)
            continue
        wide = functional.interpolate(small, (small.shape[2], size[1]), mode="bilinear", align_corners=False)
        for row in range(3):
            convolved = functional.conv2d(wide, weight[:, :, row : row + 1], padding=(0, 1))
            tall = functional.interpolate(convolved, size, mode="bilinear", align_corners=False)
            _, rows = _shifted_rows(tall.shape[2], row - 1)
            result = result + functional.pad(tall[:, :, rows], (0, 0, max(0, 1 - row), max(0, row - 1)))
    return result


class _AddShifted(Function):
    """Add a map, shifted up by some rows, to another one in place.

    Like an assignment to a slice, whose backward pass would copy the whole gradient twice.
    """

    @staticmethod
    def forward(ctx: Any, result: Tensor, added: Tensor, up: int) -> Tensor:
        """`added` and `result` (B, H, W, C); rows shifted out of the map are dropped, as with zero padding."""
        ctx.mark_dirty(result)
        ctx.up = up
        to, of = _shifted_rows(result.shape[1], up)
        result[:, to] += added[:, of]
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        """The gradient of the sum, for both inputs; shifted back for `added`."""
        to, of = _shifted_rows(gradient.shape[1], ctx.up)
        back = torch.zeros_like(gradient)
        back[:, of] = gradient[:, to]
        return gradient, back, None


def _shifted_rows(height: int, up: int) -> tuple[slice, slice]:
    """Target rows and source rows of a shift up."""
    return slice(max(0, -up), height - max(0, up)), slice(max(0, up), height - max(0, -up))


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
