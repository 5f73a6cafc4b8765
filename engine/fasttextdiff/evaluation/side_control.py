"""Measures whether words steer a model: prompts for one side in held-out wordings, and sides without lesions.

Knows prompts, sides and metrics; uses the model only to get masks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.errors import UsageError
from fasttextdiff.evaluation.datasets import Target, right_half
from fasttextdiff.evaluation.metrics import score, shown
from fasttextdiff.image.slices import PreparedImage
from fasttextdiff.image.volume import Modality
from fasttextdiff.result import FindingResult
from fasttextdiff.segmenter import Segmenter

WORDINGS = (
    "show the infiltrates within the {side} lung",
    "pneumonic changes affecting the patient's {side} side",
    "{side} chest opacity",
    "areas of infection at the {side}",
    "infected part of the {side} lung only",
    "where is the {side} lung inflamed?",
)
"""Not among the templates of `training.prompts`; some of the words are not either."""
EMPTY_BELOW = 0.002
"""A mask smaller than this share of the image counts as empty."""
SPECK = 0.0005
"""A side with lesions smaller than this share of the image is not used, unless it has none."""


@dataclass(frozen=True)
class Answer:
    """The result for one side of one image.

    Attributes:
        image: file name.
        text: the prompt.
        there: whether the truth has lesions on that side.
        dice: protocol I, against the truth on that side; meaningless without lesions there.
        mask_px: pixels of the mask.
        wrong_px: pixels of the mask on the other side.
        area: the mask's share of the image.
        presence: the model's presence for the prompt.
    """

    image: str
    text: str
    there: bool
    dice: float
    mask_px: int
    wrong_px: int
    area: float
    presence: float


def ask_sides(segmenter: Segmenter, targets: Sequence[Target], threshold: float | None = None) -> Iterator[Answer]:
    """Segment the lesions of both sides of every image, with the wordings in turn.

    Args:
        segmenter: the model.
        targets: chest X-rays with masks of all lesions.
        threshold: probability above which a pixel belongs to the mask; the model's own if None.

    Raises:
        UsageError: the images are not X-rays, so the sides of their masks are unknown.
    """
    if any(target.modality is not Modality.XRAY for target in targets):
        raise UsageError("control prompts need chest X-rays with masks of all lesions")
    for turn, target in enumerate(targets):
        volume, truth = shown(target)
        yield from answers_for(segmenter, segmenter.prepare(volume), truth, turn, target.image.name, threshold)


def answers_for(
    segmenter: Segmenter,
    image: PreparedImage,
    truth: NDArray[np.bool_],
    turn: int,
    name: str,
    threshold: float | None = None,
) -> list[Answer]:
    """Segment the lesions of both sides of one image.

    Args:
        segmenter: the model.
        image: a chest X-ray, prepared by the segmenter.
        truth: mask (h, w) of all its lesions.
        turn: number of the image; selects the wordings.
        name: file name of the image.
        threshold: probability above which a pixel belongs to the mask; the model's own if None.
    """
    halves = {"left": right_half(truth), "right": ~right_half(truth)}
    texts = {side: WORDINGS[(2 * turn + k) % len(WORDINGS)].format(side=side) for k, side in enumerate(halves)}
    asked = {side: half for side, half in halves.items() if not 0 < (truth & half).mean() < SPECK}
    if not asked:
        return []
    found = segmenter.decode(image, [texts[side] for side in asked], threshold=threshold, try_anyway=True).findings
    return [_answer(name, finding, truth, half) for half, finding in zip(asked.values(), found, strict=True)]


def _answer(image: str, found: FindingResult, truth: NDArray[np.bool_], half: NDArray[np.bool_]) -> Answer:
    mask, wanted = found.mask[0], truth & half
    return Answer(
        image=image,
        text=found.typed or found.finding,
        there=bool(wanted.any()),
        dice=score(image, found.finding, mask, wanted).dice,
        mask_px=int(mask.sum()),
        wrong_px=int((mask & ~half).sum()),
        area=float(mask.mean()),
        presence=float(found.presence[0]),
    )


def summary(answers: Sequence[Answer]) -> dict[str, float]:
    """Summarise the results for single sides.

    Returns:
        n_there (sides with lesions), dice (their mean), wrong_side (share of their mask pixels on the other side),
        n_absent (sides without lesions), absent_empty (share of these with an empty mask). NaN if n is 0.
    """
    there, absent = [a for a in answers if a.there], [a for a in answers if not a.there]
    pixels = sum(a.mask_px for a in there)
    return {
        "n_there": len(there),
        "dice": float(np.mean([a.dice for a in there])) if there else float("nan"),
        "wrong_side": sum(a.wrong_px for a in there) / pixels if pixels else float("nan"),
        "n_absent": len(absent),
        "absent_empty": float(np.mean([a.area < EMPTY_BELOW for a in absent])) if absent else float("nan"),
    }
