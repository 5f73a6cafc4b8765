"""Removes parts of a finding that lie outside an organ. Knows pixels; knows nothing about findings or networks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.image.consistency import LOW

_LEAST_INSIDE = 0.5
"""Minimum share of a part inside the organ. 99 % of 565 annotated COVID lesions reach it."""
_SKIRT = 5
"""Pixels around a removed part that are faint and are set to 0 too, so that no ring remains at a lower threshold."""


def filled(organ: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """An organ's outline with its holes: a dense lesion in it may look unlike the organ."""
    from scipy import ndimage

    return np.asarray(ndimage.binary_fill_holes(organ), bool)


def leave_out_outside(samples: Sequence[NDArray[np.float32]], organ: NDArray[np.bool_], threshold: float) -> bool:
    """Set the probability of parts that lie mostly outside an organ to 0, in place.

    Args:
        samples: (rows, columns) of one slice, one array per noise sample; their mean decides for all of them.
        organ: (rows, columns), see :func:`filled`.
        threshold: probability above which a pixel belongs to the finding.

    Returns:
        Whether the finding's mask was changed.
    """
    from scipy import ndimage

    mean = np.mean(samples, axis=0) if len(samples) > 1 else samples[0]
    low = mean > LOW * threshold
    if not low.any():
        return False
    (box,) = ndimage.find_objects(low.view(np.uint8))  # most of a slice has no finding
    low, found, inside = low[box], mean[box] > threshold, organ[box]
    kept = _inside(found, inside)
    removed = found & ~kept
    out = low & ~_inside(low, inside, safe=kept)
    if removed.any():  # a skirt may join a removed part to one that is kept
        out |= ndimage.binary_dilation(removed, np.ones((3, 3)), iterations=_SKIRT, mask=low & ~kept) & ~kept
    for probability in samples:
        probability[box][out] = 0
    return bool(removed.any())


def _inside(
    mask: NDArray[np.bool_], inside: NDArray[np.bool_], safe: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_]:
    """The parts of a mask that lie mostly inside, or contain a safe pixel."""
    from scipy import ndimage

    labels, count = ndimage.label(mask)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    is_kept = np.bincount(labels[inside], minlength=count + 1) >= _LEAST_INSIDE * sizes
    if safe is not None:
        is_kept[labels[safe]] = True
    is_kept[0] = False
    return is_kept[labels]
