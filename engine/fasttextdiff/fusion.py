"""Cross-modal fusion: image features attend to the words of a finding, a decoder makes logits of them.

Knows shapes only; knows nothing about where the features or the words came from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.nn import functional

POSITION_OCTAVES = 3
"""Frequencies pi, 2 pi, 4 pi of the positional code."""


class FusionOutput(NamedTuple):
    """What the head says about each (image, finding) pair.

    Attributes:
        logits: (B, out_channels, H, W).
        presence: (B,) logit that the finding is in the image at all; None for heads without that output.
    """

    logits: Tensor
    presence: Tensor | None


class CrossAttention(nn.Module):
    """H = softmax(Q K^T / sqrt(d)) V with Q from image features, K and V from text (paper, section 3.3).

    Args:
        width: channels of the image features.
        text_dim: channels of the text states.
        heads: number of heads.
        head_dim: channels of a head.
    """

    def __init__(self, width: int, text_dim: int, heads: int, head_dim: int) -> None:
        super().__init__()
        inner = heads * head_dim
        self.heads = heads
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_k = nn.Linear(text_dim, inner, bias=False)
        self.to_v = nn.Linear(text_dim, inner, bias=False)
        self.to_out = nn.Linear(inner, width)
        self.norm_out = nn.LayerNorm(width)

    def forward(self, image: Tensor, text: Tensor, mask: Tensor | None) -> Tensor:
        """Attend.

        Args:
            image: (B, N, width), N pixels.
            text: (B, L, text_dim).
            mask: (B, L) bool, True for real tokens; None if there is no padding.

        Returns:
            (B, N, width).
        """
        batch, length, _ = text.shape
        k, v = (to(text).view(batch, length, self.heads, -1) for to in (self.to_k, self.to_v))
        to_q = self.to_q.weight.unflatten(0, (self.heads, -1))
        to_out = self.to_out.weight.unflatten(1, (self.heads, -1))
        # a text has far fewer tokens than a map has pixels: the projections of the pixels are folded into the words
        keys = torch.einsum("blhd,hdc->bhlc", k, to_q) / math.sqrt(k.shape[-1])
        values = torch.einsum("blhd,chd->bhlc", v, to_out)
        # pixels last, where a softmax over a handful of words is fast
        scores = (keys.flatten(1, 2) @ image.transpose(1, 2)).unflatten(1, (self.heads, length))
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None, :, None], -torch.inf)
        attention = scores.softmax(dim=2).to(values.dtype).flatten(1, 2)
        return self.norm_out(attention.transpose(1, 2) @ values.flatten(1, 2) + self.to_out.bias)


class FusionBlock(nn.Module):
    """Two cross-attentions and one linear layer, each pre-normalised and residual (published head, `cross1`)."""

    def __init__(self, width: int, text_dim: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention1 = CrossAttention(width, text_dim, heads, head_dim)
        self.attention2 = CrossAttention(width, text_dim, heads, head_dim)
        self.linear = nn.Linear(width, width)

    def forward(self, image: Tensor, text: Tensor, mask: Tensor | None) -> Tensor:
        """(B, N, width) pixels and (B, L, text_dim) tokens to (B, N, width)."""
        image = image + self.attention1(self.norm1(image), text, mask)
        image = image + self.attention2(self.norm2(image), text, mask)
        return image + self.linear(functional.gelu(self.norm3(image)))


class FusionHead(ModelMixin, ConfigMixin):
    """The trained part of the method (paper section 3.3, figure 2; TextDiff section 2.2).

    Every scale is brought to `width` channels by a 1x1 convolution (skipped where it has that width already: the first
    scale has its own, the later ones share one a channel count), passes one fusion block shared by all scales, is
    upsampled bilinearly, and the concatenation is decoded by three 3x3 convolutions.

    The published head is `FusionHead(feature_channels=(1536, 1536, 768, 768))` (MoNuSeg) or `(3072, 1536, 1536, 768)`
    (QaTa): 9,683,234 and 10,862,882 parameters. The compact one is narrower, and adds what the published one lacks: a
    positional code, so that "left" can be learned, and a presence output, so that absent findings can be told.

    Args:
        feature_channels: channels of each scale, coarsest first.
        text_dim: channels of the text states.
        width: channels of the fused features.
        heads: attention heads.
        head_dim: channels of a head.
        decoder_channels: channels after the first and the second 3x3 convolution.
        out_channels: 2 (background, finding; softmax) or 1 (sigmoid).
        norm_groups: 0 for batch normalisation in the decoder as published; otherwise group normalisation, which does
            not mix the statistics of X-rays with those of histology.
        positional: whether features carry their normalised (x, y) in the image, x to the right, y down, each -1..1.
        presence: whether the presence output exists.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(
        self,
        feature_channels: Sequence[int],
        text_dim: int = 768,
        width: int = 768,
        heads: int = 8,
        head_dim: int = 64,
        decoder_channels: tuple[int, int] = (128, 32),
        out_channels: int = 2,
        norm_groups: int = 0,
        positional: bool = False,
        presence: bool = False,
    ) -> None:
        super().__init__()
        roles = _projection_roles(feature_channels, width)
        self.projection_of_scale = [None if role is None else _unique(roles).index(role) for role in roles]
        self.projections = nn.ModuleList(nn.Conv2d(channels, width, 1) for _, channels in _unique(roles))
        self.position = nn.Linear(2 + 4 * POSITION_OCTAVES, width) if positional else None
        self.block = FusionBlock(width, text_dim, heads, head_dim)
        first, second = decoder_channels
        self.conv1 = nn.Conv2d(len(feature_channels) * width, first, 3, padding=1)
        self.conv2 = nn.Conv2d(first, second, 3, padding=1)
        self.conv3 = nn.Conv2d(second, out_channels, 3, padding=1)
        self.norm1, self.norm2 = _decoder_norm(first, norm_groups), _decoder_norm(second, norm_groups)
        self.presence_head = _presence_layers(width + 2 * second) if presence else None
        self.apply(_initialise)

    def forward(
        self, features: Sequence[Tensor], text: Tensor, text_mask: Tensor | None, size: tuple[int, int]
    ) -> FusionOutput:
        """Logits for one finding an image.

        Args:
            features: one map a scale, (B, C_k, h_k, w_k).
            text: (B, L, text_dim) token states.
            text_mask: (B, L) bool, True for real tokens; None attends to all, as published.
            size: height and width of the decoder's grid, and so of the logits.

        Returns:
            logits (B, out_channels, *size), presence (B,).
        """
        fused = [self._fuse(k, f, text, text_mask) for k, f in enumerate(features)]
        hidden = functional.relu(self.norm1(convolve_upsampled(self.conv1, fused, size)))
        hidden = functional.relu(self.norm2(self.conv2(hidden)))
        return FusionOutput(self.conv3(hidden), self.presence(fused[0], hidden))

    def presence(self, coarsest: Tensor, hidden: Tensor) -> Tensor | None:
        """Logit (B,) that the finding is there, from the coarsest fused map and the decoder's last hidden one."""
        if self.presence_head is None:
            return None
        pooled = torch.cat([coarsest.mean((2, 3)), hidden.mean((2, 3)), hidden.amax((2, 3))], dim=1)
        logit: Tensor = self.presence_head(pooled).squeeze(1)
        return logit

    def _fuse(self, scale: int, feature: Tensor, text: Tensor, mask: Tensor | None) -> Tensor:
        """One scale to `width` channels, mixed with the text."""
        index = self.projection_of_scale[scale]
        height, width = feature.shape[2:]
        x = feature.flatten(2).transpose(1, 2)
        if index is not None:
            projection = self.projections[index]
            assert isinstance(projection, nn.Conv2d)
            x = functional.linear(x, projection.weight.flatten(1), projection.bias)
        if self.position is not None:
            x = x + self.position(positional_code(height, width, x.device, x.dtype))
        return self.block(x, text, mask).transpose(1, 2).unflatten(2, (height, width))


