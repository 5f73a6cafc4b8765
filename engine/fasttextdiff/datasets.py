"""Labelled image folders: the LViT layout that the published work uses, and folders of targets by finding.

Knows file layouts and whose left is meant; knows nothing about models.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.errors import FastTextDiffError, UsageError
from fasttextdiff.volume import Modality

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
CT_ROW_ZONES = {"upper": "anterior", "middle": "middle", "lower": "posterior"}
"""What LViT's words mean on axial CT: they were made from image rows."""


@dataclass(frozen=True)
class Target:
    """One image, one finding, one true mask.

    Attributes:
        image: path of the image.
        mask: path of the mask; 0 is background, everything else the finding.
        text: the finding; sides are the patient's.
        modality: of the image.
    """

    image: Path
    mask: Path
    text: str
    modality: Modality

    @property
    def of_finding(self) -> bool:
        """Whether the mask is that of one finding among several, and not all that LViT's sentence tells of."""
        return self.mask.parent.name != "labelcol"

    def load_image(self) -> NDArray[np.uint8]:
        """(h, w) or (h, w, 3)."""
        return load_image(self.image)

    def load_mask(self) -> NDArray[np.bool_]:
        """(h, w)."""
        return load_image(self.mask, grey=True) > 0


def load_image(path: Path, *, grey: bool = False) -> NDArray[np.uint8]:
    """An 8-bit picture, (h, w) if it is grey or `grey` is asked for, else (h, w, 3)."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            if picture.mode[0] in "IF" and np.asarray(picture).max() > 255:  # Pillow would clip them to white
                raise FastTextDiffError(f"{path} has more than 8 bits a pixel: save it with 8, windowed as it is read")
            colour = not grey and picture.mode not in ("1", "L", "I", "I;16", "F")
            return np.asarray(picture.convert("RGB" if colour else "L"))
    except (OSError, UnidentifiedImageError) as error:
        raise FastTextDiffError(f"{path} cannot be read as an image: {error}") from error


def load_targets(folder: Path, split: str) -> list[Target]:
    """All targets of a split, in the order of the table.

    Args:
        folder: holds `<Split>_Folder/{img,labelcol}` with `<Split>_text.xlsx` and `dataset.json` (LViT layout), or
            `<split>/img` with `<split>/targets.csv` (columns Image, Mask, PromptAnatomical).
        split: e.g. "val"; capital letters do not matter.

    Raises:
        UsageError: there is no such folder or split.
        FastTextDiffError: a table or a file that it names is missing.
    """
    if not folder.is_dir():
        raise UsageError(f"there is no dataset folder {folder}")
    lvit, by_finding = _find(folder, f"{split}_Folder"), _find(folder, split)
    if lvit is not None:
        targets = list(_lvit_targets(folder, lvit, split))
    elif by_finding is not None and (by_finding / "targets.csv").is_file():
        targets = list(_finding_targets(by_finding))
    else:
        raise UsageError(
            f"{folder} has no split '{split}': looked for {split.capitalize()}_Folder/ and {split}/targets.csv"
        )
    if not targets:
        raise FastTextDiffError(f"the table of {lvit or by_finding} has no rows")
    return targets


def _find(folder: Path, name: str) -> Path | None:
    """The subfolder of that name, whatever its capital letters."""
    return next((p for p in folder.iterdir() if p.is_dir() and p.name.lower() == name.lower()), None)


def _lvit_targets(folder: Path, split_folder: Path, split: str) -> Iterator[Target]:
    description = _description(folder)
    modality = Modality(description["modality"])
    if not (split_folder / "img").is_dir():
        raise FastTextDiffError(f"{split_folder} has no folder img")
    images = {p.stem: p for p in (split_folder / "img").iterdir() if p.suffix.lower() in IMAGE_SUFFIXES}
    for mask_name, sentence in _read_text_table(split_folder, split):
        stem = _stem_of_image(mask_name, description["mask_name"])
        mask = split_folder / "labelcol" / mask_name
        if not mask.is_file():
            mask = split_folder / "labelcol" / description["mask_name"].format(stem=stem)
        if stem not in images or not mask.is_file():
            raise FastTextDiffError(f"{split_folder}: the table names {mask_name}, but its image or mask is missing")
        yield Target(images[stem], mask, patient_sentence(sentence, description), modality)


def _description(folder: Path) -> dict[str, str]:
    path = folder / "dataset.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        Modality(content["modality"]), content["mask_name"].format(stem="")
        return {"laterality": "image", **content}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise FastTextDiffError(f"{path} cannot be used: it must give modality, mask_name and laterality") from error


def _read_text_table(split_folder: Path, split: str) -> Iterator[tuple[str, str]]:
    """(mask file name, sentence) by row of the Excel table, which lies inside or beside the split's folder."""
    from openpyxl import load_workbook

    for place in (split_folder, split_folder.parent):
        found = [p for p in place.glob("*.xlsx") if p.stem.lower() == f"{split}_text".lower()]
        if found:
            break
    else:
        raise FastTextDiffError(f"{split_folder} has no {split.capitalize()}_text.xlsx")
    try:
        with closing(load_workbook(found[0], read_only=True)) as book:
            header, *rows = book.active.iter_rows(values_only=True)
        names = [str(cell) for cell in header]
        image, text = names.index("Image"), names.index("Description")
    except (OSError, ValueError, LookupError, BadZipFile) as error:
        raise FastTextDiffError(f"{found[0]} must be an Excel table with the columns Image, Description") from error
    yield from ((str(row[image]), str(row[text] or "")) for row in rows if row[image])


