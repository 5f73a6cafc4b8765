"""Brings arrays between a slice and the model's input. Knows sizes only; knows nothing about findings or networks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fasttextdiff.image.preprocessing import Fit


def to_input(image: NDArray[Any], fit: Fit) -> Tensor:
    """A slice (h, w) of size `fit.source` on the model's input grid, (1, 1, *fit.padded), anti-aliased."""
    pixels = torch.from_numpy(np.ascontiguousarray(image, np.float32))[None, None]
    if fit.resized != fit.source:
        pixels = functional.interpolate(pixels, fit.resized, mode="bilinear", align_corners=False, antialias=True)
    bottom, right = fit.padded[0] - fit.resized[0], fit.padded[1] - fit.resized[1]
    return functional.pad(pixels, (0, right, 0, bottom), mode="replicate")


def grey_input(pixels: NDArray[np.float32], fit: Fit) -> Tensor:
    """The grey levels of a view (h, w) or (h, w, 3) on the model's input grid, (1, 1, *fit.padded)."""
    return to_input(pixels if pixels.ndim == 2 else pixels.mean(axis=2), fit)


def from_input(values: Tensor, fit: Fit) -> NDArray[np.float32]:
    """A map (1, 1, h, w) of the whole model input, at any resolution, on the slice's grid; bilinear."""
    whole = functional.interpolate(values, fit.padded, mode="bilinear", align_corners=False)
    inside = whole[:, :, : fit.resized[0], : fit.resized[1]]
    return functional.interpolate(inside, fit.source, mode="bilinear", align_corners=False)[0, 0].numpy()


def marked(mark: NDArray[np.bool_], fit: Fit, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels of a grid of `size` over the model's input that hold a marked pixel of the slice.

    However thin the mark or coarse the grid, a mark on the slice leaves at least one.
    """
    rows, columns = np.nonzero(mark)
    grid = np.zeros(size, bool)
    # pixel centres, as shares of the padded input
    down = (rows + 0.5) / fit.source[0] * fit.resized[0] / fit.padded[0]
    right = (columns + 0.5) / fit.source[1] * fit.resized[1] / fit.padded[1]
    grid[(down * size[0]).astype(int), (right * size[1]).astype(int)] = True
    return grid
