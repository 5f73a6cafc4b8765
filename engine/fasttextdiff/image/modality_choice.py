"""Settles what kind of image voxels are, and makes those of a CT Hounsfield units. Knows nothing about files."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.errors import FastTextDiffError
from fasttextdiff.image.hounsfield import hounsfield_offset, in_hounsfield
from fasttextdiff.image.volume import Modality

_RARELY_STORED = 8192
"""No other kind of image than a CT is this far above Hounsfield units and looks like them."""


def settle_modality(
    path: str,
    array: NDArray[Any],
    *,
    asked: Modality | None,
    stated: Modality | None,
    is_planar: bool,
    is_hounsfield: bool,
) -> tuple[NDArray[Any], Modality, list[str]]:
    """What the image is, and its voxels, in Hounsfield units if it is a CT.

    Args:
        path: what the image is called in messages.
        array: voxels (k, j, i) or (k, j, i, 3).
        asked: what the user says it is; None if nothing.
        stated: what its file says; None if nothing.
        is_planar: a picture, or another image without a place in the patient.
        is_hounsfield: whether the file gives the way to Hounsfield units, which has been gone.

    Returns:
        voxels, modality, and what the user should know of both.

    Raises:
        FastTextDiffError: a CT whose voxels are no Hounsfield units; or nothing says what the image is, and a CT in
            other units is as likely as an MR.
    """
    known, notes = asked or stated, []
    if known is None:
        known = _guess(path, array, is_planar)
        notes.append(f"modality guessed from the voxels: {known.value}")
    elif stated not in (None, known):
        notes.append(f"taken as {known.value} as asked; the DICOM header says otherwise")
    if known is Modality.CT:
        if stated not in (None, Modality.CT):
            _require_hounsfield_of_another_kind(path, array)
        array, said = _as_ct(path, array, is_planar, is_stated=is_hounsfield and stated in (None, Modality.CT))
        notes += said
    return array, known, notes


def _as_ct(path: str, array: NDArray[Any], is_planar: bool, *, is_stated: bool) -> tuple[NDArray[Any], list[str]]:
    """A CT in Hounsfield units; a picture of one as 8 bits, which whoever saved it has windowed."""
    if array.ndim == 4 or (is_planar and _is_eight_bit(array)):
        return (
            array if array.ndim == 4 else array.astype(np.uint8, copy=False),
            ["a picture with 256 grey levels, not Hounsfield units: shown to the model as it was saved"],
        )
    return in_hounsfield(path, array, is_stated=is_stated)


def _is_eight_bit(array: NDArray[Any]) -> bool:
    """Whether the values are those of a picture with 8 bits, in whatever type they are stored."""
    if array.dtype == np.uint8:
        return True
    return array.dtype.kind in "ui" and array.min() >= 0 and 128 <= array.max() <= 255


def _require_hounsfield_of_another_kind(path: str, array: NDArray[Any]) -> None:
    """A file that says it is an MR or the like is taken for a CT only where its voxels leave no doubt."""
    if array.ndim == 3 and hounsfield_offset(array) == 0 and array.min() <= -500:
        return
    raise FastTextDiffError(
        f"{path}: its DICOM header says that it is no CT, and its voxels are no Hounsfield units (air -1000, water 0); "
        f"give no modality, or another one"
    )


def _guess(path: str, array: NDArray[Any], is_planar: bool) -> Modality:
    """Histology is colour, a grey picture an X-ray, Hounsfield units CT; MR looks like anything and is not guessed."""
    if array.ndim == 4:
        return Modality.HISTOLOGY
    if is_planar:
        return Modality.XRAY
    offset = hounsfield_offset(array)
    low, high = float(array.min()), float(array.max())
    if offset is None or high <= offset or low > offset - 500:
        return Modality.OTHER
    if 0 < offset < _RARELY_STORED:  # an MR with bright tissue near 1000 has the same histogram
        raise FastTextDiffError(
            f"{path}: by its voxels ({low:g} to {high:g}) it may be a CT in Hounsfield units + {offset}, "
            f"or an MR: say which by giving its modality, ct or mr"
        )
    return Modality.CT
