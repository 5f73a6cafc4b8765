"""Proposes the slices of a volume that are most worth correcting. Knows probabilities; knows nothing about models."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

APART = 0.04
"""Share of the volume within which a second proposal counts less, because neighbours have the same errors."""


def propose(
    probability: NDArray[np.float32], count: int, *, done: Collection[int] = (), threshold: float = 0.5
) -> list[int]:
    """Slices to correct next, the most worthwhile first.

    Args:
        probability: (slices, h, w), of one finding.
        count: most slices to propose.
        done: slices that are right already.
        threshold: probability above which a pixel belongs to the mask.

    Returns:
        Slice numbers, without those done; fewer than `count` if no other slice is in doubt.
    """
    worth = doubts(probability, threshold)
    numbers = np.arange(len(worth))
    chosen: list[int] = []
    for number in done:
        worth = worth * _farther(numbers, number)
    while len(chosen) < count:
        best = int(worth.argmax())
        if worth[best] <= 0:
            break
        chosen.append(best)
        worth = worth * _farther(numbers, best)
    return chosen


def doubts(probability: NDArray[np.float32], threshold: float = 0.5) -> NDArray[np.float64]:
    """How many pixels of each slice are probably wrong, (slices,).

    The sum of three estimates in pixels: what the model expects itself, the sum of min(p, 1 - p); where the mask is
    neither that of the slice before nor that after, although these agree; and how far the mask's area is from the mean
    of its neighbours'.

    Args:
        probability: (slices, h, w), of one finding.
        threshold: probability above which a pixel belongs to the mask.
    """
    mask = probability > threshold
    expected = np.minimum(probability, 1 - probability).sum((1, 2))
    before, after = mask[[0, *range(len(mask) - 1)]], mask[[*range(1, len(mask)), len(mask) - 1]]
    alone = ((before == after) & (mask != before)).sum((1, 2))
    area = mask.sum((1, 2))
    jump = np.abs(area - (before.sum((1, 2)) + after.sum((1, 2))) / 2)
    total: NDArray[np.float64] = expected.astype(np.float64) + alone + jump
    return total


def _farther(numbers: NDArray[np.int_], number: int) -> NDArray[np.float64]:
    """0 at a slice, rising to 1 with the distance from it."""
    reach = max(1.0, APART * len(numbers))
    rising: NDArray[np.float64] = 1 - np.exp(-(((numbers - number) / reach) ** 2))
    return np.where(numbers == number, 0.0, rising)
