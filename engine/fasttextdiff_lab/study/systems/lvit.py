"""Early fusion of text in the manner of LViT (Li et al. 2023, arXiv 2206.14718, section III), simplified.

As there, a U-shaped CNN runs in parallel with a U of transformers; texts enter the transformers' tokens at the finest
level and reach every other level with them. Each level's tokens go back to the CNN, whose skips pass an attention.
Simplified: tokens of all levels have one grid, and text joins by attention instead of interpolated addition, so that
texts of any length fit. LViT's losses for images without masks are not here. Knows shapes only.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from fasttextdiff.model.text_encoder import TextEncoder, TextStates
from fasttextdiff_lab.study.systems.fusion_blocks import Attention
from fasttextdiff_lab.study.systems.system import System
from fasttextdiff_lab.study.systems.transunet import convolution

PATCH = 16
"""Pixels of a token's side."""
LEVELS = 4


@dataclass(frozen=True)
class Shape:
    """Sizes of the network.

    Attributes:
        width: channels of the finest CNN level; each coarser one has twice as many, at most eight times.
        token: channels of the tokens.
        heads: attention heads.
    """

    width: int
    token: int
    heads: int


SHAPES = {"compact": Shape(16, 96, 4), "paper": Shape(64, 320, 8)}
"""The paper shape has about as many parameters as LViT-T (29.7 million)."""


class TokenLevel(nn.Module):
    """Tokens of one level: the CNN's map joins them, words join them, and they go back to the CNN.

    Args:
        channels: of the CNN's map.
        shape: sizes.
        patch: pixels of a token's side in this map.
        text_dim: channels of the words; 0 at levels that words reach through the tokens only.
    """

    def __init__(self, channels: int, shape: Shape, patch: int, text_dim: int) -> None:
        super().__init__()
        self.patch = patch
        self.embed = nn.Conv2d(channels, shape.token, patch, patch)
        self.fuse = Attention(shape.token, text_dim, shape.heads, shape.token // shape.heads) if text_dim else None
        self.norm = nn.LayerNorm(shape.token) if text_dim else None
        self.layer = nn.TransformerEncoderLayer(
            shape.token, shape.heads, 4 * shape.token, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.back = nn.Conv2d(shape.token, channels, 1)

    def forward(self, image: Tensor, tokens: Tensor | None, words: TextStates) -> tuple[Tensor, Tensor]:
        """The map (B, channels, h, w) with the tokens' answer added, and the tokens (B, N, token)."""
        embedded = self.embed(image)
        grid = embedded.shape[2:]
        own = embedded.flatten(2).transpose(1, 2)
        tokens = own if tokens is None else own + tokens
        if self.fuse is not None and self.norm is not None:
            tokens = tokens + self.fuse(self.norm(tokens), words.states, words.mask)
        tokens = self.layer(tokens)
        answer = self.back(tokens.transpose(1, 2).unflatten(2, grid))
        return image + functional.interpolate(answer, image.shape[2:], mode="bilinear", align_corners=False), tokens


class PixelAttention(nn.Module):
    """LViT's attention of a skip: channels weighed by their mean and maximum, pixels by a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channel = nn.Sequential(nn.Linear(channels, channels // 4), nn.ReLU(), nn.Linear(channels // 4, channels))
        self.pixel = nn.Conv2d(channels, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, h, w), unchanged in shape."""
        weight = self.channel(x.mean((2, 3))) + self.channel(x.amax((2, 3)))
        x = x * weight.sigmoid()[:, :, None, None]
        return x * self.pixel(x).sigmoid()


class LViT(System):
    """The whole network.

    Args:
        encoder: reads the texts.
        shape: sizes.
        frozen_text: see :class:`System`.
    """

    def __init__(self, encoder: TextEncoder, shape: Shape, frozen_text: bool) -> None:
        super().__init__(encoder, frozen_text)
        widths = [shape.width * min(2**level, 8) for level in range(LEVELS + 1)]
        self.first = _double(3, widths[0])
        self.downs = nn.ModuleList(_double(a, b) for a, b in pairwise(widths))
        self.tokens = nn.ModuleList(
            TokenLevel(widths[level], shape, PATCH // 2**level, encoder.dim if level == 0 else 0)
            for level in range(LEVELS)
        )
        self.skips = nn.ModuleList(PixelAttention(width) for width in widths[:-1])
        self.ups = nn.ModuleList(_double(a + b, b) for a, b in zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.head = nn.Conv2d(widths[0], 1, 1)

    def forward(self, images: Tensor, words: TextStates | None, noise: Tensor) -> Tensor:
        """See :class:`System`."""
        assert words is not None  # it has an encoder
        x: Tensor = self.first(images)
        tokens: Tensor | None = None
        skips: list[Tensor] = []
        for level, down in enumerate(self.downs):
            x, tokens = self.tokens[level](x, tokens, words)
            skips.append(x)
            x = down(functional.max_pool2d(x, 2))
        for up, attention, skip in zip(self.ups, reversed(self.skips), reversed(skips), strict=True):
            x = functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = up(torch.cat([x, attention(skip)], dim=1))
        logits: Tensor = self.head(x)
        return logits


def _double(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(convolution(before, after), convolution(after, after))


def lvit(size: int, encoder: TextEncoder, shape: str = "compact", frozen_text: bool = True) -> System:
    """Build the network with random weights.

    Args:
        size: of the images in pixels; a multiple of 16.
        encoder: reads the texts.
        shape: "compact" or "paper".
        frozen_text: as published.
    """
    if size % PATCH:
        raise ValueError(f"the image side must be a multiple of {PATCH} pixels, not {size}")
    if shape not in SHAPES:
        raise ValueError(f"the shape must be one of {', '.join(SHAPES)}, not '{shape}'")
    return LViT(encoder, SHAPES[shape], frozen_text)
