"""Fits and validates the classifier for turned and inverted chest X-rays, on training X-rays and variants of them.

Knows X-rays and statistics; the classifier is in `fasttextdiff.model.xray_states`. Never fits on validation images.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.model.kinds import KindHead
from fasttextdiff.model.runtime import Runtime
from fasttextdiff.model.xray_states import INVERTED, STATES, TURNED, UPRIGHT, XrayHead
from fasttextdiff_lab.kind_pictures import CLOSEST_XRAY, Picture, cropped
from fasttextdiff_lab.kinds import Probabilities, Shown, all_shown, held_out, random_of, regression

FALSE_ALARMS = 0.005
"""Share of upright training X-rays, held out, above which a doubt must be surer."""


def encoded_xray(runtime: Runtime, picture: Picture) -> Iterator[Shown]:
    """Statistics of an X-ray in every state; `how` is the state."""
    yield from all_shown(runtime, picture, xray_variants(picture.load(), random_of(picture, "film")))


def xray_variants(pixels: NDArray[np.uint8], random: np.random.Generator) -> Iterator[tuple[NDArray[np.uint8], str]]:
    """An X-ray (h, w) as it is, mirrored and cropped, turned by 90, 180 and 270 degrees, and inverted, with its state.

    An inverted X-ray may be turned as well.
    """
    yield pixels, UPRIGHT
    yield _varied(pixels, random), UPRIGHT
    for turns in (1, 2, 3):
        yield np.rot90(_varied(pixels, random), turns), TURNED
    yield 255 - pixels, INVERTED
    yield 255 - np.rot90(_varied(pixels, random), int(random.integers(0, 4))), INVERTED


def _varied(pixels: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    image = pixels[:, ::-1] if random.random() < 0.5 else pixels
    image = cropped(image, random, CLOSEST_XRAY)
    values = (image / np.float32(255)) ** np.float32(random.uniform(0.7, 1.5))
    return np.ascontiguousarray((values * 255).astype(np.uint8))


def fit_xray(shown: Sequence[Shown], head: KindHead) -> XrayHead:
    """The classifier; a doubt must be so sure that few held-out upright X-rays are doubted.

    Args:
        shown: encoded training X-rays in all states.
        head: standardises their statistics.
    """
    unseen = held_out(shown, lambda those: _probabilities(those, head))
    doubts = unseen[_truth(shown) == STATES.index(UPRIGHT), 1:].max(axis=1)
    surest = max(0.5, float(np.quantile(doubts, 1 - FALSE_ALARMS)))
    return replace(_fitted(shown, head), surest=round(surest, 3))


def _probabilities(shown: Sequence[Shown], head: KindHead) -> Probabilities:
    xray = _fitted(shown, head)
    return lambda statistics: xray.probabilities(head.standard(statistics))


def _truth(shown: Sequence[Shown]) -> NDArray[np.int_]:
    return np.array([STATES.index(one.how) for one in shown])


def _fitted(shown: Sequence[Shown], head: KindHead) -> XrayHead:
    """States count equally."""
    truth = _truth(shown)
    weights = 1 / np.bincount(truth)[truth]
    x = head.standard(np.stack([one.statistics for one in shown]))
    return XrayHead(*regression(x, truth, weights / weights.sum()), surest=0.0)


def check_xray(head: KindHead, xray: XrayHead, shown: Sequence[Shown]) -> list[str]:
    """One line for each state: how often it was recognised, and as what else.

    Args:
        head: standardises the statistics.
        xray: the classifier.
        shown: encoded validation X-rays in all states.
    """
    found = xray.probabilities(head.standard(np.stack([one.statistics for one in shown])))
    answers = [(one.how, xray.state(p)) for one, p in zip(shown, found, strict=True)]
    counts = Counter(answers)
    total = Counter(state for state, _ in answers)
    return [
        f"X-ray {state}: " + ", ".join(f"{counts[state, answer]} {answer}" for answer in STATES) + f" of {total[state]}"
        for state in STATES
    ]
