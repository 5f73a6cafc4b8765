"""Rules about images: the slice axis, the start of a DICOM file, the entropy of a probability.

Knows matrices, sizes and numbers; knows nothing about Slicer's nodes or display.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import permutations
from typing import Any, BinaryIO

MODALITIES = ("ct", "mr", "xray", "histology", "other")
"""The modalities that a model can be trained for; "other" is everything else."""

THICKER = 1.1
"""An axis is taken as the slice axis if its spacing is at least this many times the pixel spacing."""

PLANE_ACROSS = ("sagittal", "coronal", "axial")
"""Plane by the RAS axis perpendicular to it: 0 right, 1 anterior, 2 superior."""
ACQUISITION = "acquisition"
"""The plane of the slices as they were acquired."""
PLANES = (ACQUISITION, *reversed(PLANE_ACROSS))
"""Planes in which a volume can be segmented."""
_SUPERIOR = 2


def nearest_ras_axes(ijk_to_ras: Sequence[Sequence[float]]) -> tuple[int, int, int]:
    """The nearest RAS axis (0 right, 1 anterior, 2 superior) of each array axis (k, j, i); all three differ.

    Args:
        ijk_to_ras: 4x4 or 3x3, rows; voxel index (i, j, k) to millimetres.
    """
    cosines = [[abs(ijk_to_ras[ras][axis]) / _length(ijk_to_ras, axis) for ras in range(3)] for axis in (2, 1, 0)]

    def closeness(axes: Sequence[int]) -> float:
        # rounding hides differences in the last digit, and the first of equals wins: the same choice on every machine
        return round(sum(cosines[array_axis][ras] for array_axis, ras in enumerate(axes)), 6)

    k, j, i = max(permutations(range(3)), key=closeness)
    return k, j, i


def slice_axis(ijk_to_ras: Sequence[Sequence[float]], shape: Sequence[int]) -> int:
    """The array axis (0 = k, 1 = j, 2 = i) along which a volume without DICOM headers was most likely acquired.

    NIfTI, NRRD and MetaImage do not record it, and their axes come in any order. The slice axis is the only axis of
    length 1; else the axis with clearly larger spacing than the others; else the axis of axial slices.

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


def starts_like_dicom(file: BinaryIO) -> bool:
    """Whether an open file has "DICM" after a preamble of 128 bytes (PS3.10 section 7.1); rewinds the file.

    Raises:
        OSError: it cannot be read.
    """
    start = file.read(132)
    file.seek(0)
    return start[128:] == b"DICM"


def entropy(probability: Any, log2: Callable[[Any], Any]) -> Any:
    """Binary entropy in bits: 0 at probability 0 or 1, and 1 at 0.5.

    Args:
        probability: a number, or an array of any shape; the result has the same type.
        log2: the logarithm for this type, `math.log2` or `numpy.log2`.
    """
    absent = 1 - probability
    # log2(1) replaces log2(0)
    bits = probability * log2(probability + (probability == 0)) + absent * log2(absent + (absent == 0))
    return 0 - bits


def _length(ijk_to_ras: Sequence[Sequence[float]], column: int) -> float:
    return math.sqrt(sum(float(ijk_to_ras[row][column]) ** 2 for row in range(3)))
