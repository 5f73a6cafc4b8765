"""Small volumes and outputs in a real MRML scene, in all orientations that have caused errors. No assertions."""

import numpy as np
import slicer
import vtk
from FastTextDiffSegmentLib.contract.segments import LESION_ENTRY
from vtk.util.numpy_support import numpy_to_vtk

from FastTextDiffSegmentLib.scene.Geometry import toMatrix
from FastTextDiffSegmentLib.scene.SegmentWriter import SegmentOutput

SHAPE = (6, 7, 9)


def _rotation(axis, degrees):
    transform = vtk.vtkTransform()
    transform.RotateWXYZ(degrees, *axis)
    return np.array([[transform.GetMatrix().GetElement(row, column) for column in range(3)] for row in range(3)])


def grid(directions, spacing=(0.7, 0.9, 2.5), origin=(-31.5, 12.25, 100.0)):
    matrix = np.eye(4)
    matrix[:3, :3] = np.asarray(directions, float) @ np.diag(spacing)
    matrix[:3, 3] = origin
    return matrix


AXIAL = np.diag([-1.0, -1.0, 1.0])
GRIDS = {
    "axial": grid(AXIAL),
    "oblique": grid(_rotation((1, 0.3, -0.5), 23.0) @ AXIAL),
    "left-handed": grid(np.diag([-1.0, -1.0, -1.0])),
    "permuted": grid([[0, 0, 1], [-1, 0, 0], [0, 1, 0]]),
}


def addVolume(matrix=None, shape=SHAPE, components=1, name="CT", array=None):
    """A volume with voxels 0, 1, 2, ..., or the given ones."""
    node = slicer.mrmlScene.AddNewNodeByClass(
        "vtkMRMLScalarVolumeNode" if components == 1 else "vtkMRMLVectorVolumeNode", name
    )
    image = vtk.vtkImageData()
    image.SetDimensions(*shape[::-1])
    if array is None:
        array = np.arange(np.prod(shape) * components).astype(np.int16)
    scalars = numpy_to_vtk(np.ascontiguousarray(array).reshape(-1, components), deep=True)
    image.GetPointData().SetScalars(scalars)
    node.SetAndObserveImageData(image)
    node.SetIJKToRASMatrix(toMatrix(GRIDS["axial"] if matrix is None else matrix))
    return node


def addTransform(matrix, *nodes):
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Shift")
    transform.SetMatrixTransformToParent(toMatrix(matrix))
    for node in nodes:
        node.SetAndObserveTransformNodeID(transform.GetID())
    return transform


def bend(node):
    """Put a node under a non-linear transform, as Slicer does with irregular CT series."""
    warp = vtk.vtkThinPlateSplineTransform()
    warp.SetBasisToR()
    source, target = vtk.vtkPoints(), vtk.vtkPoints()
    for index, point in enumerate([(0, 0, 0), (50, 0, 0), (0, 50, 0), (0, 0, 50), (30, 30, 30)]):
        source.InsertNextPoint(point)
        target.InsertNextPoint(point[0] + index, point[1], point[2] - index * index)
    warp.SetSourceLandmarks(source)
    warp.SetTargetLandmarks(target)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "Regularization")
    transform.SetAndObserveTransformToParent(warp)
    node.SetAndObserveTransformNodeID(transform.GetID())


def addSliceView(preset="Axial"):
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(slicer.mrmlScene, True)
    node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLSliceNode")
    node.UnRegister(None)
    node.SetLayoutName(f"Test{preset}")
    slicer.mrmlScene.AddNode(node)
    node.SetOrientation(preset)
    return node


def randomMask(seed=0, shape=SHAPE):
    return (np.random.default_rng(seed).random(shape) < 0.3).astype(np.uint8)


def outputOf(mask, first=0, finding="consolidation", color=(230, 159, 0), **tags):
    """The engine's output for a mask whose first slice is `first`."""
    allTags = {
        "FastTextDiff.Finding": finding.replace("%", "%25").replace("|", "%7C"),
        "FastTextDiff.Model": "compact",
        "DICOM.SegmentAlgorithmType": "AUTOMATIC",
        "DICOM.SegmentAlgorithmName": "FastTextDiff compact",
        **tags,
    }
    return SegmentOutput(
        finding, finding[:64], color, LESION_ENTRY, allTags, np.asarray(mask), (first, first + len(mask))
    )
