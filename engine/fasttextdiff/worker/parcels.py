"""Messages with their files on one stream: a line of JSON, then the bytes of each file. Standard library only.

Knows nothing about what the messages mean, except what a description of an array in a file looks like.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

_ARRAY_FILE = {"file", "dtype", "shape"}
"""Fields of the contract's `ArrayFile`."""
_BLOCK = 1 << 20


def array_files(message: Any) -> Iterator[dict[str, Any]]:
    """All descriptions of arrays in files in a message, as they are in it."""
    if isinstance(message, dict):
        if set(message) == _ARRAY_FILE:
            yield message
        else:
            for part in message.values():
                yield from array_files(part)
    elif isinstance(message, list):
        for part in message:
            yield from array_files(part)


def send_parcel(stream: IO[bytes], message: dict[str, Any]) -> None:
    """Write a message and the files that it describes; they are not removed.

    Raises:
        OSError: the other end no longer reads, or a file cannot be read.
    """
    paths = [Path(each["file"]) for each in array_files(message)]
    files = [[path.name, path.stat().st_size] for path in paths]
    stream.write(json.dumps({"message": message, "files": files}).encode() + b"\n")
    for path in paths:
        with path.open("rb") as file:
            shutil.copyfileobj(file, stream, _BLOCK)
    stream.flush()


def receive_parcel(stream: IO[bytes], folder: Path) -> dict[str, Any] | None:
    """Read the next message; its files are written into a folder, and its descriptions name them there.

    Lines that are no parcels, such as greetings of a login, are skipped.

    Returns:
        None at the end of the stream, also in the middle of a parcel.
    """
    for line in iter(stream.readline, b""):
        parcel = _parcel(line)
        if parcel is None:
            continue
        described = list(array_files(parcel["message"]))
        for number, ((name, size), each) in enumerate(zip(parcel["files"], described, strict=True)):
            path = folder / f"{number}-{Path(name).name}"
            if not _copy(stream, path, size):
                return None
            each["file"] = str(path)
        message: dict[str, Any] = parcel["message"]
        return message
    return None


def _parcel(line: bytes) -> dict[str, Any] | None:
    try:
        parcel = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return parcel if isinstance(parcel, dict) and set(parcel) == {"message", "files"} else None


def _copy(stream: IO[bytes], path: Path, size: int) -> bool:
    """Copy some bytes of a stream into a new file; False if the stream ends before."""
    with path.open("xb") as file:
        while size:
            block = stream.read(min(size, _BLOCK))
            if not block:
                return False
            file.write(block)
            size -= len(block)
    return True
