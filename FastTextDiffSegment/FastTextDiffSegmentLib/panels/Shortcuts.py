"""The panel's shortcuts. They are active while the panel is shown, also in the slice views. Knows no section."""

from collections.abc import Callable, Mapping
from typing import Any

import qt
import slicer


class Shortcuts:
    """Shortcuts that are active while the panel is shown.

    They work in the whole window, as in the Segment Editor. Text boxes keep letters and their own Ctrl+Z. None is a key
    of Slicer's window, slice views or 3D views.

    Args:
        panel: the module's widget.
        acts: what is called, by keys.
    """

    def __init__(self, panel: Any, acts: Mapping[str, Callable[[], None]]):
        self._panel, self._acts = panel, acts
        self._active: list[Any] = []

    def activate(self) -> None:
        """Activate the shortcuts."""
        self.deactivate()
        parent = slicer.util.mainWindow() or self._panel
        for keys, act in self._acts.items():
            shortcut = qt.QShortcut(qt.QKeySequence(keys), parent)
            shortcut.connect("activated()", act)
            self._active.append(shortcut)

    def deactivate(self) -> None:
        """Leave the keys to others again."""
        for shortcut in self._active:
            shortcut.setParent(None)
            shortcut.deleteLater()
        self._active = []
