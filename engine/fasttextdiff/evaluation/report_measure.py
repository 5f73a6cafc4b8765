"""Asks a model everything that a report needs, image by image, so that no image is encoded more often than it must be.

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
    """One target, asked its true text with several noise samples.

    Attributes:
        score: of the mask of the mean probability.
        uncertainty: of the slice, by kind (`UNCERTAINTIES`).
        border_auroc: how well each kind's pixels tell which pixels near the predicted border are wrong; NaN where all
            are right, all are wrong, or there is no border.
    """

    score: Score
    uncertainty: dict[str, float]
    border_auroc: dict[str, float]


@dataclass(frozen=True)
class Case:
    """One target's outcome.

    Attributes:
        target: image, truth and true text.
        by_text: at native resolution, by text mode.
        published: with the true text, in the published protocol.
        sampled: with noise samples.
    """

    target: Target
    by_text: dict[str, Score]
    published: Score
    sampled: Sampled


@dataclass
class PixelCounts:
    """What is counted over all pixels of all targets.

    Attributes:
        everywhere: reliability of the mean probability of the noise samples.
        at_border: the same within 8 pixels of the predicted border.
        auroc: of wrong pixels there, by kind of uncertainty.
    """

    everywhere: Reliability = field(default_factory=Reliability)
    at_border: Reliability = field(default_factory=Reliability)
    auroc: dict[str, PooledAuroc] = field(default_factory=lambda: {kind: PooledAuroc() for kind in UNCERTAINTIES})


@dataclass
class Measurement:
    """Everything that came of asking.

    Attributes:
        cases: one a target.
        pixels: counts over all of them.
        answers: to questions for either side's lesions; empty where the sides of lesions are not known.
    """

    cases: list[Case] = field(default_factory=list)
    pixels: PixelCounts = field(default_factory=PixelCounts)
    answers: list[Answer] = field(default_factory=list)


def report_texts(targets: Sequence[Target], seed: int = 0) -> dict[str, list[str]]:
    """What each target is asked, by text mode; without "shuffled" where all texts are the same."""
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
    """Ask the model about every target.

    Args:
        segmenter: the model.
        targets: the split.
        texts: what to ask each target, by text mode, see :func:`report_texts`; "true" must be among them.
        samples: noise samples for the uncertainties, 2 or more.
        threshold: of the probability; the model's own if None.
        progress: called with (targets done, all targets).

    Raises:
        UsageError: too few samples, or an image and its mask differ in size.
        FastTextDiffError: an image or mask cannot be read.
    """
    if samples < 2:
        raise UsageError(f"the noise samples of a report are compared with each other: 2 at least, got {samples}")
    done = Measurement()
    for turn, target in enumerate(targets):
        volume, truth = shown(target)
        image = segmenter.prepare(volume)
        asked = {mode: lines[turn] for mode, lines in texts.items()}
        # the only encoding of the image with this noise: whatever is asked below finds its features in the cache
        found = segmenter.decode(image, list(asked.values()), threshold=threshold)
        scores = {mode: score(target.image.name, text, found.of(text).mask[0], truth) for mode, text in asked.items()}
        if target.modality is Modality.XRAY and not target.of_finding:
            done.answers += answers_for(segmenter, image, truth, turn, target.image.name, threshold)
        sampled = _sampled(_ask_again(segmenter, image, target.text, samples, threshold), target, truth, done.pixels)
        (published,) = evaluate(segmenter, [target], texts=[target.text], protocol="published", threshold=threshold)
        done.cases.append(Case(target, scores, published, sampled))
        progress(len(done.cases), len(targets))
    return done


def _ask_again(
    segmenter: Segmenter, image: PreparedImage, text: str, samples: int, threshold: float | None
) -> FindingResult:
    again = image.with_request(slices=None, samples=samples, seed=image.seed)
    return segmenter.decode(again, [text], threshold=threshold).findings[0]


def _sampled(found: FindingResult, target: Target, truth: NDArray[np.bool_], pixels: PixelCounts) -> Sampled:
    """Uncertainties against what is wrong; adds to the counts over all targets."""
    assert found.disagreement is not None  # more than one sample was asked for
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
