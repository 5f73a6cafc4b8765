"""Makes a finding consistent across slices: smooths along the slice axis, and removes implausible parts.

Knows probabilities, slices and millimetres; knows nothing about findings or networks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.contract.segments import is_there
from fasttextdiff.image.volume import Volume

_REACH = 3.0
"""Standard deviations beyond which the weight of a slice is zero."""
_GAP_MM = 4.0
"""Parts separated by at most this gap along the slices are one part; a gap of one slice is always bridged."""
_SMALLEST_SHARE = 0.05
"""Minimum size of other parts of an organ, as a share of the largest."""
_SKIRT_MM = 3.0
"""Margin around a removed part that is also set to 0, so that no ring remains at a lower threshold."""
LOW = 0.4
"""Share of the threshold at which parts are checked again, because islands would appear if the threshold is lowered."""
_BLOCK_BYTES = 1 << 24


@dataclass(frozen=True)
class ConsistencyRule:
    """The consistency rule for a kind of finding.

    Attributes:
        smoothing: standard deviation in mm of the Gaussian along the slices.
        parts: number of parts to keep, largest first; 0 for all. A large part cut by the first or last slice is also
            kept, because it may join the others beyond that slice.
        neck: mm; a structure connected by less than twice this width is a separate part.
        smallest: mm3; smaller parts are removed, unless the first or last slice cuts them.
    """

    smoothing: float
    parts: int = 0
    neck: float = 0.0
    smallest: float = 0.0


@dataclass(frozen=True)
class SliceGrid:
    """The grid of a stack of slices.

    Attributes:
        spacing: mm between neighbours along the array axes (k, j, i).
        voxel_mm3: volume of one voxel.
        axis: array axis of the slices.
    """

    spacing: tuple[float, float, float]
    voxel_mm3: float
    axis: int

    @classmethod
    def of(cls, volume: Volume, axis: int) -> SliceGrid:
        """The grid of a volume with slices along an array axis."""
        i, j, k = volume.spacing
        return cls((k, j, i), 1000 * volume.voxel_ml, axis)

    def steps(self, mm: float, axis: int) -> int:
        """Number of whole voxels along an array axis in a distance."""
        return int(mm / self.spacing[axis] + 1e-6)


@dataclass(frozen=True)
class Settled:
    """What was changed in a finding.

    Attributes:
        is_smoothed: whether any slice influenced another.
        before: voxels of the finding as the model gave it.
        left_out: number of removed parts.
        voxels: voxels of the removed parts.
        kept: voxels of the other parts.
    """

    is_smoothed: bool
    before: int = 0
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

    Removed parts get the probability 0, so that mask, probability and uncertainty agree at any later threshold.

    Args:
        probability: (k, j, i) of neighbouring slices in [0, 1].
        presence: (slices,), probability that the finding is there at all.
        grid: grid of the voxels.
        rule: the rule to apply.
        threshold: probability above which a voxel belongs to the finding.
        presence_threshold: presence below which a slice is empty.
        padding: (k, j, i), padding voxels, which stay 0; None if there are none.
    """
    from scipy import ndimage

    def found_above(limit: float) -> _Region:
        return _Region.above(probability, is_there(presence, presence_threshold), limit, grid)

    before = found_above(threshold).voxels
    is_smoothed = smooth(probability, presence, grid, rule.smoothing)
    if padding is not None:
        probability[padding] = 0
    found = found_above(threshold)
    if not (rule.parts or rule.smallest) or not found.voxels:
        return Settled(is_smoothed, before, kept=found.voxels)
    out = _leave_out(found, found.mask(), grid, rule)
    voxels = int(np.count_nonzero(out))
    settled = Settled(is_smoothed, before, ndimage.label(out)[1], voxels, found.voxels - voxels)
    del out
    if rule.parts:
        low = found_above(LOW * threshold)
        _leave_out(low, low.mask(), grid, rule, safe=low.mask(threshold))
    return settled


