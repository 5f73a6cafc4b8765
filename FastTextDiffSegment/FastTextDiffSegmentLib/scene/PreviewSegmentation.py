"""The live preview: outlines in the slice views that are neither saved nor listed.

Knows nothing about the engine; never touches the user's segmentation.
"""

from collections.abc import Sequence

import slicer

from .Geometry import requireImage, requireLinear
from .SegmentWriter import SegmentOutput, SegmentWriter, placeOnVolume

_NAME = "FastTextDiff preview"
_WIDTH = 2
"""Pixels."""


class PreviewSegmentation:
    """Shows outputs as outlines.

    Attributes:
        outputs: the outputs that are shown; empty if nothing is.
        volumeNode: the image they belong to; None if nothing is shown.
    """

    def __init__(self):
        self.outputs: tuple[SegmentOutput, ...] = ()
        self.volumeNode = None
        self._node = None
        self._writer = SegmentWriter()

    @property
    def node(self):
        """The preview's segmentation node while it is in the scene, else None."""
        if self._node is not None and self._node.GetScene() is None:
            self._node = None  # it was removed, or the scene was closed
        return self._node

    @property
    def isShown(self) -> bool:
        """Whether a preview is shown."""
        return self.node is not None and bool(self.outputs)

    def show(self, volumeNode, outputs: Sequence[SegmentOutput]) -> None:
        """Show these outputs instead of the previous ones.

        Raises:
            SceneError: there is no image, or it is under a non-linear transform.
        """
        requireImage(volumeNode)
        requireLinear(volumeNode)
        node = self.node or self._newNode()
        segmentation = node.GetSegmentation()
        segmentation.RemoveAllSegments()
        placeOnVolume(node, volumeNode)
        self._writer.write(node, volumeNode, outputs)
        self.outputs, self.volumeNode = tuple(outputs), volumeNode

    def drop(self) -> None:
        """Remove the preview; the user's data are unchanged."""
        node = self.node
        self.outputs, self.volumeNode, self._node = (), None, None
        if node is not None:
            slicer.mrmlScene.RemoveNode(node.GetDisplayNode())
            slicer.mrmlScene.RemoveNode(node)

    def _newNode(self):
        node = slicer.vtkMRMLSegmentationNode()
        node.SetName(_NAME)
        node.SetHideFromEditors(True)  # before it is added to the scene, or lists would show it
        node.SetSaveWithScene(False)
        slicer.mrmlScene.AddNode(node)
        node.CreateDefaultDisplayNodes()
        display = node.GetDisplayNode()
        display.SetSaveWithScene(False)
        display.SetVisibility3D(False)
        display.SetVisibility2DFill(False)
        display.SetVisibility2DOutline(True)
        display.SetSliceIntersectionThickness(_WIDTH)
        self._node = node
        return node
