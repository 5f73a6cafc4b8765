"""How a DICOM file stores its pixels, and whether its size fits the header. Knows nothing about their meaning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fasttextdiff.errors import FastTextDiffError

_ALWAYS_POSSIBLE = 1 << 28
"""Up to this size, the header is not checked against the file; the decoder reports missing bytes."""


@dataclass(frozen=True)
class Encoding:
    """How a file stores its pixels: Image Pixel module (PS3.3 section C.7.6.3).

    Attributes:
        is_inverted: Photometric Interpretation (0028,0004) is MONOCHROME1: the lowest value is shown white.
        bits_stored: Bits Stored (0028,0101).
        is_signed: Pixel Representation (0028,0103) is 1.
        padding: lowest and highest stored value of padding (PS3.3 section C.7.5.1.1.2); None without padding.
        is_compressed: frames are code streams (PS3.5 section A.4).
    """

    is_inverted: bool
    bits_stored: int
    is_signed: bool
    padding: tuple[int, int] | None
    is_compressed: bool = False


def require_possible_size(dataset: Any, file_size: int, behind: int) -> None:
    """Refuse more pixels than the file can hold, before memory is allocated.

    The size of uncompressed pixels is given in PS3.5 section 8.1.1. Compressed frames have at least one item each
    (PS3.5 section A.4), and images of patients, except small ones, are never compressed by a factor of 100.

    Args:
        dataset: the header.
        file_size: bytes.
        behind: bytes of the file after the header; a decoder fills missing uncompressed pixels with black.

    Raises:
        FastTextDiffError: the file is too short.
        ValueError: a count is not a number.
    """
    frames = int(dataset.get("NumberOfFrames") or 1)
    samples, bits = int(dataset.get("SamplesPerPixel") or 1), int(dataset.get("BitsAllocated") or 1)
    announced = frames * int(dataset.Rows) * int(dataset.Columns) * samples * bits // 8
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    is_packed = syntax is not None and (not syntax.is_transfer_syntax or syntax.is_compressed or syntax.is_deflated)
    if dataset.get("PhotometricInterpretation") == "YBR_FULL_422":  # stores two samples per pixel instead of three
        announced = announced * 2 // 3
    possible = max(100 * file_size, _ALWAYS_POSSIBLE) if is_packed or not behind else behind
    if frames < 1 or announced > possible or 8 * (frames - 1) > file_size:
        raise FastTextDiffError(
            f"{frames} frames of {dataset.Columns} x {dataset.Rows} pixels in the header do not fit in a file of "
            f"{file_size:,} bytes; copy or export it again"
        )


def parse_encoding(dataset: Any) -> Encoding:
    """Parse how a header describes the pixels.

    Raises:
        FastTextDiffError: the bits would be decoded wrongly.
        ValueError: a count is not a number.
    """
    allocated = int(dataset.get("BitsAllocated") or 8)
    stored = int(dataset.get("BitsStored") or allocated)
    high = int(dataset.get("HighBit") if dataset.get("HighBit") is not None else stored - 1)
    if "FloatPixelData" not in dataset and "DoubleFloatPixelData" not in dataset and not 0 < stored <= allocated:
        raise FastTextDiffError(f"Bits Stored is {stored} of {allocated}; export the image again")
    if high != stored - 1:
        raise FastTextDiffError(
            f"its {stored} bits are stored at High Bit {high}, not {stored - 1} (retired from DICOM); convert the "
            f"image to the current standard, or export it again"
        )
    is_signed = int(dataset.get("PixelRepresentation") or 0) == 1
    photometric = str(dataset.get("PhotometricInterpretation") or "")
    padding = None if int(dataset.get("SamplesPerPixel") or 1) > 1 else _parse_padding(dataset, is_signed, allocated)
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    is_compressed = syntax is not None and bool(syntax.is_transfer_syntax) and bool(syntax.is_encapsulated)
    return Encoding(photometric.strip() == "MONOCHROME1", stored, is_signed, padding, is_compressed)


def _parse_padding(dataset: Any, is_signed: bool, bits: int) -> tuple[int, int] | None:
    """Pixel Padding Value (0028,0120) and Range Limit (0028,0121), inclusive (PS3.3 section C.7.5.1.1.2)."""
    value = dataset.get("PixelPaddingValue")
    if value is None or isinstance(value, str):
        return None
    limit = dataset.get("PixelPaddingRangeLimit")
    ends = [_as_stored(value, is_signed, bits), _as_stored(value if limit is None else limit, is_signed, bits)]
    return min(ends), max(ends)


def _as_stored(value: Any, is_signed: bool, bits: int) -> int:
    """The stored pixel value for a padding value; some writers confuse US and SS."""
    number = int(value) % (1 << bits)
    return number - (1 << bits) if is_signed and number >= 1 << (bits - 1) else number
