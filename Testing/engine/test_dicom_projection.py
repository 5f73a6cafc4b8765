"""Projection X-rays in any stored orientation: shown to the model upright, with the result on the file's own grid."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from dicom_files import write_slice

from fasttextdiff.image.orientation import display_plane
from fasttextdiff.io.dicom_projection import directions_of
from fasttextdiff.io.read import decoded_from_memory, read_volume, volume_from

FILM = np.arange(40 * 30, dtype=np.uint16).reshape(40, 30)  # upright: row 0 on top, the patient's right at column 0
AXES = ("LR", "FH", "PA")
PLANES = [(a, b) for one, two in permutations(AXES, 2) for a in one for b in two]


def write_film(path, pixels, orientation, **attributes):
    options = {"Modality": "DX", "ImagePositionPatient": None, "PixelSpacing": [0.5, 0.25], **attributes}
    return write_slice(path, pixels, PatientOrientation=orientation, **options)


def stored_as(upright, row, column):
    """A radiograph as stored with rows towards `row` and columns towards `column`."""
    pixels = upright
    letters = {"L": "L", "R": "L", "F": "F", "H": "F", "P": "P", "A": "P"}
    order = {"F": 2, "P": 1, "L": 0}
    if order[letters[row]] > order[letters[column]]:
        pixels = pixels.T
    return np.ascontiguousarray(pixels[:: -1 if column in "RHA" else 1, :: -1 if row in "RHA" else 1])


@pytest.mark.parametrize(("row", "column"), PLANES)
def test_a_radiograph_is_shown_upright_in_every_stored_orientation(tmp_path, row, column):
    path = write_film(tmp_path / "film", stored_as(FILM, row, column), [row, column])
    volume = read_volume(path)
    display = display_plane(volume, "acquisition")
    assert np.array_equal(display.to_display(volume.array)[0], FILM)
    across, down = (0.25, 0.5) if volume.shape[1:] == FILM.shape else (0.5, 0.25)
    assert display.pixel_spacing == (down, across)


@pytest.mark.parametrize(
    ("orientation", "found"),
    [
        (["LF", "FR"], ("L", "F")),
        (["L ", "f"], ("L", "F")),
        (["PR", "F"], ("P", "F")),
        (["L", "R"], None),
        (["LR", "F"], None),
        (["L"], None),
        (["LE", "D"], None),
        ([], None),
    ],
)
def test_orientation_codes_are_understood_or_rejected(orientation, found):
    assert directions_of(orientation) == found


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"orientation": ["L", "F"]}, ()),
        ({"orientation": ["R", "F"]}, ("turned",)),
        ({"orientation": ["A", "F"]}, ("turned", "lateral")),
        ({"orientation": ["P", "F"]}, ("lateral",)),
        ({"orientation": ["L", "F"], "ViewPosition": "LL"}, ("lateral",)),
        ({"orientation": ["LA", "F"]}, ("oblique",)),
        ({"orientation": None}, ("no Patient Orientation",)),
        ({"orientation": ["CR", "LE"]}, ("not valid",)),
    ],
)
def test_rotated_lateral_oblique_or_unknown_views_are_noted(tmp_path, attributes, words):
    notes = read_volume(write_film(tmp_path / "film", FILM, **attributes)).source.notes
    assert len(notes) == len(words)
    assert all(word in note for word, note in zip(words, notes, strict=True))


@pytest.mark.parametrize("modality", ["CR", "DX", "MG", "IO", "PX", "RF", "XA", "OT"])
def test_the_image_as_slicer_loads_it_is_shown_the_same_way(tmp_path, modality):
    path = write_film(tmp_path / "film", stored_as(FILM, "F", "R"), ["F", "R"], Modality=modality)
    volume = read_volume(path)
    loaded = volume_from(decoded_from_memory(volume.array, volume.ijk_to_ras, name="film", path=path), None)
    assert loaded.patient_orientation == ("F", "R")
    assert display_plane(loaded, "acquisition") == display_plane(volume, "acquisition")
    assert loaded.source.notes == volume.source.notes


def test_an_xray_in_slicer_without_its_file_is_noted_as_taken_as_displayed():
    loaded = volume_from(decoded_from_memory(FILM[None], np.eye(4), name="film", dicom_modality="CR"), None)
    assert any("assumed on image left" in note for note in loaded.source.notes)
