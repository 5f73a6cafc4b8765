"""Slicer's own Paint on a scratch segmentation. Knows the Segment Editor; knows nothing about what is painted."""

from typing import Any

import slicer

_BRUSH = {"BrushSphere": "0", "BrushDiameterIsRelative": "1", "BrushRelativeDiameter": "1.5", "BrushPixelMode": "0"}
"""A flat, thin brush, in percent of the view."""


class StrokePaint:
    """A hidden Segment Editor with a node of its own, so that the user's editor keeps its settings."""

    def __init__(self):
        self._widget: Any = None
        self._node: Any = None

    def activate(self, segmentationNode: Any, volumeNode: Any, segmentId: str) -> None:
        """Let the user paint on a segment in the slice views."""
        if self._widget is None:
            self._widget = slicer.qMRMLSegmentEditorWidget()
            self._widget.setMRMLScene(slicer.mrmlScene)
        if self._node is None or self._node.GetScene() is None:
            self._node = _newNode()
            self._widget.setMRMLSegmentEditorNode(self._node)
        self._widget.setSegmentationNode(segmentationNode)
        self._widget.setSourceVolumeNode(volumeNode)
        self._node.SetSelectedSegmentID(segmentId)
        self._widget.setActiveEffectByName("Paint")
        effect = self._widget.activeEffect()
        for name, value in _BRUSH.items():
            effect.setParameter(name, value)

    def deactivate(self) -> None:
        """Stop painting, and leave nothing in the scene."""
        node, self._node = self._node, None
        if node is None:
            return
        self._widget.setActiveEffectByName("")
        self._widget.setSegmentationNode(None)
        self._widget.setMRMLSegmentEditorNode(None)
        if node.GetScene() is not None:
            slicer.mrmlScene.RemoveNode(node)

    def close(self) -> None:
        """Delete the editor."""
        self.deactivate()
        if self._widget is not None:
            self._widget.setMRMLScene(None)
            self._widget.deleteLater()
            self._widget = None


def _newNode() -> Any:
    node = slicer.vtkMRMLSegmentEditorNode()
    node.SetHideFromEditors(True)
    node.SetSaveWithScene(False)
    slicer.mrmlScene.AddNode(node)
    node.SetOverwriteMode(node.OverwriteNone)  # a stroke never takes pixels from another
    node.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedEverywhere)
    return node
