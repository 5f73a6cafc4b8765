"""Path lines that can be emptied and that tell when typing has ended. Knows nothing about what the paths are for.

A ctkPathLineEdit tells of every typed letter, and of nothing at all once it is empty: its validator wants a character.
"""

from collections.abc import Callable
from typing import Any

import ctk
import slicer


def folderEdit(edit: Any) -> Any:
    """Have a ctkPathLineEdit ask for folders, and tell of an empty text as of any other; gives its text line."""
    edit.filters = ctk.ctkPathLineEdit.Dirs
    line = slicer.util.findChildren(edit, className="QLineEdit")[0]
    line.setValidator(None)
    return line


class FinishedPath:
    """Tells of a folder once it is meant: chosen, set, or typed to its end. Half a path is nobody's folder.

    Args:
        edit: ctkPathLineEdit.
        onFinished: called with another path than the last one; an empty one included.
    """

    def __init__(self, edit: Any, onFinished: Callable[[str], None]):
        self._edit, self._onFinished = edit, onFinished
        self._line = folderEdit(edit)
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
