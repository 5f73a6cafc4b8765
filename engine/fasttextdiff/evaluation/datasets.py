"""Reads labelled image folders: the LViT layout of the published work, and folders with one target per finding.

Knows file layouts and whether sides are the patient's; knows nothing about models.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.errors import FastTextDiffError, UsageError, one_line
from fasttextdiff.image.volume import Modality
from fasttextdiff.io.csv_tables import read_csv_table
from fasttextdiff.io.json_files import parse_json
from fasttextdiff.io.read_pictures import mask_pixels, picture_pixels
from fasttextdiff.paths import PathText, as_path

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
LOSSY_SUFFIXES = (".jpg", ".jpeg")
EXCLUDED = "exclude_from_training.txt"
"""A file of a dataset with one picture a line that is in an evaluation set too; the split "train" leaves these out."""
CT_ROW_ZONES = {"upper": "anterior", "middle": "middle", "lower": "posterior"}
"""The meaning of LViT's words on axial CT, where they were made from image rows."""


@dataclass(frozen=True)
class Target:
    """One image, one finding, one true mask.

    Attributes:
        image: path of the image.
        mask: path of the mask; 0 and what is transparent are background, everything else the finding. A JPEG is
            thresholded at half grey, because compression leaves other values along edges.
        text: the finding; sides are the patient's.
        modality: modality of the image.
    """

    image: Path
    mask: Path
    text: str
    modality: Modality

    @property
    def of_finding(self) -> bool:
        """Whether the mask is of one finding among several, not of everything in LViT's sentence."""
        return self.mask.parent.name != "labelcol"

    def load_image(self) -> NDArray[np.uint8]:
        """(h, w) or (h, w, 3)."""
        return load_image(self.image)

    def load_mask(self) -> NDArray[np.bool_]:
        """(h, w)."""
        return mask_of(load_levels(self.mask), self.mask)


@dataclass(frozen=True)
class Row:
    """One row of a dataset's table; its files may be missing.

    Attributes:
        name: name in the table.
        image: path of the image; None if it is missing.
        mask: path of the mask; None if it is missing.
        text: the finding; sides are the patient's.
        modality: modality of the image.
    """

    name: str
    image: Path | None
    mask: Path | None
    text: str
    modality: Modality


@dataclass(frozen=True)
class Split:
    """The content of one split of a labelled folder.

    Attributes:
        folder: folder of the split.
        rows: rows of its table, in order, without those left out.
        images: every image in the split, with or without a row, without those left out.
        laterality: whether sides in the table are those of the "image" or the "patient"; None if the folder does not
            say.
        left_out: images of the split "train" that must not be trained on, see `EXCLUDED`.
    """

    folder: Path
    rows: tuple[Row, ...]
    images: tuple[Path, ...]
    laterality: str | None
    left_out: tuple[Path, ...] = ()


def mask_of(levels: NDArray[np.generic], path: PathText) -> NDArray[np.bool_]:
    """The mask from the levels of a file, of any shape; see :class:`Target`."""
    path = as_path(path)
    return np.greater(levels, 127 if path.suffix.lower() in LOSSY_SUFFIXES else 0)


def load_image(path: PathText, *, grey: bool = False) -> NDArray[np.uint8]:
    """An 8-bit picture as the model sees it in use: (h, w) if it is grey or `grey` is set, else (h, w, 3).

    Raises:
        FastTextDiffError: it cannot be read, or has more than 8 bits.
    """
    from PIL import Image

    pixels = _eight_bits(path, picture_pixels)
    return np.asarray(Image.fromarray(pixels).convert("L")) if grey and pixels.ndim == 3 else pixels


def load_levels(path: PathText) -> NDArray[np.uint8]:
    """The levels (h, w) of a picture of a mask, for :func:`mask_of`; errors as for :func:`load_image`."""
    return _eight_bits(path, mask_pixels)


def _eight_bits(path: PathText, read: Callable[[Path], NDArray[Any]]) -> NDArray[np.uint8]:
    path = as_path(path)
    try:
        pixels = read(path)
    except FastTextDiffError:
        raise
    except Exception as error:  # Pillow's parsers may raise anything
        raise FastTextDiffError(f"{path} cannot be read as an image: {one_line(error)}") from error
    with np.errstate(invalid="ignore"):  # a TIFF of fractions may hold NaN
        levels = pixels.astype(np.uint8)
    if not np.array_equal(levels, pixels):
        raise FastTextDiffError(f"{path} has more than 8 bits per pixel: save it with 8 bits, windowed as for reading")
    return levels


