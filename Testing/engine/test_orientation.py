"""Sides must be right in every storage order: the tests mark voxels whose place in the patient is known."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest

from fasttextdiff.errors import UsageError
from fasttextdiff.image.orientation import PLANES, display_plane
from fasttextdiff.image.volume import Modality, Volume

ANATOMICAL = PLANES[1:]
RIGHT, ANTERIOR, SUPERIOR = np.eye(3)
IMAGE_LEFT = {"axial": RIGHT, "coronal": RIGHT, "sagittal": ANTERIOR}
TOP = {"axial": ANTERIOR, "coronal": SUPERIOR, "sagittal": SUPERIOR}
SHAPE = (7, 9, 11)


def rotation(axis: np.ndarray, degrees: float) -> np.ndarray:
    """Rodrigues' formula."""
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def volume(directions: np.ndarray, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Volume:
    """A volume with the given (i, j, k) directions as columns; its centre is the patient's origin."""
    matrix = np.eye(4)
    matrix[:3, :3] = directions * spacing
    matrix[:3, 3] = -matrix[:3, :3] @ (np.array(SHAPE[::-1]) - 1) / 2
    return Volume(np.zeros(SHAPE, np.int16), matrix, Modality.CT)


def with_marked_half(image: Volume, direction: np.ndarray) -> np.ndarray:
    """True in the half of the patient in a direction."""
    k, j, i = np.indices(image.shape)
    ras = np.einsum("ab,b...->a...", image.ijk_to_ras[:3], np.stack([i, j, k, np.ones_like(i)]))
    return np.tensordot(direction, ras, axes=1) > 1e-9


ALL_AXES = [
    np.eye(3)[list(order)].T * signs for order in permutations(range(3)) for signs in product((1, -1), repeat=3)
]
OBLIQUE = [rotation(np.array([1.0, 2.0, -1.0]), 25) @ axes for axes in ALL_AXES]


@pytest.mark.parametrize("plane", ANATOMICAL)
@pytest.mark.parametrize("axes", [*ALL_AXES, *OBLIQUE], ids=lambda axes: str(axes.round(1).tolist()))
def test_patient_sides_are_on_the_radiological_side_of_the_display(axes, plane):
    image = volume(axes)
    shown = display_plane(image, plane)
    on_left = shown.to_display(with_marked_half(image, IMAGE_LEFT[plane])).astype(float)
    on_top = shown.to_display(with_marked_half(image, TOP[plane])).astype(float)
    columns, rows = on_left.mean(axis=(0, 1)), on_top.mean(axis=(0, 2))
    assert columns[0] == 1
    assert columns[-1] == 0
    assert rows[0] == 1
    assert rows[-1] == 0


@pytest.mark.parametrize("axes", [*ALL_AXES, *OBLIQUE], ids=lambda axes: str(axes.round(1).tolist()))
def test_acquisition_is_the_plane_across_k_in_the_volumes_own_slice_order(axes):
    image = volume(axes)
    numbered = np.broadcast_to(np.arange(SHAPE[0])[:, None, None], SHAPE)
    acquired = display_plane(image, "acquisition")
    same = display_plane(image, acquired.anatomical)
    assert acquired.axes[0] == 0
    assert (acquired.to_display(numbered)[:, 0, 0] == np.arange(SHAPE[0])).all()
    assert (acquired.axes, acquired.flipped, acquired.pixel_spacing) == (same.axes, same.flipped, same.pixel_spacing)


def test_pixel_spacing_is_row_and_column_spacing():
    image = volume(np.eye(3), spacing=(0.5, 0.7, 3.0))
    assert display_plane(image, "axial").pixel_spacing == pytest.approx((0.7, 0.5))
    assert display_plane(image, "coronal").pixel_spacing == pytest.approx((3.0, 0.5))
    assert display_plane(image, "sagittal").pixel_spacing == pytest.approx((3.0, 0.7))


def test_slices_along_an_anatomical_axis_are_numbered_as_in_the_array():
    image = volume(np.diag([-1.0, -1.0, -1.0]))
    voxels = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    sagittal = display_plane(image, "sagittal")
    assert set(sagittal.to_display(voxels)[2].ravel()) == set(voxels[:, :, 2].ravel())


def test_every_array_axis_gets_a_different_patient_axis():
    image = volume(np.array([[0.8, 0.7, 0.1], [0.5, 0.6, 0.6], [0.3, 0.4, -0.8]]))
    assert {display_plane(image, plane).axes[0] for plane in ANATOMICAL} == {0, 1, 2}


def test_a_stack_rotated_by_45_degrees_keeps_one_axis_each():
    image = volume(rotation(RIGHT, 45))
    assert {display_plane(image, plane).axes[0] for plane in ANATOMICAL} == {0, 1, 2}


def test_a_planar_picture_is_shown_as_stored_and_has_no_other_plane():
    picture = Volume(np.arange(6).reshape(1, 2, 3), np.diag([-1.0, -1.0, 1.0, 1.0]), Modality.XRAY, is_planar=True)
    shown = display_plane(picture, "acquisition")
    assert (shown.to_display(picture.array) == picture.array).all()
    assert shown.anatomical is None
    with pytest.raises(UsageError, match="no coronal plane"):
        display_plane(picture, "coronal")


def test_an_unknown_plane_is_named_with_the_choices():
    with pytest.raises(UsageError, match=r"'oblique'.*axial, coronal, sagittal"):
        display_plane(volume(np.eye(3)), "oblique")


def test_an_array_of_another_grid_is_refused():
    shown = display_plane(volume(np.eye(3)), "coronal")
    with pytest.raises(ValueError, match=r"\(7, 9, 11\)"):
        shown.to_display(np.zeros((7, 11, 9)))
