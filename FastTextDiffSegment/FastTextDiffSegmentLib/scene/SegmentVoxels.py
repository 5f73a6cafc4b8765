"""Voxels of segments: reads and replaces boxes of a segment's binary labelmap, and keeps its other voxels.

Knows nothing about findings, files or views. A segment first gets its own labelmap layer before it is written to, so
that neither overlapping segments nor those in the same layer can change.
"""

from dataclasses import dataclass

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from FastTextDiffSegmentLib.contract.images import ACQUISITION

from .Geometry import (
    SceneError,
    arrayShape,
    ijkToWorld,
    inStorageOrder,
    linearTransformToWorld,
    sliceAxes,
    toArray,
    toMatrix,
)

LABELMAP = "Binary labelmap"
_GEOMETRY = "Reference image geometry"
# Indices may differ by this part of a voxel (rounding in files) and still mean the same voxel.
_TOLERANCE = 0.05

Index = tuple[int, int, int]


@dataclass(frozen=True)
class Patch:
    """A box of voxels on a segment's own grid.

    Attributes:
        grid: (4, 4) from indices (i, j, k) of the segment to the coordinates of its segmentation node, in mm.
        start: index (i, j, k) of the first voxel.
        mask: (k, j, i) bool, the wanted voxels in the box.
        region: (k, j, i) bool, the voxels of the box that may change; None for all.
    """

    grid: np.ndarray
    start: Index
    mask: np.ndarray
    region: np.ndarray | None = None

    @property
    def shape(self) -> Index:
        """Size of the box along k, j and i."""
        return self.mask.shape


def gridInSegmentation(segmentationNode, volumeNode) -> np.ndarray:
    """Matrix (4, 4) from a volume's indices to a segmentation's coordinates, through both parent transforms.

    Raises:
        SceneError: one of the transforms is not linear.
    """
    return np.linalg.inv(linearTransformToWorld(segmentationNode)) @ ijkToWorld(volumeNode)


def segmentGrid(segmentation, segmentId: str | None) -> np.ndarray | None:
    """Grid of a segment's labelmap, or of the whole segmentation if it has none yet; None if there is neither."""
    image = labelmapOf(segmentation, segmentId)
    if image is not None and labelValues(image) is not None:
        return gridOf(image)
    grid = _referenceGrid(segmentation)
    if grid is not None:
        return grid
    others = (labelmapOf(segmentation, other) for other in segmentIds(segmentation))
    return next((gridOf(other) for other in others if other is not None and labelValues(other) is not None), None)


def gridsOf(segmentation) -> list[np.ndarray]:
    """All grids that occur in a segmentation."""
    ids = (None, *segmentIds(segmentation))
    return [grid for grid in (segmentGrid(segmentation, each) for each in ids) if grid is not None]


def segmentIds(segmentation) -> list[str]:
    """Ids of all segments, in order."""
    return [segmentation.GetNthSegmentID(index) for index in range(segmentation.GetNumberOfSegments())]


def _referenceGrid(segmentation) -> np.ndarray | None:
    matrix, extent = vtk.vtkMatrix4x4(), [0, -1, 0, -1, 0, -1]
    text = segmentation.GetConversionParameter(_GEOMETRY)
    if not text or not slicer.vtkSegmentationConverter.DeserializeImageGeometry(text, matrix, extent):
        return None
    return toArray(matrix)


def indexShift(segmentGridMatrix: np.ndarray, volumeGrid: np.ndarray, shape: Index) -> Index | None:
    """What to add to a volume's index (i, j, k) to get the segment's index of the same voxel.

    Args:
        segmentGridMatrix: grid of the segment.
        volumeGrid: grid of the volume in the same coordinates.
        shape: the volume's (k, j, i); the grids must agree over all of it.

    Returns:
        The shift (i, j, k); None if the grids do not coincide voxel by voxel.
    """
    between = np.linalg.inv(segmentGridMatrix) @ volumeGrid
    shift = np.round(between[:3, 3])
    k, j, i = shape
    corners = np.array([[a, b, c, 1.0] for a in (0, i) for b in (0, j) for c in (0, k)]).T
    if np.abs((between @ corners)[:3] - corners[:3] - shift[:, None]).max() > _TOLERANCE:
        return None
    return int(shift[0]), int(shift[1]), int(shift[2])


