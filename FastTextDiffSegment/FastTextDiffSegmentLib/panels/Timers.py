"""Qt timers for the panel. The caller must keep a reference: PythonQt deletes a timer that nobody refers to."""

from collections.abc import Callable
from typing import Any

import qt


def singleShot(act: Callable[[], None]) -> Any:
    """A timer that fires once; start(milliseconds) restarts it."""
    timer = qt.QTimer()
    timer.setSingleShot(True)
    timer.timeout.connect(act)
    return timer
