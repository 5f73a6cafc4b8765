"""Compares a model's masks in another precision with those in float32, on validation images.

Knows masks and presences; knows nothing about truth or networks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.contract.segments import is_there
from fasttextdiff.evaluation.datasets import load_targets
from fasttextdiff.evaluation.metrics import score
from fasttextdiff.image.volume import Modality
from fasttextdiff.segmenter import Segmenter
from fasttextdiff_lab.atlas import LEFT_OUT, MODALITIES, read_table, structure_name
from fasttextdiff_lab.measure import LESIONS, XRAY_STRUCTURES, results_on
from fasttextdiff_lab.vocabulary import STRUCTURES

FOLDERS = ("qata_cov19_v2_2", "MosMedDataPlus_bjorke", "covid_cxr_structures", "monuseg_2")
ATLAS, XRAYS = "ct_mr_atlas", "xray_atlas"


@dataclass(frozen=True)
class Question:
    """A finding to ask for on a picture.

    Attributes:
        group: name of the data set.
        path: path of the picture.
        modality: modality of the picture.
        text: the finding.
    """

    group: str
    path: Path
    modality: Modality
    text: str


@dataclass(frozen=True)
class Agreement:
    """How well two precisions agree on a data set.

    Attributes:
        group: name of the data set.
        n: number of (image, finding) pairs.
        dice: mean Dice of the two masks; 1 if both are empty.
        lowest: lowest Dice.
        same_presence: share of pairs whose presence is on the same side of the threshold.
    """

    group: str
    n: int
    dice: float
    lowest: float
    same_presence: float

    def __str__(self) -> str:
        return (
            f"{self.group:24s} n {self.n:4d}  Dice {self.dice:.4f}, lowest {self.lowest:.4f}; "
            f"same presence {self.same_presence:.1%}"
        )


def questions(data: Path, every: int) -> Iterator[Question]:
    """Validation images: every N-th row of the atlases, every 4 N-th of QaTa, and every N/5-th of the small sets."""
    for name in FOLDERS:
        targets = load_targets(data / name, "val")
        for target in targets[:: 4 * every if name == FOLDERS[0] else max(1, every // 5)]:
            yield Question(name, target.image, target.modality, target.text)
    for row in read_table(data / ATLAS, "val")[::every]:
        if row["Source"] not in LEFT_OUT and structure_name(row) in STRUCTURES:
            text = STRUCTURES[structure_name(row)].words[0]
            yield Question(ATLAS, data / ATLAS / row["Image"], MODALITIES[row["Modality"]], text)
    for row in read_table(data / XRAYS, "val")[::every]:
        if row["Structure"] in XRAY_STRUCTURES:
            text = STRUCTURES[structure_name(row)].words[0]
        elif row["Structure"] == "lesion":  # absent from normal X-rays
            text = LESIONS[0]
        else:
            continue
        yield Question(XRAYS, data / XRAYS / "img" / row["Image"], Modality.XRAY, text)


def agreements(reference: Segmenter, other: Segmenter, asked: Iterable[Question]) -> list[Agreement]:
    """How well two segmenters of one model agree, by data set."""
    found: dict[str, list[tuple[float, bool]]] = defaultdict(list)
    for question in asked:
        (mask, there), (second, also) = _answer(reference, question), _answer(other, question)
        dice = score(question.path.name, question.text, second, mask).dice
        found[question.group].append((dice, there == also))
    return [_agreement(group, pairs) for group, pairs in found.items()]


def _agreement(group: str, pairs: Sequence[tuple[float, bool]]) -> Agreement:
    dice = [pair[0] for pair in pairs]
    return Agreement(group, len(pairs), float(np.mean(dice)), min(dice), float(np.mean([pair[1] for pair in pairs])))


def _answer(segmenter: Segmenter, question: Question) -> tuple[NDArray[np.bool_], bool]:
    """The mask, and whether the finding is present."""
    found = results_on(segmenter, question.path, question.modality, [question.text]).findings[0]
    return found.mask[0], bool(is_there(found.presence, segmenter.info.presence_threshold)[0])
