"""Determines the modality of an image, and converts CT voxels to Hounsfield units. Knows nothing about files."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.errors import FastTextDiffError
from fasttextdiff.image.hounsfield import hounsfield_offset, in_hounsfield
from fasttextdiff.image.volume import Modality

GUESSED = "modality guessed from the voxels"
"""Start of the note."""
_RARELY_STORED = 8192
"""Only a CT has such a large offset and a histogram like Hounsfield units."""


def settle_modality(
    path: str,
    array: NDArray[Any],
    *,
    asked: Modality | None,
    stated: Modality | None,
    is_planar: bool,
    is_hounsfield: bool,
) -> tuple[NDArray[Any], Modality, list[str]]:
    """Determine the modality, and convert CT voxels to Hounsfield units.

    Args:
        path: name of the image in messages.
        array: voxels (k, j, i) or (k, j, i, 3).
        asked: the user's choice; None to determine the modality.
        stated: from the file; None if it does not say.
        is_planar: a picture, or another image without a position in the patient.
        is_hounsfield: whether the conversion given by the file has been applied.

    Returns:
        Voxels, modality, and notes for the user.

    Raises:
        FastTextDiffError: CT voxels are not Hounsfield units; or the modality is unknown, and the image may be an MR or
            a CT in other units.
    """
    known, notes = asked or stated, []
    if known is None:
        known = _guess(path, array, is_planar)
        notes.append(f"{GUESSED}: {known.value}")
    elif stated not in (None, known):
        notes.append(f"read as {known.value} as requested; the DICOM header says otherwise")
    if known is Modality.CT:
        if stated not in (None, Modality.CT):
            _require_clear_hounsfield(path, array)
        array, extra = _as_ct(path, array, is_planar, is_stated=is_hounsfield and stated in (None, Modality.CT))
        notes += extra
    return array, known, notes


def _as_ct(path: str, array: NDArray[Any], is_planar: bool, *, is_stated: bool) -> tuple[NDArray[Any], list[str]]:
    """A CT in Hounsfield units; colour, and an 8-bit picture of a CT, already windowed, are kept as they are."""
    as_saved = "not Hounsfield units: the model sees it as saved"
    if array.ndim == 4:
        return array, [f"a CT in colour, {as_saved}"]
    if is_planar and _is_eight_bit(array):
        return array.astype(np.uint8, copy=False), [f"a picture with 256 grey levels, {as_saved}"]
    return in_hounsfield(path, array, is_stated=is_stated)


def _is_eight_bit(array: NDArray[Any]) -> bool:
    """Whether the values are those of an 8-bit picture, whatever their type."""
    if array.dtype == np.uint8:
        return True
    return array.dtype.kind in "ui" and array.min() >= 0 and 128 <= array.max() <= 255


def _require_clear_hounsfield(path: str, array: NDArray[Any]) -> None:
    """Read an image whose file gives another modality as CT only if its voxels leave no doubt."""
    if array.ndim == 3 and hounsfield_offset(array) == 0 and array.min() <= -500:
        return
    raise FastTextDiffError(
        f"{path}: according to its DICOM header it is not a CT, and its voxels are not Hounsfield units (air -1000, "
        f"water 0); leave out the modality, or give another one"
    )


def _guess(path: str, array: NDArray[Any], is_planar: bool) -> Modality:
    """Colour is histology, a grey picture X-ray, Hounsfield units CT; MR varies too much and is never guessed."""
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
            f"{path}: judging by its voxels ({low:g} to {high:g}), it may be a CT in Hounsfield units + {offset}, "
            f"or an MR: give its modality, ct or mr"
        )
    return Modality.CT
