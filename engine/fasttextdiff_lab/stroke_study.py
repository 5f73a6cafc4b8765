"""Simulates a user who corrects masks with strokes, and measures Dice after each stroke.

Knows cases, correctors and metrics; draws every stroke in the largest error, as in the literature on interactive
segmentation (Sofiiuk et al. 2022).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fasttextdiff.evaluation.bootstrap import Bootstrap
from fasttextdiff.evaluation.metrics import picture_volume, score
from fasttextdiff.segmenter import Segmenter
from fasttextdiff.teaching.strokes import StrokeCorrector
from fasttextdiff_lab.kept_results import KeptResults
from fasttextdiff_lab.teaching_tasks import Case

METHODS = ("strokes", "nearest stroke")
COUNTS = (0, 1, 3, 5, 10)
"""Numbers of strokes in the table; the last is the most that a user draws."""
GOOD = 0.85
"""Dice at which a mask counts as right."""
EDGE_COST = 30.0
"""Of the baseline, as for :mod:`fasttextdiff.teaching.strokes`."""


class Corrector(Protocol):
    """Takes strokes, gives masks."""

    def add(self, mark: NDArray[np.bool_], present: bool) -> None:
        """Add a stroke (h, w)."""
        ...

    def mask(self) -> NDArray[np.bool_]:
        """The mask (h, w)."""
        ...


class NearestStroke:
    """Baseline without a model: each pixel takes the sign of the stroke with the cheapest path; empty without strokes.

    Paths are those of SimpleITK's fast marching, with edges that cost as much as in the corrector.

    Args:
        image: (h, w) in [0, 1].
    """

    def __init__(self, image: NDArray[np.float32]) -> None:
        self.cost = (1 + EDGE_COST * ndimage.gaussian_gradient_magnitude(image, 1.0)).astype(np.float32)
        self.arrival = {sign: np.full(image.shape, limit, np.float32) for sign, limit in ((True, 1e9), (False, 1e8))}

    def add(self, mark: NDArray[np.bool_], present: bool) -> None:
        """Add a stroke (h, w)."""
        import SimpleITK

        march = SimpleITK.FastMarchingImageFilter()
        march.SetTrialPoints([(int(x), int(y)) for y, x in zip(*np.nonzero(mark), strict=True)])
        arrival = SimpleITK.GetArrayFromImage(march.Execute(SimpleITK.GetImageFromArray(1 / self.cost)))
        self.arrival[present] = np.minimum(self.arrival[present], arrival)

    def mask(self) -> NDArray[np.bool_]:
        """The mask (h, w)."""
        return self.arrival[True] < self.arrival[False]


@dataclass(frozen=True)
class Course:
    """Dice of one image after 0, 1, 2, ... strokes.

    Attributes:
        task: name of the group.
        image: file name.
        method: name of the corrector.
        dice: after each stroke, the first without any.
        seconds: of each stroke.
    """

    task: str
    image: str
    method: str
    dice: Sequence[float]
    seconds: Sequence[float]

    def after(self, strokes: int) -> float:
        """Dice after some strokes; a mask without errors needs no more of them."""
        return self.dice[min(strokes, len(self.dice) - 1)]

    def to_good(self) -> float:
        """Number of strokes to a Dice of :data:`GOOD`; infinite if it was not reached."""
        return next((float(n) for n, dice in enumerate(self.dice) if dice >= GOOD), float("inf"))


def courses(segmenter: Segmenter, cases: Iterable[Case]) -> Iterator[Course]:
    """Both correctors on each case."""
    for case in cases:
        corrector, image = _correctors(segmenter, case)
        correctors: tuple[Corrector, ...] = (corrector, NearestStroke(image))
        for method, one in zip(METHODS, correctors, strict=True):
            yield course(case, method, one)


def resumed(path: Path, segmenter: Segmenter, cases: Iterable[Case]) -> list[Course]:
    """The courses of the cases; those of this model in the file are not computed again, new ones are added to it."""
    kept = KeptResults(path, Course, {"model": segmenter.info.weights_sha256})
    stored = {(one.task, one.image, one.method): one for one in kept.read()}
    found: list[Course] = []
    for case in cases:
        keys = [(case.task, case.image, method) for method in METHODS]
        if not stored.keys() >= set(keys):
            for one in courses(segmenter, [case]):
                kept.add(one)
                stored[one.task, one.image, one.method] = one
        found += [stored[key] for key in keys]
    return found


def _correctors(segmenter: Segmenter, case: Case) -> tuple[StrokeCorrector, NDArray[np.float32]]:
    image = segmenter.prepare(picture_volume(case.pixels, case.modality, case.image))
    pixels = image.views(0)[0].pixels()
    maps = segmenter.runtime.maps([pixels], image.fit, image.seed)[0]
    grey = pixels if pixels.ndim == 2 else pixels.mean(axis=2)
    return StrokeCorrector.of(segmenter.pipeline, pixels, maps, image.fit, case.finding), grey


def course(case: Case, method: str, corrector: Corrector) -> Course:
    """Draw strokes until there is no error or the last of :data:`COUNTS` is reached."""
    mask, seconds = corrector.mask(), list[float]()
    dice = [score(case.image, case.finding, mask, case.truth).dice]
    while len(seconds) < COUNTS[-1] and (mask != case.truth).any():
        mark, present = stroke(mask, case.truth)
        start = time.perf_counter()
        corrector.add(mark, present)
        mask = corrector.mask()
        seconds.append(time.perf_counter() - start)
        dice.append(score(case.image, case.finding, mask, case.truth).dice)
    return Course(case.task, case.image, method, tuple(dice), tuple(seconds))


def stroke(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], bool]:
    """A short stroke in the largest connected error, and whether the finding is there.

    It goes through the pixel farthest from the error's border, along the error's long axis, and is as long as the error
    is wide there.

    Args:
        mask: (h, w); differs from the truth somewhere.
        truth: (h, w).
    """
    error, present = _largest_error(mask, truth)
    inside = ndimage.distance_transform_edt(np.pad(error, 1))[1:-1, 1:-1]
    centre = np.array(np.unravel_index(int(inside.argmax()), inside.shape))
    pixels = np.argwhere(error)
    _, axes = np.linalg.eigh(np.cov(pixels.T) if len(pixels) > 1 else np.eye(2))
    radius = float(inside.max())
    along = np.linspace(-radius, radius, int(4 * radius) + 3)[:, None] * axes[:, -1]
    rows, columns = np.clip(np.round(centre + along).astype(int), 0, np.array(mask.shape) - 1).T
    line = np.zeros(mask.shape, bool)
    line[rows, columns] = True
    return ndimage.binary_dilation(line, iterations=max(1, round(max(mask.shape) / 200))) & error, present


def _largest_error(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], bool]:
    found: list[tuple[int, NDArray[np.bool_], bool]] = []
    for error, present in ((truth & ~mask, True), (mask & ~truth, False)):
        parts, count = ndimage.label(error)
        if count:
            sizes = np.bincount(parts.ravel())[1:]
            found.append((int(sizes.max()), parts == sizes.argmax() + 1, present))
    _, error, present = max(found, key=lambda one: one[0])
    return error, present


@dataclass(frozen=True)
class Row:
    """One row of the report: a task and a method.

    Attributes:
        task: name of the group.
        method: name of the corrector.
        n: number of images.
        dice: mean Dice with 95 % interval (value, low, high) by number of strokes.
        to_good: median number of strokes to a Dice of 0.85; infinite if fewer than half of the images reached it.
        reached: share of images that reached it within the most strokes.
        seconds: median time of a stroke.
    """

    task: str
    method: str
    n: int
    dice: dict[int, tuple[float, float, float]]
    to_good: float
    reached: float
    seconds: float


def rows(found: Sequence[Course]) -> list[Row]:
    """The table, by task and method in the order of the courses."""
    groups: dict[tuple[str, str], list[Course]] = {}
    for one in found:
        groups.setdefault((one.task, one.method), []).append(one)
    return [_row(task, method, group) for (task, method), group in groups.items()]


def _row(task: str, method: str, group: Sequence[Course]) -> Row:
    after = np.array([[one.after(count) for count in COUNTS] for one in group])
    intervals = Bootstrap([one.image for one in group]).intervals(
        lambda drawn: {str(count): float(after[drawn, n].mean()) for n, count in enumerate(COUNTS)}
    )
    dice = {int(count): (found.value, found.low, found.high) for count, found in intervals.items()}
    needed = np.array([one.to_good() for one in group])
    seconds = float(np.median([second for one in group for second in one.seconds] or [0.0]))
    middle = float(np.sort(needed)[len(needed) // 2])
    return Row(task, method, len(group), dice, middle, float(np.isfinite(needed).mean()), seconds)


def page(table: Sequence[Row], command: str, model: str, untaught: Sequence[str]) -> str:
    """The report in Markdown; `untaught` are the tasks that the model was not taught."""
    head = " | ".join(["task", "method", "n", *(f"after {count}" for count in COUNTS)])
    known = f"It was not taught: {', '.join(untaught)}." if untaught else "It was taught all of these."
    lines = [
        "# Correcting one slice with strokes",
        "",
        f"Model {model}, validation data, simulated strokes, each in the largest error; Dice as the mean over images",
        f"with 95 % intervals (bootstrap over images). {known}",
        "*Nearest stroke* has no model: fast marching of SimpleITK from the same kind of strokes.",
        "",
        f"    {command}",
        "",
        f"| {head} | strokes to {GOOD} (median) | reached {GOOD} | s a stroke |",
        "|" + "---|" * (len(COUNTS) + 6),
    ]
    return "\n".join([*lines, *map(_line, table), ""])


def _line(row: Row) -> str:
    dice = [f"{value:.3f} [{low:.3f}, {high:.3f}]" for value, low, high in row.dice.values()]
    needed = f"{row.to_good:.0f}" if np.isfinite(row.to_good) else f"over {COUNTS[-1]}"
    return (
        "| "
        + " | ".join([row.task, row.method, str(row.n), *dice, needed, f"{row.reached:.0%}", f"{row.seconds:.2f}"])
        + " |"
    )
