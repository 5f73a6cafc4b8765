"""Reads unlabelled pictures from a folder for training a denoiser.

Knows files, windows and sizes; knows nothing about findings or networks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.errors import FastTextDiffError, UsageError, one_line
from fasttextdiff.image.orientation import display_plane
from fasttextdiff.image.preprocessing import apply_window, choose_window
from fasttextdiff.image.volume import Modality, Volume
from fasttextdiff.io.read import ITK_ENDINGS, NIFTI_ENDINGS, PICTURE_ENDINGS, read_volume
from fasttextdiff.training.compact import compact_preprocessing
from fasttextdiff.training.samples import Region, Sample, resize_image

ENDINGS = (*PICTURE_ENDINGS, *NIFTI_ENDINGS, *ITK_ENDINGS)
ROOM = 1.25
"""Images of patients are kept at this multiple of the training size, so that zooming stays sharp."""
TISSUE = 4
"""Colour pictures, which are cropped, are kept at up to this multiple."""
FLAT = 2.0
"""Grey levels; a slice with a smaller range is skipped (air, the border of a volume)."""


@dataclass(frozen=True)
class Pictures:
    """The pictures of a folder.

    Attributes:
        samples: unlabelled pictures and slices that are not empty.
        files: number of their files.
        skipped: one line for every file that could not be read, with the reason.
    """

    samples: list[Sample]
    files: int
    skipped: list[str]


def picture_files(folder: Path) -> list[Path]:
    """PNG, JPEG, TIFF, NIfTI, NRRD and MetaImage files at any depth, sorted by path."""
    return sorted(path for path in folder.rglob("*") if path.name.lower().endswith(ENDINGS) and path.is_file())


def left_in(files: Sequence[Path], exclude: Path) -> list[Path]:
    """The files that are not named in a text file with one name a line.

    Raises:
        UsageError: the text file cannot be read.
    """
    try:
        names = {line.strip() for line in exclude.read_text(encoding="utf-8-sig").splitlines()}
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{exclude}: the list of excluded pictures cannot be read: {one_line(error)}") from error
    return [file for file in files if file.name not in names]


def read_pictures(folder: Path, size: int, files: Sequence[Path] | None = None) -> Pictures:
    """Read every picture and every slice of every volume below a folder into memory.

    Args:
        folder: with files as in :func:`picture_files`.
        size: side of training images in pixels.
        files: the only files to read; all below the folder if None.

    Raises:
        UsageError: the folder does not exist, or has no readable image.
    """
    if not folder.is_dir():
        raise UsageError(f"there is no image folder {folder}")
    paths = picture_files(folder) if files is None else files
    samples: list[Sample] = []
    skipped: list[str] = []
    for path in paths:
        try:
            samples += _slices(read_volume(path), size)
        except FastTextDiffError as error:
            skipped.append(str(error))
    if not samples:
        raise UsageError(f"there is no image to learn from in {folder}: {len(paths)} files, {len(skipped)} unreadable")
    return Pictures(samples, len(paths) - len(skipped), skipped)


def _slices(volume: Volume, size: int) -> Iterator[Sample]:
    """The slices as for the model: upright, windowed, no larger than useful."""
    window = choose_window(volume, compact_preprocessing().of(volume.modality))
    modality = _trained_as(volume)
    longest = round(size * (TISSUE if modality is Modality.HISTOLOGY else ROOM))
    for pixels in display_plane(volume, "acquisition").to_display(volume.array):
        image = _shrink(np.round(apply_window(pixels, window) * 255).astype(np.uint8), longest)
        if image.std() >= FLAT:
            yield Sample(image, np.zeros(image.shape[:2], np.uint8), modality, Region(0))


def _trained_as(volume: Volume) -> Modality:
    """The modality whose augmentation fits: tissue has no fixed orientation, and CT needs other zooms than pictures."""
    if volume.is_color:
        return Modality.HISTOLOGY
    return Modality.CT if volume.modality is Modality.CT else Modality.XRAY


def _shrink(image: NDArray[np.uint8], longest: int) -> NDArray[np.uint8]:
    """The picture, (h, w) or (h, w, 3), with its longer side at most `longest` pixels."""
    factor = longest / max(image.shape[:2])
    if factor >= 1:
        return np.ascontiguousarray(image)
    height, width = image.shape[:2]
    return resize_image(image, (max(1, round(height * factor)), max(1, round(width * factor))))
