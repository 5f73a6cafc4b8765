"""Keeps freed memory for the next result, where the C library allows it.

Needs nothing but Python itself; knows nothing about tensors.
"""

from __future__ import annotations

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt(3)."""
_NEVER = 2**31 - 1
_MMAP_LIMITS = (1 << 30, 32 << 20)
"""Bytes; glibc before 2.35 refuses more than the second."""


def keep_freed_memory() -> bool:
    """Have glibc keep what this process frees instead of handing it back to the system.

    A network frees and asks again for the same few megabytes at every layer. Handed back in between, every page of them
    has to be faulted in and cleared anew: a fifth of the time of a new finding (`docs/performance.md`). What a
    process has needed at its peak it keeps until it ends. For processes of our own only: it is a setting of the whole
    process.

    Returns:
        whether the C library is glibc, and was set.
    """
    if os.name != "posix":
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    # the first one that is accepted; it has to come before the other, which ends glibc's own adaptation
    large = any(library.mallopt(_MMAP_THRESHOLD, limit) for limit in _MMAP_LIMITS)
    return large and bool(library.mallopt(_TRIM_THRESHOLD, _NEVER))
