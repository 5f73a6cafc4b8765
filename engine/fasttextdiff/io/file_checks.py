"""Checks whether an image file can hold the voxels of its header, before memory is allocated.

Knows how voxels are packed; knows nothing about their meaning.
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
"""Compressed voxels may always unpack to this many bytes: an empty label map of a large volume is tiny."""
_UNPACKED_RATIO = 100
READ_AT_ONCE = 1 << 18
"""Bytes of a compressed file in memory at a time."""
_GZIP_MAGIC = b"\x1f\x8b"


@contextmanager
def no_stderr() -> Iterator[None]:
    """Discard output to file descriptor 2, where C++ libraries print errors before SimpleITK raises."""
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
    """Refuse a header with more voxels than its file can hold.

    Args:
        path: for the message.
        sizes: voxels along each axis, from the header.
        voxel_bytes: bytes per voxel.
        stored: maximum bytes of voxels in the file.

    Raises:
        FastTextDiffError: there are more voxels, or an axis is empty.
    """
    announced = " x ".join(map(str, sizes))
    if min(sizes, default=0) < 1:
        raise FastTextDiffError(f"{path}: {announced or 'no'} voxels according to the header: the file is damaged")
    if math.prod(sizes) * voxel_bytes > stored:
        raise FastTextDiffError(
            f"{path}: the file is too short for the {announced} voxels in its header: it is damaged or truncated; "
            "copy it again"
        )


def require_finite(path: Path, what: str, values: Sequence[float]) -> None:
    """Refuse a header with NaN or infinity.

    Raises:
        FastTextDiffError: one of the values is not finite.
    """
    if not all(math.isfinite(value) for value in values):
        raise FastTextDiffError(f"{path}: {what} in the header is not a finite number: save the image again")


def most_unpacked(packed: int) -> int:
    """Maximum bytes that compressed bytes may unpack to; images of patients stay well below."""
    return max(_ALWAYS_UNPACKED, _UNPACKED_RATIO * packed)


def require_compressible(path: Path, sizes: Sequence[int], voxel_bytes: float, packed: int) -> None:
    """Refuse compressed voxels that would fill the memory.

    Args:
        path: for the message.
        sizes: voxels along each axis, from the header.
        voxel_bytes: bytes per voxel in memory.
        packed: maximum bytes of the compressed voxels.

    Raises:
        FastTextDiffError: they would unpack to more than 100 times their size and more than a GiB, or an axis is
            empty.
    """
    require_room(path, sizes, 0, 0)
    if math.prod(sizes) * voxel_bytes > most_unpacked(packed):
        raise FastTextDiffError(
            f"{path}: {packed:,} bytes cannot unpack to the {' x '.join(map(str, sizes))} voxels in the header: "
            "the file is damaged"
        )


def require_numbers(path: Path, what: str, words: Sequence[str], *, are_nonzero: bool = False) -> None:
    """Refuse words of a header that are not finite numbers, which libraries may read as 0 or anything else.

    Raises:
        FastTextDiffError: one of them is not a number, or is zero where that is not valid.
    """
    for word in words:
        try:
            number = float(word)
        except ValueError:
            number = math.nan
        if not math.isfinite(number) or (are_nonzero and number == 0):
            raise FastTextDiffError(f"{path}: {what} in the header is {word!r:.40}, not a valid number: save it again")


def require_intact(file: BinaryIO, kind: int, limit: int | None = None) -> int:
    """Read a compressed stream to its end and verify its checksum; of gzip, all members (RFC 1952 section 2.2).

    Args:
        file: at the beginning of the stream.
        kind: `GZIP`, `ZLIB`, or `DEFLATE`, which has no checksum.
        limit: maximum number of unpacked bytes; unlimited if None.

    Returns:
        The number of unpacked bytes.

    Raises:
        Exception: zlib's errors for a damaged stream; the caller turns them into one line.
        EOFError: it is truncated, or holds more than `limit`.
    """
    held, packed = _unpacked(file, kind, b"", 0, limit)
    while kind == GZIP and packed.startswith(_GZIP_MAGIC):
        held, packed = _unpacked(file, kind, packed, held, limit)
    return held


def _unpacked(file: BinaryIO, kind: int, packed: bytes, held: int, limit: int | None) -> tuple[int, bytes]:
    """Unpack one stream that begins with the bytes `packed`.

    Returns:
        `held` plus the number of its bytes, and the first bytes after it, if there are any.
    """
    stream = zlib.decompressobj(kind)
    while not stream.eof:
        block = packed or file.read(READ_AT_ONCE)
        if not block:
            raise EOFError("the compressed voxels are truncated")
        held += len(stream.decompress(block, 1 << 24))
        packed = stream.unconsumed_tail
        if limit is not None and held > limit:
            raise EOFError("the file holds more than its header says")
    behind = stream.unused_data
    return held, behind if len(behind) >= len(_GZIP_MAGIC) else behind + file.read(READ_AT_ONCE)
