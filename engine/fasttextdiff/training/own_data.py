"""The user's own labelled data as training items: folders of pictures, read when drawn, and tables of volumes.

Knows files, windows and sizes; knows nothing about wording, augmentation or networks.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.errors import FastTextDiffError, UsageError, one_line
from fasttextdiff.evaluation.datasets import Target, load_targets, mask_of
from fasttextdiff.evaluation.metrics import picture_volume
from fasttextdiff.image.orientation import DisplayPlane, display_plane
from fasttextdiff.image.preprocessing import Fit, ImageSettings, apply_window, body_tile, choose_window
from fasttextdiff.image.volume import Modality, Volume
from fasttextdiff.io.csv_tables import read_csv_table
from fasttextdiff.io.json_files import parse_json
from fasttextdiff.io.read import PICTURE_ENDINGS, read_volume
from fasttextdiff.io.read_pictures import mask_pixels
from fasttextdiff.paths import as_path
from fasttextdiff.training.compact import compact_preprocessing
from fasttextdiff.training.samples import LONGEST_SIDE, Region, Sample, resize

SPLIT = "Train"
COLUMNS = ("image", "mask", "text")
EMPTY_SLICES = 16
"""Number of slices used from a volume whose masks are empty."""
OFF_GRID = 0.05
"""Share of the smallest voxel side; a mask whose geometry differs by more is not on the image's grid."""

Note = Callable[[str], None]


@dataclass(frozen=True)
class OwnPicture:
    """A picture with the findings of its rows.

    Attributes:
        targets: one per row; all of the same image.
    """

    targets: tuple[Target, ...]

    @property
    def source(self) -> str:
        """The image's file name."""
        return self.targets[0].image.name

    @property
    def findings(self) -> tuple[str, ...]:
        """Texts with the patient's sides."""
        return tuple(target.text for target in self.targets)

    @property
    def modality(self) -> Modality:
        """Modality of the image."""
        return self.targets[0].modality

    def load(self) -> Sample:
        """Read image and masks; window and shrink them as in use.

        Raises:
            FastTextDiffError: a file is missing or damaged, or a mask differs from its image in size.
        """
        pixels = self.targets[0].load_image()
        masks = []
        for target in self.targets:
            mask = target.load_mask()
            if mask.shape != pixels.shape[:2]:
                raise FastTextDiffError(f"{target.mask} has another size than its image {target.image}")
            masks.append(mask)
        volume = picture_volume(pixels, self.modality)
        settings = compact_preprocessing().of(self.modality)
        windowed = _bytes(apply_window(pixels, choose_window(volume, settings)))
        image, shrunk = _fitted(windowed, np.stack(masks), (1.0, 1.0), settings)
        return _sample(image, shrunk, self.modality, self.source, self.findings)


@dataclass(frozen=True)
class OwnSlice:
    """A slice of a volume, prepared on disk.

    Attributes:
        folder: holds `images.npy` (slices, h, w[, 3]) and `masks.npy` (slices, findings, h, w), both uint8.
        index: index of the slice in these.
        number: number of the slice in the volume.
        source: name of the volume in its table.
        findings: texts, one per mask.
        modality: modality of the volume.
        mirrored: see :class:`Sample`.
    """

    folder: Path
    index: int
    number: int
    source: str
    findings: tuple[str, ...]
    modality: Modality
    mirrored: bool

    def load(self) -> Sample:
        """Read the slice.

        Raises:
            FastTextDiffError: the prepared files are missing or damaged.
        """
        try:
            image, masks = (np.load(self.folder / f"{name}.npy", mmap_mode="r") for name in ("images", "masks"))
            pair = np.array(image[self.index]), np.array(masks[self.index])
        except (OSError, ValueError, IndexError) as error:
            raise FastTextDiffError(f"{self.folder} cannot be read: {one_line(error)}; delete it") from error
        name = f"{self.source} slice {self.number}"
        return _sample(*pair, self.modality, name, self.findings, mirrored=self.mirrored)


OwnItem = OwnPicture | OwnSlice


