"""The orientation of a projection X-ray: Patient Orientation (0020,0020), PS3.3 section C.7.6.1.1.1.

Knows nothing about pixels and files.
"""

from __future__ import annotations

from collections.abc import Sequence

from fasttextdiff.io.dicom_headers import Header

# Opposite directions, one pair per axis of the patient: left and right, feet and head, posterior and anterior.
_AXES = ("LR", "FH", "PA")
_LATERAL_VIEWS = {"LL", "RL", "LAT", "LATERAL"}


def directions_of(orientation: Sequence[str]) -> tuple[str, str] | None:
    """The main direction of rows and of columns: "L", "R", "F", "H", "P" or "A".

    Args:
        orientation: the two values of Patient Orientation, such as "L" and "F", or "LF" and "FR" of an oblique image,
            with the main direction first.

    Returns:
        None if they are missing, of another kind (quadrupeds), or do not span a plane.
    """
    values = [value.strip().upper() for value in orientation]
    letters = {letter for axis in _AXES for letter in axis}
    if len(values) != 2 or not all(values) or not letters.issuperset("".join(values)):
        return None
    if any(len({_axis(letter) for letter in value}) < len(value) for value in values):
        return None  # e.g. left and right
    row, column = values[0][0], values[1][0]
    return (row, column) if _axis(row) != _axis(column) else None


def _axis(letter: str) -> str:
    return next(axis for axis in _AXES if letter in axis)


def projection_notes(header: Header) -> list[str]:
    """Notes for the user on the orientation in which the model sees an X-ray."""
    found = directions_of(header.patient_orientation)
    if found is None:
        # not quoted: it may hold any text, even a name
        notes = [
            "its Patient Orientation is not valid: patient right is assumed on image left"
            if any(header.patient_orientation)
            else "no Patient Orientation: patient right is assumed on image left"
        ]
    else:
        notes = _turning_notes(found, header.patient_orientation)
    view = {"LR": "a lateral X-ray", "FH": "an axial X-ray"}.get(_missing_axis(found), "")
    if header.view in _LATERAL_VIEWS:
        view = "a lateral X-ray"
    if view:
        notes.append(
            f"{view} according to its header: it does not show the sides, and the model was trained on frontal X-rays"
        )
    return notes


def _turning_notes(found: tuple[str, str], orientation: Sequence[str]) -> list[str]:
    values = ", ".join(orientation)
    notes = []
    if any(letter in "RHA" for letter in found) or found[0] == "F" or (found[0] == "P" and found[1] == "L"):
        notes.append(
            f"turned for the model according to its Patient Orientation ({values}); the result fits the stored image"
        )
    if any(len(value.strip()) > 1 for value in orientation):
        notes.append(f"oblique according to its Patient Orientation ({values}): the nearest axes are used")
    return notes


def _missing_axis(found: tuple[str, str] | None) -> str:
    """The axis along the X-rays, if the header gives it."""
    return "" if found is None else next(axis for axis in _AXES if axis not in {_axis(letter) for letter in found})
