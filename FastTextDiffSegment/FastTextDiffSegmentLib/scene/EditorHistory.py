"""The Segment Editor's own history, which has to know a segmentation as it was before this module changes it.

The editor restores a segmentation as a whole: otherwise its Undo would also take back what was written here since.
"""

from typing import Any

import slicer


def isModuleEditor(editorNode: Any) -> bool:
    """Whether a vtkMRMLSegmentEditorNode is that of the module Segment Editor, and not of another module's editor."""
    editor = _moduleEditor()
    return editor is not None and editor.mrmlSegmentEditorNode() is editorNode


def saveEditorState(segmentationNode: Any) -> None:
    """Store a segmentation in the history of the module Segment Editor, if it is chosen there."""
    editor = _moduleEditor()
    if editor is not None and editor.segmentationNode() is segmentationNode:
        editor.saveStateForUndo()


def _moduleEditor() -> Any:
    """The editor of the module Segment Editor; None if it was not shown yet, so that it has no history."""
    widget = getattr(slicer.modules, "SegmentEditorWidget", None)
    return None if widget is None else widget.editor
