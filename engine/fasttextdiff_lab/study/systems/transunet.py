"""TransUNet (Chen et al. 2021, arXiv 2102.04306), written after the paper and its published configuration R50-ViT-B_16.

A ResNet-50 of three stages with weight-standardised convolutions and group norms (BiT, arXiv 1912.11370), a vision
transformer on its last map, and a cascaded up-sampler with skips of the ResNet. Knows shapes only.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from fasttextdiff_lab.study.systems.system import Plain, System

EPSILON = 1e-6
"""Of all norms outside the decoder, as published."""


@dataclass(frozen=True)
class Shape:
    """Sizes of the network.

    Attributes:
        root: channels of the first convolution; stages have 4, 8 and 16 times as many.
        units: residual units of the three stages.
        hidden: channels of the transformer.
        layers: its layers.
        heads: its attention heads.
        mlp: channels of its hidden layers.
        decoder: channels before and after each of the four up-sampling steps.
        groups: groups of group norms.
    """

    root: int = 64
    units: tuple[int, ...] = (3, 4, 9)
    hidden: int = 768
    layers: int = 12
    heads: int = 12
    mlp: int = 3072
    decoder: tuple[int, ...] = (512, 256, 128, 64, 16)
    groups: int = 32


SHAPES = {
    "paper": Shape(),
    "compact": Shape(16, (2, 2, 3), 192, 4, 4, 768, (128, 64, 32, 16, 16), groups=8),
}


class StandardisedConv(nn.Conv2d):
    """A convolution whose filters have mean 0 and variance 1 (Qiao et al. 2019, arXiv 1903.10520)."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to (B, C', h', w')."""
        variance, mean = torch.var_mean(self.weight, dim=(1, 2, 3), keepdim=True, unbiased=False)
        weight = (self.weight - mean) / (variance + 1e-5).sqrt()
        return functional.conv2d(x, weight, self.bias, self.stride, self.padding)


class Unit(nn.Module):
    """A bottleneck unit: 1x1, 3x3, 1x1, added to its input."""

    def __init__(self, before: int, after: int, stride: int, groups: int) -> None:
        super().__init__()
        middle = after // 4
        self.conv1 = StandardisedConv(before, middle, 1, bias=False)
        self.conv2 = StandardisedConv(middle, middle, 3, stride, 1, bias=False)
        self.conv3 = StandardisedConv(middle, after, 1, bias=False)
        self.norm1, self.norm2 = (nn.GroupNorm(groups, middle, EPSILON) for _ in range(2))
        self.norm3 = nn.GroupNorm(groups, after, EPSILON)
        changes = stride != 1 or before != after
        self.shortcut = (
            nn.Sequential(StandardisedConv(before, after, 1, stride, bias=False), nn.GroupNorm(after, after))
            if changes
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, before, h, w) to (B, after, h / stride, w / stride)."""
        y = functional.relu(self.norm1(self.conv1(x)))
        y = functional.relu(self.norm2(self.conv2(y)))
        return functional.relu(self.shortcut(x) + self.norm3(self.conv3(y)))


class ResNet(nn.Module):
    """The convolutional part: maps at 1/2, 1/4, 1/8 and 1/16 of the image."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.root = nn.Sequential(
            StandardisedConv(3, shape.root, 7, 2, 3, bias=False),
            nn.GroupNorm(shape.groups, shape.root, EPSILON),
            nn.ReLU(),
        )
        widths = [shape.root, *(shape.root * factor for factor in (4, 8, 16))]
        self.stages = nn.ModuleList(
            nn.Sequential(
                *(
                    Unit(before if n == 0 else after, after, 2 if n == 0 and stage > 0 else 1, shape.groups)
                    for n in range(units)
                )
            )
            for stage, (before, after, units) in enumerate(zip(widths, widths[1:], shape.units, strict=False))
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, S, S) to maps, finest first."""
        maps = [self.root(x)]
        # padded, so that the map is exactly 1/4 of the image; published: no padding, and zeros added to the skip
        x = functional.max_pool2d(maps[0], 3, 2, padding=1)
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


class Up(nn.Module):
    """Doubles a map and merges a skip into it with two convolutions."""

    def __init__(self, before: int, skip: int, after: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(convolution(before + skip, after), convolution(after, after))

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        """(B, before, h, w) to (B, after, 2 h, 2 w)."""
        x = functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
        merged: Tensor = self.convs(x if skip is None else torch.cat([x, skip], dim=1))
        return merged


def convolution(before: int, after: int) -> nn.Sequential:
    """3x3, batch norm, ReLU."""
    return nn.Sequential(nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU())


class TransUNet(nn.Module):
    """The whole network.

    Args:
        size: of the images in pixels.
        shape: its sizes.
    """

    def __init__(self, size: int, shape: Shape) -> None:
        super().__init__()
        self.grid = size // 16
        self.resnet = ResNet(shape)
        self.embed = nn.Conv2d(16 * shape.root, shape.hidden, 1)
        self.position = nn.Parameter(torch.zeros(1, self.grid**2, shape.hidden))
        self.drop = nn.Dropout(0.1)
        layer = nn.TransformerEncoderLayer(
            shape.hidden, shape.heads, shape.mlp, 0.1, "gelu", EPSILON, batch_first=True, norm_first=True
        )
        self.transformer = nn.TransformerEncoder(
            layer, shape.layers, nn.LayerNorm(shape.hidden, EPSILON), enable_nested_tensor=False
        )
        self.first = convolution(shape.hidden, shape.decoder[0])
        skips = (8 * shape.root, 4 * shape.root, shape.root, 0)
        self.ups = nn.ModuleList(
            Up(before, skip, after)
            for before, skip, after in zip(shape.decoder, skips, shape.decoder[1:], strict=False)
        )
        self.head = nn.Conv2d(shape.decoder[-1], 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, S, S) to logits (B, 1, S, S)."""
        *skips, x = self.resnet(x)
        tokens = self.embed(x).flatten(2).transpose(1, 2) + self.position
        tokens = self.transformer(self.drop(tokens))
        x = self.first(tokens.transpose(1, 2).unflatten(2, (self.grid, self.grid)))
        for up, skip in zip(self.ups, [*reversed(skips), None], strict=True):
            x = up(x, skip)
        logits: Tensor = self.head(x)
        return logits


def transunet(size: int, shape: str = "compact") -> System:
    """Build TransUNet with random weights; the published one starts from ImageNet-21k.

    Args:
        size: of the images in pixels; a multiple of 16.
        shape: "paper" (105.3 million parameters) or "compact".
    """
    if size % 16:
        raise ValueError(f"the image side must be a multiple of 16 pixels, not {size}")
    if shape not in SHAPES:
        raise ValueError(f"the shape must be one of {', '.join(SHAPES)}, not '{shape}'")
    return Plain(TransUNet(size, SHAPES[shape]))
