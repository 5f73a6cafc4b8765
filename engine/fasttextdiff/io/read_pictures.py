"""Reads pictures (PNG, JPEG, TIFF) through Pillow, placed as 3D Slicer places them. Knows nothing about volumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.errors import FastTextDiffError, UsageError
from fasttextdiff.image.volume import Source
from fasttextdiff.io.dicom_pixels import LPS_TO_RAS
from fasttextdiff.io.file_checks import no_stderr, require_compressible
from fasttextdiff.io.read_dicom import Decoded

_EXIF_ORIENTATION = 0x0112
_TIFF_PHOTOMETRIC = 0x0106
_BYTES_A_PIXEL = 16
"""In memory at a time, all stages taken together."""
_PAGES = 1000
_MM_AN_INCH = 25.4


def decode_picture(path: Path) -> Decoded:
    """Read one picture, upright.

    Of a TIFF with pages of several sizes (a thumbnail, the levels of a pyramid), the largest is read.

    Raises:
        UsageError: a TIFF with several pages of the largest size.
        FastTextDiffError: more pixels than memory is for, or than such a file can hold.
        Exception: whatever Pillow raises over a damaged file; the caller says so in one line.
    """
    from PIL import Image, ImageOps

    page = 0
    notes: list[str] = []
    try:
        # a file, not its name: Pillow maps an uncompressed TIFF of a name into memory, and scrambles one to be turned
        with path.open("rb") as file, Image.open(file, formats=("PNG", "JPEG", "TIFF")) as stored:
            if stored.format == "TIFF":
                page, notes = _largest_page(path, stored)
            require_compressible(path, stored.size, _BYTES_A_PIXEL, path.stat().st_size)
            turn = stored.getexif().get(_EXIF_ORIENTATION, 1)
            array = _pixels(ImageOps.exif_transpose(stored))
            if array.dtype == np.uint16 and _is_white_zero(stored):
                array = 65535 - array  # Pillow turns such a TIFF round itself for 8 bits, not for 16
            spacing = _resolution(stored) if page else None
    except Image.DecompressionBombError as problem:
        raise FastTextDiffError(f"{path}: the picture is too large; crop it into tiles") from problem
    if turn != 1:
        notes.append("turned upright as its EXIF orientation says; 3D Slicer may show it as stored")
    matrix = _picture_matrix(spacing or _spacing_as_itk(path), are_axes_swapped=turn >= 5)
    return Decoded(array[np.newaxis], matrix, None, True, Source(path=str(path), notes=tuple(notes)))


def _largest_page(path: Path, tiff: Any) -> tuple[int, list[str]]:
    """Settle on the page with most pixels, which is left open, and say so; refuse a stack of them."""
    sizes: list[tuple[int, int]] = []
    while _has_page(tiff, len(sizes)):
        if len(sizes) == _PAGES:
            raise UsageError(f"{path}: more than {_PAGES} pages; save the one to be segmented as a file of its own")
        sizes.append(tiff.size)
    largest = max(range(len(sizes)), key=lambda page: sizes[page][0] * sizes[page][1])
    if sizes.count(sizes[largest]) > 1:
        raise UsageError(f"{path}: {len(sizes)} pages; save the one to be segmented as a file of its own")
    tiff.seek(largest)
    if len(sizes) == 1:
        return 0, []
    return largest, [f"page {largest + 1} of {len(sizes)} used, the largest; the others are of another size"]


def _has_page(tiff: Any, page: int) -> bool:
    try:
        tiff.seek(page)
    except EOFError:
        return False
    return True


def _is_white_zero(picture: Any) -> bool:
    tags = picture.tag_v2 if picture.format == "TIFF" else {}
    return tags.get(_TIFF_PHOTOMETRIC) == 0


def _pixels(picture: Any) -> NDArray[Any]:
    """Rows and columns of grey at the depth of the file, or of 8-bit RGB; what is transparent becomes white."""
    mode = picture.mode
    if mode.startswith("I") or mode == "F":
        return np.asarray(picture)
    if picture.has_transparency_data:
        picture = over_white(picture.convert("RGBA"))
    return np.asarray(picture.convert("L" if picture.mode in ("1", "L") else "RGB"))


def over_white(picture: Any) -> Any:
    """An RGBA picture of Pillow's laid over white."""
    from PIL import Image

    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)


def _picture_matrix(spacing: tuple[float, float], are_axes_swapped: bool) -> NDArray[np.float64]:
    """What 3D Slicer makes of a picture: LPS along its rows and columns.

    Args:
        spacing: between columns, between rows, as stored; in millimetres.
        are_axes_swapped: by turning it upright.
    """
    across, down = reversed(spacing) if are_axes_swapped else spacing
    return LPS_TO_RAS @ np.diag([across, down, 1.0, 1.0])


def _spacing_as_itk(path: Path) -> tuple[float, float]:
    """1 mm, or the resolution of a JPEG's or TIFF's first page."""
    import SimpleITK as sitk  # noqa: N813

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        with no_stderr():
            reader.ReadImageInformation()
    except RuntimeError:  # a kind of compression that only Pillow knows
        return 1.0, 1.0
    across, down = reader.GetSpacing()[:2]
    return across, down


def _resolution(tiff: Any) -> tuple[float, float]:
    """Of the open page, in millimetres; 1 mm if it says nothing usable."""
    dots = [float(number) for number in tiff.info.get("dpi", ())]
    across, down = dots if len(dots) == 2 and all(0 < number < np.inf for number in dots) else [_MM_AN_INCH] * 2
    return _MM_AN_INCH / across, _MM_AN_INCH / down
