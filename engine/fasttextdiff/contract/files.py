"""How files are replaced: do two names mean the same file, did we write this `.json`, and several at once.

Knows nothing about the content of files except our own `.json`.
"""

from __future__ import annotations

import json
import os
import secrets
import unicodedata
from collections.abc import Sequence
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


def put_in_place(written: Sequence[Path], paths: Sequence[Path]) -> None:
    """Rename finished files to their places, all of them or none, whatever stops it, Ctrl-C too.

    If one cannot be renamed, files that were at these places are there again. Should even that fail, the earlier file
    is kept in its folder under a hidden name ending in "-earlier".

    Args:
        written: finished files, on the file system of their places.
        paths: their places; existing files are replaced.

    Raises:
        OSError: one cannot be renamed, e.g. because another program has the file open.
    """
    if len(paths) == 1:  # the system does this in one step
        written[0].replace(paths[0])
        return
    token = secrets.token_hex(4)
    earlier = [
        path.with_name(f".{token}-{n}-earlier") if os.path.lexists(path) else None for n, path in enumerate(paths)
    ]
    is_done = False
    try:
        for path, kept in zip(paths, earlier, strict=True):
            if kept is not None:
                with suppress(FileNotFoundError):  # another process is replacing it, too
                    path.rename(kept)
        for new, path in zip(written, paths, strict=True):
            new.replace(path)
        is_done = True
    finally:
        for new, path, kept in zip(written, paths, earlier, strict=True):
            with suppress(OSError):
                _settle(new, path, kept, is_done)


def _settle(new: Path, path: Path, kept: Path | None, is_done: bool) -> None:
    """Forget the earlier file of a place, or put it back; which of them happened shows in the files themselves."""
    if is_done and kept is not None:
        kept.unlink()
    elif kept is not None and os.path.lexists(kept):
        kept.replace(path)
    elif not is_done and kept is None and not os.path.lexists(new):
        path.unlink(missing_ok=True)
