"""Checks the user's own data before training: missing, damaged, empty or ambiguous files, and unknown sides.

Knows files; knows nothing about networks or display.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.contract.findings import shortened
from fasttextdiff.errors import FastTextDiffError, UsageError
from fasttextdiff.evaluation.datasets import EXCLUDED, Row, load_image, load_levels, mask_of, read_split
from fasttextdiff.image.volume import Modality, Volume
from fasttextdiff.io.read import read_volume
from fasttextdiff.model.info import require_words
from fasttextdiff.progress import Progress
from fasttextdiff.training.own_data import SPLIT, OffGridError, VolumeRow, by_image, read_table

NAMED = 3
"""Number of names that a one-line message lists for a problem."""
_SIDE = re.compile(r"\b(left|right)\b", re.IGNORECASE)


class Kind(Enum):
    """Kinds of problems with labelled data, and whether they stop training."""

    TABLE = ("the dataset cannot be used", True)
    NO_IMAGE = ("rows whose image is missing", True)
    NO_MASK = ("rows whose mask is missing", True)
    UNREADABLE = ("files that cannot be read", True)
    SIZE = ("masks with another size or grid than their image", True)
    AMBIGUOUS = ("images that exist with several extensions", True)
    NO_WORDS = ("texts without Latin letters: the model reads English", True)
    SIDES = (
        'texts give sides, but dataset.json does not say whose: add "laterality": "patient" (the patient\'s) or '
        '"laterality": "image" (the picture\'s)',
        True,
    )
    FLAT = (
        "pictures without a position in the patient, with sides in their texts: give them as a folder with "
        "dataset.json, which says whose sides are meant",
        True,
    )
    EXCLUDED = (f"images listed in {EXCLUDED}: not used", False)
    NO_ROW = ("images without a row in the table: not used", False)
    REPEATED = ("repeated rows: used once", False)
    NO_TEXT = ("rows without a text: they teach the text-free result", False)
    EMPTY = ("empty masks: they teach that the finding is absent", False)
    GREY = (
        "masks with more than two grey levels: every value above 0 is read as the finding, in JPEG every one above 127",
        False,
    )
    PLACES = ("tissue with locations in its texts: tiles are rotated in training, so these words teach nothing", False)

    def __init__(self, what: str, stops: bool) -> None:
        self.what, self.stops = what, stops


@dataclass(frozen=True)
class Problem:
    """A problem of a dataset.

    Attributes:
        kind: kind of the problem.
        names: files, rows or texts with it, each once, in order.
    """

    kind: Kind
    names: tuple[str, ...]

    def line(self) -> str:
        """The problem in one line with the first names."""
        more = f" and {len(self.names) - NAMED} more" if len(self.names) > NAMED else ""
        return f"{self.kind.what} ({', '.join(self.names[:NAMED])}{more})"


@dataclass(frozen=True)
class DataReport:
    """The result of a check.

    Attributes:
        name: name of the dataset.
        path: folder or table.
        images: images with at least one row.
        rows: rows of the table.
        problems: in the order of :class:`Kind`; empty if there are none.
    """

    name: str
    path: Path
    images: int
    rows: int
    problems: tuple[Problem, ...]

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that stop training."""
        return tuple(problem for problem in self.problems if problem.kind.stops)


class _Notes:
    """Collects names by kind of problem."""

    def __init__(self) -> None:
        self._names: dict[Kind, dict[str, None]] = {}

    def add(self, kind: Kind, name: str) -> None:
        self._names.setdefault(kind, {})[name] = None

    def report(self, name: str, path: Path, images: int, rows: int) -> DataReport:
        problems = tuple(Problem(kind, tuple(self._names[kind])) for kind in Kind if kind in self._names)
        return DataReport(name, path, images, rows, problems)


def require_usable(reports: Iterable[DataReport]) -> None:
    """Refuse data with problems that stop training.

    Raises:
        FastTextDiffError: there are such problems; the message lists them in one line.
    """
    bad = [
        f"dataset '{report.name}': " + "; ".join(problem.line() for problem in report.errors)
        for report in reports
        if report.errors
    ]
    if bad:
        raise FastTextDiffError("the data cannot be used for training. " + ". ".join(bad))


def check_datasets(datasets: Mapping[str, Path], progress: Progress | None = None) -> list[DataReport]:
    """Read every file of every dataset once.

    Args:
        datasets: names to folders in LViT's layout, folders with `train/targets.csv`, or tables of volumes.
        progress: called with (images done, all images) of the current dataset.
    """
    return [check_dataset(name, path, progress) for name, path in datasets.items()]


def check_dataset(name: str, path: Path, progress: Progress | None = None) -> DataReport:
    """Read every file of a dataset once; problems in it are reported, not raised."""
    notes = _Notes()
    try:
        if path.is_dir():
            images, rows = _check_folder(path, notes, progress)
        elif path.suffix.lower() == ".csv":
            images, rows = _check_table(path, notes, progress)
        else:
            raise UsageError(f"{path} is neither a folder nor a .csv table")
    except FastTextDiffError as error:
        notes.add(Kind.TABLE, str(error))
        images, rows = 0, 0
    return notes.report(name, path, images, rows)


# --- folders of pictures ---------------------------------------------------------------------------------------------


