"""Checks before a file is replaced: do two names mean the same file, and did we write this `.json`?"""

from __future__ import annotations

import json
import os
import unicodedata
from contextlib import suppress
from pathlib import Path
from typing import Any

_OWN_RECORDS = (
    {"findings", "provenance"},
    {"image", "layout", "labels"},
    {"protocol_i", "images"},
    {"dataset", "answers"},
    {"machine", "results"},
)
"""Keys of our `.json` files: next to a label map (engine, module), and files of numbers."""


def identities(path: Path) -> set[object]:
    """Identities of a file: its path and, if it exists, its inode. Two names of one file share at least one.

    Links, other spellings of a path, and names that differ only in case or Unicode form are the same file.
    """
    found: set[object] = {unicodedata.normalize("NFC", os.path.realpath(path)).casefold()}
    with suppress(OSError, ValueError):
        status = path.stat()
        found.add((status.st_dev, status.st_ino))
    return found


def is_own_record(path: Path) -> bool:
    """Whether we wrote this `.json` file; a BIDS sidecar of an image, for example, is not ours."""
    content: Any = None
    with suppress(OSError, ValueError, RecursionError), path.open("rb") as file:
        if file.peek(1)[:1] == b"{":  # else it may be an image of several gigabytes
            content = json.loads(file.read())
    return isinstance(content, dict) and any(keys <= set(content) for keys in _OWN_RECORDS)
