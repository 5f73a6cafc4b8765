"""A baseline that ignores the image: the mean training mask of all images with the same caption.

Captions were written from masks and say where the lesions are, so a model's score means little without this baseline.
Knows captions and masks; knows nothing about models.
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
"""Rows and columns of the grid on which masks of any size are averaged."""
LEVELS = np.arange(0.05, 0.96, 0.05)


@dataclass(frozen=True)
class CaptionBaseline:
    """The mean mask of each caption, thresholded at one level.

    Attributes:
        by_caption: mean mask (GRID, GRID) of the training images with each caption.
        overall: mean mask of all training images, for captions that do not occur there.
        level: value above which a pixel belongs to the mask; the best one on the training images.
        n_train: number of training masks.
    """

    by_caption: dict[str, Mean]
    overall: Mean
    level: float
    n_train: int

    def mask(self, caption: str, shape: tuple[int, int]) -> Mask:
        """The predicted mask (h, w) for a caption."""
        return _resized(self.by_caption.get(caption, self.overall), shape) > self.level


def fit_baseline(
    training: Sequence[Target], progress: Callable[[int, int], object] = lambda done, total: None
) -> CaptionBaseline:
    """Average the masks of a training split, and choose the level with the best Dice on them.

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
    best = np.flatnonzero(
        dice >= dice.max() - 1e-4
    )  # the middle of equal levels, because the lowest would depend on rounding
    return CaptionBaseline(means, overall, float(LEVELS[best[len(best) // 2]]), len(training))


def _dice_by_level(masks: Sequence[Mask], mean: Mean) -> NDArray[np.float64]:
    """Summed Dice of masks with their mean, thresholded at each of `LEVELS`."""
    truths = np.stack(masks).reshape(len(masks), -1).astype(np.float32)
    cuts = (mean.ravel()[None] > LEVELS[:, None]).astype(np.float32)
    overlap = cuts @ truths.T  # (levels, masks)
    areas = cuts.sum(axis=1)[:, None] + truths.sum(axis=1)[None]
    dice: NDArray[np.float64] = ((2 * overlap + EPSILON) / (areas + EPSILON)).sum(axis=1, dtype=np.float64)
    return dice


def score_baseline(baseline: CaptionBaseline, targets: Sequence[Target]) -> list[Score]:
    """Score the baseline's masks at the resolution of the true masks."""
    scores = []
    for target in targets:
        truth = target.load_mask()
        scores.append(score(target.image.name, target.text, baseline.mask(target.text, truth.shape), truth))
    return scores


def _resized(values: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Resize bilinearly, with averaging if it shrinks."""
    from PIL import Image

    picture = Image.fromarray(values)
    return np.asarray(picture.resize((shape[1], shape[0]), Image.Resampling.BILINEAR))
