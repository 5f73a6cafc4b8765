"""Which way round a projection X-ray is stored: Patient Orientation (0020,0020), PS3.3 C.7.6.1.1.1.

Knows nothing about pixels and files.
"""

from __future__ import annotations

from collections.abc import Sequence

from fasttextdiff.io.dicom_headers import Header

# Opposite directions, one pair an axis of the patient: left and right, feet and head, back and front.
_AXES = ("LR", "FH", "PA")
_LATERAL_VIEWS = {"LL", "RL", "LAT", "LATERAL"}


def directions_of(orientation: Sequence[str]) -> tuple[str, str] | None:
    """Where rows and columns run to, each as the letter that counts most: "L", "R", "F", "H", "P" or "A".

    Args:
        orientation: the two values of Patient Orientation, such as "L" and "F", or "LF" and "FR" of an oblique image:
            the first letter counts most.

    Returns:
        None if they are missing, not of this kind (quadrupeds), or no plane.
    """
    values = [value.strip().upper() for value in orientation]
    letters = {letter for axis in _AXES for letter in axis}
    if len(values) != 2 or not all(values) or not letters.issuperset("".join(values)):
        return None
    if any(len({_axis(letter) for letter in value}) < len(value) for value in values):
        return None  # left and right at once
    row, column = values[0][0], values[1][0]
    return (row, column) if _axis(row) != _axis(column) else None


def _axis(letter: str) -> str:
    return next(axis for axis in _AXES if letter in axis)


def projection_notes(header: Header) -> list[str]:
    """What a user should know of the way an X-ray is shown to the model."""
    found = directions_of(header.patient_orientation)
    said = ", ".join(header.patient_orientation)
    if found is None:
        notes = [
            f"its Patient Orientation ({said}) is not understood: taken as displayed, the patient's right on image left"
            if any(header.patient_orientation)
            else "no Patient Orientation given: taken as displayed, the patient's right on image left"
        ]
    else:
        notes = _turning_notes(found, header.patient_orientation)
    view = {"LR": "a lateral film", "FH": "an axial film"}.get(_missing_axis(found), "")
    if header.view in _LATERAL_VIEWS:
        view = "a lateral film"
    if view:
        notes.append(f"{view} by its header: the model was trained on frontal ones, and it does not show the sides")
    return notes


def _turning_notes(found: tuple[str, str], orientation: Sequence[str]) -> list[str]:
    said = ", ".join(orientation)
    notes = []
    if any(letter in "RHA" for letter in found) or found[0] == "F" or (found[0] == "P" and found[1] == "L"):
        notes.append(f"turned for the model as its Patient Orientation ({said}) says; the result fits it as stored")
    if any(len(value.strip()) > 1 for value in orientation):
        notes.append(f"oblique by its Patient Orientation ({said}): taken along its nearest axes")
    return notes


def _missing_axis(found: tuple[str, str] | None) -> str:
    """The axis that the rays run along, if the header gives it."""
    return "" if found is None else next(axis for axis in _AXES if axis not in {_axis(letter) for letter in found})