def load_targets(folder: PathText, split: str) -> list[Target]:
    """All targets of a split, in table order.

    Args:
        folder: holds `<Split>_Folder/{img,labelcol}` with `<Split>_text.xlsx` and `dataset.json` (LViT layout), or
            `<split>/img` with `<split>/targets.csv` (columns Image, Mask, PromptAnatomical).
        split: e.g. "val", in any case; "train" without the pictures that `EXCLUDED` lists.

    Raises:
        UsageError: the folder or split does not exist.
        FastTextDiffError: the table, or a file that it lists, is missing.
    """
    found = read_split(folder, split)
    targets = []
    for row in found.rows:
        if row.image is None or row.mask is None:
            raise FastTextDiffError(f"{found.folder}: the table lists {row.name}, but its image or mask is missing")
        targets.append(Target(row.image, row.mask, row.text, row.modality))
    return targets


def read_split(folder: PathText, split: str) -> Split:
    """The table and images of a split; files that the table lists may be missing.

    Args:
        folder: as for :func:`load_targets`.
        split: "train", "val" or "test".

    Raises:
        UsageError: the folder or split does not exist.
        FastTextDiffError: the table is missing, empty or has another format.
    """
    folder = as_path(folder)
    if not folder.is_dir():
        raise UsageError(f"there is no dataset folder {folder}")
    lvit, by_finding = _find(folder, f"{split}_Folder"), _find(folder, split)
    if lvit is not None:
        found = _lvit_split(folder, lvit, split)
    elif by_finding is not None and (by_finding / "targets.csv").is_file():
        found = _finding_split(by_finding)
    else:
        raise UsageError(
            f"{folder} has no split '{split}': looked for {split.capitalize()}_Folder/ and {split}/targets.csv"
        )
    if not found.rows:
        raise FastTextDiffError(f"the table of {found.folder} has no rows")
    return _without(excluded(folder), found) if split.lower() == "train" else found


def excluded(folder: PathText) -> frozenset[str]:
    """Names, without extension, of a dataset's pictures that must not be trained on; empty without `EXCLUDED`.

    Raises:
        FastTextDiffError: the list is there and cannot be read.
    """
    path = as_path(folder) / EXCLUDED
    if not path.exists():
        return frozenset()
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FastTextDiffError(f"{path} cannot be read as a text in UTF-8: {one_line(error)}") from error
    names = (Path(line.strip()) for line in lines if line.strip())
    return frozenset(name.stem if name.suffix.lower() in IMAGE_SUFFIXES else name.name for name in names)


def _without(names: frozenset[str], found: Split) -> Split:
    """A split without the pictures of these names."""
    rows = tuple(row for row in found.rows if row.image is None or row.image.stem not in names)
    if not rows:
        raise FastTextDiffError(f"{found.folder}: {EXCLUDED} lists all of its pictures")
    images, left_out = (
        tuple(path for path in found.images if (path.stem in names) is is_out) for is_out in (False, True)
    )
    return replace(found, rows=rows, images=images, left_out=left_out)


def _find(folder: Path, name: str) -> Path | None:
    """The subfolder with a name, in any case."""
    return next((p for p in folder.iterdir() if p.is_dir() and p.name.lower() == name.lower()), None)


def _lvit_split(folder: Path, split_folder: Path, split: str) -> Split:
    description = _description(folder)
    modality = Modality(description["modality"])
    images = _images(split_folder)
    by_stem = {path.stem: path for path in images}
    rows = []
    for mask_name, sentence in _read_text_table(split_folder, split):
        stem = _stem_of_image(mask_name, description["mask_name"])
        names = mask_name, description["mask_name"].format(stem=stem)
        masks = [path for path in (split_folder / "labelcol" / name for name in names) if path.is_file()]
        text = patient_sentence(sentence, description)
        rows.append(Row(mask_name, by_stem.get(stem), masks[0] if masks else None, text, modality))
    return Split(split_folder, tuple(rows), images, description.get("laterality"))


