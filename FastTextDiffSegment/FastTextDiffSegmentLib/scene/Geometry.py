"""Where a volume is and which of its slices a view shows. Only reads nodes, except that it moves slice views.

Knows nothing about segments. Slices are those of a plane, in slice order: (slice, row, column). As acquired, that is
the storage order (k, j, i) for DICOM; in other formats slices may be along any axis. Other planes put theirs first.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from FastTextDiffSegmentLib.contract.images import (
    ACQUISITION,
    PLANE_ACROSS,
    nearest_ras_axes,
    slice_axis,
    starts_like_dicom,
)
from FastTextDiffSegmentLib.contract.segments import SEQUENCE_ITEM_TAG

_COMPONENTS = (1, 3, 4)
_PARALLEL = math.cos(math.radians(1.0))
"""Cosine of the largest tilt between a view and the slices that it shows."""


class SceneError(Exception):
    """The scene does not allow something; the message is one line that says what, where, and what to do."""


def requireImage(volumeNode) -> None:
    """Check that there is an image to segment.

    Raises:
        SceneError: no volume, no voxels, or neither a grey nor a colour image.
    """
    if volumeNode is None:
        raise SceneError(_("There is no image. Open or choose one first."))
    image = volumeNode.GetImageData()
    if image is None or image.GetPointData().GetScalars() is None or image.GetNumberOfPoints() == 0:
        raise SceneError(_("The image '{name}' has no voxels. Load it again.").format(name=volumeNode.GetName()))
    components = image.GetNumberOfScalarComponents()
    if components not in _COMPONENTS:
        message = _("The image '{name}' has {count} values in each voxel. Choose a grey (1) or colour (3 or 4) image.")
        raise SceneError(message.format(name=volumeNode.GetName(), count=components))


def requireLinear(node) -> None:
    """Check that a node is under no transform or a linear one.

    Raises:
        SceneError: the transform is not linear, so it bends the slices.
    """
    transform = node.GetParentTransformNode()
    if transform is None or transform.IsTransformToWorldLinear():
        return
    message = _(
        "'{name}' is under the non-linear transform '{transform}', so its slices are not flat where it is shown. "
        "Harden the transform (Data module, right click) or move the node out of it, then try again."
    )
    raise SceneError(message.format(name=node.GetName(), transform=transform.GetName()))


def ijkToRas(volumeNode) -> np.ndarray:
    """The volume's own IJK-to-RAS matrix (4, 4) in mm, without parent transforms."""
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    return toArray(matrix)


def linearTransformToWorld(node) -> np.ndarray:
    """The linear transform (4, 4) above a node; the identity if there is none.

    Raises:
        SceneError: the transform is not linear.
    """
    requireLinear(node)
    matrix = vtk.vtkMatrix4x4()
    slicer.vtkMRMLTransformNode.GetMatrixTransformBetweenNodes(node.GetParentTransformNode(), None, matrix)
    return toArray(matrix)


def ijkToWorld(volumeNode) -> np.ndarray:
    """Matrix (4, 4) from voxel indices to where the volume is shown, in mm.

    Raises:
        SceneError: the transform above the volume is not linear.
    """
    return linearTransformToWorld(volumeNode) @ ijkToRas(volumeNode)


def toArray(matrix: vtk.vtkMatrix4x4) -> np.ndarray:
    """A VTK matrix as (4, 4) float64, copied."""
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


def toMatrix(array: np.ndarray) -> vtk.vtkMatrix4x4:
    """An array (4, 4) as a VTK matrix, copied."""
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy([float(number) for number in np.asarray(array).ravel()])
    return matrix


def arrayShape(volumeNode) -> tuple[int, int, int]:
    """Number of voxels along k, j and i."""
    i, j, k = volumeNode.GetImageData().GetDimensions()
    return k, j, i


def sliceAxis(volumeNode) -> int:
    """The array axis (0 = k, 1 = j, 2 = i) across the slices of the acquisition, by the engine's rule."""
    if volumeNode.GetAttribute("DICOM.instanceUIDs") or startsLikeDicom(_storedFile(volumeNode)):
        return 0
    return int(slice_axis(ijkToRas(volumeNode).tolist(), arrayShape(volumeNode)))


def sliceAxes(volumeNode, plane: str = ACQUISITION) -> tuple[int, int, int]:
    """The array axes (0 = k, 1 = j, 2 = i) of slices, rows and columns of a plane."""
    acquired = sliceAxis(volumeNode)
    across = acquired if plane == ACQUISITION else _axisAcross(volumeNode, plane)
    order = [acquired, *(axis for axis in range(3) if axis != acquired)]  # as the engine gets the voxels
    first, second = (axis for axis in order if axis != across)
    return across, first, second


