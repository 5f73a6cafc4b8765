"""Asks before Slicer's main window is closed. Does not know why."""

from collections.abc import Callable
from typing import Any

import qt


class CloseGuard(qt.QObject):
    """An event filter on a window.

    Args:
        window: Slicer's main window.
        mayClose: called when the user closes it; False keeps it open.
    """

    def __init__(self, window: Any, mayClose: Callable[[], bool]):
        qt.QObject.__init__(self)
        self._window, self._mayClose = window, mayClose
        window.installEventFilter(self)

    def remove(self) -> None:
        """Remove the filter from the window."""
        self._window.removeEventFilter(self)

    def eventFilter(self, target, event) -> bool:
        """Called by Qt; True discards the event."""
        if event.type() != qt.QEvent.Close or self._mayClose():
            return False
        event.ignore()
        return True