def _stem_of_image(mask_name: str, pattern: str) -> str:
    """The image's stem for a mask's file name and a pattern like "mask_{stem}.png"; tables may name the image."""
    prefix, _, rest = pattern.partition("{stem}")
    return Path(mask_name).stem.removeprefix(prefix).removesuffix(rest.rpartition(".")[0])


def patient_sentence(sentence: str, description: dict[str, str]) -> str:
    """The sentence with the patient's sides, and anatomical words for image rows (`data/README`: laterality, zones)."""
    text = re.sub(r"\.\.+$", ".", sentence.strip())
    # a tile of tissue has no patient's side: its left is the picture's
    if description.get("laterality") == "image" and description.get("modality") != Modality.HISTOLOGY.value:
        text = swap_sides(text)
    if description.get("zones") == "image_rows":
        text = re.sub(r"\b(upper|middle|lower)\b", lambda m: CT_ROW_ZONES[m.group(1)], text)
    return text


def right_half(lesions: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The picture's right part, the patient's left, split at the central column with the fewest lesion pixels."""
    width = lesions.shape[1]
    columns = np.arange(int(0.38 * width), int(0.62 * width) + 1)
    off_centre = np.abs(columns - width / 2) / width
    split = columns[np.argmin(lesions[:, columns].mean(axis=0) + 0.2 * off_centre)]
    return np.broadcast_to(np.arange(width) >= split, lesions.shape)


def swap_sides(text: str) -> str:
    """Left becomes right and right becomes left, capital letters kept."""
    swapped = {"left": "right", "right": "left", "Left": "Right", "Right": "Left", "LEFT": "RIGHT", "RIGHT": "LEFT"}
    return re.sub(r"\b(left|right)\b", lambda m: swapped.get(m.group(0), m.group(0)), text, flags=re.IGNORECASE)


def _finding_targets(split_folder: Path) -> Iterator[Target]:
    with (split_folder / "targets.csv").open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        if not {"Image", "Mask", "PromptAnatomical"} <= set(rows.fieldnames or ()):
            raise FastTextDiffError(f"{file.name} must have the columns Image, Mask, PromptAnatomical")
        for row in rows:
            image, mask = split_folder / "img" / row["Image"], split_folder / row["Mask"]
            if not image.is_file() or not mask.is_file():
                raise FastTextDiffError(
                    f"{split_folder}: the table names {row['Mask']}, but it or its image is missing"
                )
            yield Target(image, mask, row["PromptAnatomical"], Modality.XRAY)
