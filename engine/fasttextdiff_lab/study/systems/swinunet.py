"""Swin-Unet (Cao et al. 2021, arXiv 2105.05537): a U-Net of shifted-window transformers without convolutions.

The encoder and all transformer blocks are those of `transformers` (Swin, Liu et al. 2021); the decoder with its patch
expansion is written after the paper. MONAI's SwinUNETR is another network: its decoder is convolutional. Knows shapes
only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fasttextdiff_lab.study.systems.system import Plain, System

PATCH = 4
LEVELS = 4


@dataclass(frozen=True)
class Shape:
    """Sizes of the network.

    Attributes:
        width: channels of the finest level; every coarser one has twice as many.
        depths: blocks of the encoder's levels; the decoder has as many.
        heads: attention heads of the levels.
        window: side of a window in patches.
        drop_path: largest share of blocks that are skipped in training.
    """

    width: int = 96
    depths: tuple[int, ...] = (2, 2, 2, 2)
    heads: tuple[int, ...] = (3, 6, 12, 24)
    window: int = 7
    drop_path: float = 0.2


SHAPES = {"paper": Shape(), "compact": Shape(width=32, heads=(1, 2, 4, 8), drop_path=0.0)}


class Expand(nn.Module):
    """Patch expansion: a linear layer, whose channels become pixels.

    Args:
        width: channels before.
        factor: of the resolution.
        after: channels after.
    """

    def __init__(self, width: int, factor: int, after: int) -> None:
        super().__init__()
        self.factor = factor
        self.linear = nn.Linear(width, factor**2 * after, bias=False)
        self.norm = nn.LayerNorm(after)

    def forward(self, x: Tensor, side: int) -> Tensor:
        """(B, side ** 2, width) to (B, (factor side) ** 2, after)."""
        f = self.factor
        x = self.linear(x).unflatten(1, (side, side)).unflatten(3, (f, f, -1))
        expanded: Tensor = self.norm(x.permute(0, 1, 3, 2, 4, 5).reshape(x.shape[0], (side * f) ** 2, -1))
        return expanded


class Stage(nn.Module):
    """Swin blocks of the decoder, alternately shifted."""

    def __init__(self, config: Any, width: int, heads: int, depth: int, side: int, padded: bool) -> None:
        from transformers.models.swin.modeling_swin import SwinLayer

        super().__init__()
        self.side, self.padded = side, padded
        self.blocks = nn.ModuleList(
            SwinLayer(config, width, (side, side), heads, shift_size=n % 2 * (config.window_size // 2))
            for n in range(depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, side ** 2, width), unchanged in shape."""
        for block in self.blocks:
            x = block(x, (self.side, self.side), always_partition=self.padded)[0]
        return x


class SwinUNet(nn.Module):
    """The whole network.

    Args:
        size: of the images in pixels.
        shape: its sizes.
    """

    def __init__(self, size: int, shape: Shape) -> None:
        from transformers import SwinConfig, SwinModel

        super().__init__()
        config = SwinConfig(
            image_size=size, patch_size=PATCH, embed_dim=shape.width, depths=list(shape.depths),
            num_heads=list(shape.heads), window_size=shape.window, drop_path_rate=shape.drop_path,
        )  # fmt: skip
        self.encoder = SwinModel(config, add_pooling_layer=False)
        self.sides = [size // PATCH // 2**level for level in range(LEVELS)]
        self.padded = self.sides[-1] < shape.window  # else a small map would have a window that its biases do not fit
        widths = [shape.width * 2**level for level in range(LEVELS)]
        self.expands = nn.ModuleList(Expand(width, 2, width // 2) for width in widths[:0:-1])
        self.merges = nn.ModuleList(nn.Linear(2 * width, width) for width in widths[-2::-1])
        self.stages = nn.ModuleList(
            Stage(config, widths[level], shape.heads[level], shape.depths[level], self.sides[level], self.padded)
            for level in range(LEVELS - 2, -1, -1)
        )
        self.norm = nn.LayerNorm(shape.width)
        self.last = Expand(shape.width, PATCH, shape.width)
        self.head = nn.Linear(shape.width, 1, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) to logits (B, 1, S, S)."""
        tokens, grid = self.encoder.embeddings(images)
        seen = self.encoder.encoder(tokens, grid, output_hidden_states=True, always_partition=self.padded)
        # the input of each of the encoder's levels is the skip of the decoder's
        skips = [state.flatten(2).transpose(1, 2) for state in seen.reshaped_hidden_states]
        x = self.encoder.layernorm(seen.last_hidden_state)
        for n, (expand, merge, stage) in enumerate(zip(self.expands, self.merges, self.stages, strict=True)):
            level = LEVELS - 2 - n
            x = expand(x, self.sides[level + 1])
            x = stage(merge(torch.cat([x, skips[level]], dim=2)))
        x = self.head(self.last(self.norm(x), self.sides[0]))
        side = self.sides[0] * PATCH
        return x.transpose(1, 2).unflatten(2, (side, side))


def swinunet(size: int, shape: str = "compact") -> System:
    """Build Swin-Unet with random weights; the published one starts from ImageNet.

    Args:
        size: of the images in pixels; a multiple of 32; 224 fits the windows without padding.
        shape: "paper" (27.2 million parameters) or "compact".
    """
    if size % (PATCH * 2 ** (LEVELS - 1)):
        raise ValueError(f"the image side must be a multiple of 32 pixels, not {size}")
    if shape not in SHAPES:
        raise ValueError(f"the shape must be one of {', '.join(SHAPES)}, not '{shape}'")
    return Plain(SwinUNet(size, SHAPES[shape]))
