"""Asks before Slicer's window is closed. Knows nothing about why."""

from collections.abc import Callable
from typing import Any

import qt


class CloseGuard(qt.QObject):
    """An event filter on a window.

    Args:
        window: Slicer's main window.
        mayClose: asked when the user closes it.
    """

    def __init__(self, window: Any, mayClose: Callable[[], bool]):
        qt.QObject.__init__(self)
        self._window, self._mayClose = window, mayClose
        window.installEventFilter(self)

    def remove(self) -> None:
        """Let go of the window."""
        self._window.removeEventFilter(self)

    def eventFilter(self, target, event) -> bool:
        """Qt's hook: True swallows the event."""
        if event.type() != qt.QEvent.Close or self._mayClose():
            return False
        event.ignore()
        return True
