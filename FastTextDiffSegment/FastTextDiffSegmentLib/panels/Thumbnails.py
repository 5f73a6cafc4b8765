"""Small pictures of slices as icons, each made once. Knows pictures and Qt, no sections."""

from collections.abc import Callable
from typing import Any

import qt

from FastTextDiffSegmentLib.contract.segments import FINDING_TAG
from FastTextDiffSegmentLib.Logic import FastTextDiffSegmentLogic
from FastTextDiffSegmentLib.scene.SegmentVoxels import segmentIds
from FastTextDiffSegmentLib.scene.SegmentWriter import geometryMatches, tagOf
from FastTextDiffSegmentLib.scene.SlicePicture import slicePicture, writePicture

SIDE = 56
"""Longer side in pixels."""


class Thumbnails:
    """Makes icons of slices with the outlines of the findings.

    Args:
        logic: has a private folder for the pictures, which are removed at once.
        window: returns the grey-level window; None for each slice's own range.
    """

    def __init__(self, logic: FastTextDiffSegmentLogic, window: Callable[[], tuple[float, float] | None]):
        self._logic, self._window = logic, window
        self._of: Any = None
        self._icons: dict[int, Any] = {}

    def icon(self, volumeNode: Any, segmentationNode: Any, number: int, plane: str) -> Any:
        """The icon of a slice."""
        key = (volumeNode.GetID(), segmentationNode.GetID(), plane, self._window())
        if key != self._of:
            self._of, self._icons = key, {}
        if number not in self._icons:
            self._icons[number] = self._made(volumeNode, segmentationNode, number, plane)
        return self._icons[number]

    def drop(self, number: int) -> None:
        """Forget the icon of a slice, because its segments may have changed."""
        self._icons.pop(number, None)

    def forget(self) -> None:
        """Forget all icons."""
        self._of, self._icons = None, {}

    def _made(self, volumeNode: Any, segmentationNode: Any, number: int, plane: str) -> Any:
        segmentation, shown = segmentationNode.GetSegmentation(), []
        if geometryMatches(segmentationNode, volumeNode):
            shown = [each for each in segmentIds(segmentation) if tagOf(segmentation.GetSegment(each), FINDING_TAG)]
        picture = slicePicture(volumeNode, segmentationNode, shown, number, plane, self._window(), SIDE)
        # through a file, because Slicer's Python cannot make a pixmap of an array
        file = self._logic.session.folder.path / "slice.png"
        writePicture(picture, file)
        icon = qt.QIcon(qt.QPixmap(str(file)))
        file.unlink()
        return icon