def patchOfSlices(
    segmentationNode,
    segmentId,
    volumeNode,
    mask: np.ndarray,
    firstSlice: int,
    resample: bool,
    plane: str = ACQUISITION,
    region: np.ndarray | None = None,
) -> Patch:
    """Map a mask (n, rows, columns) of some slices of a volume to the grid of a segment, as `patchOnVolume` does."""
    start = [0, 0, 0]
    start[2 - sliceAxes(volumeNode, plane)[0]] = firstSlice
    box = inStorageOrder(volumeNode, mask, plane)
    limits = None if region is None else inStorageOrder(volumeNode, region, plane)
    place = (start[0], start[1], start[2])
    return patchOnVolume(segmentationNode, segmentId, volumeNode, box, place, resample, limits)


def patchOnVolume(
    segmentationNode,
    segmentId,
    volumeNode,
    mask: np.ndarray,
    start: Index,
    resample: bool,
    region: np.ndarray | None = None,
) -> Patch:
    """Map a mask on a box of a volume to the grid of a segment.

    Args:
        segmentationNode: its labelmaps determine the grid.
        segmentId: the segment; None for a new one.
        volumeNode: the volume.
        mask: (k, j, i) bool, the size of the box.
        start: index (i, j, k) of its first voxel.
        resample: whether the mask may be resampled to another grid, by nearest neighbour.
        region: (k, j, i) bool, the voxels of the box that may change; None for all.

    Raises:
        SceneError: the grids differ and `resample` is False, or a parent transform is not linear.
    """
    volumeGrid = gridInSegmentation(segmentationNode, volumeNode)
    grid = segmentGrid(segmentationNode.GetSegmentation(), segmentId)
    if grid is None:
        return Patch(volumeGrid, start, mask, region)
    shift = indexShift(grid, volumeGrid, arrayShape(volumeNode))
    if shift is not None:
        return Patch(grid, (shift[0] + start[0], shift[1] + start[1], shift[2] + start[2]), mask, region)
    if not resample:
        message = _(
            "The segmentation '{segmentation}' is on another grid than the image '{image}'. "
            "Choose a new segmentation, or let the result be resampled to the grid of this one."
        )
        raise SceneError(message.format(segmentation=segmentationNode.GetName(), image=volumeNode.GetName()))
    return _resampled(Patch(volumeGrid, start, mask, region), grid)


def _resampled(patch: Patch, grid: np.ndarray) -> Patch:
    """The patch on another grid, by nearest neighbour."""
    _requireRightAngles(patch.grid)
    # 1: in the region, 2: in the mask too, so that one pass resamples both
    region = np.ones(patch.shape, bool) if patch.region is None else patch.region
    source = toImage(region + (region & patch.mask).astype(np.uint8), patch.start, patch.grid)
    reference, target = slicer.vtkOrientedImageData(), slicer.vtkOrientedImageData()
    reference.SetImageToWorldMatrix(toMatrix(grid))
    reference.SetExtent(*_extentOn(grid, patch))
    reference.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    resample = slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage
    if not resample(source, reference, target, False, False):
        raise SceneError(_("The result could not be resampled to the grid of the segmentation; nothing was written."))
    values = labelValues(target)
    return Patch(grid, tuple(target.GetExtent()[::2]), values == 2, values >= 1)


def _requireRightAngles(grid: np.ndarray) -> None:
    axes = grid[:3, :3] / np.linalg.norm(grid[:3, :3], axis=0)
    if np.abs(axes.T @ axes - np.eye(3)).max() > 1e-3:
        raise SceneError(_("The image is sheared by its transform. Put the segmentation under the same transform."))


def _extentOn(grid: np.ndarray, patch: Patch) -> list[int]:
    """The extent on another grid that contains the whole patch."""
    k, j, i = patch.shape
    sides = [(start - 0.5, start + size - 0.5) for start, size in zip(patch.start, (i, j, k), strict=True)]
    corners = np.array([[a, b, c, 1.0] for a in sides[0] for b in sides[1] for c in sides[2]]).T
    inGrid = (np.linalg.inv(grid) @ patch.grid @ corners)[:3]
    low, high = np.floor(inGrid.min(axis=1)), np.ceil(inGrid.max(axis=1))
    return [int(number) for pair in zip(low, high, strict=True) for number in pair]


