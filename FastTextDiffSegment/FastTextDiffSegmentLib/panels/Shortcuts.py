"""The panel's shortcuts: Ctrl+Enter segments the shown slice, Ctrl+Z undoes, Ctrl+Y redoes. Knows no section."""

from collections.abc import Callable
from typing import Any

import qt
import slicer


class Shortcuts:
    """Shortcuts that are active while the panel is shown.

    Args:
        panel: the module's widget.
        onSegment: called for Ctrl+Enter.
        onUndo: called for Ctrl+Z.
        onRedo: called for Ctrl+Y and Ctrl+Shift+Z.
    """

    def __init__(
        self, panel: Any, onSegment: Callable[[], None], onUndo: Callable[[], None], onRedo: Callable[[], None]
    ):
        self._panel, self._onSegment, self._onUndo, self._onRedo = panel, onSegment, onUndo, onRedo
        self._active: list[Any] = []

    def activate(self) -> None:
        """Activate the shortcuts."""
        for keys in ("Ctrl+Return", "Ctrl+Enter"):
            self._add(keys, self._panel, self._onSegment).setContext(qt.Qt.WidgetWithChildrenShortcut)
        # in the whole window, as in the Segment Editor; the text box keeps its own Ctrl+Z
        window = slicer.util.mainWindow() or self._panel
        self._add("Ctrl+Z", window, self._onUndo)
        for keys in ("Ctrl+Y", "Ctrl+Shift+Z"):
            self._add(keys, window, self._onRedo)

    def deactivate(self) -> None:
        """Leave the keys to others again."""
        for shortcut in self._active:
            shortcut.setParent(None)
            shortcut.deleteLater()
        self._active = []

    def _add(self, keys: str, parent: Any, act: Callable[[], None]) -> Any:
        shortcut = qt.QShortcut(qt.QKeySequence(keys), parent)
        shortcut.connect("activated()", act)
        self._active.append(shortcut)
        return shortcut
