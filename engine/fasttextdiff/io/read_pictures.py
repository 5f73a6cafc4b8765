"""Reads pictures (PNG, JPEG, TIFF) through Pillow, with 3D Slicer's geometry. Knows nothing about volumes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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
"""Limit for a picture in memory, over all stages."""
_PAGES = 1000
_MM_AN_INCH = 25.4


def decode_picture(path: Path) -> Decoded:
    """Read one picture, upright.

    If a TIFF has pages of several sizes (a thumbnail, the levels of a pyramid), the largest is read.

    Raises:
        UsageError: a TIFF has several pages of the largest size.
        FastTextDiffError: the picture has too many pixels for the memory, or for its file.
        Exception: errors of Pillow for a damaged file; the caller turns them into one line.
    """
    with _opened(path) as (stored, page, notes):
        turn = stored.getexif().get(_EXIF_ORIENTATION, 1)
        array = _upright_pixels(stored)
        spacing = _resolution(stored) if page else None
    if turn != 1:
        notes.append("rotated according to its EXIF orientation; 3D Slicer may show it as stored")
    matrix = _picture_matrix(spacing or _spacing_as_itk(path), are_axes_swapped=turn >= 5)
    return Decoded(array[np.newaxis], matrix, None, True, Source(path=str(path), notes=tuple(notes)))


def picture_pixels(path: Path) -> NDArray[Any]:
    """(h, w) or (h, w, 3), the pixels that `read_volume` gives for a picture: upright, grey if all channels are equal.

    A BMP is read as well. Errors are those of :func:`decode_picture`.
    """
    with _opened(path) as (stored, _, _):
        return grey_if_equal(_upright_pixels(stored)[np.newaxis])[0]


def mask_pixels(path: Path) -> NDArray[Any]:
    """(h, w), the levels of a picture of a mask: upright, 0 where it is transparent, the brightest channel of colour.

    Errors are those of :func:`decode_picture`.
    """
    with _opened(path) as (stored, _, _):
        pixels = _upright_pixels(stored, behind="black")
    return pixels.max(axis=2) if pixels.ndim == 3 else pixels


def grey_if_equal(array: NDArray[Any]) -> NDArray[Any]:
    """Grey voxels (k, j, i) of a grey image stored as colour (k, j, i, 3); any other image as it is."""
    if array.ndim == 4 and all(np.array_equal(array[..., 0], array[..., channel]) for channel in (1, 2)):
        return np.ascontiguousarray(array[..., 0])
    return array


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, int, list[str]]]:
    """A picture at its largest page, with the number of that page and notes; see :func:`decode_picture`."""
    from PIL import Image

    page = 0
    notes: list[str] = []
    formats = ("BMP",) if path.suffix.lower() == ".bmp" else ("PNG", "JPEG", "TIFF")
    try:
        # an open file, not a name: given a name, Pillow memory-maps an uncompressed TIFF and scrambles one with a
        # rotation
        with path.open("rb") as file, Image.open(file, formats=formats) as stored:
            if stored.format == "TIFF":
                page, notes = _largest_page(path, stored)
            require_compressible(path, stored.size, _BYTES_A_PIXEL, path.stat().st_size)
            yield stored, page, notes
    except Image.DecompressionBombError as problem:
        raise FastTextDiffError(f"{path}: the picture is too large; crop it into tiles") from problem


def _upright_pixels(stored: Any, behind: str = "white") -> NDArray[Any]:
    """The pixels of a stored picture of Pillow, turned by its EXIF orientation."""
    from PIL import ImageOps

    array = _pixels(ImageOps.exif_transpose(stored), behind)
    # Pillow inverts such a TIFF itself for 8 bits, but not for 16
    return 65535 - array if array.dtype == np.uint16 and _is_white_zero(stored) else array


def _largest_page(path: Path, tiff: Any) -> tuple[int, list[str]]:
    """Select the page with most pixels, with a note; refuse several pages of that size."""
    sizes: list[tuple[int, int]] = []
    while _has_page(tiff, len(sizes)):
        if len(sizes) == _PAGES:
            raise UsageError(f"{path}: more than {_PAGES} pages; save the one to segment as a separate file")
        sizes.append(tiff.size)
    largest = max(range(len(sizes)), key=lambda page: sizes[page][0] * sizes[page][1])
    if sizes.count(sizes[largest]) > 1:
        raise UsageError(f"{path}: {len(sizes)} pages; save the one to segment as a separate file")
    tiff.seek(largest)
    if len(sizes) == 1:
        return 0, []
    return largest, [f"page {largest + 1} of {len(sizes)} used, the largest; the others have other sizes"]


def _has_page(tiff: Any, page: int) -> bool:
    try:
        tiff.seek(page)
    except EOFError:
        return False
    return True


def _is_white_zero(picture: Any) -> bool:
    tags = picture.tag_v2 if picture.format == "TIFF" else {}
    return tags.get(_TIFF_PHOTOMETRIC) == 0


def _pixels(picture: Any, behind: str) -> NDArray[Any]:
    """Grey pixels at the depth of the file, or 8-bit RGB; transparent parts show the colour behind."""
    mode = picture.mode
    if mode.startswith("I") or mode == "F":
        return np.asarray(picture)
    if picture.has_transparency_data:
        picture = over(behind, picture.convert("RGBA"))
    return np.asarray(picture.convert("L" if picture.mode in ("1", "L") else "RGB"))


def over(behind: str, picture: Any) -> Any:
    """An RGBA picture of Pillow on a background of one colour."""
    from PIL import Image

    return Image.alpha_composite(Image.new("RGBA", picture.size, behind), picture)


def _picture_matrix(spacing: tuple[float, float], are_axes_swapped: bool) -> NDArray[np.float64]:
    """The geometry that 3D Slicer gives a picture: LPS along its rows and columns.

    Args:
        spacing: between columns, between rows, as stored; in millimetres.
        are_axes_swapped: whether the rotation swapped rows and columns.
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
    except RuntimeError:  # a compression that only Pillow supports
        return 1.0, 1.0
    across, down = reader.GetSpacing()[:2]
    return across, down


def _resolution(tiff: Any) -> tuple[float, float]:
    """Spacing of the open page in millimetres; 1 mm if it has no usable resolution."""
    dots = [float(number) for number in tiff.info.get("dpi", ())]
    across, down = dots if len(dots) == 2 and all(0 < number < np.inf for number in dots) else [_MM_AN_INCH] * 2
    return _MM_AN_INCH / across, _MM_AN_INCH / down