def _axisAcross(volumeNode, plane: str) -> int:
    return nearest_ras_axes(ijkToRas(volumeNode).tolist()).index(PLANE_ACROSS.index(plane))


def inSliceOrder(volumeNode, array: np.ndarray, plane: str = ACQUISITION) -> np.ndarray:
    """View voxels (k, j, i[, c]) of a volume as (slice, row, column[, c]); nothing is copied."""
    return array.transpose(*sliceAxes(volumeNode, plane), *range(3, array.ndim))


def inStorageOrder(volumeNode, slices: np.ndarray, plane: str = ACQUISITION) -> np.ndarray:
    """View (slice, row, column) as voxels (k, j, i); nothing is copied."""
    return slices.transpose(*np.argsort(sliceAxes(volumeNode, plane)))


def sliceShape(volumeNode, plane: str = ACQUISITION) -> tuple[int, int, int]:
    """Number of slices, and of rows and columns in each."""
    shape = arrayShape(volumeNode)
    slices, rows, columns = (shape[axis] for axis in sliceAxes(volumeNode, plane))
    return slices, rows, columns


def slicesToRas(volumeNode, plane: str = ACQUISITION) -> np.ndarray:
    """Matrix (4, 4) from (column, row, slice) to RAS in mm, without parent transforms."""
    return _inSliceOrder(volumeNode, ijkToRas(volumeNode), plane)


def slicesToWorld(volumeNode, plane: str = ACQUISITION) -> np.ndarray:
    """Matrix (4, 4) from (column, row, slice) to where the volume is shown, in mm.

    Raises:
        SceneError: the volume is under a non-linear transform.
    """
    return _inSliceOrder(volumeNode, ijkToWorld(volumeNode), plane)


def _inSliceOrder(volumeNode, matrix: np.ndarray, plane: str) -> np.ndarray:
    slices, rows, columns = sliceAxes(volumeNode, plane)
    return matrix[:, [2 - columns, 2 - rows, 2 - slices, 3]]


def _storedFile(volumeNode) -> str:
    storage = volumeNode.GetStorageNode()
    return (storage.GetFileName() or "") if storage else ""


@lru_cache(maxsize=64)
def startsLikeDicom(path: str) -> bool:
    """Whether a file is DICOM by its content; an empty path is not."""
    try:
        with Path(path).open("rb") as file:
            return starts_like_dicom(file)
    except OSError:
        return False


def voxelMl(grid: np.ndarray) -> float:
    """Volume of a voxel in millilitres, on a node's own grid (4, 4) as in Slicer's Segment Statistics."""
    return abs(float(np.linalg.det(grid[:3, :3]))) / 1000.0


def pixelMm2(volumeNode) -> float:
    """Area of a pixel of a slice in square millimetres, on the volume's own grid."""
    matrix = slicesToRas(volumeNode)
    return float(np.linalg.norm(np.cross(matrix[:3, 0], matrix[:3, 1])))


@dataclass(frozen=True)
class ShownSlice:
    """Which slice of a volume a view shows.

    Attributes:
        index: slice, from 0; None where the view shows no slice as it was acquired.
        acrossPlane: the view cuts across the slices.
        outside: the view is parallel to the slices, but before the first or after the last.
    """

    index: int | None
    acrossPlane: bool = False
    outside: bool = False


def shownSlice(volumeNode, sliceNode, plane: str = ACQUISITION) -> ShownSlice:
    """The slice of a volume that a view shows. A slice extends half its thickness to both sides, also in a 2D image.

    Raises:
        SceneError: the volume is under a non-linear transform.
    """
    toWorld, view = slicesToWorld(volumeNode, plane), toArray(sliceNode.GetSliceToRAS())
    normal = view[:3, 2] / np.linalg.norm(view[:3, 2])
    if abs(float(normal @ _sliceNormal(toWorld))) < _PARALLEL:
        return ShownSlice(None, acrossPlane=True)
    # on the line through the middle of all slices, where a slight tilt matters least
    center, step = toWorld @ _sliceCenter(volumeNode, 0, plane), toWorld[:3, 2]
    k = float(normal @ (view[:3, 3] - center[:3])) / float(normal @ step)
    index = math.floor(k + 0.5)
    if not 0 <= index < sliceShape(volumeNode, plane)[0]:
        return ShownSlice(None, outside=True)
    return ShownSlice(index)


def _sliceNormal(matrix: np.ndarray) -> np.ndarray:
    """Unit vector perpendicular to the slices; with shear it is not the direction from one slice to the next."""
    normal = np.cross(matrix[:3, 0], matrix[:3, 1])
    return normal / np.linalg.norm(normal)


