"""Which names are one file, and which `.json` was written here: asked before anything is replaced."""

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
"""Keys of the `.json` beside a label map, the engine's and the module's, and of files of numbers."""


def identities(path: Path) -> set[object]:
    """What two names of one file share: the place, and where it exists the file system's own number for it.

    Links, other spellings of a path, and names that differ in capital letters or Unicode form alone are the same file.
    """
    found: set[object] = {unicodedata.normalize("NFC", os.path.realpath(path)).casefold()}
    with suppress(OSError, ValueError):
        status = path.stat()
        found.add((status.st_dev, status.st_ino))
    return found


def is_own_record(path: Path) -> bool:
    """Whether a file is a `.json` that was written here, and not e.g. the sidecar of an image in BIDS."""
    content: Any = None
    with suppress(OSError, ValueError, RecursionError), path.open("rb") as file:
        if file.peek(1)[:1] == b"{":  # else it may be gigabytes of an image
            content = json.loads(file.read())
    return isinstance(content, dict) and any(keys <= set(content) for keys in _OWN_RECORDS)
