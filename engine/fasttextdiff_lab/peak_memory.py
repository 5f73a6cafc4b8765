"""The peak memory of this process. Knows the operating system only; loads no torch."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path


def resident_peak() -> int:
    """Largest resident memory of this process in bytes; since the last reset on Linux, else since it began.

    Linux's `ru_maxrss` would begin with the memory of the process that started this one; `VmHWM` does not.
    """
    with suppress(OSError, StopIteration):
        lines: Sequence[str] = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    resource = importlib.import_module("resource")  # Windows has none
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * (1 if sys.platform == "darwin" else 1024)