def _sliceCenter(volumeNode, k: int, plane: str) -> np.ndarray:
    """Middle of a slice as (column, row, slice, 1)."""
    _slices, rows, columns = sliceShape(volumeNode, plane)
    return np.array([(columns - 1) / 2, (rows - 1) / 2, k, 1.0])


def jumpToSlice(sliceNode, volumeNode, k: int, plane: str = ACQUISITION) -> None:
    """Move a view that is parallel to the slices to slice k, clipped to the existing slices.

    Raises:
        SceneError: the volume is under a non-linear transform.
    """
    k = min(max(int(k), 0), sliceShape(volumeNode, plane)[0] - 1)
    point = slicesToWorld(volumeNode, plane) @ _sliceCenter(volumeNode, k, plane)
    view = toArray(sliceNode.GetSliceToRAS())
    sliceNode.SetSliceOffset(float(view[:3, 2] @ point[:3]) / float(np.linalg.norm(view[:3, 2])))


# RAS axes (0 right, 1 anterior, 2 superior) that columns and rows of the screen run against, by the axis across the
# slices: patient right on image left; superior or anterior up; anterior on image left in sagittal slices.
_SCREEN_AXES = {0: (1, 2), 1: (0, 2), 2: (0, 1)}


def rotateViewToSlices(sliceNode, volumeNode, plane: str = ACQUISITION) -> None:
    """Rotate a view so that it shows the volume's slices of a plane, in radiological convention, near where it was.

    Oblique slices are shown along their own rows and columns; each counts as the nearest anatomical axis.

    Raises:
        SceneError: the volume is under a non-linear transform.
    """
    toWorld = slicesToWorld(volumeNode, plane)
    columns, rows, across = nearestRasAxes(toWorld)
    k = _nearestSlice(toWorld, sliceShape(volumeNode, plane)[0], toArray(sliceNode.GetSliceToRAS())[:, 3])
    view = np.eye(4)
    view[:3, :3] = _screenAxes(toWorld, columns, rows, across)
    view[:, 3] = toWorld @ _sliceCenter(volumeNode, k, plane)
    sliceNode.GetSliceToRAS().DeepCopy(toMatrix(view))
    sliceNode.UpdateMatrices()


def nearestRasAxes(matrix: np.ndarray) -> tuple[int, int, int]:
    """The nearest RAS axis (0 right, 1 anterior, 2 superior) for each column of a matrix; all three differ.

    The engine uses the same rule to orient slices for the model.
    """
    across, rows, columns = nearest_ras_axes(matrix.tolist())
    return columns, rows, across


def _screenAxes(toWorld: np.ndarray, columns: int, rows: int, across: int) -> np.ndarray:
    """Right, up and through the screen as columns of a (3, 3) matrix; `through` runs as in Slicer's own presets."""
    left, up = _SCREEN_AXES[across]
    nearest = {columns: toWorld[:3, 0], rows: toWorld[:3, 1]}
    through = _pointing(_sliceNormal(toWorld), across, 1.0)
    right = _pointing(nearest[left], left, -1.0)
    upward = _pointing(np.cross(through, right), up, 1.0)
    return np.stack([right, upward, through], axis=1)


def screenAxesOf(across: int) -> tuple[int, int]:
    """The RAS axes along the columns and the rows of the screen, by the axis across the slices."""
    return _SCREEN_AXES[across]


def _pointing(vector: np.ndarray, axis: int, sign: float) -> np.ndarray:
    """The unit vector along a line that runs up (1) or down (-1) a RAS axis."""
    unit = vector / np.linalg.norm(vector)
    return unit if unit[axis] * sign >= 0 else -unit


def _nearestSlice(toWorld: np.ndarray, count: int, point: np.ndarray) -> int:
    k = float((np.linalg.inv(toWorld) @ point)[2])
    return min(max(math.floor(k + 0.5), 0), count - 1)


def sequenceItemOf(volumeNode) -> int | None:
    """Number of the sequence item that this volume shows, from 0; None if it belongs to no sequence."""
    scene, item = volumeNode.GetScene(), volumeNode.GetAttribute(SEQUENCE_ITEM_TAG)
    if item or scene is None:
        return int(item) if item else None
    for index in range(scene.GetNumberOfNodesByClass("vtkMRMLSequenceBrowserNode")):
        browser = scene.GetNthNodeByClass(index, "vtkMRMLSequenceBrowserNode")
        if browser.IsProxyNodeID(volumeNode.GetID()):
            return browser.GetSelectedItemNumber()
    return None
