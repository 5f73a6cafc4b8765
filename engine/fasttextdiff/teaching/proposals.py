"""Proposes which slices of a volume to review first. Knows probabilities; knows nothing about models."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

APART = 0.04
"""Share of the volume within which a second proposal counts less, because neighbours have the same errors."""
UNSURE, UNLIKE, JUMP = "unsure", "unlike its neighbours", "sudden change of size"
REASONS = (UNSURE, UNLIKE, JUMP)
"""Why a slice should be reviewed, in the order of the columns of :func:`doubts`."""


@dataclass(frozen=True)
class Proposal:
    """A slice to review.

    Attributes:
        slice: its number in the probability.
        finding: the finding with most pixels in doubt.
        reason: one of `REASONS`, why that finding is in doubt.
        pixels: how many pixels of all findings are probably wrong.
    """

    slice: int
    finding: str
    reason: str
    pixels: float


def proposals(doubted: Mapping[str, NDArray[np.float64]], count: int, done: Collection[int] = ()) -> list[Proposal]:
    """Slices to review next, the most doubtful first.

    Args:
        doubted: for each finding, its :func:`doubts`; all of the same slices.
        count: most slices to propose.
        done: slices that are right already.

    Returns:
        Without the slices that are done; fewer than `count` if no other slice is in doubt by a pixel or more.
    """
    names, each = list(doubted), np.stack(list(doubted.values()))
    pixels = each.sum((0, 2))
    worth, numbers = np.where(pixels < 1, 0.0, pixels), np.arange(each.shape[1])
    for number in done:
        worth = worth * _farther(numbers, number)
    found: list[Proposal] = []
    while len(found) < count and worth.max(initial=0.0) > 0:
        best = int(worth.argmax())
        finding = int(each[:, best].sum(1).argmax())
        reason = REASONS[int(each[finding, best].argmax())]
        found.append(Proposal(best, names[finding], reason, float(pixels[best])))
        worth = worth * _farther(numbers, best)
    return found


def propose(
    probability: NDArray[np.float32], count: int, *, done: Collection[int] = (), threshold: float = 0.5
) -> list[int]:
    """Slices of one finding to correct next, the most doubtful first; see :func:`proposals`.

    Args:
        probability: (slices, h, w).
        count: most slices to propose.
        done: slices that are right already.
        threshold: probability above which a pixel belongs to the mask.
    """
    return [each.slice for each in proposals({"": doubts(probability, probability > threshold)}, count, done)]


def doubts(probability: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """How many pixels of each slice are probably wrong, (slices, 3), estimated in three ways.

    * What the model itself expects: the sum of min(p, 1 - p).
    * Pixels where the masks of the slices before and after agree, and this one differs.
    * How far the mask's area is from the mean of its neighbours' areas.

    The first and the last slice have themselves as a neighbour.

    Args:
        probability: (slices, h, w), of one finding.
        mask: (slices, h, w), what is taken of it.
    """
    last = len(mask) - 1
    area = mask.sum((1, 2)).astype(np.float64)
    found = np.zeros((len(mask), len(REASONS)))
    for k in range(len(mask)):  # slice by slice: a copy of a volume's probability may not fit into memory
        before, after = max(0, k - 1), min(last, k + 1)
        alone = (mask[before] == mask[after]) & (mask[k] != mask[before])
        expected = np.minimum(probability[k], 1 - probability[k]).sum(dtype=np.float64)
        found[k] = expected, alone.sum(), abs(area[k] - (area[before] + area[after]) / 2)
    return found


def _farther(numbers: NDArray[np.int_], number: int) -> NDArray[np.float64]:
    """0 at a slice, rising to 1 with the distance from it."""
    reach = max(1.0, APART * len(numbers))
    rising: NDArray[np.float64] = 1 - np.exp(-(((numbers - number) / reach) ** 2))
    return np.where(numbers == number, 0.0, rising)