def _check_folder(folder: Path, notes: _Notes, progress: Progress | None) -> tuple[int, int]:
    split = read_split(folder, SPLIT)
    used = {row.image for row in split.rows}
    for path in split.left_out:
        notes.add(Kind.EXCLUDED, path.name)
    for path in split.images:
        if path not in used:
            notes.add(Kind.NO_ROW, path.name)
    stems = Counter(path.stem for path in split.images)
    for path in split.images:
        if stems[path.stem] > 1:
            notes.add(Kind.AMBIGUOUS, path.name)
    _check_repeats(((row.name, row) for row in split.rows), notes)
    sizes: dict[Path, tuple[int, ...] | None] = {}
    for done, row in enumerate(split.rows, start=1):
        _check_text(row.name, row.text, notes)
        _check_words(row, split.laterality, notes)
        _check_pair(row, sizes, notes)
        _report(progress, done, len(split.rows))
    return len(used - {None}), len(split.rows)


def _check_words(row: Row, laterality: str | None, notes: _Notes) -> None:
    """Check that the meaning of sides is known; a tissue tile has no patient side."""
    is_tissue = row.modality is Modality.HISTOLOGY
    if _SIDE.search(row.text) and not is_tissue and laterality not in ("image", "patient"):
        notes.add(Kind.SIDES, shortened(row.text))
    if is_tissue and re.search(r"\b(left|right|upper|lower|top|bottom)\b", row.text, re.IGNORECASE):
        notes.add(Kind.PLACES, row.name)


def _check_pair(row: Row, sizes: dict[Path, tuple[int, ...] | None], notes: _Notes) -> None:
    """Check the files of a row; the size of an image shared by several rows is read once."""
    if row.image is None:
        notes.add(Kind.NO_IMAGE, row.name)
    elif row.image not in sizes:
        pixels = _picture(row.image, notes, load_image)
        sizes[row.image] = None if pixels is None else pixels.shape[:2]
    if row.mask is None:
        notes.add(Kind.NO_MASK, row.name)
        return
    levels = _picture(row.mask, notes, load_levels)
    if levels is None:
        return
    mask = mask_of(levels, row.mask)
    _check_mask(row.name, levels, mask, notes)
    size = sizes.get(row.image) if row.image is not None else None
    if size is not None and mask.shape != size:
        notes.add(Kind.SIZE, row.name)


def _picture(path: Path, notes: _Notes, load: Callable[[Path], NDArray[np.uint8]]) -> NDArray[np.uint8] | None:
    try:
        return load(path)
    except FastTextDiffError as error:
        notes.add(Kind.UNREADABLE, str(error))
        return None


# --- tables of volumes -----------------------------------------------------------------------------------------------


def _check_table(path: Path, notes: _Notes, progress: Progress | None) -> tuple[int, int]:
    rows = read_table(path)
    _check_repeats(((row.name, row) for row in rows), notes)
    images = by_image(rows)
    for done, group in enumerate(images, start=1):
        volume = _volume(group[0], notes)
        for row in group:
            _check_text(row.name, row.text, notes)
            _check_volume_row(row, volume, notes)
        _report(progress, done, len(images))
    return len(images), len(rows)


def _volume(row: VolumeRow, notes: _Notes) -> Volume | None:
    if not row.image.exists():
        notes.add(Kind.NO_IMAGE, row.name)
        return None
    try:
        return read_volume(row.image, modality=row.modality)
    except FastTextDiffError as error:
        notes.add(Kind.UNREADABLE, str(error))
        return None


def _check_volume_row(row: VolumeRow, volume: Volume | None, notes: _Notes) -> None:
    if not row.mask.exists():
        notes.add(Kind.NO_MASK, row.mask.name)
        return
    if volume is None:
        return
    if volume.is_planar and volume.modality is not Modality.HISTOLOGY and _SIDE.search(row.text):
        notes.add(Kind.FLAT, row.name)
    try:
        levels = row.read_levels(volume)
    except OffGridError:
        notes.add(Kind.SIZE, row.mask.name)
        return
    except FastTextDiffError as error:
        notes.add(Kind.UNREADABLE, str(error))
        return
    mask = row.mask_of(levels)
    _check_mask(row.mask.name, levels if row.label is None else mask, mask, notes)


# --- common to both --------------------------------------------------------------------------------------------------


def _check_repeats(rows: Iterable[tuple[str, object]], notes: _Notes) -> None:
    seen: set[object] = set()
    for name, row in rows:
        if row in seen:
            notes.add(Kind.REPEATED, name)
        seen.add(row)


def _check_text(name: str, text: str, notes: _Notes) -> None:
    if not text.strip():
        notes.add(Kind.NO_TEXT, name)
        return
    try:
        require_words(text)
    except UsageError:
        notes.add(Kind.NO_WORDS, shortened(text))


def _check_mask(name: str, levels: NDArray[np.generic], mask: NDArray[np.bool_], notes: _Notes) -> None:
    if not mask.any():
        notes.add(Kind.EMPTY, name)
    if len(np.unique(levels)) > 2:
        notes.add(Kind.GREY, name)


def _report(progress: Progress | None, done: int, total: int) -> None:
    if progress is not None:
        progress(done, total)
