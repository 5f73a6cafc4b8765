"""Finds out whether an image file can hold what its header announces, before memory is taken for it.

Knows how voxels are packed; knows nothing about what they show.
"""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from fasttextdiff.errors import FastTextDiffError

GZIP, ZLIB, DEFLATE = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS
_ALWAYS_UNPACKED = 1 << 30
"""Bytes that compressed voxels may always unpack to: an empty label map of a large volume takes next to nothing."""
_UNPACKED_RATIO = 100
_BLOCK = 1 << 18


@contextmanager
def no_stderr() -> Iterator[None]:
    """Discard what is written to file descriptor 2: C++ libraries complain there before SimpleITK raises."""
    try:
        kept = os.dup(2)
    except OSError:  # a windowed program without one
        yield
        return
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def require_room(path: Path, sizes: Sequence[int], voxel_bytes: float, stored: float) -> None:
    """Refuse a header that announces more voxels than its file can hold.

    Args:
        path: for the message.
        sizes: voxels along each axis, as the header says.
        voxel_bytes: of one voxel.
        stored: bytes of voxels that the file can hold at most.

    Raises:
        FastTextDiffError: it announces more, or an axis that is empty.
    """
    announced = " x ".join(map(str, sizes))
    if min(sizes, default=0) < 1:
        raise FastTextDiffError(f"{path}: the header announces {announced or 'no'} voxels: the file is damaged")
    if math.prod(sizes) * voxel_bytes > stored:
        raise FastTextDiffError(
            f"{path}: the header announces {announced} voxels, which the file is too short for: it is damaged or cut "
            "short; copy it again"
        )


def require_finite(path: Path, what: str, values: Sequence[float]) -> None:
    """Refuse a header with NaN or infinity in it.

    Raises:
        FastTextDiffError: one of the values is not finite.
    """
    if not all(math.isfinite(value) for value in values):
        raise FastTextDiffError(f"{path}: {what} in the header is not a finite number: save the image anew")


def most_unpacked(packed: int) -> int:
    """Bytes that so many compressed ones may unpack to; no image of a patient is packed so well."""
    return max(_ALWAYS_UNPACKED, _UNPACKED_RATIO * packed)


def require_compressible(path: Path, sizes: Sequence[int], voxel_bytes: float, packed: int) -> None:
    """Refuse compressed voxels that would fill the memory.

    Args:
        path: for the message.
        sizes: voxels along each axis, as the header says.
        voxel_bytes: of one voxel in memory.
        packed: bytes that the compressed voxels take at most.

    Raises:
        FastTextDiffError: they take a hundred times as much and more than a GiB, or an axis is empty.
    """
    require_room(path, sizes, 0, 0)
    if math.prod(sizes) * voxel_bytes > most_unpacked(packed):
        raise FastTextDiffError(
            f"{path}: {packed:,} bytes are announced to unpack to {' x '.join(map(str, sizes))} voxels, which no image "
            "does: the file is damaged"
        )


def require_numbers(path: Path, what: str, words: Sequence[str], *, are_nonzero: bool = False) -> None:
    """Refuse words of a header that are no finite numbers: libraries take 0 or anything for them.

    Raises:
        FastTextDiffError: one of them is none, or zero where that cannot be.
    """
    for word in words:
        try:
            number = float(word)
        except ValueError:
            number = math.nan
        if not math.isfinite(number) or (are_nonzero and number == 0):
            raise FastTextDiffError(f"{path}: {what} in the header is {word!r:.40}, no usable number: save it anew")


def require_intact(file: BinaryIO, kind: int, limit: int | None = None) -> int:
    """Read a compressed stream from here to its end and checksum; of several one after the other, the first.

    Args:
        file: at the beginning of the stream.
        kind: `GZIP`, `ZLIB`, or `DEFLATE`, which has no checksum.
        limit: bytes that it may hold; any number if None.

    Returns:
        The bytes it holds.

    Raises:
        Exception: whatever zlib raises over a damaged stream; the caller says so in one line.
        EOFError: it is cut short, or holds more than `limit`.
    """
    stream, held = zlib.decompressobj(kind), 0
    while not stream.eof:
        block = stream.unconsumed_tail or file.read(_BLOCK)
        if not block:
            raise EOFError("the compressed voxels are cut short")
        held += len(stream.decompress(block, 1 << 24))
        if limit is not None and held > limit:
            raise EOFError("there is more in the file than its header says")
    return held