def toImage(array: np.ndarray, start: Index, grid: np.ndarray):
    """A labelmap (k, j, i) uint8 as Slicer's oriented image; the voxels are copied."""
    image = slicer.vtkOrientedImageData()
    last = [first + size - 1 for first, size in zip(start, array.shape[::-1], strict=True)]
    extent = [bound for bounds in zip(start, last, strict=True) for bound in bounds]
    image.SetExtent(*extent)
    image.SetImageToWorldMatrix(toMatrix(grid))
    scalars = numpy_to_vtk(np.ascontiguousarray(array).ravel(), deep=True, array_type=vtk.VTK_UNSIGNED_CHAR)
    scalars.SetName("ImageScalars")
    image.GetPointData().SetScalars(scalars)
    return image


def labelmapOf(segmentation, segmentId: str | None):
    """The oriented image that contains a segment, possibly with others; None if there is none."""
    segment = segmentation.GetSegment(segmentId) if segmentId else None
    return segment.GetRepresentation(LABELMAP) if segment else None


def isWhole(image) -> bool:
    """Whether an image has a value for each voxel; observers may see it without while it is being replaced."""
    scalars = image.GetPointData().GetScalars()
    return image.IsEmpty() or (scalars is not None and scalars.GetNumberOfTuples() == image.GetNumberOfPoints())


def gridOf(image) -> np.ndarray:
    """Matrix (4, 4) from an image's indices (i, j, k) to the coordinates of its node, in mm."""
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    return toArray(matrix)


def labelValues(image) -> np.ndarray | None:
    """Voxels (k, j, i) of a labelmap, not copied; None if it has none."""
    scalars = image.GetPointData().GetScalars()
    if image.IsEmpty() or scalars is None:
        return None
    return vtk_to_numpy(scalars).reshape(image.GetDimensions()[::-1])


def readVoxels(segmentation, segmentId: str, start: Index, shape: Index) -> np.ndarray:
    """A box of a segment.

    Args:
        segmentation: vtkSegmentation.
        segmentId: the segment; without labelmap it counts as empty.
        start: index (i, j, k) of the first voxel on the segment's own grid; may be outside the stored voxels.
        shape: size along k, j and i.

    Returns:
        (k, j, i) bool, copied.
    """
    voxels = np.zeros(shape, bool)
    image = labelmapOf(segmentation, segmentId)
    view = None if image is None else labelValues(image)
    if view is not None:
        stored, asked = overlap(image.GetExtent()[::2], view.shape, start, shape)
        voxels[asked] = view[stored] == segmentation.GetSegment(segmentId).GetLabelValue()
    return voxels


def segmentArray(segmentationNode, segmentId: str, volumeNode, slices: tuple[int, int] | None = None) -> np.ndarray:
    """A segment on the grid of a volume.

    Args:
        segmentationNode: the segmentation.
        segmentId: the segment; without labelmap it counts as empty.
        volumeNode: the volume.
        slices: (first, end) along k; all if None.

    Returns:
        (n, j, i) bool.

    Raises:
        SceneError: the segment is on another grid.
    """
    shape = arrayShape(volumeNode)
    first, end = slices or (0, shape[0])
    asked = np.broadcast_to(np.False_, (end - first, *shape[1:]))
    patch = patchOnVolume(segmentationNode, segmentId, volumeNode, asked, (0, 0, first), resample=False)
    return readVoxels(segmentationNode.GetSegmentation(), segmentId, patch.start, patch.shape)


def segmentVoxels(segmentationNode, segmentId: str) -> int:
    """Number of voxels of a segment on its own grid; 0 if there is no such segment."""
    segmentation = segmentationNode.GetSegmentation()
    image = labelmapOf(segmentation, segmentId)
    view = None if image is None else labelValues(image)
    return 0 if view is None else int(np.count_nonzero(view == segmentation.GetSegment(segmentId).GetLabelValue()))


def replaceVoxels(segmentation, segmentId: str, patch: Patch) -> int:
    """Set a segment to the mask of a patch, within the patch's region.

    Returns:
        Number of voxels that changed; if it is 0, nothing is modified.
    """
    before = readVoxels(segmentation, segmentId, patch.start, patch.shape)
    wanted = patch.mask.astype(bool) if patch.region is None else np.where(patch.region, patch.mask, before)
    changed = int(np.count_nonzero(before != wanted))
    if changed:
        if _sharesLabelmap(segmentation, segmentId):
            segmentation.SeparateSegmentLabelmap(segmentId)
        _store(segmentation.GetSegment(segmentId), patch, wanted)
    return changed


