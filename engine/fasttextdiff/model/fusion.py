"""Cross-modal fusion: image features attend to the words of a finding, and a decoder computes logits.

Knows shapes only; knows nothing about the origin of features or words.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.nn import functional

from fasttextdiff.model.convolutions import convolve_to_few, convolve_upsampled, convolve_upsampled_reference

POSITION_OCTAVES = 3
"""Frequencies of the positional code: pi, 2 pi, 4 pi."""


class FusionOutput(NamedTuple):
    """The head's output for each (image, finding) pair.

    Attributes:
        logits: (B, out_channels, H, W).
        presence: (B,) logit that the finding is in the image at all; None for heads without this output.
    """

    logits: Tensor
    presence: Tensor | None


class HiddenMaps(NamedTuple):
    """What the decoder computes on the way to the logits, for each (image, finding) pair.

    Attributes:
        coarsest: (B, width, h_0, w_0), the coarsest fused map.
        first: (B, decoder_channels[0], H, W).
        second: (B, decoder_channels[1], H, W).
        logits: (B, out_channels, H, W).
    """

    coarsest: Tensor
    first: Tensor
    second: Tensor
    logits: Tensor


class Words(NamedTuple):
    """Texts prepared for a cross-attention.

    Attributes:
        keys: (B, heads * L, width).
        values: (B, heads * L, width).
        mask: (B, L) bool, True for real tokens; None if there is no padding.
    """

    keys: Tensor
    values: Tensor
    mask: Tensor | None


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

    def reference(self, image: Tensor, text: Tensor, mask: Tensor | None) -> Tensor:
        """Equation 4 of the paper as written: softmax(Q K^T / sqrt(d)) V for every head, then `to_out`.

        :meth:`forward` computes the same faster; a test checks that they agree.

        Args:
            image: (B, N, width), N pixels.
            text: (B, L, text_dim), L tokens.
            mask: (B, L) bool, True for real tokens; None if there is no padding.

        Returns:
            (B, N, width).
        """
        q, k, v = (
            projection(x).unflatten(2, (self.heads, -1)).transpose(1, 2)  # (B, heads, N or L, d)
            for projection, x in ((self.to_q, image), (self.to_k, text), (self.to_v, text))
        )
        scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None, None, :], -torch.inf)
        attended = scores.softmax(dim=3) @ v
        return self.norm_out(self.to_out(attended.transpose(1, 2).flatten(2)))

    def words(self, text: Tensor, mask: Tensor | None) -> Words:
        """Prepare a text for :meth:`forward`; the result serves all maps.

        A text has far fewer tokens than a map has pixels, so the projections of the pixels x are folded into the words.
        With W_q, W_k, W_v and W_o of one head:
        Q K^T = (x W_q)(t W_k)^T = x (t W_k W_q^T)^T = x keys^T, and
        softmax(..) V W_o = softmax(..) (t W_v W_o) = softmax(..) values.

        Args:
            text: (B, L, text_dim).
            mask: (B, L) bool, True for real tokens; None if there is no padding.
        """
        k, v = (to(text).unflatten(2, (self.heads, -1)) for to in (self.to_k, self.to_v))
        to_q = self.to_q.weight.unflatten(0, (self.heads, -1))
        to_out = self.to_out.weight.unflatten(1, (self.heads, -1))
        keys = torch.einsum("blhd,hdc->bhlc", k, to_q) / math.sqrt(k.shape[-1])
        # the attention weights of a head sum to one, so each head can carry its share of the bias
        values = torch.einsum("blhd,chd->bhlc", v, to_out) + self.to_out.bias / self.heads
        return Words(keys.flatten(1, 2), values.flatten(1, 2), mask)

    def forward(self, image: Tensor, words: Words) -> Tensor:
        """Attend.

        Args:
            image: (B, N, width), N pixels.
            words: of B * F texts, with the F texts of an image next to each other.

        Returns:
            (B * F, N, width).
        """
        keys, values, mask = words
        asked = keys.unflatten(0, (image.shape[0], -1)).flatten(1, 2)
        # with pixels last, the softmax over a few words is fast
        scores = (asked @ image.transpose(1, 2)).view(keys.shape[0], self.heads, -1, image.shape[1])
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None, :, None], -torch.inf)
        attention = scores.softmax(dim=2).to(values.dtype).flatten(1, 2)
        return self.norm_out(attention.transpose(1, 2) @ values)


class FusionBlock(nn.Module):
    """Two cross-attentions and one linear layer, each pre-normalised and residual (published head, `cross1`)."""

    def __init__(self, width: int, text_dim: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention1 = CrossAttention(width, text_dim, heads, head_dim)
        self.attention2 = CrossAttention(width, text_dim, heads, head_dim)
        self.linear = nn.Linear(width, width)

    def words(self, text: Tensor, mask: Tensor | None) -> tuple[Words, Words]:
        """Words for both attentions; arguments as for :meth:`CrossAttention.words`."""
        return self.attention1.words(text, mask), self.attention2.words(text, mask)

    def reference(self, image: Tensor, text: Tensor, mask: Tensor | None) -> Tensor:
        """The block as published; arguments as for :meth:`CrossAttention.reference`."""
        image = image + self.attention1.reference(self.norm1(image), text, mask)
        image = image + self.attention2.reference(self.norm2(image), text, mask)
        return image + self.linear(functional.gelu(self.norm3(image)))

    def forward(self, image: Tensor, words: tuple[Words, Words]) -> Tensor:
        """(B, N, width) pixels and the words of B * F texts to (B * F, N, width)."""
        answer = self.attention1(self.norm1(image), words[0])
        image = _added(answer.unflatten(0, (image.shape[0], -1)), image[:, None]).flatten(0, 1)
        image = _added(self.attention2(self.norm2(image), words[1]), image)
        return _added(self.linear(functional.gelu(self.norm3(image))), image)


def _added(answer: Tensor, image: Tensor) -> Tensor:
    """Their sum in the dtype of the image, in the memory of `answer`, because allocation costs more than addition."""
    return answer.to(image.dtype).add_(image)


class FusionHead(ModelMixin, ConfigMixin):
    """The trained part of the method (paper section 3.3, figure 2; TextDiff section 2.2).

    Every scale is projected to `width` channels by a 1x1 convolution, unless it already has that width. The first scale
    has its own projection; later scales with equal channels share one. All scales pass one shared fusion block and are
    upsampled bilinearly; three 3x3 convolutions decode the concatenation.

    The published head is `FusionHead(feature_channels=(1536, 1536, 768, 768))` (MoNuSeg) or `(3072, 1536, 1536, 768)`
    (QaTa): 9,683,234 and 10,862,882 parameters. The compact head is narrower, and adds a positional code, so that
    "left" can be learned, and a presence output, so that absent findings can be recognised.

    Args:
        feature_channels: channels of each scale, coarsest first.
        text_dim: channels of the text states.
        width: channels of the fused features.
        heads: attention heads.
        head_dim: channels of a head.
        decoder_channels: channels after the first and the second 3x3 convolution.
        out_channels: 2 (background, finding; softmax) or 1 (sigmoid).
        norm_groups: 0 for batch normalisation in the decoder, as published; else group normalisation, which does not
            mix the statistics of X-rays and histology.
        positional: whether features carry their normalised (x, y) in the image, x to the right, y down, each -1..1.
        presence: whether there is a presence output.
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
        """Logits for one or more findings per image.

        Args:
            features: one map per scale, (B, C_k, h_k, w_k).
            text: (B * F, L, text_dim) token states, with the F findings of an image next to each other.
            text_mask: (B * F, L) bool, True for real tokens; None attends to all, as published.
            size: height and width of the decoder's grid and of the logits.

        Returns:
            logits (B * F, out_channels, *size), presence (B * F,).
        """
        return self.answer(self.project(features), text, text_mask, size)

    def reference(
        self, features: Sequence[Tensor], text: Tensor, text_mask: Tensor | None, size: tuple[int, int]
    ) -> FusionOutput:
        """:meth:`forward` step by step as in figure 2, with one text per image: slow, but easy to follow.

        Args:
            features: one map per scale, (B, C_k, h_k, w_k).
            text: (B, L, text_dim).
            text_mask: (B, L) bool, True for real tokens; None attends to all, as published.
            size: height and width of the logits.
        """
        fused = [_as_map(self.block.reference(_as_pixels(m), text, text_mask), m) for m in self.project(features)]
        hidden = functional.relu(self.norm1(convolve_upsampled_reference(self.conv1, fused, size)))
        hidden = functional.relu(self.norm2(self.conv2(hidden)))
        return FusionOutput(self.conv3(hidden), self.presence(fused[0], hidden))

    def project(self, features: Sequence[Tensor]) -> list[Tensor]:
        """The part that does not depend on the text: every scale at the head's width, with the positional code.

        Args:
            features: as for :meth:`forward`.

        Returns:
            (B, width, h_k, w_k), channels last in memory.
        """
        return [self._projected(scale, feature) for scale, feature in enumerate(features)]

    def answer(
        self, maps: Sequence[Tensor], text: Tensor, text_mask: Tensor | None, size: tuple[int, int]
    ) -> FusionOutput:
        """The rest of :meth:`forward`, from the maps of :meth:`project`."""
        hidden = self.hidden(maps, text, text_mask, size)
        return FusionOutput(hidden.logits, self.presence(hidden.coarsest, hidden.second))

    def hidden(
        self, maps: Sequence[Tensor], text: Tensor, text_mask: Tensor | None, size: tuple[int, int]
    ) -> HiddenMaps:
        """The decoder's layers up to the logits; arguments as for :meth:`answer`."""
        words = self.block.words(text, text_mask)
        fused = [_as_map(self.block(_as_pixels(m), words), m) for m in maps]
        first = functional.relu_(self.norm1(convolve_upsampled(self.conv1, fused, size)))
        second = functional.relu_(self.norm2(self.conv2(first)))
        return HiddenMaps(fused[0], first, second, convolve_to_few(self.conv3, second))

    def presence(self, coarsest: Tensor, hidden: Tensor) -> Tensor | None:
        """Logit (B,) that the finding is there, from the coarsest fused map and the decoder's last hidden map."""
        if self.presence_head is None:
            return None
        pooled = torch.cat([coarsest.mean((2, 3)), hidden.mean((2, 3)), hidden.amax((2, 3))], dim=1)
        logit: Tensor = self.presence_head(pooled).squeeze(1)
        return logit

    def _projected(self, scale: int, feature: Tensor) -> Tensor:
        index = self.projection_of_scale[scale]
        x = _as_pixels(feature)
        if index is not None:
            projection = self.projections[index]
            assert isinstance(projection, nn.Conv2d)
            x = functional.linear(x, projection.weight.flatten(1), projection.bias)
        if self.position is not None:
            x = x + self.position(positional_code(*feature.shape[2:], x.device, x.dtype))
        return _as_map(x, feature)


