"""Finishes a trained model: thresholds and the validation Dice of every taught finding, for its index.

Knows the model's answers. Thresholds are chosen on training images only; validation data are for reporting.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from fasttextdiff.image.volume import Modality
from fasttextdiff.io.atomic import whole_files
from fasttextdiff.io.json_files import parse_json
from fasttextdiff.model.info import INDEX, ModelInfo
from fasttextdiff.model.taught import Taught, taught_to
from fasttextdiff.segmenter import Segmenter
from fasttextdiff_lab import measure as m
from fasttextdiff_lab.measure import Answer

KEPT = 0.95
"""Share that the presence threshold must keep: of abnormal X-rays, and of present findings as mean over modalities."""
FEWEST = 20
"""Minimum number of present findings of a modality that counts for the mask threshold."""
CANDIDATES = np.arange(100) / 100
LEARNED = 0.1
"""A taught finding with a lower validation Dice was not learned."""
LABELLED = ("covid_cxr_structures", "MosMedDataPlus_bjorke", "monuseg_2")
"""Folders whose findings are in no atlas."""


def training_answers(segmenter: Segmenter, data: Path, every: int) -> Iterator[Answer]:
    """Every N-th training image of the large sets and all of the small ones, with present and absent findings.

    Args:
        segmenter: the model; its presence threshold should be 0, and its mask threshold 0.5.
        data: folder of the research data.
        every: N.
    """
    yield from m.ask_xrays(segmenter, data / "xray_atlas", every, "train")
    yield from m.ask_infections(segmenter, data / "qata_cov19_v2_2", every, "train")
    yield from m.ask_atlas(segmenter, data / "ct_mr_atlas", every, "train")
    for folder in LABELLED:
        yield from m.ask_targets(segmenter, data / folder, "train")


def validation_answers(segmenter: Segmenter, data: Path) -> Iterator[Answer]:
    """Every validation image of atlases and small sets, and every tenth abnormal X-ray."""
    yield from m.ask_xrays(segmenter, data / "xray_atlas")
    yield from m.ask_infections(segmenter, data / "qata_cov19_v2_2")
    yield from m.ask_atlas(segmenter, data / "ct_mr_atlas")
    for folder in LABELLED:
        yield from m.ask_targets(segmenter, data / folder)


def mask_threshold(answers: Sequence[Answer]) -> float:
    """The candidate with the highest Dice of present findings, as the mean over modalities; one for all of them.

    A model that is unsure marks too little at 0.5: the best threshold of calibrated probabilities is half of the Dice
    that can be reached (Lipton et al. 2014, theorem 1).

    Args:
        answers: to prompts on training images, some of them present.
    """
    curves: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    for answer in answers:
        if answer.there:
            curves[answer.modality].append(answer.curve)
    means = np.mean([np.mean(found, axis=0) for found in curves.values() if len(found) >= FEWEST], axis=0)
    return m.MASK_THRESHOLDS[int(np.argmax(means))]


def presence_threshold(answers: Sequence[Answer]) -> float:
    """The largest candidate that keeps enough of the present findings; one for all findings and modalities.

    Args:
        answers: to prompts on training images, some of them present.
    """
    there: dict[str, list[float]] = defaultdict(list)
    for answer in answers:
        if answer.there:
            there[answer.modality].append(answer.presence)
    sick = [answer.presence for answer in answers if answer.group == m.ABNORMAL and answer.there]
    return round(float(max(t for t in CANDIDATES if _kept(list(there.values()), sick, t) >= KEPT)), 2)


def _kept(by_modality: Sequence[Sequence[float]], sick: Sequence[float], threshold: float) -> float:
    """The smaller share of presences that a threshold keeps: of the abnormal X-rays, or as mean over modalities."""
    shares = [float(np.mean(np.array(values) >= threshold)) for values in by_modality]
    return min([float(np.mean(shares)), *([float(np.mean(np.array(sick) >= threshold))] if sick else [])])


def with_quality(info: ModelInfo, answers: Sequence[Answer]) -> Taught:
    """The taught findings with their validation Dice and its n; without them where nothing was measured.

    A finding that the model failed to learn is left out, so that it is refused and not answered wrongly.

    Args:
        info: description of the model.
        answers: on validation images; those of untaught findings do not count.
    """
    dice: dict[tuple[str, str], list[float]] = defaultdict(list)
    for answer in answers:
        found = info.taught_finding(answer.finding, Modality(answer.modality))
        if answer.there and found is not None and info.knows(answer.finding, Modality(answer.modality)):
            dice[answer.modality, found.name].append(answer.dice)
    measured = {key: (round(float(np.mean(values)), 3), len(values)) for key, values in dice.items()}
    return {
        kind: tuple(
            replace(finding, dice=mean, validation_slices=n)
            for finding in findings
            for mean, n in [measured.get((kind, finding.name), (None, 0))]
            if mean is None or mean >= LEARNED
        )
        for kind, findings in info.taught.items()
    }


def write_into_index(folder: Path, **values: object) -> None:
    """Change entries of `info` in a model's index; nothing else in it changes.

    Args:
        folder: of the model.
        values: new values of entries that are there; `taught` as :data:`Taught`.

    Raises:
        KeyError: there is no such entry.
    """
    path = folder / INDEX
    index = parse_json(path.read_text(encoding="utf-8"))
    if "taught" in values:
        values["taught"] = taught_to(values["taught"])  # type: ignore[arg-type]
    if missing := values.keys() - index["info"].keys():
        raise KeyError(f"{path} has no {', '.join(sorted(missing))}")
    index["info"] |= values
    with whole_files(path) as (temporary,):
        temporary.write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
