"""Validates the bundled model on the wider data: false positives on normal X-rays, structures, absent structures.

Knows data and metrics; runs the model through `Segmenter`, like users. Reports figures and makes no choices.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.evaluation.bootstrap import Bootstrap
from fasttextdiff.evaluation.calibration import auroc
from fasttextdiff.evaluation.datasets import load_image, load_levels, load_targets
from fasttextdiff.evaluation.metrics import picture_volume, score
from fasttextdiff.image.volume import Modality
from fasttextdiff.result import SegmentationResult
from fasttextdiff.segmenter import Segmenter
from fasttextdiff_lab.atlas import (
    CLAVICLES,
    EMPTY,
    LEFT_OUT,
    MODALITIES,
    Row,
    both_clavicles,
    read_table,
    structure_name,
)
from fasttextdiff_lab.vocabulary import STRUCTURES, known_name

LESIONS = ("infection", "opacity in the left lung", "opacity in the right lung")
"""Prompts for normal X-rays."""
ABNORMAL = "qata/infection"
"""Group of the abnormal X-rays."""
FALSE_ABOVE = 0.002
"""A mask of an absent finding that is larger than this share of the image is a false positive."""
MASK_THRESHOLDS = tuple(n / 20 for n in range(5, 13))
"""Probabilities above which a pixel could belong to a mask."""
XRAY_STRUCTURES = ("left_lung", "right_lung", "heart", "left_clavicle", "right_clavicle")


@dataclass(frozen=True)
class Answer:
    """The result for one prompt.

    Attributes:
        group: group of the case, such as "ct/liver".
        modality: modality of the image, such as "ct".
        finding: the prompt.
        image: file name.
        there: whether the finding is in the truth.
        dice: Dice with the truth; 0 or 1 if the truth is empty.
        area: the mask's share of the image.
        presence: probability that it is there.
        curve: Dice at each of :data:`MASK_THRESHOLDS`, whatever the presence; empty if the truth is.
    """

    group: str
    modality: str
    finding: str
    image: str
    there: bool
    dice: float
    area: float
    presence: float
    curve: tuple[float, ...] = ()


def ask(
    segmenter: Segmenter, path: Path, modality: Modality, questions: Sequence[tuple[str, str, NDArray[np.bool_] | None]]
) -> list[Answer]:
    """Segment several findings on an image.

    Args:
        segmenter: the model.
        path: path of the picture.
        modality: modality of the picture.
        questions: (group, text, truth (h, w)); a truth of None means absent.
    """
    result = results_on(segmenter, path, modality, [text for _, text, _ in questions])
    answers = []
    for group, text, truth in questions:
        found = result.of(text)
        mask, presence = found.mask[0], float(found.presence[0])
        true = np.zeros(mask.shape, bool) if truth is None else truth
        dice = score(path.name, text, mask, true).dice
        area = float(mask.mean())
        curve = _curve(path.name, text, found.probability[0], true) if true.any() else ()
        answers.append(Answer(group, modality.value, text, path.name, bool(true.any()), dice, area, presence, curve))
    return answers


def _curve(name: str, text: str, probability: NDArray[np.float32], truth: NDArray[np.bool_]) -> tuple[float, ...]:
    return tuple(score(name, text, probability > limit, truth).dice for limit in MASK_THRESHOLDS)


def results_on(segmenter: Segmenter, path: Path, modality: Modality, texts: Sequence[str]) -> SegmentationResult:
    """Results for a picture, also for findings that a model does not list, as a snapshot of a run does not."""
    image = load_image(path, grey=modality is not Modality.HISTOLOGY)
    prepared = segmenter.prepare(picture_volume(image, modality, str(path)))
    return segmenter.decode(prepared, texts, try_anyway=True)


def ask_xrays(segmenter: Segmenter, folder: Path, every: int = 1, split: str = "val") -> Iterator[Answer]:
    """A split of the X-ray atlas: absent lesions, lungs, heart and clavicles."""
    for name, rows in _by_image(read_table(folder, split), every):
        questions: list[tuple[str, str, NDArray[np.bool_] | None]] = []
        source = rows[0]["Source"]
        named = {row["Structure"]: row["Mask"] for row in rows}
        truths = {name: load_levels(folder / named[name]) > 0 for name in XRAY_STRUCTURES if name in named}
        if set(truths) >= CLAVICLES:
            truths["clavicles"] = both_clavicles(truths)
        for structure, truth in truths.items():
            text = STRUCTURES[known_name(structure)].words[0]
            questions.append((f"xray/{structure}/{source}", text, truth))
        if "lesion" in named:
            questions += [(f"normal/{text}/{source}", text, None) for text in LESIONS]
        if questions:
            yield from ask(segmenter, folder / "img" / name, Modality.XRAY, questions)


def ask_atlas(segmenter: Segmenter, folder: Path, every: int = 1, split: str = "val") -> Iterator[Answer]:
    """A split of the CT and MR atlas: every structure of every image by its name."""
    for name, rows in _by_image(read_table(folder, split), every):
        questions = []
        for row in rows:
            if structure_name(row) not in STRUCTURES:
                continue
            truth = None if row["Mask"] == EMPTY else load_levels(folder / row["Mask"]) > 0
            group = f"{row['Modality']}/{row['Structure']}"
            questions.append((group, STRUCTURES[structure_name(row)].words[0], truth))
        if questions:
            yield from ask(segmenter, folder / name, MODALITIES[rows[0]["Modality"]], questions)


def ask_infections(segmenter: Segmenter, folder: Path, every: int = 10, split: str = "val") -> Iterator[Answer]:
    """Abnormal X-rays of a split of QaTa, with the prompt "infection"."""
    for target in load_targets(folder, split)[::every]:
        yield from ask(segmenter, target.image, target.modality, [(ABNORMAL, LESIONS[0], target.load_mask())])


def ask_targets(segmenter: Segmenter, folder: Path, split: str = "val") -> Iterator[Answer]:
    """A split of a labelled folder, each image with the text of its table."""
    for target in load_targets(folder, split):
        yield from ask(segmenter, target.image, target.modality, [(folder.name, target.text, target.load_mask())])


def _by_image(rows: Iterable[Row], every: int) -> list[tuple[str, list[Row]]]:
    images: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row["Source"] not in LEFT_OUT:
            images[row["Image"]].append(row)
    return list(images.items())[::every]


@dataclass(frozen=True)
class Line:
    """One figure of a table: name, number of cases, value and 95 % interval over images."""

    what: str
    n: int
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.what:55s} n {self.n:4d}  {self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def table(answers: Sequence[Answer]) -> list[Line]:
    """Dice of present structures and the share of empty masks for absent ones, by group and in total."""
    lines = []
    for group, cases in sorted(_groups(answers).items()):
        there, absent = [a for a in cases if a.there], [a for a in cases if not a.there]
        if there:
            lines.append(_line(f"{group} Dice", there, [a.dice for a in there]))
        if absent:
            lines.append(_line(f"{group} absent: empty", absent, [float(a.area <= FALSE_ABOVE) for a in absent]))
    return lines


def _groups(answers: Sequence[Answer]) -> dict[str, list[Answer]]:
    groups: dict[str, list[Answer]] = defaultdict(list)
    for answer in answers:
        groups[answer.group].append(answer)
        first, _, rest = answer.group.partition("/")
        if first in ("xray", "normal"):
            groups[f"{first}/{rest.partition('/')[0]}"].append(answer)
    return groups


def _line(what: str, cases: Sequence[Answer], values: Sequence[float]) -> Line:
    numbers = np.array(values)
    found = Bootstrap([a.image for a in cases]).intervals(lambda drawn: {"mean": float(numbers[drawn].mean())})["mean"]
    return Line(what, len(cases), found.value, found.low, found.high)


def structure_mean(answers: Sequence[Answer]) -> tuple[float, int]:
    """Mean over structures of their mean Dice, for those with at least three validation masks; and their number."""
    dice: dict[str, list[float]] = defaultdict(list)
    for answer in answers:
        if answer.there:
            dice[answer.group.partition("/")[2]].append(answer.dice)
    means = [float(np.mean(values)) for values in dice.values() if len(values) >= 3]
    return float(np.mean(means)), len(means)


def share_empty(answers: Sequence[Answer], *, there: bool = False) -> float:
    """Share of empty masks among cases with the finding absent or, with `there`, present."""
    return float(np.mean([a.area <= (0 if there else FALSE_ABOVE) for a in answers if a.there == there]))


def presence_auroc(sick: Sequence[Answer], healthy: Sequence[Answer]) -> float:
    """Probability that the presence of an abnormal image is above that of a normal one."""
    cases = (*sick, *healthy)
    return auroc(np.array([case.presence for case in cases]), np.arange(len(cases)) < len(sick))
