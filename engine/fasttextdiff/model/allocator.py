"""Keeps freed memory for reuse, if the C library supports it.

Standard library only; knows nothing about tensors.
"""

from __future__ import annotations

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt(3)."""
_NEVER = 2**31 - 1
_MMAP_LIMITS = (1 << 30, 32 << 20)
"""Bytes; glibc before 2.35 accepts only the second."""


def keep_freed_memory() -> bool:
    """Make glibc keep freed memory instead of returning it to the system.

    A network frees and allocates the same few megabytes at every layer. If they are returned in between, every page
    is faulted in and cleared again, which takes a fifth of the time of a new finding (`docs/performance.md`). The
    process keeps its peak memory until it ends. Call this only in our own processes, because it affects the whole
    process.

    Returns:
        Whether the C library is glibc and accepted the setting.
    """
    if os.name != "posix":
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    # the first accepted value; must come before the other setting, which ends glibc's automatic adjustment
    large = any(library.mallopt(_MMAP_THRESHOLD, limit) for limit in _MMAP_LIMITS)
    return large and bool(library.mallopt(_TRIM_THRESHOLD, _NEVER))
