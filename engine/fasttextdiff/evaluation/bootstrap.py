"""95 % intervals of statistics of a data set, by resampling its images (Efron's percentile bootstrap).

Knows cases and their images; knows nothing about the statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.intp]
Statistics = Callable[[Indices], Mapping[str, float]]
"""Named numbers of the cases with these indices, which may repeat; NaN if a number is not defined."""
DRAWS = 2000


@dataclass(frozen=True)
class Interval:
    """A statistic of all cases, and the 2.5th and 97.5th percentile of its values over the draws."""

    value: float
    low: float
    high: float


class Bootstrap:
    """Draws images with replacement, once; all statistics use the same draws.

    Cases of one image (several findings) are drawn together, because they are not independent.

    Args:
        images: the image of each case; at least one case.
        seed: seed of the draws.
        draws: number of draws.
        runs: the training run of each case, if there are several. Images and runs are then drawn independently of each
            other. A draw has the cases of every drawn image in every drawn run (Owen 2007, the pigeonhole bootstrap).
    """

    def __init__(
        self,
        images: Sequence[Hashable],
        seed: int = 0,
        draws: int = DRAWS,
        runs: Sequence[Hashable] | None = None,
    ) -> None:
        members: dict[Hashable, list[int]] = {}
        for case, image in enumerate(images):
            members.setdefault(image, []).append(case)
        groups = [np.array(cases, np.intp) for cases in members.values()]
        rng = np.random.default_rng(seed)
        self._all = np.arange(len(images), dtype=np.intp)
        if runs is None:
            self._drawn = [np.concatenate(_draw(groups, rng)) for _ in range(draws)]
        else:
            self._drawn = [_crossed(groups, runs, rng) for _ in range(draws)]

    def intervals(self, statistics: Statistics) -> dict[str, Interval]:
        """Each statistic with its interval; draws where it is NaN do not count."""
        drawn = [statistics(cases) for cases in self._drawn]
        return {
            name: Interval(value, *_middle(np.array([numbers[name] for numbers in drawn])))
            for name, value in statistics(self._all).items()
        }


def _draw(groups: Sequence[Indices], rng: np.random.Generator) -> list[Indices]:
    """As many groups as there are, with replacement."""
    return [groups[n] for n in rng.integers(len(groups), size=len(groups))]


def _crossed(groups: Sequence[Indices], runs: Sequence[Hashable], rng: np.random.Generator) -> Indices:
    """Cases of drawn images in drawn runs."""
    numbers = {run: n for n, run in enumerate(dict.fromkeys(runs))}
    run_of = np.array([numbers[run] for run in runs], np.intp)
    times = np.bincount(rng.integers(len(numbers), size=len(numbers)), minlength=len(numbers))
    cases = np.concatenate(_draw(groups, rng))
    return np.repeat(cases, times[run_of[cases]])


def _middle(values: NDArray[np.float64]) -> tuple[float, float]:
    """Bounds of the middle 95 %; NaN if all values are NaN."""
    there = values[~np.isnan(values)]
    if not there.size:
        return float("nan"), float("nan")
    low, high = np.percentile(there, (2.5, 97.5))
    return float(low), float(high)