@dataclass(frozen=True)
class _Region:
    """The voxels of a finding above a limit, within their bounding box: whole masks of a large volume cost memory.

    Attributes:
        probability: within the box, a view.
        there: within the box, whether the finding is on the slice at all; a side is 1 but along the slices.
        ends: along the slices of the box, whether it is the first or last slice of the stack.
        limit: probability above which a voxel belongs to the finding.
        voxels: their number.
    """

    probability: NDArray[np.float32]
    there: NDArray[np.bool_]
    ends: NDArray[np.bool_]
    limit: float
    voxels: int

    @classmethod
    def above(
        cls, probability: NDArray[np.float32], there: NDArray[np.bool_], limit: float, grid: SliceGrid
    ) -> _Region:
        """The region of a finding; the box has a margin for :func:`_leave_out`.

        Args:
            probability: (k, j, i).
            there: (slices,).
            limit: probability above which a voxel belongs to the finding.
            grid: grid of the voxels.
        """
        everywhere = np.broadcast_to(_along(there, grid.axis), probability.shape)
        occupied = [np.zeros(side, bool) for side in probability.shape]
        voxels = 0
        for k, (plane, shown) in enumerate(zip(probability, everywhere, strict=True)):
            mask = (plane > limit) & shown
            occupied[0][k] = mask.any()
            occupied[1] |= mask.any(axis=1)
            occupied[2] |= mask.any(axis=0)
            voxels += int(np.count_nonzero(mask))
        box = tuple(_stretch(places, grid.steps(_SKIRT_MM, axis) + 1) for axis, places in enumerate(occupied))
        ends = np.zeros(len(there), bool)
        ends[[0, -1]] = True
        slices = box[grid.axis]
        return cls(probability[box], _along(there[slices], grid.axis), ends[slices], limit, voxels)

    def mask(self, limit: float | None = None) -> NDArray[np.bool_]:
        """The voxels above the limit or another one, within the box."""
        mask: NDArray[np.bool_] = self.probability > (self.limit if limit is None else limit)
        mask &= self.there
        return mask


def _along(values: NDArray[np.bool_], axis: int) -> NDArray[np.bool_]:
    """A value for each slice, as an array of three axes."""
    return values.reshape([-1 if n == axis else 1 for n in range(3)])


def _stretch(places: NDArray[np.bool_], margin: int) -> slice:
    """From the first to the last place that is set, with a margin; empty if none is."""
    where = np.flatnonzero(places)
    return slice(max(0, int(where[0]) - margin), int(where[-1]) + 1 + margin) if len(where) else slice(0, 0)


