"""Runs a model for a report, image by image, so that each image is encoded as few times as possible.

Knows what to ask and keep; knows nothing about intervals, tables and pages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.errors import UsageError
from fasttextdiff.evaluation.calibration import PooledAuroc, Reliability, auroc, near_border, slice_score
from fasttextdiff.evaluation.datasets import Target
from fasttextdiff.evaluation.metrics import Score, evaluate, score, shown
from fasttextdiff.evaluation.side_control import Answer, answers_for
from fasttextdiff.evaluation.texts import TEXTS, choose_texts
from fasttextdiff.image.slices import PreparedImage
from fasttextdiff.image.volume import Modality
from fasttextdiff.result import FindingResult, entropy
from fasttextdiff.segmenter import Segmenter

UNCERTAINTIES = ("disagreement", "entropy")
"""Standard deviation of the probability over noise samples, and entropy of its mean."""


@dataclass(frozen=True)
class Sampled:
    """One target, segmented with its true text and several noise samples.

    Attributes:
        score: score of the mask from the mean probability.
        uncertainty: uncertainty of the slice, by kind (`UNCERTAINTIES`).
        border_auroc: AUROC of wrong pixels near the predicted border, by kind of uncertainty; NaN if all are right, all
            are wrong, or there is no border.
    """

    score: Score
    uncertainty: dict[str, float]
    border_auroc: dict[str, float]


@dataclass(frozen=True)
class TargetResult:
    """The results of one target.

    Attributes:
        target: image, truth and true text.
        by_text: scores at native resolution, by text mode.
        published: score with the true text in the published protocol.
        sampled: results with noise samples.
    """

    target: Target
    by_text: dict[str, Score]
    published: Score
    sampled: Sampled


@dataclass
class PixelCounts:
    """Statistics over all pixels of all targets.

    Attributes:
        everywhere: reliability of the mean probability of the noise samples.
        at_border: the same within 8 pixels of the predicted border.
        auroc: AUROC of wrong pixels there, by kind of uncertainty.
    """

    everywhere: Reliability = field(default_factory=Reliability)
    at_border: Reliability = field(default_factory=Reliability)
    auroc: dict[str, PooledAuroc] = field(default_factory=lambda: {kind: PooledAuroc() for kind in UNCERTAINTIES})


@dataclass
class Measurement:
    """All results for a report.

    Attributes:
        cases: one per target.
        pixels: statistics over all of them.
        answers: results for lesions of either side; empty if the sides of lesions are unknown.
    """

    cases: list[TargetResult] = field(default_factory=list)
    pixels: PixelCounts = field(default_factory=PixelCounts)
    answers: list[Answer] = field(default_factory=list)


def report_texts(targets: Sequence[Target], seed: int = 0) -> dict[str, list[str]]:
    """The text for each target, by text mode; without "shuffled" if all texts are the same."""
    true = [target.text for target in targets]
    modes = [mode for mode in TEXTS if mode != "shuffled" or len(set(true)) > 1]
    return {mode: choose_texts(true, mode, seed) for mode in modes}


def measure(
    segmenter: Segmenter,
    targets: Sequence[Target],
    texts: Mapping[str, Sequence[str]],
    *,
    samples: int,
    threshold: float | None = None,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Measurement:
    """Run the model on every target.

    Args:
        segmenter: the model.
        targets: the split.
        texts: the text for each target, by text mode, see :func:`report_texts`; "true" is required.
        samples: noise samples for the uncertainties, 2 or more.
        threshold: probability above which a pixel belongs to the mask; the model's own if None.
        progress: called with (targets done, all targets).

    Raises:
        UsageError: too few samples, or an image and its mask differ in size.
        FastTextDiffError: an image or mask cannot be read.
    """
    if samples < 2:
        raise UsageError(f"a report compares noise samples with each other: it needs at least 2, got {samples}")
    done = Measurement()
    for turn, target in enumerate(targets):
        volume, truth = shown(target)
        image = segmenter.prepare(volume)
        asked = {mode: lines[turn] for mode, lines in texts.items()}
        # encodes the image with this noise once; the calls below find its features in the cache
        # as the model answers: rules that depend on the words would blur the comparison of texts
        found = segmenter.decode(image, list(asked.values()), threshold=threshold, try_anyway=True, slice_by_slice=True)
        scores = {mode: score(target.image.name, text, found.of(text).mask[0], truth) for mode, text in asked.items()}
        if target.modality is Modality.XRAY and not target.of_finding:
            done.answers += answers_for(segmenter, image, truth, turn, target.image.name, threshold)
        sampled = _sampled(_ask_again(segmenter, image, target.text, samples, threshold), target, truth, done.pixels)
        (published,) = evaluate(segmenter, [target], texts=[target.text], protocol="published", threshold=threshold)
        done.cases.append(TargetResult(target, scores, published, sampled))
        progress(len(done.cases), len(targets))
    return done


def _ask_again(
    segmenter: Segmenter, image: PreparedImage, text: str, samples: int, threshold: float | None
) -> FindingResult:
    again = image.with_request(slices=None, samples=samples, seed=image.seed)
    return segmenter.decode(again, [text], threshold=threshold, try_anyway=True).findings[0]


def _sampled(found: FindingResult, target: Target, truth: NDArray[np.bool_], pixels: PixelCounts) -> Sampled:
    """Compare uncertainties with errors; adds to the statistics over all targets."""
    assert found.disagreement is not None  # there is more than one sample
    probability, mask = found.probability[0], found.mask[0]
    maps = {"disagreement": found.disagreement[0], "entropy": entropy(probability)}
    near = near_border(mask)
    wrong = (mask != truth)[near]
    pixels.everywhere.add(probability, truth)
    pixels.at_border.add(probability[near], truth[near])
    for kind, values in maps.items():
        pixels.auroc[kind].add(values[near], wrong)
    return Sampled(
        score=score(target.image.name, target.text, mask, truth),
        uncertainty={kind: slice_score(values, probability) for kind, values in maps.items()},
        border_auroc={kind: auroc(values[near], wrong) for kind, values in maps.items()},
    )
