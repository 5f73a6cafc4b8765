"""Measures how well probabilities and uncertainties show where and when a model is wrong.

Knows arrays of numbers; knows nothing about models, files or findings.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Flags = NDArray[np.bool_]

BORDER_PX = 8
BINS = 10
_RANKS = 1 << 15
"""More than the number of float16 values from 0 up."""


def slice_score(uncertainty: Floats, probability: Floats) -> float:
    """Uncertainty of a slice: the sum over its pixels, divided by the expected area of the mask.

    Args:
        uncertainty: of each pixel, any shape.
        probability: of each pixel. Its sum is the expected area; one pixel is added, for empty slices.
    """
    return float(uncertainty.sum(dtype=np.float64) / (probability.sum(dtype=np.float64) + 1))


def spearman(first: Floats, second: Floats) -> float:
    """Spearman's rank correlation of two series, with ties at their mean rank; NaN if either is constant."""
    from scipy.stats import rankdata

    ranks = [rankdata(row) - (len(row) + 1) / 2 for row in (first, second)]
    norm = float(np.linalg.norm(ranks[0]) * np.linalg.norm(ranks[1]))
    return float(ranks[0] @ ranks[1]) / norm if norm else float("nan")


def auroc(scores: Floats, positive: Flags) -> float:
    """Area under the ROC curve: how often a positive scores above a negative, ties counting half (Mann and Whitney).

    Args:
        scores: one per case.
        positive: whether each case is positive.

    Returns:
        0 to 1; NaN without positives or without negatives.
    """
    from scipy.stats import rankdata

    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if not n_positive or not n_negative:
        return float("nan")
    above = rankdata(scores)[positive].sum() - n_positive * (n_positive + 1) / 2
    return float(above / (n_positive * n_negative))


def near_border(mask: Flags) -> Flags:
    """Pixels (h, w) within :data:`BORDER_PX` of a mask's border, on both sides; none if the mask has no border.

    A pixel next to the border is half a pixel away from it; the edge of the image is not a border.
    """
    from scipy.ndimage import distance_transform_edt

    if mask.all() or not mask.any():
        return np.zeros_like(mask)
    to_other = np.where(mask, distance_transform_edt(mask), distance_transform_edt(~mask))
    near: Flags = to_other - 0.5 <= BORDER_PX
    return near


@dataclass
class PooledAuroc:
    """AUROC over the pixels of many images, with memory for only two histograms.

    Scores are rounded to float16. Its bits, read as integers, have the same order, which gives one bin per value.
    """

    _counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros((2, _RANKS), np.int64))

    def add(self, scores: Floats, positive: Flags) -> None:
        """Add pixels; scores must be 0 or above."""
        bins = scores.astype(np.float16).view(np.uint16).astype(np.int64)
        for row, chosen in enumerate((~positive, positive)):
            self._counts[row] += np.bincount(bins[chosen], minlength=_RANKS)

    def value(self) -> float:
        """:func:`auroc` of all pixels."""
        negative, positive = self._counts
        pairs = int(negative.sum()) * int(positive.sum())
        below = np.cumsum(negative) - negative
        return float((positive * (below + negative / 2)).sum() / pairs) if pairs else float("nan")


@dataclass
class Reliability:
    """Reliability curve: predicted probability against observed frequency, in ten bins of equal width.

    Attributes:
        n: cases in each bin.
        predicted: sum of their probabilities.
        observed: number of true cases.
    """

    n: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))
    predicted: NDArray[np.float64] = field(default_factory=lambda: np.zeros(BINS))
    observed: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))

    def add(self, probability: Floats, true: Flags) -> None:
        """Add cases, any shape."""
        flat, hits = probability.ravel(), true.ravel()
        bins = np.minimum((flat * BINS).astype(np.int64), BINS - 1)
        self.n += np.bincount(bins, minlength=BINS)
        self.predicted += np.bincount(bins, weights=flat, minlength=BINS)
        self.observed += np.bincount(bins[hits], minlength=BINS)

    def expected_error(self) -> float:
        """Expected calibration error: |mean probability - observed frequency|, weighted by cases (Guo 2017)."""
        total = int(self.n.sum())
        return float(np.abs(self.predicted - self.observed).sum() / total) if total else float("nan")

    def rows(self) -> list[dict[str, float]]:
        """Non-empty bins: from, to, n, mean predicted probability, observed frequency."""
        return [
            {
                "from": index / BINS,
                "to": (index + 1) / BINS,
                "n": int(self.n[index]),
                "predicted": float(self.predicted[index] / self.n[index]),
                "observed": float(self.observed[index] / self.n[index]),
            }
            for index in np.flatnonzero(self.n)
        ]
