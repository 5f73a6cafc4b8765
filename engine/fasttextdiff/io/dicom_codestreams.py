"""Reads the size of compressed frames from their code streams, which decoders trust more than the DICOM header.

JPEG and JPEG-LS: ISO/IEC 10918-1 B.2.2, 14495-1 C.2.2 (frame header); JPEG 2000: ISO/IEC 15444-1 A.5.1 (SIZ). Knows
nothing about pixels.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fasttextdiff.errors import FastTextDiffError
from fasttextdiff.io.file_checks import DEFLATE, most_unpacked, require_intact

_DEFLATED = b"1.2.840.10008.1.2.1.99"
_GROUP_LENGTH = b"\x02\x00\x00\x00UL\x04\x00"
"""The element before the length of the File Meta Information (PS3.10 section 7.1)."""
_META = 1 << 12
_JPEG, _JPEG_2000 = b"\xff\xd8\xff", b"\xff\x4f\xff\x51"
_NO_FRAME_HEADER = {0xC4, 0xC8, 0xCC}
"""DHT, JPG and DAC, the markers from C0 to CF that are not frame headers."""
_JPEG_LS_FRAME = 0xF7
_IN_A_BOX = 1 << 12
"""The code stream of a JP2 file begins within these bytes; DICOM usually has bare code streams."""


def require_matching_frames(path: Path) -> None:
    """Refuse a file with a compressed frame whose size differs from the header.

    Raises:
        FastTextDiffError: a size differs. Other damage is left to the decoder.
    """
    import pydicom
    from pydicom.encaps import generate_fragments

    dataset: Any = pydicom.dcmread(path)
    announced = int(dataset.Rows), int(dataset.Columns)
    try:
        found = [frame_size(fragment) for fragment in generate_fragments(dataset.PixelData)]
    except (AttributeError, ValueError, struct.error):
        return
    for size in found:
        if size is not None and size != announced:
            raise FastTextDiffError(
                f"{path}: a compressed frame has {size[1]} x {size[0]} pixels, the header says {announced[1]} x "
                f"{announced[0]}: the file is damaged; copy or export it again"
            )


def frame_size(fragment: bytes) -> tuple[int, int] | None:
    """Rows and columns of the frame that begins here; None if none does, or it has another encoding (RLE)."""
    try:
        if fragment.startswith(_JPEG):
            return next(_jpeg_sizes(fragment), None)
        start = fragment.find(_JPEG_2000, 0, _IN_A_BOX)
        if start < 0:
            return None
        right, bottom, left, top = struct.unpack_from(">4I", fragment, start + 8)
    except struct.error:  # truncated
        return None
    return bottom - top, right - left


def _jpeg_sizes(stream: bytes) -> Iterator[tuple[int, int]]:
    """Rows and columns of each frame header before the first scan."""
    at = 2
    while at + 4 <= len(stream) and stream[at] == 0xFF:
        marker = stream[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker == 0xDA:
            return
        if (0xC0 <= marker <= 0xCF and marker not in _NO_FRAME_HEADER) or marker == _JPEG_LS_FRAME:
            rows, columns = struct.unpack_from(">2H", stream, at + 5)
            yield rows, columns
        at += 2 + struct.unpack_from(">H", stream, at + 2)[0]


def require_possible_deflated(path: Path) -> None:
    """Refuse a deflated data set (PS3.5 section A.5) that would fill the memory, before any library inflates it.

    Raises:
        Exception: it inflates to more than any image would, or is damaged; the caller turns this into one line.
    """
    with path.open("rb") as file:
        start = file.read(_META)
        if _DEFLATED not in start:
            return
        length = start.index(_GROUP_LENGTH) + len(_GROUP_LENGTH)
        file.seek(length + 4 + int.from_bytes(start[length : length + 4], "little"))
        require_intact(file, DEFLATE, most_unpacked(path.stat().st_size))