@dataclass(frozen=True)
class VolumeRow:
    """One row of a table of volumes.

    Attributes:
        name: name of the image in the table.
        image: path.
        mask: path.
        text: the finding; sides are the patient's, by geometry.
        modality: modality of the image; None to let the reader guess.
        label: value of the finding's voxels in the mask; None for everything above 0, in a JPEG above half grey.
    """

    name: str
    image: Path
    mask: Path
    text: str
    modality: Modality | None
    label: int | None

    def read_mask(self, volume: Volume) -> NDArray[np.bool_]:
        """The mask (k, j, i) on the grid of its image; errors as for :meth:`read_levels`."""
        return self.mask_of(self.read_levels(volume))

    def mask_of(self, levels: NDArray[np.generic]) -> NDArray[np.bool_]:
        """The mask of the finding, from the values of the mask file."""
        return mask_of(levels, self.mask) if self.label is None else np.equal(levels, self.label)

    def read_levels(self, volume: Volume) -> NDArray[np.generic]:
        """The values (k, j, i) of the mask file, on the grid of its image.

        Raises:
            FastTextDiffError: it cannot be read, or is on another grid.
        """
        mask = read_volume(self.mask, modality=Modality.OTHER)
        is_picture = self.mask.suffix.lower() in PICTURE_ENDINGS
        levels = mask_pixels(self.mask)[np.newaxis] if is_picture else mask.array
        tolerance = OFF_GRID * min(volume.spacing)
        # X-rays have no position, and the pixel size in a picture is that of the program that wrote it
        is_unplaced = is_picture and volume.is_planar
        is_placed = is_unplaced or np.allclose(mask.ijk_to_ras, volume.ijk_to_ras, atol=tolerance)
        if levels.shape != volume.shape or not is_placed:
            raise OffGridError(
                f"{self.mask} is not on the grid of {self.image}: resample it with the image as reference"
            )
        return levels


class OffGridError(FastTextDiffError):
    """A mask and its image have different shapes or positions."""


class CannotKeepError(FastTextDiffError):
    """Prepared slices cannot be written, e.g. because the disk is full."""


def read_table(path: Path) -> list[VolumeRow]:
    """The rows of a table of volumes; paths are relative to the table. Does not check that files exist.

    Raises:
        UsageError: the table does not exist.
        FastTextDiffError: it cannot be read, columns are missing, or a value is not valid.
    """
    return [row for row, _ in read_rows(path)]


def read_rows(path: Path) -> list[tuple[VolumeRow, dict[str, str]]]:
    """The rows of a table of volumes, each with all its cells by lower-case column name; see :func:`read_table`."""
    return [(_row(path, number, cells), cells) for number, cells in read_csv_table(path, COLUMNS, COLUMNS[:2])]


def _row(path: Path, number: int, cells: dict[str, str]) -> VolumeRow:
    try:
        modality = Modality(cells["modality"].lower()) if cells.get("modality") else None
        label = int(cells["label"]) if cells.get("label") else None
    except ValueError as error:
        known = ", ".join(m.value for m in Modality)
        reason = f"modality must be one of {known}, label a whole number"
        raise FastTextDiffError(f"{path}, line {number}: {one_line(error)}; {reason}") from error
    name, mask = cells["image"], cells["mask"]
    return VolumeRow(name, _place(path, number, name), _place(path, number, mask), cells["text"], modality, label)


def _place(table: Path, number: int, cell: str) -> Path:
    """A path in a table, relative to it or to the home folder (`~`)."""
    try:
        return table.parent / as_path(cell)
    except UsageError as error:
        raise FastTextDiffError(f"{table}, line {number}: {error}") from error


def load_dataset(path: Path, prepared: Path, note: Note) -> list[OwnItem]:
    """The training items of a dataset.

    Args:
        path: a folder of pictures, or a table of volumes.
        prepared: folder for the slices of volumes, which are prepared once and reused.
        note: called with one line for every volume that cannot be read.

    Raises:
        FastTextDiffError: nothing in it can be used.
    """
    items: list[OwnItem] = []
    if path.is_dir():
        pictures: dict[Path, dict[Target, None]] = {}
        for target in load_targets(path, SPLIT):
            pictures.setdefault(target.image, {})[target] = None  # repeated rows count once
        items += [OwnPicture(tuple(targets)) for targets in pictures.values()]
    else:
        items += _slices(read_table(path), prepared, note)
    if not items:
        raise FastTextDiffError(f"{path}: nothing in it can be used for training")
    return items


def by_image(rows: Sequence[VolumeRow]) -> list[tuple[VolumeRow, ...]]:
    """Rows grouped by image; repeated rows count once."""
    images: dict[Path, dict[VolumeRow, None]] = {}
    for row in rows:
        images.setdefault(row.image, {})[row] = None
    return [tuple(group) for group in images.values()]


def _slices(rows: Sequence[VolumeRow], prepared: Path, note: Note) -> Iterator[OwnSlice]:
    for group in by_image(rows):
        try:
            yield from _prepared_slices(group, prepared)
        except CannotKeepError:
            raise
        except FastTextDiffError as error:
            note(f"left out: {error}")


