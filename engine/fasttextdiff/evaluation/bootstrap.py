"""95 % intervals of any statistics of a data set, by drawing its images again and again (Efron's percentile bootstrap).

Knows cases and the images that they belong to; knows nothing about what is computed from them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.intp]
Statistics = Callable[[Indices], Mapping[str, float]]
"""Named numbers of the cases with these indices, some of them repeated; NaN where they have no such number."""
DRAWS = 2000


@dataclass(frozen=True)
class Interval:
    """A statistic of all cases, and the 2.5th and 97.5th percentile of its values on the draws."""

    value: float
    low: float
    high: float


class Bootstrap:
    """Draws images with replacement, once; all statistics are computed on the same draws.

    Cases of one image (several findings on it) are drawn together: they are not independent.

    Args:
        images: which image each case belongs to; at least one case.
        seed: of the draws.
        draws: how many.
    """

    def __init__(self, images: Sequence[Hashable], seed: int = 0, draws: int = DRAWS) -> None:
        members: dict[Hashable, list[int]] = {}
        for case, image in enumerate(images):
            members.setdefault(image, []).append(case)
        groups = [np.array(cases, np.intp) for cases in members.values()]
        rng = np.random.default_rng(seed)
        self._all = np.arange(len(images), dtype=np.intp)
        self._drawn = [
            np.concatenate([groups[n] for n in rng.integers(len(groups), size=len(groups))]) for _ in range(draws)
        ]

    def intervals(self, statistics: Statistics) -> dict[str, Interval]:
        """Each of the statistics with its interval; draws on which it is NaN do not count."""
        drawn = [statistics(cases) for cases in self._drawn]
        return {
            name: Interval(value, *_middle(np.array([numbers[name] for numbers in drawn])))
            for name, value in statistics(self._all).items()
        }


def _middle(values: NDArray[np.float64]) -> tuple[float, float]:
    """Bounds of the middle 95 %; NaN if there is no number among the values."""
    there = values[~np.isnan(values)]
    if not there.size:
        return float("nan"), float("nan")
    low, high = np.percentile(there, (2.5, 97.5))
    return float(low), float(high)
