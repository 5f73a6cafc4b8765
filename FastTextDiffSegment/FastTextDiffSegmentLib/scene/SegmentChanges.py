"""What an edit changed in a segmentation, segment by segment, so that it can be taken back and made again.

Making or taking back a change sets only what the edit had changed; what others changed before or since stays. Knows
nothing about steps.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import slicer

from FastTextDiffSegmentLib.contract.segments import REVIEW_TAGS, TAG_NAMES, free_name

from .SegmentVoxels import (
    LABELMAP,
    Index,
    Patch,
    gridOf,
    indexShift,
    labelmapOf,
    labelValues,
    overlap,
    readVoxels,
    replaceVoxels,
    segmentIds,
)
from .SegmentWriter import tagOf
from .VoxelChange import VoxelChange

_TAGS = tuple(name for name in TAG_NAMES if name not in REVIEW_TAGS)
"""The tags of the review follow the review list, which is undone as a whole."""


@dataclass(frozen=True)
class Look:
    """What a segment is besides its voxels."""

    name: str
    color: tuple[float, float, float]
    terminology: str
    tags: Mapping[str, str]


@dataclass(frozen=True)
class SegmentChange:
    """What an edit changed in one segment.

    Attributes:
        segmentId: the segment.
        voxels: None if none changed.
        tags: (before, after) by name, for tags that changed.
        added: the segment that is added; None if it was there before.
        isRemoved: whether the segment is removed if it is empty afterwards.
        removed: the segment that was removed; None if it was not.
        isMoved: whether its grid changed, so that its voxels cannot be compared.
    """

    segmentId: str
    voxels: VoxelChange | None = None
    tags: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    added: Look | None = None
    isRemoved: bool = False
    removed: Look | None = None
    isMoved: bool = False

    @property
    def isEmpty(self) -> bool:
        """Whether nothing changed."""
        return self.voxels is None and not (self.tags or self.added or self.removed or self.isMoved)

    @property
    def size(self) -> int:
        """Bytes of its voxels."""
        return 0 if self.voxels is None else self.voxels.size

    def inverse(self) -> "SegmentChange":
        """The change that takes this one back."""
        return replace(
            self,
            voxels=None if self.voxels is None else self.voxels.inverse(),
            tags={name: (after, before) for name, (before, after) in self.tags.items()},
            added=self.removed,
            isRemoved=self.added is not None,
            removed=None,
        )

    def then(self, later: "SegmentChange") -> "SegmentChange | None":
        """Both changes of one segment as one; None if they must stay two."""
        if self.isMoved or later.isMoved or later.added or not _sameGrid(self.voxels, later.voxels):
            return None
        both = [each.voxels for each in (self, later) if each.voxels is not None]
        tags = {**self.tags}
        for name, (before, after) in later.tags.items():
            tags[name] = tags.get(name, (before, ""))[0], after
        voxels = both[0].then(both[1]) if len(both) > 1 else (both[0] if both else None)
        return replace(self, voxels=voxels, tags={name: pair for name, pair in tags.items() if pair[0] != pair[1]})


def _sameGrid(one: VoxelChange | None, other: VoxelChange | None) -> bool:
    return one is None or other is None or np.array_equal(one.grid, other.grid)


# --- noticing changes -------------------------------------------------------------------------------------------------


class Before:
    """A segmentation as it is now, to tell later what changed.

    Args:
        segmentation: vtkSegmentation; its labelmaps are copied.
    """

    def __init__(self, segmentation: Any):
        self._segmentation = segmentation
        copies: dict[Any, _Copy] = {}
        self._segments: dict[str, tuple[_Copy | None, int, dict[str, str]]] = {}
        for segmentId in segmentIds(segmentation):
            segment, image = segmentation.GetSegment(segmentId), labelmapOf(segmentation, segmentId)
            if image is not None and image not in copies:
                copies[image] = _Copy.of(image)
            self._segments[segmentId] = copies.get(image), segment.GetLabelValue(), tagsOf(segment)

    def changes(self) -> list[SegmentChange]:
        """What changed since; nothing for segments that are gone."""
        found = (self._change(segmentId) for segmentId in segmentIds(self._segmentation))
        return [change for change in found if not change.isEmpty]

    def hasOtherVoxels(self, segmentId: str) -> bool:
        """Whether a segment that was there has other voxels, or another grid, now."""
        if segmentId not in self._segments:
            return False
        change = self._change(segmentId)
        return change.voxels is not None or change.isMoved

    def _change(self, segmentId: str) -> SegmentChange:
        segment = self._segmentation.GetSegment(segmentId)
        isNew = segmentId not in self._segments
        copy, label, tags = self._segments.get(segmentId, (None, 0, {}))
        image = labelmapOf(self._segmentation, segmentId)
        voxels, isMoved = _voxelChange(copy, label, image, segment.GetLabelValue())
        if isNew:
            return SegmentChange(segmentId, voxels, added=lookOf(segment))
        now = tagsOf(segment)
        names = [name for name in {**tags, **now} if tags.get(name, "") != now.get(name, "")]
        return SegmentChange(
            segmentId, voxels, {name: (tags.get(name, ""), now.get(name, "")) for name in names}, isMoved=isMoved
        )


@dataclass(frozen=True)
class _Copy:
    """A labelmap at one time; `values` is None if it was empty."""

    image: Any
    time: int
    grid: np.ndarray
    start: Index
    values: np.ndarray | None

    @classmethod
    def of(cls, image: Any, isCopied: bool = True) -> "_Copy":
        values = labelValues(image)
        if values is not None and isCopied:
            values = values.copy()
        return cls(image, image.GetMTime(), gridOf(image), image.GetExtent()[::2], values)

    def read(self, label: int, start: Index, shape: Index) -> np.ndarray:
        box = np.zeros(shape, bool)
        stored, asked = overlap(self.start, self.values.shape, start, shape)
        box[asked] = self.values[stored] == label
        return box


def _voxelChange(before: _Copy | None, labelBefore: int, image: Any, label: int) -> tuple[VoxelChange | None, bool]:
    """The voxels that changed, and whether they cannot be compared because the grid changed."""
    isSame = before is not None and before.image is image and before.time == image.GetMTime()
    if image is None or (isSame and labelBefore == label):
        return None, False
    now = _Copy.of(image, isCopied=False)
    there = [each for each in (before, now) if each is not None and each.values is not None]
    if not there:
        return None, False
    if len(there) == 2 and not np.allclose(there[0].grid, there[1].grid):
        return None, True
    start, shape = _commonBox(there)
    masks = [
        each.read(value, start, shape) if each in there else np.zeros(shape, bool)
        for each, value in ((before, labelBefore), (now, label))
    ]
    return VoxelChange.of(there[-1].grid, start, masks[0] ^ masks[1], masks[1]), False


def _commonBox(copies: list[_Copy]) -> tuple[Index, Index]:
    """Start (i, j, k) and shape (k, j, i) of the box that contains all."""
    low = np.min([each.start for each in copies], axis=0)
    high = np.max([np.add(each.start, each.values.shape[::-1]) for each in copies], axis=0)
    i, j, k = (int(side) for side in high - low)
    return (int(low[0]), int(low[1]), int(low[2])), (k, j, i)


def tagsOf(segment: Any) -> dict[str, str]:
    """The tags of a segment that this module may write."""
    return {name: value for name in _TAGS if (value := tagOf(segment, name))}


def lookOf(segment: Any) -> Look:
    """What a segment is besides its voxels."""
    return Look(segment.GetName(), segment.GetColor(), segment.GetTerminology(), tagsOf(segment))


# --- making changes ---------------------------------------------------------------------------------------------------


def make(segmentation: Any, change: SegmentChange, isStored: bool = False) -> SegmentChange:
    """Make a change where the segmentation still is as before it.

    Args:
        segmentation: vtkSegmentation.
        change: the change; the segment that it adds gets another id if its own is taken.
        isStored: whether this is the stored output, from which a segment that cannot follow is removed.

    Returns:
        What was made; its inverse takes it back.
    """
    if change.added is not None:
        change = replace(change, segmentId=_addSegment(segmentation, change.segmentId, change.added))
    segment = segmentation.GetSegment(change.segmentId)
    nothing = SegmentChange(change.segmentId)
    if segment is None:
        return nothing
    patch = None if change.voxels is None else _patch(segmentation, change)
    if isStored and (change.isMoved or (change.voxels is not None and patch is None)):
        segmentation.RemoveSegment(change.segmentId)
        return nothing
    voxels = None if patch is None else _madeVoxels(segmentation, change.segmentId, patch)
    if change.isRemoved and _isEmpty(segmentation, change.segmentId):
        look = lookOf(segment)
        segmentation.RemoveSegment(change.segmentId)
        return replace(nothing, voxels=voxels, removed=look)
    return replace(nothing, voxels=voxels, tags=_madeTags(segment, change.tags), added=change.added)


def _addSegment(segmentation: Any, segmentId: str, look: Look) -> str:
    segment = slicer.vtkSegment()
    segment.SetName(
        free_name(look.name, {segmentation.GetSegment(each).GetName() for each in segmentIds(segmentation)})
    )
    segment.SetNameAutoGenerated(False)
    segment.SetColor(look.color)
    segment.SetColorAutoGenerated(False)
    segment.SetTerminology(look.terminology)
    for name, value in look.tags.items():
        segment.SetTag(name, value)
    segment.AddRepresentation(LABELMAP, slicer.vtkOrientedImageData())
    isTaken = segmentation.GetSegment(segmentId) is not None
    chosen = segmentation.GenerateUniqueSegmentID("Segment") if isTaken else segmentId
    segmentation.AddSegment(segment, chosen)
    return chosen


def _patch(segmentation: Any, change: SegmentChange) -> Patch | None:
    """The change on the grid that the segment has now; None if the grids do not coincide."""
    image, voxels = labelmapOf(segmentation, change.segmentId), change.voxels
    grid, shift = voxels.grid, (0, 0, 0)
    if image is not None and labelValues(image) is not None:
        ends = [first + size for first, size in zip(voxels.start[::-1], voxels.shape, strict=True)]
        grid = gridOf(image)
        shift = indexShift(grid, voxels.grid, (ends[0], ends[1], ends[2]))
        if shift is None:
            return None
    changed, wanted = voxels.voxels()
    i, j, k = (first + step for first, step in zip(voxels.start, shift, strict=True))
    return Patch(grid, (i, j, k), wanted, changed)


def _madeVoxels(segmentation: Any, segmentId: str, patch: Patch) -> VoxelChange | None:
    before = readVoxels(segmentation, segmentId, patch.start, patch.shape)
    replaceVoxels(segmentation, segmentId, patch)
    return VoxelChange.of(patch.grid, patch.start, patch.region & (before != patch.mask), patch.mask)


def _isEmpty(segmentation: Any, segmentId: str) -> bool:
    values = labelValues(labelmapOf(segmentation, segmentId))
    return values is None or not (values == segmentation.GetSegment(segmentId).GetLabelValue()).any()


def _madeTags(segment: Any, tags: Mapping[str, tuple[str, str]]) -> dict[str, tuple[str, str]]:
    """Set the tags that still have the value before the change."""
    now = tagsOf(segment)
    made = {name: pair for name, pair in tags.items() if now.get(name, "") == pair[0]}
    for name, (_before, after) in made.items():
        segment.SetTag(name, after) if after else segment.RemoveTag(name)
    return made
