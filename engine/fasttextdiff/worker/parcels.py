"""Messages with their files on one stream: a line of JSON, then the bytes of each file. Standard library only.

Knows nothing about what the messages mean, except what a description of an array in a file looks like.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

_ARRAY_FILE = {"file", "dtype", "shape"}
"""Fields of the contract's `ArrayFile`."""
_BLOCK = 1 << 20


class UnreadableFile(OSError):
    """A file of a message cannot be read. Nothing of the message was written, so that others can follow it."""


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
        UnreadableFile: a file is missing; the stream is as before.
        OSError: the other end no longer reads, or a file became shorter; nothing can follow on this stream.
    """
    with ExitStack() as stack:
        # opened before anything is written: a file that is removed from now on can still be read
        opened = [stack.enter_context(_opened(Path(each["file"]))) for each in array_files(message)]
        sizes = [os.fstat(file.fileno()).st_size for file in opened]
        files = [[Path(file.name).name, size] for file, size in zip(opened, sizes, strict=True)]
        stream.write(json.dumps({"message": message, "files": files}).encode() + b"\n")
        for file, size in zip(opened, sizes, strict=True):
            if not _copy(file, stream, size):
                raise OSError(f"{file.name} became shorter while it was sent")
    stream.flush()


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise UnreadableFile(error.errno, error.strerror, str(path)) from error


def receive_parcel(stream: IO[bytes], folder: Path) -> dict[str, Any] | None:
    """Read the next message; its files are written into a folder, and its descriptions name them there.

    Lines that are not parcels, such as a login's greeting, are skipped.

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
            with path.open("xb") as file:
                if not _copy(stream, file, size):
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


def _copy(source: IO[bytes], target: IO[bytes], size: int) -> bool:
    """Copy some bytes from one stream to another; False if the first ends before."""
    while size:
        block = source.read(min(size, _BLOCK))
        if not block:
            return False
        target.write(block)
        size -= len(block)
    return True
