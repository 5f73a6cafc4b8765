"""Qt timers as the panel uses them. The caller keeps them: PythonQt deletes one that nobody refers to."""

from collections.abc import Callable
from typing import Any

import qt


def singleShot(act: Callable[[], None]) -> Any:
    """A timer that calls once; start(milliseconds) counts anew."""
    timer = qt.QTimer()
    timer.setSingleShot(True)
    timer.timeout.connect(act)
    return timer