def _as_pixels(image: Tensor) -> Tensor:
    """(B, C, h, w) to (B, h * w, C)."""
    return image.flatten(2).transpose(1, 2)


def _as_map(pixels: Tensor, like: Tensor) -> Tensor:
    """(B, h * w, C) to (B, C, h, w) with height and width of another map; channels last in memory.

    `transpose` before `unflatten` would also work, but for a batch of one torch would not recognise the strides as
    channels last, and would copy.
    """
    return pixels.unflatten(1, like.shape[2:]).permute(0, 3, 1, 2)


def foreground_logit(logits: Tensor) -> Tensor:
    """Log-odds of the finding, (B, 1 or 2, H, W) to (B, H, W); a softmax of two is the sigmoid of their difference."""
    return logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]


@lru_cache(maxsize=32)
@torch.inference_mode(False)  # else a cached code first made in inference mode could not be used in training
def positional_code(height: int, width: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Pixel centres (x, y) in -1..1 with sines and cosines of a few octaves.

    Returns:
        (height * width, 2 + 4 * POSITION_OCTAVES), rows first; cached, so do not modify it.
    """
    y = (torch.arange(height, device=device, dtype=torch.float32) + 0.5) * (2 / height) - 1
    x = (torch.arange(width, device=device, dtype=torch.float32) + 0.5) * (2 / width) - 1
    xy = torch.stack([x.expand(height, width), y[:, None].expand(height, width)], dim=-1).flatten(0, 1)
    angles = [xy * (math.pi * 2**octave) for octave in range(POSITION_OCTAVES)]
    return torch.cat([xy, *[a.sin() for a in angles], *[a.cos() for a in angles]], dim=-1).to(dtype)


def _projection_roles(channels: Sequence[int], width: int) -> list[tuple[bool, int] | None]:
    """The projection of each scale as (is first scale, channels); None if it already has the width."""
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
