"""A phantom to measure on if no file is given. Knows geometry; knows nothing about models."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.image.volume import Modality, Source, Volume

AIR, LUNG, FAT, TISSUE, LESION = -1000, -850, -80, 45, -250
"""Hounsfield units."""


def chest_phantom(slices: int, side: int = 512) -> Volume:
    """A noisy CT phantom of a body, two lungs and a lesion in the left lung, with 0.7 mm pixels; for timing only."""
    rng = np.random.default_rng(0)
    y, x = (np.mgrid[:side, :side] + 0.5) * 2 / side - 1
    plane = np.full((side, side), AIR, np.int16)
    for level, ellipse in (
        (FAT, (0, 0, 0.9, 0.65)),
        (TISSUE, (0, 0, 0.85, 0.6)),
        (LUNG, (-0.42, -0.05, 0.3, 0.42)),
        (LUNG, (0.42, -0.05, 0.3, 0.42)),
        (LESION, (0.45, 0.2, 0.12, 0.1)),
    ):
        plane[_inside(x, y, ellipse)] = level
    array = np.repeat(plane[None], slices, axis=0)
    for k in range(slices):  # slice by slice, which avoids a second volume in memory
        array[k] += rng.integers(-25, 26, plane.shape, dtype=np.int16)
    # rows run to posterior and columns to patient left, as in scanner images
    return Volume(array, np.diag([-0.7, -0.7, 1.0, 1.0]), Modality.CT, source=Source(path="chest phantom"))


def _inside(x: NDArray[np.float64], y: NDArray[np.float64], ellipse: tuple[float, ...]) -> NDArray[np.bool_]:
    centre_x, centre_y, radius_x, radius_y = ellipse
    return ((x - centre_x) / radius_x) ** 2 + ((y - centre_y) / radius_y) ** 2 < 1
