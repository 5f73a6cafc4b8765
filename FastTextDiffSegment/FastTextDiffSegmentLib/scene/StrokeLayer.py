"""The layer that the user paints strokes on: a scratch segmentation with two segments, which leaves no trace.

Knows the scene; knows nothing about the engine, nor what paints.
"""

from collections.abc import Callable, Sequence

import numpy as np
import slicer

from FastTextDiffSegmentLib.engine.TeachingSession import Stroke

from .Geometry import requireImage, requireLinear, sliceShape
from .SegmentHistory import Observers
from .SegmentSlices import segmentSlice, setSegmentSlice
from .SegmentVoxels import segmentVoxels
from .SegmentWriter import placeOnVolume

_NAME = "Strokes (FastTextDiff, temporary)"
PRESENT, ABSENT = "Present", "Absent"
"""Ids and names of the two segments."""
_COLORS = {PRESENT: (0.1, 0.8, 0.2), ABSENT: (0.9, 0.15, 0.15)}


class StrokeLayer:
    """Strokes on one slice of a volume.

    Args:
        onPainted: called after every change of the layer by others.

    Attributes:
        volumeNode: the volume; None while there is no layer.
        sliceIndex: number of its slice, as acquired.
    """

    def __init__(self, onPainted: Callable[[], None]):
        self._onPainted = onPainted
        self._observers = Observers()
        self._node = None
        self._isOwn = False
        self._shown: list[Stroke] = []
        self.volumeNode, self.sliceIndex = None, 0

    @property
    def node(self):
        """The scratch segmentation; None if there is none."""
        if self._node is not None and self._node.GetScene() is None:
            self._forget()  # it was removed, or the scene was closed
        return self._node

    def start(self, volumeNode, sliceIndex: int) -> None:
        """Make an empty layer on a slice, in place of the last one.

        Raises:
            SceneError: there is no image, or it is under a non-linear transform.
        """
        requireImage(volumeNode)
        requireLinear(volumeNode)
        self.stop()
        self.volumeNode, self.sliceIndex = volumeNode, sliceIndex
        node = self._node = slicer.vtkMRMLSegmentationNode()
        node.SetName(_NAME)
        node.SetSaveWithScene(False)
        slicer.mrmlScene.AddNode(node)
        node.CreateDefaultDisplayNodes()
        node.GetDisplayNode().SetSaveWithScene(False)
        node.GetDisplayNode().SetVisibility3D(False)
        placeOnVolume(node, volumeNode)
        for segmentId, color in _COLORS.items():
            node.GetSegmentation().AddEmptySegment(segmentId, segmentId, color)
        changed = slicer.vtkSegmentation.SourceRepresentationModified
        self._observers.add(node.GetSegmentation(), changed, self._onModified)

    def stop(self) -> None:
        """Remove the layer from the scene."""
        node = self.node
        self._forget()
        if node is not None:
            slicer.mrmlScene.RemoveNode(node.GetDisplayNode())
            slicer.mrmlScene.RemoveNode(node)

    def painted(self) -> list[Stroke]:
        """What was painted since :meth:`show`, at most one stroke of each sign; what was erased does not count."""
        strokes = []
        for segmentId, present in ((PRESENT, True), (ABSENT, False)):
            mark = segmentSlice(self._node, segmentId, self.volumeNode, self.sliceIndex)
            new = mark & ~self._marked(present)
            if new.any():
                strokes.append(Stroke(new, present))
        return strokes

    def isElsewhere(self) -> bool:
        """Whether something was painted on another slice."""
        return any(
            segmentVoxels(self._node, segmentId)
            > int(segmentSlice(self._node, segmentId, self.volumeNode, self.sliceIndex).sum())
            for segmentId in (PRESENT, ABSENT)
        )

    def show(self, strokes: Sequence[Stroke]) -> None:
        """Show exactly these strokes."""
        self._shown, self._isOwn = list(strokes), True
        try:
            if self.isElsewhere():
                self._clear()
            for segmentId, present in ((PRESENT, True), (ABSENT, False)):
                setSegmentSlice(self._node, segmentId, self.volumeNode, self.sliceIndex, self._marked(present))
        finally:
            self._isOwn = False

    def _clear(self) -> None:
        segmentation = self._node.GetSegmentation()
        for segmentId, color in _COLORS.items():
            segmentation.RemoveSegment(segmentId)
            segmentation.AddEmptySegment(segmentId, segmentId, color)

    def _marked(self, present: bool) -> np.ndarray:
        mark = np.zeros(sliceShape(self.volumeNode)[1:], bool)
        for stroke in self._shown:
            if stroke.present == present:
                mark |= stroke.mark != 0
        return mark

    def _onModified(self, _caller, _event) -> None:
        if not self._isOwn:
            self._onPainted()

    def _forget(self) -> None:
        self._observers.clear()
        self._node, self.volumeNode, self._shown = None, None, []
