"""Path lines that can be emptied and that signal when typing has ended. Knows nothing about what the paths are for.

A ctkPathLineEdit signals every typed letter, and nothing once it is empty: its validator wants a character.
"""

from collections.abc import Callable
from typing import Any

import ctk
import slicer


def askForFolders(edit: Any) -> Any:
    """Have a ctkPathLineEdit ask for folders, and signal an empty text as any other; returns its text line."""
    edit.filters = ctk.ctkPathLineEdit.Dirs
    line = slicer.util.findChildren(edit, className="QLineEdit")[0]
    line.setValidator(None)
    return line


class FolderEdit:
    """Signals a folder once it is complete: chosen, set, or typed to its end. Half a path is no folder.

    Args:
        edit: ctkPathLineEdit.
        onFinished: called with another path than the last one; an empty one included.
    """

    def __init__(self, edit: Any, onFinished: Callable[[str], None]):
        self._edit, self._onFinished = edit, onFinished
        self._line = askForFolders(edit)
        self._told = edit.currentPath.strip()
        edit.connect("currentPathChanged(QString)", self._onChanged)
        self._line.connect("editingFinished()", self._tell)

    def _onChanged(self, _path: str) -> None:
        if not self._line.modified:  # by letters
            self._tell()

    def _tell(self) -> None:
        path = self._edit.currentPath.strip()
        if path != self._told:
            self._told = path
            self._onFinished(path)
