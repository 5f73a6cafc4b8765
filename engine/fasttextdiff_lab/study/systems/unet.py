"""U-Net (Ronneberger et al. 2015, arXiv 1505.04597), from MONAI. Knows sizes only."""

from __future__ import annotations

import importlib

from fasttextdiff_lab.study.systems.system import Plain, System

PAPER = (64, 128, 256, 512, 1024, 64)
"""Channels of the published network; the last one is that of the head's input."""
COMPACT = (16, 32, 64, 128, 256, 16)


def unet(size: int, shape: str = "compact") -> System:
    """MONAI's `BasicUNet`: two convolutions a level, transposed convolutions up, batch normalisation.

    The published network has no normalisation; without it, training from few images diverges.

    Args:
        size: of the images in pixels; a multiple of 16.
        shape: "paper" (31 million parameters, as published) or "compact".
    """
    if size % 16:
        raise ValueError(f"the image side must be a multiple of 16 pixels, not {size}")
    nets = importlib.import_module("monai.networks.nets")
    features = {"paper": PAPER, "compact": COMPACT}[shape]
    return Plain(nets.BasicUNet(2, 3, 1, features=features, act="relu", norm="batch", dropout=0.0))
