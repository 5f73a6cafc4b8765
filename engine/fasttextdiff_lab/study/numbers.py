"""Computes the numbers of a study from its saved masks: scores, intervals and paired differences.

Knows masks, records and metrics; knows nothing about training or pages.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.batch.folder import BatchFolder
from fasttextdiff.evaluation import bootstrap
from fasttextdiff.evaluation.bootstrap import Bootstrap, Indices
from fasttextdiff.evaluation.datasets import Target, load_levels
from fasttextdiff.evaluation.metrics import Score, mask_path, score, shown
from fasttextdiff_lab.study.cells import MASKS
from fasttextdiff_lab.study.definition import Cell, Study
from fasttextdiff_lab.study.images import test_targets

DRAWS = bootstrap.DRAWS
COSTS = (
    "parameters", "trained_parameters", "multiply_adds", "multiply_adds_text", "step_s", "step_cpu_s", "inference_ms",
    "cached_ms", "memory_mb", "gpu_memory_mb", "steps", "train_s",
)  # fmt: skip
"""Numbers of a record; the report has their median over seeds."""


@dataclass(frozen=True)
class Key:
    """What a row of the report is about; its seeds are taken together."""

    data: str
    labels: int | str
    text: str
    system: str
    asked: str


@dataclass
class Row:
    """One row.

    Attributes:
        key: what it is about.
        seeds: those whose cells are done.
        records: of these cells.
        scores: by protocol and seed, one score an image.
    """

    key: Key
    seeds: list[int]
    records: list[Mapping[str, Any]]
    scores: dict[str, list[list[Score]]]


def scores_of(folder: Path, targets: Sequence[Target], asked: str, protocol: str) -> list[Score]:
    """Scores of a cell from its saved masks.

    Args:
        folder: of the cell.
        targets: test images.
        asked: kind of text.
        protocol: "native" or "published".
    """
    found = []
    for target in targets:
        mask = load_levels(mask_path(folder / MASKS / asked / protocol, target)) > 0
        found.append(score(target.image.name, asked, mask, _truth(target, protocol)))
    return found


@lru_cache(maxsize=4096)
def _truth(target: Target, protocol: str) -> NDArray[np.bool_]:
    return shown(target, protocol)[1]


def rows_of(study: Study, grid: Sequence[Cell], reads_text: Mapping[str, bool], outputs: BatchFolder) -> list[Row]:
    """All rows with at least one finished cell, in the order of the grid."""
    rows: dict[Key, Row] = {}
    for cell in grid:
        record = outputs.record(cell.name, study.request(cell))
        if record is None:
            continue
        targets = test_targets(study.data[cell.data])
        for asked in study.asked_of(cell, reads_text[cell.system]):
            key = Key(cell.data, cell.labels, cell.text, cell.system, asked)
            row = rows.setdefault(key, Row(key, [], [], {protocol: [] for protocol in study.protocols}))
            row.seeds.append(cell.seed)
            row.records.append(record)
            for protocol in study.protocols:
                folder = outputs.case_folder(cell.name)
                row.scores[protocol].append(scores_of(folder, targets, asked, protocol))
    return list(rows.values())


class Pixels:
    """Scores of some seeds as arrays, seeds one after the other, for fast resampling.

    Args:
        by_seed: scores of the same images for each seed.
    """

    def __init__(self, by_seed: Sequence[Sequence[Score]]) -> None:
        flat = [one for scores in by_seed for one in scores]
        self.images = [one.image for one in flat]
        self.number = [n for scores in by_seed for n in range(len(scores))]
        self.runs = [n for n, scores in enumerate(by_seed) for _ in scores]
        self.dice, self.iou = np.array([s.dice for s in flat]), np.array([s.iou for s in flat])
        self.overlap = np.array([s.overlap_px for s in flat], np.float64)
        self.both = np.array([s.truth_px + s.mask_px for s in flat], np.float64)

    def bootstrap(self) -> Bootstrap:
        """Draws of images and seeds; of images alone if there is one seed."""
        return Bootstrap(self.number, draws=DRAWS, runs=self.runs)

    def numbers(self, cases: Indices) -> dict[str, float]:
        """Dice and IoU as in `protocol_i` and `protocol_p`."""
        overlap, both = self.overlap[cases].sum(), self.both[cases].sum()
        return {
            "I dice": float(self.dice[cases].mean()),
            "I iou": float(self.iou[cases].mean()),
            "P dice": float(2 * overlap / both) if both else 1.0,
            "P iou": float(overlap / (both - overlap)) if both else 1.0,
        }


def row_numbers(row: Row) -> dict[str, Any]:
    """A row of the report as JSON values."""
    return {
        **asdict(row.key),
        "seeds": row.seeds,
        "images": len(row.scores[next(iter(row.scores))][0]),
        "protocols": {protocol: _intervals(Pixels(scores)) for protocol, scores in row.scores.items()},
        "costs": _costs(row.records),
        "workers_load": [record["machine"].get("load") for record in row.records],
    }


def _intervals(pixels: Pixels) -> dict[str, dict[str, float]]:
    return {name: asdict(one) for name, one in pixels.bootstrap().intervals(pixels.numbers).items()}


def _costs(records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    return {name: statistics.median(record[name] for record in records) for name in COSTS if name in records[0]}


def differences(rows: Sequence[Row], reference: str) -> Iterator[dict[str, Any]]:
    """Each system's Dice minus that of the reference, on the same images and seeds, at the same labels and texts.

    Besides, for a row with another text asked than the first of its cell, its Dice minus that of the first.
    """
    by_key = {row.key: row for row in rows}
    firsts: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        key = row.key
        first = firsts.setdefault((key.data, key.labels, key.text, key.system), row)
        if first is not row:
            yield from _difference(row, first, "text")
        other = _reference_of(key, reference, by_key)
        if other is not None and key.system != reference:
            yield from _difference(row, other, "system")


def _reference_of(key: Key, reference: str, by_key: Mapping[Key, Row]) -> Row | None:
    """The reference's row for the same data, labels and texts; None if its cell failed or has not run.

    A reference without text has the texts of its only cell, which make no difference to it.
    """
    exact = by_key.get(replace(key, system=reference))
    if exact is not None:
        return exact
    same = (row for row in by_key.values() if row.key.system == reference and row.key.data == key.data)
    return next((row for row in same if row.key.labels == key.labels and not row.records[0]["reads_text"]), None)


def _difference(row: Row, other: Row, what: str) -> Iterator[dict[str, Any]]:
    seeds = [seed for seed in row.seeds if seed in other.seeds]
    if not seeds:
        return
    for protocol in row.scores:
        mine, theirs = (Pixels([one.scores[protocol][one.seeds.index(seed)] for seed in seeds]) for one in (row, other))
        found = mine.bootstrap().intervals(_minus(mine, theirs))
        yield {
            **asdict(row.key),
            "minus": asdict(other.key),
            "of": what,
            "protocol": protocol,
            "seeds": seeds,
            **{name: asdict(one) for name, one in found.items()},
        }


def _minus(mine: Pixels, theirs: Pixels) -> Any:
    def statistics_of(cases: Indices) -> dict[str, float]:
        ours, others = mine.numbers(cases), theirs.numbers(cases)
        return {name: value - others[name] for name, value in ours.items()}

    return statistics_of