def _prepared_slices(group: tuple[VolumeRow, ...], prepared: Path) -> Iterator[OwnSlice]:
    """The slices of a volume with their masks, prepared on disk if necessary, because volumes could fill the memory."""
    folder = prepared / _digest(group)
    if not folder.is_dir():
        _prepare(group, folder)
    try:
        about = parse_json((folder / "about.json").read_text(encoding="utf-8"))
        modality = Modality(about["modality"])
        texts = tuple(row.text for row in group)
        for index, number in enumerate(about["slices"]):
            yield OwnSlice(folder, index, number, group[0].name, texts, modality, about["mirrored"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise FastTextDiffError(f"{folder} cannot be read: {one_line(error)}; delete it") from error


def _digest(group: tuple[VolumeRow, ...]) -> str:
    """A name that depends on files, labels and modality, but not on texts."""
    parts: list[object] = []
    try:
        for row in group:
            for path in (row.image, row.mask):
                status = path.stat()
                parts.append((str(path), status.st_size, status.st_mtime_ns))
            parts.append((row.label, row.modality and row.modality.value))
    except OSError as error:
        raise FastTextDiffError(f"{error.filename} cannot be read: {one_line(error)}") from error
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]


def _prepare(group: tuple[VolumeRow, ...], folder: Path) -> None:
    """Write the prepared slices of a volume; the folder is written completely or not at all."""
    volume = read_volume(group[0].image, modality=group[0].modality)
    masks = [row.read_mask(volume) for row in group]
    display = display_plane(volume, "acquisition")
    settings = compact_preprocessing().of(volume.modality)
    stack, shown = _cropped(volume, masks, display, settings)
    window, chosen = choose_window(volume, settings), _selected_slices(shown)
    pairs = [_fitted(_bytes(apply_window(stack[n], window)), shown[n], display.pixel_spacing, settings) for n in chosen]
    about = {"modality": volume.modality.value, "slices": chosen, "mirrored": display.anatomical != "sagittal"}
    temporary = folder.with_suffix(".tmp")
    shutil.rmtree(temporary, ignore_errors=True)  # left by a killed run
    try:
        temporary.mkdir(parents=True)
        np.save(temporary / "images.npy", np.stack([image for image, _ in pairs]))
        np.save(temporary / "masks.npy", np.stack([mask for _, mask in pairs]).astype(np.uint8))
        (temporary / "about.json").write_text(json.dumps(about), encoding="utf-8")
        temporary.replace(folder)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise CannotKeepError(
            f"the slices of {group[0].image} cannot be kept in {folder}: {one_line(error)}"
        ) from error


def _cropped(
    volume: Volume, masks: Sequence[NDArray[np.bool_]], display: DisplayPlane, settings: ImageSettings
) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    """Displayed slices and masks (slices, n, h, w), cropped to the body as in use."""
    stack = display.to_display(volume.array)
    together = np.stack([display.to_display(mask) for mask in masks], axis=1)
    if not settings.crop_to_body or volume.is_planar or volume.is_color:
        return stack, together
    box = body_tile(volume, display)
    return stack[(..., *box.slices)], together[(..., *box.slices)]


def _selected_slices(masks: NDArray[np.bool_]) -> list[int]:
    """Indices of slices with a finding, and of as many without, evenly spread; masks are (slices, n, h, w)."""
    filled = masks.any(axis=(1, 2, 3))
    with_finding, without = np.nonzero(filled)[0], np.nonzero(~filled)[0]
    count = min(len(without), len(with_finding) or EMPTY_SLICES)
    spread = without[np.linspace(0, len(without) - 1, count).round().astype(int)] if count else without[:0]
    return sorted(int(n) for n in (*with_finding, *spread))


def _bytes(windowed: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.round(windowed * 255).astype(np.uint8)


def _fitted(
    image: NDArray[np.uint8], masks: NDArray[np.bool_], spacing: tuple[float, float], settings: ImageSettings
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Image and masks (n, h, w) with square pixels; tiled images at the size of use, others at most 256 pixels."""
    rows, columns = masks.shape[1:]
    longest = max(rows, columns)
    size = max(longest, settings.enlarge_to) if settings.tiled else min(longest, LONGEST_SIDE)
    fit = Fit.of((rows, columns), (1.0, 1.0) if settings.tiled else spacing, size, 1)
    return (image, masks) if fit.resized == (rows, columns) else resize(image, masks, fit.resized)


def _sample(
    image: NDArray[np.uint8],
    masks: NDArray[np.generic],
    modality: Modality,
    name: str,
    findings: tuple[str, ...],
    *,
    mirrored: bool = True,
) -> Sample:
    """A sample of which only the findings are known."""
    regions = np.zeros(image.shape[:2], np.uint8)
    return Sample(
        image,
        regions,
        modality,
        Region(0),
        name=name,
        findings=findings,
        masks=masks.astype(np.uint8),
        mirrored=mirrored,
    )
