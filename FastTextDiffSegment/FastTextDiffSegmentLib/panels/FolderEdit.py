"""Folder inputs that can be cleared and that signal when typing has ended. Does not know what the folders are for.

A ctkPathLineEdit signals every typed letter, but not that it was cleared: its validator requires a character.
"""

from collections.abc import Callable
from typing import Any

import ctk
import slicer


def askForFolders(edit: Any) -> Any:
    """Let a ctkPathLineEdit ask for folders and signal an empty text like any other; returns its text line."""
    edit.filters = ctk.ctkPathLineEdit.Dirs
    line = slicer.util.findChildren(edit, className="QLineEdit")[0]
    line.setValidator(None)
    return line


class FolderEdit:
    """Signals a folder once it is complete: chosen, set, or typed to the end.

    Args:
        edit: ctkPathLineEdit.
        onFinished: called with the new path if it differs from the last one; may be empty.
    """

    def __init__(self, edit: Any, onFinished: Callable[[str], None]):
        self._edit, self._onFinished = edit, onFinished
        self._line = askForFolders(edit)
        self._last = edit.currentPath.strip()
        edit.connect("currentPathChanged(QString)", self._onChanged)
        self._line.connect("editingFinished()", self._finish)

    def _onChanged(self, _path: str) -> None:
        if not self._line.modified:  # not typed
            self._finish()

    def _finish(self) -> None:
        path = self._edit.currentPath.strip()
        if path != self._last:
            self._last = path
            self._onFinished(path)
