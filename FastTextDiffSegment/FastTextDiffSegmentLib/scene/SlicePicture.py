"""A small picture of a slice with the outlines of its segments, as a radiologist sees it. Changes nothing."""

from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk

from FastTextDiffSegmentLib.contract.images import ACQUISITION

from .Geometry import inSliceOrder, nearestRasAxes, screenAxesOf, slicesToRas
from .SegmentVoxels import patchOfSlices, readVoxels


def slicePicture(
    volumeNode: Any,
    segmentationNode: Any,
    segmentIds: list[str],
    number: int,
    plane: str,
    window: tuple[float, float] | None,
    side: int,
) -> np.ndarray:
    """Draw a slice.

    Args:
        volumeNode: the image.
        segmentationNode: the segments, on the image's grid.
        segmentIds: the segments to outline.
        number: of the slice, from 0.
        plane: of the slice.
        window: (level, width) of the grey levels; None for the slice's own range.
        side: longer side in pixels.

    Returns:
        (rows, columns, 3) uint8, patient right on the left, anterior or superior up.
    """
    pixels = inSliceOrder(volumeNode, slicer.util.arrayFromVolume(volumeNode), plane)[number]
    step = max(1, -(-max(pixels.shape[:2]) // side))
    picture = _colored(pixels[::step, ::step], window)
    for segmentId in segmentIds:
        mask = _mask(segmentationNode, segmentId, volumeNode, number, plane)[::step, ::step]
        color = segmentationNode.GetSegmentation().GetSegment(segmentId).GetColor()
        picture[_outline(mask)] = [round(255 * part) for part in color]
    return _upright(picture, volumeNode, plane)


def writePicture(picture: np.ndarray, file: Path) -> None:
    """Write a picture (rows, columns, 3) uint8 as PNG."""
    rows, columns, _channels = picture.shape
    image = vtk.vtkImageData()
    image.SetDimensions(columns, rows, 1)
    upward = np.ascontiguousarray(picture[::-1]).reshape(-1, 3)  # VTK's first row is the lowest
    image.GetPointData().SetScalars(numpy_to_vtk(upward, deep=True, array_type=vtk.VTK_UNSIGNED_CHAR))
    writer = vtk.vtkPNGWriter()
    writer.SetFileName(str(file))
    writer.SetInputData(image)
    writer.Write()


def _colored(pixels: np.ndarray, window: tuple[float, float] | None) -> np.ndarray:
    if pixels.ndim == 3:
        return np.ascontiguousarray(pixels[..., :3]).astype(np.uint8)
    grey = pixels.astype(np.float32)
    low, high = (grey.min(), grey.max()) if window is None else (window[0] - window[1] / 2, window[0] + window[1] / 2)
    shown = np.clip((grey - low) / max(1e-6, high - low), 0, 1)
    return np.repeat((shown * 255).astype(np.uint8)[..., np.newaxis], 3, axis=2)


def _mask(segmentationNode: Any, segmentId: str, volumeNode: Any, number: int, plane: str) -> np.ndarray:
    shape = inSliceOrder(volumeNode, slicer.util.arrayFromVolume(volumeNode), plane).shape
    empty = np.broadcast_to(np.False_, (1, *shape[1:3]))
    patch = patchOfSlices(segmentationNode, segmentId, volumeNode, empty, number, resample=False, plane=plane)
    voxels = readVoxels(segmentationNode.GetSegmentation(), segmentId, patch.start, patch.shape)
    return inSliceOrder(volumeNode, voxels, plane)[0]


def _outline(mask: np.ndarray) -> np.ndarray:
    """The pixels of a mask with a neighbour outside it."""
    inside = mask.copy()
    for axis in (0, 1):
        for shift in (-1, 1):
            inside &= np.roll(mask, shift, axis)
    return mask & ~inside


def _upright(picture: np.ndarray, volumeNode: Any, plane: str = ACQUISITION) -> np.ndarray:
    """Rows from superior or anterior, columns from patient right; from anterior in sagittal slices."""
    matrix = slicesToRas(volumeNode, plane)
    columns, rows, across = nearestRasAxes(matrix)
    left, _up = screenAxesOf(across)
    if columns != left:
        picture, columns, rows = picture.transpose(1, 0, 2), rows, columns
        matrix = matrix[:, [1, 0, 2, 3]]
    if matrix[rows, 1] > 0:
        picture = picture[::-1]
    return picture[:, ::-1] if matrix[columns, 0] > 0 else picture
