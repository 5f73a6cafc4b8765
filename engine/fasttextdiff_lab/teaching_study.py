"""Measures how well a finding is learned from a few slices, compared with other ways to learn from them.

Each cell (task, method, number of slices, seed) is computed once and kept, so that the study can be resumed. Knows
tasks, methods and tables.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fasttextdiff.evaluation.bootstrap import Bootstrap
from fasttextdiff.evaluation.metrics import picture_volume, score
from fasttextdiff.image.volume import Modality
from fasttextdiff.model.torch_runtime import TorchRuntime
from fasttextdiff.segmenter import Segmenter
from fasttextdiff.teaching.adapter import Adapter
from fasttextdiff.teaching.decoder import Seen, see
from fasttextdiff.teaching.examples import Example, Lesson, examples_of, may_mirror
from fasttextdiff.teaching.grids import from_input, grey_input
from fasttextdiff.teaching.in_use import torch_runtime
from fasttextdiff.teaching.learning import learn
from fasttextdiff_lab.kept_results import KeptResults
from fasttextdiff_lab.teaching_rivals import Answer, has_monai, train_unet, tune_head
from fasttextdiff_lab.teaching_tasks import TASKS, Case, Pool, draw

METHODS = ("adapter", "words off", "head tuned whole", "U-Net from scratch")
REMEMBERED = 4
"""Test images and known findings on which it is shown that nothing is forgotten."""


@dataclass(frozen=True)
class Cell:
    """One learned finding, measured.

    Attributes:
        task: name of the task.
        method: how it was learned.
        slices: number of examples asked for; 0 for the model's own answer.
        seed: of the draw and the training.
        used: number of examples used, if the pool has fewer.
        seconds: of learning.
        threads: of the CPU, that it had.
        images: test images.
        patients: patient of each.
        dice: Dice of each.
        known: answers for findings that the model knows, on some test images, compared with the learned one in use.
        forgotten: how many of these differ in any bit.
    """

    task: str
    method: str
    slices: int
    seed: int
    used: int
    seconds: float
    threads: int
    images: Sequence[str]
    patients: Sequence[str]
    dice: Sequence[float]
    known: int = 0
    forgotten: int = 0


class TeachingStudy:
    """Computes cells.

    Args:
        segmenter: the model.
        path: file of all cells, one per line; those of another model or of other tasks are not used.

    Attributes:
        cells: those that are used.
    """

    def __init__(self, segmenter: Segmenter, path: Path) -> None:
        self.segmenter = segmenter
        self.runtime: TorchRuntime = torch_runtime(segmenter.runtime)
        self.file = KeptResults(path, Cell, {"model": segmenter.info.weights_sha256, "tasks": TASKS})
        self.cells = self.file.read()

    def run(self, pool: Pool, methods: Sequence[str], counts: Sequence[int], seeds: int) -> Iterator[Cell]:
        """The missing cells of a task, each written at once."""
        done = {(c.task, c.method, c.slices, c.seed) for c in self.cells}
        alone = [("model", 0, seed) for seed in range(1 if pool.test else seeds)]
        wanted = [*alone, *((m, count, seed) for count in counts for seed in range(seeds) for m in methods)]
        seen: dict[tuple[str, str], Seen] = {}
        for method, count, seed in wanted:
            smaller = max((c for c in counts if c < count), default=-1)
            if (pool.task, method, count, seed) not in done and len(pool.split(seed)[0]) > smaller:
                yield self._kept(self._cell(pool, method, count, seed, seen))

    def _kept(self, cell: Cell) -> Cell:
        self.file.add(cell)
        self.cells.append(cell)
        return cell

    def _cell(self, pool: Pool, method: str, count: int, seed: int, seen: dict[tuple[str, str], Seen]) -> Cell:
        teach, test = pool.split(seed)
        drawn = draw(teach, count, seed)
        lessons = [self.lesson(case) for case in drawn]
        start = time.perf_counter()
        adapter = self._adapter(pool, method, drawn, seed)
        answer = self._learned(pool, method, lessons, seed) if adapter is None else self._by(adapter, seen)
        seconds = time.perf_counter() - start
        dice = [score(c.image, c.finding, answer(self.lesson(c)) > 0.5, c.truth).dice for c in test]
        return Cell(
            pool.task,
            method,
            count,
            seed,
            len(drawn),
            round(seconds, 2),
            torch.get_num_threads(),
            [case.image for case in test],
            [case.patient for case in test],
            np.round(dice, 4).tolist(),
            *(self._forgetting(adapter, test[:REMEMBERED]) if adapter is not None else (0, 0)),
        )

    def _adapter(self, pool: Pool, method: str, drawn: Sequence[Case], seed: int) -> Adapter | None:
        if method not in METHODS[:2]:
            return None
        examples = [self._example(case) for case in drawn]
        return learn(self.runtime, examples, pool.finding, seed=seed, words=method == METHODS[0])

    def _learned(self, pool: Pool, method: str, lessons: Sequence[Lesson], seed: int) -> Answer:
        if method == "model":
            return lambda lesson: self._own(lesson, pool.finding)
        mirror = may_mirror([pool.finding], pool.modality)
        if method == METHODS[2]:
            return tune_head(self.runtime, lessons, pool.finding, seed, mirror=mirror)
        return train_unet(lessons, seed, mirror=mirror)

    def _by(self, adapter: Adapter, seen: dict[tuple[str, str], Seen]) -> Answer:
        return lambda lesson: self._adapted(adapter, lesson, seen)

    def _forgetting(self, adapter: Adapter, cases: Sequence[Case]) -> tuple[int, int]:
        """How many answers for known findings were compared, and how many the learned finding changes in any bit."""
        known = [one.name for one in self.segmenter.info.taught.get(cases[0].modality.value, ())][:REMEMBERED]
        changed = 0
        for case in cases if known else ():
            volume = picture_volume(case.pixels, case.modality, case.image)
            answers = []
            for adapters in ([], [adapter]):
                self.segmenter.use(adapters)
                result = self.segmenter.segment(volume, [*known, adapter.card.finding], try_anyway=True)
                answers.append([found.probability.tobytes() for found in result.findings[: len(known)]])
            changed += sum(before != after for before, after in zip(*answers, strict=True))
        self.segmenter.use([])
        return len(known) * len(cases), changed

    def lesson(self, case: Case) -> Lesson:
        """A case as the model sees it."""
        pipeline = self.runtime.pipeline
        return self._example(case).lesson(pipeline.preprocessing, pipeline.denoiser.multiple)

    def _example(self, case: Case) -> Example:
        if case.modality is Modality.HISTOLOGY:  # a tile of a picture
            return Example(case.pixels, case.truth, None, (1.0, 1.0), case.modality, 1.0, case.patient)
        image = self.segmenter.prepare(picture_volume(case.pixels, case.modality, case.image))
        return examples_of(image, 0, case.truth[None], case.patient)[0]

    def _own(self, lesson: Lesson, finding: str) -> NDArray[np.float32]:
        maps = self.runtime.maps([lesson.pixels], lesson.fit, 0)[0]
        answers, _ = self.runtime.answers([maps], lesson.fit, self.runtime.text([finding]))
        return np.asarray(1 / (1 + np.exp(-answers[0, 0])), np.float32)

    def _adapted(self, adapter: Adapter, lesson: Lesson, seen: dict[tuple[str, str], Seen]) -> NDArray[np.float32]:
        key = str(hash(lesson.pixels.tobytes())), adapter.card.text
        if key not in seen:
            pipeline = self.runtime.pipeline
            patch = pipeline.denoiser.plan.patch_size
            size = lesson.fit.padded[0] // patch, lesson.fit.padded[1] // patch
            maps = self.runtime.maps([lesson.pixels], lesson.fit, 0)[0]
            text = pipeline.text_encoder.encode([adapter.card.text])
            seen[key] = see(pipeline.fusion, maps, grey_input(lesson.pixels, lesson.fit), text, size)
        return from_input(adapter.decoder.odds(seen[key]).sigmoid()[None, None], lesson.fit)


def methods_here(wanted: Sequence[str], warn: Callable[[str], None]) -> list[str]:
    """The methods that can run; says which cannot."""
    if METHODS[3] in wanted and not has_monai():
        warn(f"{METHODS[3]} is left out: pip install 'fasttextdiff[lab]'")
        return [method for method in wanted if method != METHODS[3]]
    return list(wanted)


def page(cells: Sequence[Cell], command: str, model: str) -> str:
    """The report in Markdown: Dice as the mean over test images and seeds, with intervals over patients.

    Args:
        cells: what was measured.
        command: the command line.
        model: name of the model.
    """
    threads = " or ".join(str(n) for n in sorted({cell.threads for cell in cells}))
    known, forgotten = sum(cell.known for cell in cells), sum(cell.forgotten for cell in cells)
    lines = [
        "# Learning a finding from a few slices",
        "",
        f"Model {model}, which was taught none of these findings. Dice on images of other patients, as the mean over",
        "images and seeds, with 95 % intervals (bootstrap over patients; the seeds of a patient are drawn together).",
        f"Slices in brackets: as many as there are. Seconds of learning, with {threads} threads of the CPU.",
        "",
        f"Forgetting: {known:,} answers for findings that the model knows were compared with the learned finding in",
        f"use and without it, on images of the tests; {forgotten:,} differ in any bit.",
        "",
        f"    {command}",
        "",
        "| task | method | slices | seeds | test images | patients | Dice | seconds (median) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    groups: dict[tuple[str, str, int], list[Cell]] = {}
    for cell in sorted(cells, key=lambda c: (c.task, c.method == "model", c.method, c.slices)):
        groups.setdefault((cell.task, cell.method, cell.slices), []).append(cell)
    return "\n".join([*lines, *(_line(*key, group) for key, group in groups.items()), *_goals(groups), ""])


def _line(task: str, method: str, slices: int, group: Sequence[Cell]) -> str:
    dice = np.concatenate([np.asarray(cell.dice) for cell in group])
    patients = [patient for cell in group for patient in cell.patients]
    images = {image for cell in group for image in cell.images}
    found = Bootstrap(patients).intervals(lambda drawn: {"dice": float(dice[drawn].mean())})["dice"]
    used = str(slices) if group[0].used == slices else f"{slices} ({group[0].used})"
    interval = f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"
    seconds = f"{np.median([cell.seconds for cell in group]):.1f}"
    return (
        f"| {task} | {method} | {used} | {len(group)} | {len(images)} | {len(set(patients))} | {interval} | {seconds} |"
    )


def _goals(groups: Mapping[tuple[str, str, int], Sequence[Cell]]) -> list[str]:
    """What was aimed at, by task: five slices against the most, and against the U-Net from the same five."""
    lines = []
    for task in dict.fromkeys(task for task, _, _ in groups):
        most = max((count for name, method, count in groups if (name, method) == (task, METHODS[0])), default=0)
        few, all_of_them, unet = (
            _mean(groups.get((task, method, count), ()))
            for method, count in ((METHODS[0], 5), (METHODS[0], most), (METHODS[3], 5))
        )
        share, more = few / all_of_them if all_of_them else np.nan, few - unet
        lines.append(f"| {task} | {_or_dash(share, '.0%')} | {_or_dash(more, '+.3f')} |")
    head = [
        "",
        "The adapter from 5 slices:",
        "",
        "| task | share of the Dice from the most slices | Dice minus the U-Net's |",
    ]
    return [*head, "|---|---|---|", *lines]


def _mean(group: Sequence[Cell]) -> float:
    return float(np.mean([dice for cell in group for dice in cell.dice])) if group else float("nan")


def _or_dash(value: float, form: str) -> str:
    return "-" if np.isnan(value) else format(value, form)
