"""Measures how well a finding is learned from a few slices, beside other ways to learn from them.

Each cell (task, method, number of slices, seed) is computed once and kept, so that the study can be resumed. Knows
tasks, methods and tables.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.evaluation.bootstrap import Bootstrap
from fasttextdiff.evaluation.metrics import picture_volume, score
from fasttextdiff.image.volume import Modality
from fasttextdiff.model.torch_runtime import TorchRuntime
from fasttextdiff.segmenter import Segmenter
from fasttextdiff.teaching.adapter import Adapter
from fasttextdiff.teaching.decoder import Seen, see
from fasttextdiff.teaching.examples import Example, Lesson, examples_of
from fasttextdiff.teaching.grids import from_input, grey_input
from fasttextdiff.teaching.in_use import torch_runtime
from fasttextdiff.teaching.learning import learn
from fasttextdiff_lab.kept_results import KeptResults
from fasttextdiff_lab.teaching_rivals import Answer, has_monai, train_unet, tune_head
from fasttextdiff_lab.teaching_tasks import Case, Pool, draw

METHODS = ("adapter", "words off", "head tuned whole", "U-Net from scratch")
COUNTS = (1, 3, 5, 10, 20, 100)


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
        images: test images.
        dice: Dice of each.
    """

    task: str
    method: str
    slices: int
    seed: int
    used: int
    seconds: float
    images: Sequence[str]
    dice: Sequence[float]


class TeachingStudy:
    """Computes cells.

    Args:
        segmenter: the model.
        path: file of all cells, one a line; those of another model or number of test images are not used.
        tests: number of test images of each task.

    Attributes:
        cells: those of this model and number of test images.
    """

    def __init__(self, segmenter: Segmenter, path: Path, tests: int) -> None:
        self.segmenter = segmenter
        self.runtime: TorchRuntime = torch_runtime(segmenter.runtime)
        self.file = KeptResults(path, Cell, {"model": segmenter.info.weights_sha256, "tests": tests})
        self.cells = self.file.read()

    def run(self, pool: Pool, methods: Sequence[str], counts: Sequence[int], seeds: int) -> Iterator[Cell]:
        """The missing cells of a task, each written at once."""
        done = {(c.task, c.method, c.slices, c.seed) for c in self.cells}
        wanted = [("model", 0, 0), *((m, count, seed) for count in counts for seed in range(seeds) for m in methods)]
        seen: dict[tuple[str, str], Seen] = {}
        for method, count, seed in wanted:
            smaller = max((c for c in counts if c < count), default=-1)
            if (pool.task, method, count, seed) not in done and len(pool.teach) > smaller:
                yield self._kept(self._cell(pool, method, count, seed, seen))

    def _kept(self, cell: Cell) -> Cell:
        self.file.add(cell)
        self.cells.append(cell)
        return cell

    def _cell(self, pool: Pool, method: str, count: int, seed: int, seen: dict[tuple[str, str], Seen]) -> Cell:
        drawn = draw(pool, count, seed)
        lessons = [self.lesson(case) for case in drawn]
        start = time.perf_counter()
        answer = self._learned(pool, method, drawn, lessons, seed, seen)
        seconds = time.perf_counter() - start
        dice = [score(c.image, c.finding, answer(self.lesson(c)) > 0.5, c.truth).dice for c in pool.test]
        images = [case.image for case in pool.test]
        return Cell(pool.task, method, count, seed, len(drawn), round(seconds, 2), images, np.round(dice, 4).tolist())

    def _learned(
        self,
        pool: Pool,
        method: str,
        drawn: Sequence[Case],
        lessons: Sequence[Lesson],
        seed: int,
        seen: dict[tuple[str, str], Seen],
    ) -> Answer:
        if method == "model":
            return lambda lesson: self._own(lesson, pool.finding)
        if method == "head tuned whole":
            return tune_head(self.runtime, lessons, pool.finding, seed)
        if method == "U-Net from scratch":
            return train_unet(lessons, seed)
        examples = [self._example(case) for case in drawn]
        adapter = learn(self.runtime, examples, pool.finding, seed=seed, words=method == "adapter")
        return lambda lesson: self._adapted(adapter, lesson, seen)

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


def page(cells: Sequence[Cell], command: str, model: str, taught: Sequence[str]) -> str:
    """The report in Markdown: Dice as the mean over test images and seeds, with intervals over images.

    Args:
        cells: what was measured.
        command: the command line.
        model: name of the model.
        taught: tasks that the model was taught before.
    """
    known = f"It was taught {', '.join(taught)} before." if taught else "It was taught none of these findings."
    lines = [
        "# Learning a finding from a few slices",
        "",
        f"Model {model}. {known} Dice on images of other patients, as the mean over images and seeds, with",
        "95 % intervals (bootstrap over images; the seeds of an image are drawn together). Slices in brackets: as many",
        "as there are.",
        "",
        f"    {command}",
        "",
        "| task | method | slices | seeds | test images | Dice | seconds (median) |",
        "|---|---|---|---|---|---|---|",
    ]
    groups: dict[tuple[str, str, int], list[Cell]] = {}
    for cell in sorted(cells, key=lambda c: (c.task, c.method == "model", c.method, c.slices)):
        groups.setdefault((cell.task, cell.method, cell.slices), []).append(cell)
    return "\n".join([*lines, *(_line(*key, group) for key, group in groups.items()), ""])


def _line(task: str, method: str, slices: int, group: Sequence[Cell]) -> str:
    dice = np.concatenate([np.asarray(cell.dice) for cell in group])
    images = [image for cell in group for image in cell.images]
    found = Bootstrap(images).intervals(lambda drawn: {"dice": float(dice[drawn].mean())})["dice"]
    used = str(slices) if group[0].used == slices else f"{slices} ({group[0].used})"
    interval = f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"
    seconds = f"{np.median([cell.seconds for cell in group]):.1f}"
    return f"| {task} | {method} | {used} | {len(group)} | {len(group[0].images)} | {interval} | {seconds} |"