def smooth(probability: NDArray[np.float32], presence: NDArray[np.float32], grid: SliceGrid, deviation: float) -> bool:
    """Average each slice with its neighbours, with Gaussian weights, in place.

    At the ends, weights are normalised over the existing slices, so that nothing fades out.

    Args:
        probability: (k, j, i).
        presence: (slices,).
        grid: grid of the voxels.
        deviation: standard deviation in mm.

    Returns:
        Whether neighbours are near enough to have a weight.
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
    for start in range(0, shown.shape[1], rows):  # in blocks: a second volume may not fit into memory
        block = shown[:, start : start + rows]
        block[:] = np.minimum(ndimage.correlate1d(block, weights, 0, mode="constant") / total[:, None, None], 1)
    return True


def _leave_out(
    region: _Region,
    part: NDArray[np.bool_],
    grid: SliceGrid,
    rule: ConsistencyRule,
    safe: NDArray[np.bool_] | None = None,
) -> NDArray[np.bool_]:
    """Set the probability of parts that the rule does not keep to 0, except for safe voxels, in place.

    Args:
        region: the finding.
        part: its mask.
        grid: grid of the voxels.
        rule: the rule.
        safe: voxels that stay, within the box.

    Returns:
        The removed parts, within the box.
    """
    if not part.any():
        return part
    out = part & ~_kept(part, grid, rule, region.ends)
    if safe is not None:
        out &= ~safe
    if out.any():
        region.probability[out | (_grown(out, _SKIRT_MM, grid) & ~part)] = 0
    return out


def _kept(
    part: NDArray[np.bool_], grid: SliceGrid, rule: ConsistencyRule, ends: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """The voxels of the parts that the rule keeps."""
    core = ~_grown(~part, rule.neck, grid) if rule.neck else part
    if not core.any():  # thinner than the neck everywhere
        core = part
    chosen, count = _chosen(core, grid, rule, ends)
    if core is part:
        return chosen
    kept = _with_borders(chosen, part, grid, rule)
    return kept | _large_and_thin(part & ~kept, kept, core, rule.parts - count)


def _chosen(
    core: NDArray[np.bool_], grid: SliceGrid, rule: ConsistencyRule, ends: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], int]:
    """The parts of a mask that the rule keeps by size, or because the first or last slice cuts them; and how many."""
    from scipy import ndimage

    labels, count = ndimage.label(_bridged(core, grid))
    sizes = _sizes(labels, count, core)
    is_kept = np.zeros(count + 1, bool)
    is_kept[np.moveaxis(labels, grid.axis, 0)[ends][np.moveaxis(core, grid.axis, 0)[ends]]] = True
    if rule.parts:
        is_kept[np.argsort(-sizes, kind="stable")[: rule.parts]] = True
        is_kept &= sizes >= _SMALLEST_SHARE * sizes.max()
    else:
        is_kept |= sizes * grid.voxel_mm3 >= rule.smallest
    is_kept[0] = False
    return core & is_kept[labels], int(is_kept.sum())


def _with_borders(
    chosen: NDArray[np.bool_], part: NDArray[np.bool_], grid: SliceGrid, rule: ConsistencyRule
) -> NDArray[np.bool_]:
    """Cores with the mask around them, except crumbs that only a neighbouring slice connects."""
    from scipy import ndimage

    within = ndimage.generate_binary_structure(3, 1)
    np.moveaxis(within, grid.axis, 0)[[0, 2]] = False
    labels, count = ndimage.label(_grown(chosen, 2 * rule.neck, grid) & part, within)
    again = np.zeros(count + 1, bool)
    again[labels[_grown(chosen, rule.neck, grid) & part]] = True
    again[0] = False
    return again[labels]


def _large_and_thin(
    rest: NDArray[np.bool_], kept: NDArray[np.bool_], core: NDArray[np.bool_], missing: int
) -> NDArray[np.bool_]:
    """Thin pieces too large to be an accident: flaps of what is kept, and, if parts are missing, the largest others."""
    from scipy import ndimage

    least = _SMALLEST_SHARE * np.count_nonzero(kept)
    if np.count_nonzero(rest) < least:
        return np.zeros_like(rest)
    labels, count = ndimage.label(rest)
    sizes = _sizes(labels, count, rest)
    is_flap = np.zeros(count + 1, bool)
    is_flap[labels[ndimage.binary_dilation(kept) & rest]] = True
    is_flap[labels[core & rest]] = False  # thick, so it only hangs on a neck
    sizes[0] = 0
    others = np.argsort(np.where(is_flap, 0, -sizes), kind="stable")
    is_flap[others[: max(0, missing)]] = True
    found: NDArray[np.bool_] = (is_flap & (sizes >= max(1, least)))[labels]
    return found


def _sizes(labels: NDArray[np.int32], count: int, mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Voxels of each of `count` labels within the mask, plane by plane: all at once takes eight bytes a voxel."""
    sizes = np.zeros(count + 1, np.int64)
    for plane, inside in zip(labels, mask, strict=True):
        sizes += np.bincount(plane[inside], minlength=count + 1)
    return sizes


def _bridged(mask: NDArray[np.bool_], grid: SliceGrid) -> NDArray[np.bool_]:
    """The mask with thin gaps along the slices filled from one side, so that the parts on both sides are one."""
    bridged = mask.copy()
    to, source = np.moveaxis(bridged, grid.axis, 0), np.moveaxis(mask, grid.axis, 0)
    for step in range(1, min(max(1, grid.steps(_GAP_MM, grid.axis)), len(to) - 1) + 1):
        to[step:] |= source[:-step]
    return bridged


def _grown(mask: NDArray[np.bool_], mm: float, grid: SliceGrid) -> NDArray[np.bool_]:
    """The mask dilated by a distance along each axis; the outside of the array has no effect."""
    grown, before = mask.copy(), np.empty_like(mask)
    for axis in range(3):
        done, steps = 0, min(grid.steps(mm, axis), mask.shape[axis] - 1)
        while done < steps:  # in strides that leave no gap: four times faster than a filter
            stride = min(2 * done + 1, steps - done)
            np.copyto(before, grown)
            up, down = [slice(None)] * 3, [slice(None)] * 3
            up[axis], down[axis] = slice(stride, None), slice(None, -stride)
            grown[tuple(up)] |= before[tuple(down)]
            grown[tuple(down)] |= before[tuple(up)]
            done += stride
    return grown