def copyLabelmap(source, target, segmentId: str) -> None:
    """Copy the labelmap of a segment, including its grid, from one segmentation to another."""
    if _sharesLabelmap(target, segmentId):
        target.SeparateSegmentLabelmap(segmentId)
    image = slicer.vtkOrientedImageData()
    image.DeepCopy(labelmapOf(source, segmentId))
    target.GetSegment(segmentId).SetLabelValue(source.GetSegment(segmentId).GetLabelValue())
    labelmapOf(target, segmentId).ShallowCopy(image)


def _sharesLabelmap(segmentation, segmentId: str) -> bool:
    """Whether other segments are in the same image. vtkSegmentation.IsSharedBinaryLabelmap wrongly says no."""
    image = labelmapOf(segmentation, segmentId)
    return any(labelmapOf(segmentation, other) is image for other in segmentIds(segmentation) if other != segmentId)


def _store(segment, patch: Patch, wanted: np.ndarray) -> None:
    image = segment.GetRepresentation(LABELMAP)
    view, box = labelValues(image), boundingBox(wanted)
    if view is not None:
        stored, asked = overlap(image.GetExtent()[::2], view.shape, patch.start, patch.shape)
        if box is None or _contains(asked, box):
            view[stored] = wanted[asked] * view.dtype.type(segment.GetLabelValue())
            image.GetPointData().GetScalars().Modified()
            image.Modified()
            return
    array, start = _grown(image, view, segment.GetLabelValue(), patch, wanted, box)
    segment.SetLabelValue(1)
    # into the existing image, which Slicer observes
    image.ShallowCopy(toImage(array, start, patch.grid))


def _grown(image, view, label: int, patch: Patch, wanted: np.ndarray, box) -> tuple[np.ndarray, Index]:
    """The smallest labelmap (k, j, i) for the voxels that are kept and those that are wanted, and its start."""
    low = np.array([side.start for side in box])
    high = np.array([side.stop for side in box])
    first = np.array(patch.start[::-1])
    low, high = first + low, first + high
    if view is not None and not _isInside(image.GetExtent()[::2], view.shape, patch.start, patch.shape):
        stored = np.array(image.GetExtent()[::2][::-1])
        low, high = np.minimum(low, stored), np.maximum(high, stored + view.shape)
    array, start = np.zeros(tuple(high - low), np.uint8), tuple(int(number) for number in low[::-1])
    if view is not None:
        old, new = overlap(image.GetExtent()[::2], view.shape, start, array.shape)
        array[new] = view[old] == label
    target, source = overlap(start, array.shape, patch.start, patch.shape)
    array[target] = wanted[source]
    return array, start


def overlap(startA: Index, shapeA: Index, startB: Index, shapeB: Index) -> tuple[tuple, tuple]:
    """The overlap of two boxes, as slices (k, j, i) into each; starts are (i, j, k), shapes (k, j, i)."""
    intoA, intoB = [], []
    for a, sizeA, b, sizeB in zip(startA[::-1], shapeA, startB[::-1], shapeB, strict=True):
        low, high = max(a, b), max(max(a, b), min(a + sizeA, b + sizeB))
        intoA.append(slice(min(low - a, sizeA), min(high - a, sizeA)))
        intoB.append(slice(min(low - b, sizeB), min(high - b, sizeB)))
    return tuple(intoA), tuple(intoB)


def boundingBox(mask: np.ndarray) -> tuple[slice, ...] | None:
    """The smallest box (k, j, i) that contains a mask; None if the mask is empty."""
    box = []
    for axis in range(3):
        indices = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        if not indices.size:
            return None
        box.append(slice(int(indices[0]), int(indices[-1]) + 1))
    return tuple(box)


def _contains(outer: tuple[slice, ...], inner: tuple[slice, ...]) -> bool:
    return all(a.start <= b.start and b.stop <= a.stop for a, b in zip(outer, inner, strict=True))


def _isInside(start: Index, shape: Index, outerStart: Index, outerShape: Index) -> bool:
    sides = zip(start[::-1], shape, outerStart[::-1], outerShape, strict=True)
    return all(b <= a and a + size <= b + outerSize for a, size, b, outerSize in sides)
