"""Which axis of a stored volume its slices lie along. Standard library only: the Slicer module shares this rule.

Knows matrices and sizes; knows nothing about files, nodes or display.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import permutations

THICKER = 1.1
"""Slices are told by their distance when it is this many times the distance of the pixels in them."""

PLANE_ACROSS = ("sagittal", "coronal", "axial")
"""The plane of slices by the RAS axis across them: 0 right, 1 anterior, 2 superior."""
_SUPERIOR = 2


def nearest_ras_axes(ijk_to_ras: Sequence[Sequence[float]]) -> tuple[int, int, int]:
    """The RAS axis (0 right, 1 anterior, 2 superior) that each array axis (k, j, i) runs along; all three differ.

    Args:
        ijk_to_ras: 4x4 or 3x3, rows; voxel index (i, j, k) to millimetres.
    """
    cosines = [[abs(ijk_to_ras[ras][axis]) / _length(ijk_to_ras, axis) for ras in range(3)] for axis in (2, 1, 0)]

    def closeness(axes: Sequence[int]) -> float:
        # the first best wins, and rounding hides differences of the last digit: the same choice on every machine
        return round(sum(cosines[array_axis][ras] for array_axis, ras in enumerate(axes)), 6)

    k, j, i = max(permutations(range(3)), key=closeness)
    return k, j, i


def slice_axis(ijk_to_ras: Sequence[Sequence[float]], shape: Sequence[int]) -> int:
    """The array axis (0 = k, 1 = j, 2 = i) along which a volume without DICOM headers was most likely acquired.

    NIfTI, NRRD and MetaImage do not say it, and their axes come in any order. One axis of length 1 is that of a single
    slice; else slices are further apart than the pixels in them; else, with equal distances, they are axial.

    Args:
        ijk_to_ras: 4x4 or 3x3, rows; voxel index (i, j, k) to millimetres.
        shape: (k, j, i).
    """
    single = [axis for axis in range(3) if shape[axis] == 1]
    if len(single) == 1:
        return single[0]
    spacing = [_length(ijk_to_ras, axis) for axis in (2, 1, 0)]
    for axis in range(3):
        if all(spacing[axis] > THICKER * spacing[other] for other in range(3) if other != axis):
            return axis
    return nearest_ras_axes(ijk_to_ras).index(_SUPERIOR)


def _length(ijk_to_ras: Sequence[Sequence[float]], column: int) -> float:
    return math.sqrt(sum(float(ijk_to_ras[row][column]) ** 2 for row in range(3)))
