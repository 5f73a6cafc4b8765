"""What can be scored without looking at the image: the mean training mask of all images with the same caption.

Knows captions and masks; knows nothing about models. Captions were written from masks and tell where the lesions are,
so a model's score means little without this baseline.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.evaluation.datasets import Target
from fasttextdiff.evaluation.metrics import EPSILON, Score, score

Mask = NDArray[np.bool_]
Mean = NDArray[np.float32]

GRID = 128
"""Rows and columns on which masks are averaged, whatever their size."""
LEVELS = np.arange(0.05, 0.96, 0.05)


@dataclass(frozen=True)
class CaptionBaseline:
    """The mean mask of each caption, cut at one level.

    Attributes:
        by_caption: share (GRID, GRID) of the training images with a caption whose mask holds a pixel.
        overall: the same of all training images, for captions that do not occur there.
        level: share above which a pixel belongs to the mask; the best one for the training images.
        n_train: training masks.
    """

    by_caption: dict[str, Mean]
    overall: Mean
    level: float
    n_train: int

    def mask(self, caption: str, shape: tuple[int, int]) -> Mask:
        """The answer (h, w) to a caption."""
        return _resized(self.by_caption.get(caption, self.overall), shape) > self.level


def fit_baseline(
    training: Sequence[Target], progress: Callable[[int, int], object] = lambda done, total: None
) -> CaptionBaseline:
    """Average the masks of a training split, and choose the level at which they fit these masks best.

    Args:
        training: at least one target.
        progress: called with (masks read, all masks).

    Raises:
        FastTextDiffError: a mask cannot be read.
    """
    groups: dict[str, list[Mask]] = {}
    for done, target in enumerate(training, 1):
        small = _resized(target.load_mask().astype(np.float32), (GRID, GRID)) > 0.5
        groups.setdefault(target.text, []).append(small)
        progress(done, len(training))
    means: dict[str, Mean] = {caption: np.stack(masks).mean(0, np.float32) for caption, masks in groups.items()}
    counts = [len(masks) for masks in groups.values()]
    overall = np.average(list(means.values()), axis=0, weights=counts).astype(np.float32)
    dice = np.sum([_dice_by_level(masks, means[caption]) for caption, masks in groups.items()], axis=0)
    best = np.flatnonzero(dice >= dice.max() - 1e-4)  # the middle of equals: the lowest would hang on rounding
    return CaptionBaseline(means, overall, float(LEVELS[best[len(best) // 2]]), len(training))


def _dice_by_level(masks: Sequence[Mask], mean: Mean) -> NDArray[np.float64]:
    """Summed Dice of masks with their mean cut at each of `LEVELS`."""
    truths = np.stack(masks).reshape(len(masks), -1).astype(np.float32)
    cuts = (mean.ravel()[None] > LEVELS[:, None]).astype(np.float32)
    overlap = cuts @ truths.T  # (levels, masks)
    areas = cuts.sum(axis=1)[:, None] + truths.sum(axis=1)[None]
    dice: NDArray[np.float64] = ((2 * overlap + EPSILON) / (areas + EPSILON)).sum(axis=1, dtype=np.float64)
    return dice


def score_baseline(baseline: CaptionBaseline, targets: Sequence[Target]) -> list[Score]:
    """Score the baseline's answers at the truths' own resolution."""
    scores = []
    for target in targets:
        truth = target.load_mask()
        scores.append(score(target.image.name, target.text, baseline.mask(target.text, truth.shape), truth))
    return scores


def _resized(values: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Bilinear, averaging where it shrinks."""
    from PIL import Image

    picture = Image.fromarray(values)
    return np.asarray(picture.resize((shape[1], shape[0]), Image.Resampling.BILINEAR))