def _images(split_folder: Path) -> tuple[Path, ...]:
    folder = split_folder / "img"
    if not folder.is_dir():
        raise FastTextDiffError(f"{split_folder} has no folder img")
    return tuple(sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES))


def _description(folder: Path) -> dict[str, str]:
    path = folder / "dataset.json"
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
        Modality(content["modality"]), content["mask_name"].format(stem="")
        return dict(content)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise FastTextDiffError(f"{path} cannot be used: it must give modality, mask_name and laterality") from error


def _read_text_table(split_folder: Path, split: str) -> Iterator[tuple[str, str]]:
    """(mask file name, sentence) for each row of the Excel table, in the split's folder or next to it."""
    from openpyxl import load_workbook

    for place in (split_folder, split_folder.parent):
        found = [p for p in place.glob("*.xlsx") if p.stem.lower() == f"{split}_text".lower()]
        if found:
            break
    else:
        raise FastTextDiffError(f"{split_folder} has no {split.capitalize()}_text.xlsx")
    wanted = f"{found[0]} must be an Excel table with the columns Image, Description"
    try:
        with closing(load_workbook(found[0], read_only=True)) as book:
            header, *rows = book.active.iter_rows(values_only=True)
    except (OSError, ValueError, LookupError, AttributeError, BadZipFile) as error:  # a chart has no rows
        raise FastTextDiffError(wanted) from error
    names = [str(cell or "").strip() for cell in header]
    if not {"Image", "Description"} <= set(names):
        raise FastTextDiffError(f"{wanted}; it has {', '.join(names)}")
    for row in rows:  # some programs leave out empty cells at the end of a row
        cells = dict(zip(names, row, strict=False))
        if cells.get("Image"):
            yield str(cells["Image"]).strip(), str(cells.get("Description") or "")


def _stem_of_image(mask_name: str, pattern: str) -> str:
    """The image's stem, from a mask's file name and a pattern "mask_{stem}.png"; tables may list the image instead."""
    prefix, _, rest = pattern.partition("{stem}")
    return Path(mask_name).stem.removeprefix(prefix).removesuffix(rest.rpartition(".")[0])


def patient_sentence(sentence: str, description: dict[str, str]) -> str:
    """The sentence with the patient's sides, and anatomical words for image rows (`data/README`: laterality, zones)."""
    text = re.sub(r"\.\.+$", ".", sentence.strip())
    # a tissue tile has no patient side; its left is that of the picture
    if description.get("laterality", "image") == "image" and description.get("modality") != Modality.HISTOLOGY.value:
        text = swap_sides(text)
    if description.get("zones") == "image_rows":
        text = re.sub(r"\b(upper|middle|lower)\b", lambda m: CT_ROW_ZONES[m.group(1)], text)
    return text


def right_half(lesions: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The right half of the picture (patient left), split at the central column with the fewest lesion pixels."""
    width = lesions.shape[1]
    columns = np.arange(int(0.38 * width), int(0.62 * width) + 1)
    off_centre = np.abs(columns - width / 2) / width
    split = columns[np.argmin(lesions[:, columns].mean(axis=0) + 0.2 * off_centre)]
    return np.broadcast_to(np.arange(width) >= split, lesions.shape)


def swap_sides(text: str) -> str:
    """Swap left and right, keeping capital letters."""
    swapped = {"left": "right", "right": "left", "Left": "Right", "Right": "Left", "LEFT": "RIGHT", "RIGHT": "LEFT"}
    return re.sub(r"\b(left|right)\b", lambda m: swapped.get(m.group(0), m.group(0)), text, flags=re.IGNORECASE)


def _finding_split(split_folder: Path) -> Split:
    image, mask, text = columns = "Image", "Mask", "PromptAnatomical"
    rows = []
    for _, cells in read_csv_table(split_folder / "targets.csv", columns, (image, mask)):
        name = cells[mask.lower()]
        picture, drawn = split_folder / "img" / cells[image.lower()], split_folder / name
        there = (picture if picture.is_file() else None), (drawn if drawn.is_file() else None)
        rows.append(Row(name, *there, cells[text.lower()], Modality.XRAY))
    return Split(split_folder, tuple(rows), _images(split_folder), "patient")
