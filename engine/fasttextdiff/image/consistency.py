"""Makes a finding hold together across the slices of a volume: smooth along them, and of as many parts as it has.

Knows probabilities, slices and millimetres; knows neither findings nor networks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.contract.segments import is_there
from fasttextdiff.image.volume import Volume

_REACH = 3.0
"""Standard deviations after which the weight of a slice is nothing."""
_GAP_MM = 4.0
"""Parts of a finding that so little is missing between, along the slices, are one; a single slice always."""
_SMALLEST_SHARE = 0.05
"""Of the largest part: what else belongs to an organ is not smaller."""
_SKIRT_MM = 3.0
"""Around what is left out, the probability goes with it, so that no ring stays at a lower threshold."""
_LOW = 0.4
"""Share of the threshold at which an organ's parts are looked at once more: islands that the threshold hides would
appear when it is lowered."""
_BLOCK_BYTES = 1 << 24


@dataclass(frozen=True)
class ConsistencyRule:
    """How a kind of finding holds together.

    Attributes:
        smoothing: standard deviation in mm of the Gaussian along the slices.
        parts: how many parts it consists of, the largest ones; 0 for any number. A large one that the first or last
            slice cuts counts too: the slices beyond may join it to the others.
        neck: mm; what hangs on by less than twice this width is a part of its own.
        smallest: mm3; smaller parts are none. One that the first or last slice cuts may go on, and counts.
    """

    smoothing: float
    parts: int = 0
    neck: float = 0.0
    smallest: float = 0.0


@dataclass(frozen=True)
class SliceGrid:
    """The voxels of a stack of slices.

    Attributes:
        spacing: mm between neighbours along the array axes (k, j, i).
        voxel_mm3: of one voxel.
        axis: the array axis across the slices.
    """

    spacing: tuple[float, float, float]
    voxel_mm3: float
    axis: int

    @classmethod
    def of(cls, volume: Volume, axis: int) -> SliceGrid:
        """Of slices across an array axis of a volume."""
        i, j, k = volume.spacing
        return cls((k, j, i), 1000 * volume.voxel_ml, axis)

    def steps(self, mm: float, axis: int) -> int:
        """How many whole steps along an array axis a distance has."""
        return int(mm / self.spacing[axis] + 1e-6)


@dataclass(frozen=True)
class Settled:
    """What was done to a finding.

    Attributes:
        is_smoothed: whether any slice had an influence on another.
        left_out: number of parts that were left out.
        voxels: of these.
        kept: voxels of the others.
    """

    is_smoothed: bool
    left_out: int = 0
    voxels: int = 0
    kept: int = 0


def settle(
    probability: NDArray[np.float32],
    presence: NDArray[np.float32],
    grid: SliceGrid,
    rule: ConsistencyRule,
    *,
    threshold: float,
    presence_threshold: float,
    padding: NDArray[np.bool_] | None = None,
) -> Settled:
    """Apply a rule to one finding, in place.

    What is left out gets the probability 0, so that mask, probability and uncertainty say the same, whatever threshold
    is applied later.

    Args:
        probability: (k, j, i) of neighbouring slices in [0, 1].
        presence: (slices,), probability that the finding is there at all.
        grid: of the voxels.
        rule: what to apply.
        threshold: probability above which a voxel belongs to the finding.
        presence_threshold: presence below which a slice is empty.
        padding: (k, j, i), voxels that are none of the patient's and stay 0; None if there are none.
    """
    is_smoothed = smooth(probability, presence, grid, rule.smoothing)
    if padding is not None:
        probability[padding] = 0
    there = is_there(presence, presence_threshold).reshape([-1 if n == grid.axis else 1 for n in range(3)])
    mask = (probability > threshold) & there
    if not (rule.parts or rule.smallest) or not mask.any():
        return Settled(is_smoothed)
    count, voxels = _leave_out(probability, mask, np.zeros_like(mask), grid, rule)
    kept = (probability > threshold) & there
    if rule.parts:
        _leave_out(probability, (probability > _LOW * threshold) & there, kept, grid, rule)
    return Settled(is_smoothed, count, voxels, int(np.count_nonzero(kept)))


def smooth(probability: NDArray[np.float32], presence: NDArray[np.float32], grid: SliceGrid, deviation: float) -> bool:
    """Average each slice with its neighbours, by weights that fall with the distance (a Gaussian), in place.

    At the ends the weights of the slices that are there sum up to one: nothing fades out.

    Args:
        probability: (k, j, i).
        presence: (slices,).
        grid: of the voxels.
        deviation: standard deviation in mm.

    Returns:
        whether neighbours are near enough to count.
    """
    from scipy import ndimage

    step, count = grid.spacing[grid.axis], len(presence)
    reach = min(int(_REACH * deviation / step), count - 1)
    if reach < 1:
        return False
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) * step / deviation) ** 2)
    total = ndimage.correlate1d(np.ones(count), weights, mode="constant")
    presence[:] = ndimage.correlate1d(presence.astype(float), weights, mode="constant") / total
    shown = np.moveaxis(probability, grid.axis, 0)
    rows = max(1, _BLOCK_BYTES // shown[:, :1].nbytes)
    for start in range(0, shown.shape[1], rows):  # in blocks: a second volume of probabilities may not fit
        block = shown[:, start : start + rows]
        block[:] = np.minimum(ndimage.correlate1d(block, weights, 0, mode="constant") / total[:, None, None], 1)
    return True


def _leave_out(
    probability: NDArray[np.float32],
    mask: NDArray[np.bool_],
    safe: NDArray[np.bool_],
    grid: SliceGrid,
    rule: ConsistencyRule,
) -> tuple[int, int]:
    """Set the probability of the parts of a mask that the rule does not keep to 0, but for safe voxels, in place.

    Returns:
        number of parts and of voxels.
    """
    from scipy import ndimage

    box = _box(mask, [grid.steps(_SKIRT_MM, axis) + 1 for axis in range(3)])
    part = mask[box]
    out = part & ~safe[box]
    out &= ~_kept(part, grid, rule, _ends(mask, box, grid.axis))
    count = int(ndimage.label(out)[1])
    if count:
        probability[box][out | (_grown(out, _SKIRT_MM, grid) & ~part)] = 0
    return count, int(np.count_nonzero(out))


def _box(mask: NDArray[np.bool_], margins: list[int]) -> tuple[slice, slice, slice]:
    """Where the mask is, and a margin around it: what follows costs as much as the finding is large."""
    sides = []
    for axis, margin in enumerate(margins):
        others = tuple(n for n in range(3) if n != axis)
        where = np.flatnonzero(mask.any(axis=others))
        sides.append(slice(max(0, int(where[0]) - margin), int(where[-1]) + 1 + margin))
    return sides[0], sides[1], sides[2]


def _ends(mask: NDArray[np.bool_], box: tuple[slice, ...], axis: int) -> NDArray[np.bool_]:
    """Which slices of the box are the first or last of all."""
    ends = np.zeros(mask.shape[axis], bool)
    ends[[0, -1]] = True
    return ends[box[axis]]


def _kept(
    part: NDArray[np.bool_], grid: SliceGrid, rule: ConsistencyRule, ends: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """The voxels of the parts that the rule keeps."""
    from scipy import ndimage

    core = ~_grown(~part, rule.neck, grid) if rule.neck else part
    if not core.any():  # thinner than the neck all over
        core = part
    chosen = _chosen(core, grid, rule, ends)
    if core is part:
        return chosen
    labels, count = ndimage.label(_grown(chosen, 2 * rule.neck, grid) & part)
    again = np.zeros(count + 1, bool)
    again[labels[chosen]] = True
    return again[labels]


def _chosen(
    core: NDArray[np.bool_], grid: SliceGrid, rule: ConsistencyRule, ends: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """The parts of a mask that the rule keeps by their size or because an end cuts them."""
    from scipy import ndimage

    labels, count = ndimage.label(_bridged(core, grid))
    sizes = np.bincount(labels[core], minlength=count + 1)
    is_kept = np.zeros(count + 1, bool)
    is_kept[np.moveaxis(np.where(core, labels, 0), grid.axis, 0)[ends]] = True
    if rule.parts:
        is_kept[np.argsort(-sizes, kind="stable")[: rule.parts]] = True
        is_kept &= sizes >= _SMALLEST_SHARE * sizes.max()
    else:
        is_kept |= sizes * grid.voxel_mm3 >= rule.smallest
    is_kept[0] = False
    kept: NDArray[np.bool_] = core & is_kept[labels]
    return kept


def _bridged(mask: NDArray[np.bool_], grid: SliceGrid) -> NDArray[np.bool_]:
    """The mask with thin gaps along the slices closed from one side, so that what lies beyond them is one part."""
    bridged = mask.copy()
    to, source = np.moveaxis(bridged, grid.axis, 0), np.moveaxis(mask, grid.axis, 0)
    for step in range(1, min(max(1, grid.steps(_GAP_MM, grid.axis)), len(to) - 1) + 1):
        to[step:] |= source[:-step]
    return bridged


def _grown(mask: NDArray[np.bool_], mm: float, grid: SliceGrid) -> NDArray[np.bool_]:
    """The mask with all voxels less than so far from it along each axis; nothing comes in from outside of the array."""
    from scipy import ndimage

    grown = mask.view(np.uint8)
    for axis in range(3):
        if steps := grid.steps(mm, axis):
            grown = ndimage.maximum_filter1d(grown, 2 * steps + 1, axis, mode="nearest")
    return grown.view(bool)
