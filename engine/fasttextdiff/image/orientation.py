"""Turns voxels into slices in radiological convention, with patient right on image left, and masks back.

Only permutes and flips array axes, never resamples. Knows nothing about intensities, files or models.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.contract.images import ACQUISITION, PLANE_ACROSS, PLANES, nearest_ras_axes
from fasttextdiff.errors import UsageError
from fasttextdiff.image.volume import Volume

Voxel = TypeVar("Voxel", bound=np.generic)

# (slice, row, column) as RAS axes (0 right, 1 anterior, 2 superior) for each plane. Rows and columns of the display run
# towards lower coordinates: down from superior or anterior, and to image right from patient right or anterior.
_RAS_AXES = {"sagittal": (0, 2, 1), "coronal": (1, 2, 0), "axial": (2, 1, 0)}
# Of a picture's two directions, the later one in this list runs down the display.
_DOWN_FIRST = "LRPAFH"
_BACKWARDS = ("R", "H", "A")


@dataclass(frozen=True)
class DisplayPlane:
    """How a volume is shown slice by slice; made by :func:`display_plane`.

    Slices keep the volume's order, so slice n is index n along array axis `axes[0]`.

    Attributes:
        plane: the requested plane, one of :data:`PLANES`.
        anatomical: the nearest of "axial", "coronal" and "sagittal"; None for planar images.
        shape: the volume's (k, j, i).
        axes: the array axes (0 = k, 1 = j, 2 = i) that become slice, row and column.
        flipped: whether rows and columns run against the array.
        pixel_spacing: millimetres between rows and between columns of the display.
        ascending: whether slice numbers grow towards the patient's right, anterior or superior.
    """

    plane: str
    anatomical: str | None
    shape: tuple[int, int, int]
    axes: tuple[int, int, int]
    flipped: tuple[bool, bool]
    pixel_spacing: tuple[float, float]
    ascending: bool = True

    @property
    def n_slices(self) -> int:
        """Number of slices of this plane."""
        return self.shape[self.axes[0]]

    @property
    def display_shape(self) -> tuple[int, int, int]:
        """Shape of the displayed stack: slices, rows, columns."""
        slices, rows, columns = (self.shape[axis] for axis in self.axes)
        return slices, rows, columns

    def to_display(self, array: NDArray[Voxel]) -> NDArray[Voxel]:
        """View voxels (k, j, i[, c]) as displayed slices (slice, row, column[, c]), without a copy.

        To bring displayed slices back to the volume's grid, write them into the view of an array of that grid.

        Raises:
            ValueError: the array is not on the volume's grid.
        """
        if array.ndim not in (3, 4) or array.shape[:3] != self.shape:
            raise ValueError(f"expected an array of shape {self.shape}, with or without channels, got {array.shape}")
        row, column = (slice(None, None, -1) if flip else slice(None) for flip in self.flipped)
        return array.transpose(*self.axes, *range(3, array.ndim))[:, row, column]

    def of_slices(self, count: int) -> DisplayPlane:
        """The display plane of a part of the volume: `count` neighbouring slices, all rows and columns."""
        shape = tuple(count if axis == self.axes[0] else length for axis, length in enumerate(self.shape))
        return replace(self, shape=(shape[0], shape[1], shape[2]))


def display_plane(volume: Volume, plane: str) -> DisplayPlane:
    """Choose how to show a volume in a plane, in radiological convention.

    Patient right is on image left; anterior (axial) or superior (coronal, sagittal) is up; a sagittal slice has
    anterior on image left. Oblique and left-handed volumes are shown along their own axes, each taken as the
    nearest anatomical one. Planar images are shown according to their Patient Orientation (a lateral one with
    anterior on image left), else as stored.

    Args:
        volume: the volume.
        plane: one of :data:`PLANES`; "acquisition" means slices along the volume's `slice_axis`.

    Raises:
        UsageError: the plane is unknown, or the image is planar and the plane is not "acquisition".
    """
    if plane not in PLANES:
        raise UsageError(f"there is no plane '{plane}'; choose one of {', '.join(PLANES)}")
    i, j, k = volume.spacing
    if volume.is_planar:
        if plane != "acquisition":
            raise UsageError(f"a single picture has no {plane} plane; use 'acquisition'")
        return _display_of_picture(volume)
    nearest = nearest_ras_axes(volume.ijk_to_ras.tolist())
    anatomical = PLANE_ACROSS[nearest[volume.slice_axis]] if plane == ACQUISITION else plane
    slices, rows, columns = (nearest.index(ras) for ras in _RAS_AXES[anatomical])
    spacing = (k, j, i)
    return DisplayPlane(
        plane=plane,
        anatomical=anatomical,
        shape=volume.shape,
        axes=(slices, rows, columns),
        flipped=(_runs_up(volume, rows, nearest[rows]), _runs_up(volume, columns, nearest[columns])),
        pixel_spacing=(spacing[rows], spacing[columns]),
        ascending=_runs_up(volume, slices, nearest[slices]),
    )


def _display_of_picture(volume: Volume) -> DisplayPlane:
    """As stored, or turned to radiological convention: feet down, the patient's left or back on image right."""
    i, j, _ = volume.spacing
    along_columns, along_rows = volume.patient_orientation or ("L", "F")
    upright = max(along_columns, along_rows, key=_DOWN_FIRST.index)
    if upright == along_rows:
        return DisplayPlane(
            "acquisition",
            None,
            volume.shape,
            (0, 1, 2),
            (along_rows in _BACKWARDS, along_columns in _BACKWARDS),
            (j, i),
        )
    return DisplayPlane(
        "acquisition", None, volume.shape, (0, 2, 1), (along_columns in _BACKWARDS, along_rows in _BACKWARDS), (i, j)
    )


def _directions(volume: Volume) -> NDArray[np.float64]:
    """Unit vectors of the array axes (k, j, i) as rows, in RAS."""
    matrix = volume.ijk_to_ras[:3, :3]
    directions: NDArray[np.float64] = (matrix / np.linalg.norm(matrix, axis=0)).T[::-1]
    return directions


def in_standard_order(volume: Volume, array: NDArray[Voxel]) -> NDArray[Voxel]:
    """View voxels (k, j, i[, c]) of a volume in an order that does not depend on storage order, without a copy.

    Axial slices from inferior to superior, rows from anterior, columns from patient right; planar images as displayed.
    Measurements on a sample of the voxels are then the same for every storage order.
    """
    if volume.is_planar:
        return display_plane(volume, "acquisition").to_display(array)
    display = display_plane(volume, "axial")
    shown = display.to_display(array)
    return shown if display.ascending else shown[::-1]


def _runs_up(volume: Volume, array_axis: int, ras_axis: int) -> bool:
    return bool(_directions(volume)[array_axis, ras_axis] > 0)