def foreground_logit(logits: Tensor) -> Tensor:
    """Log-odds of the finding, (B, 1 or 2, H, W) to (B, H, W): a softmax of two is the sigmoid of their difference."""
    return logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]


def positional_code(height: int, width: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Pixel centres (x, y) in -1..1 with sines and cosines of a few octaves.

    Returns:
        (height * width, 2 + 4 * POSITION_OCTAVES), rows first.
    """
    y = (torch.arange(height, device=device, dtype=torch.float32) + 0.5) * (2 / height) - 1
    x = (torch.arange(width, device=device, dtype=torch.float32) + 0.5) * (2 / width) - 1
    xy = torch.stack([x.expand(height, width), y[:, None].expand(height, width)], dim=-1).flatten(0, 1)
    angles = [xy * (math.pi * 2**octave) for octave in range(POSITION_OCTAVES)]
    return torch.cat([xy, *[a.sin() for a in angles], *[a.cos() for a in angles]], dim=-1).to(dtype)


def convolve_upsampled(convolution: nn.Conv2d, maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """A 3x3 convolution, padded by one, of the channels of all maps, each upsampled bilinearly to one size.

    Exact up to rounding, without the wide map that all of them together would be. Upsampling commutes with every single
    tap of the convolution: where that is cheaper, the taps are 1x1 convolutions of the small map, and their upsampling,
    shift and sum are two products with interpolation matrices.

    Args:
        convolution: of sum(C_k) channels to C.
        maps: (B, C_k, h_k, w_k), in the order of the convolution's channels.
        size: (H, W).

    Returns:
        (B, C, H, W).
    """
    weights = convolution.weight.split([m.shape[1] for m in maps], dim=1)
    assert convolution.bias is not None
    result = convolution.bias[:, None, None]
    for small, weight in zip(maps, weights, strict=True):
        if _taps_pay(small, len(weight), size):
            result = result + _convolve_taps(small, weight, size)
        else:
            result = result + functional.conv2d(_upsample(small, size), weight, padding=1)
    return result


def _taps_pay(small: Tensor, out: int, size: tuple[int, int]) -> bool:
    """Whether :func:`_convolve_taps` takes fewer multiplications than upsampling and convolving."""
    (channels, h, w), (height, width) = small.shape[1:], size
    taps = 9 * channels * out * h * w + 3 * out * h * width * (3 * w + height)
    plain = 9 * channels * out * height * width + channels * h * width * (w + height)
    return taps < plain


def _upsample(small: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, corners not aligned; channels stay last in memory, as `functional.interpolate` would not keep them."""
    if tuple(small.shape[2:]) == size:
        return small
    rows, columns = (_interpolation(n, m, small) for n, m in zip(small.shape[2:], size, strict=True))
    wide = columns @ small.permute(0, 2, 3, 1)  # (B, h, W, C)
    return (rows @ wide.flatten(2)).unflatten(2, (size[1], -1)).permute(0, 3, 1, 2)


def _convolve_taps(small: Tensor, weight: Tensor, size: tuple[int, int]) -> Tensor:
    """The 3x3 convolution of the upsampled map (B, C, h, w) by way of nine 1x1 taps at its own size."""
    (batch, _, h, w), out = small.shape, len(weight)
    taps = functional.linear(small.flatten(2).transpose(1, 2), weight.permute(2, 3, 0, 1).flatten(0, 2))
    # (B, h, w, 3 rows, 3 columns, out) to (B, 3 rows * h, 3 columns * w, out)
    by_tap = taps.view(batch, h, w, 3, 3, out).permute(0, 3, 1, 4, 2, 5).reshape(batch, 3 * h, 3 * w, out)
    rows, columns = (_seen_by_taps(_interpolation(n, m, by_tap)) for n, m in zip((h, w), size, strict=True))
    wide = columns @ by_tap  # (B, 3 rows * h, W, out)
    return (rows @ wide.flatten(2)).view(batch, *size, out).permute(0, 3, 1, 2)


def _interpolation(source: int, goal: int, like: Tensor) -> Tensor:
    """(goal, source): linear interpolation, corners not aligned."""
    identity = torch.eye(source, device=like.device)[None]
    return functional.interpolate(identity, goal, mode="linear", align_corners=False)[0].T.to(like.dtype)


def _seen_by_taps(interpolation: Tensor) -> Tensor:
    """(goal, 3 * source): each row as the three taps around it see it; beyond the border lies nothing."""
    padded = functional.pad(interpolation, (0, 0, 1, 1))
    return torch.cat([padded[tap : tap + len(interpolation)] for tap in range(3)], dim=1)


def _projection_roles(channels: Sequence[int], width: int) -> list[tuple[bool, int] | None]:
    """Which projection a scale uses, as (is first scale, channels); None where the width fits already."""
    return [None if c == width else (k == 0, c) for k, c in enumerate(channels)]


def _unique(roles: Sequence[tuple[bool, int] | None]) -> list[tuple[bool, int]]:
    return list(dict.fromkeys(role for role in roles if role is not None))


def _decoder_norm(channels: int, groups: int) -> nn.Module:
    return nn.GroupNorm(groups, channels) if groups else nn.BatchNorm2d(channels)


def _presence_layers(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(channels, 64), nn.GELU(), nn.Linear(64, 1))


def _initialise(module: nn.Module) -> None:
    """N(0, 0.02) for all weights, as published."""
    if isinstance(module, (nn.Linear, nn.Conv2d)):
        nn.init.normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
