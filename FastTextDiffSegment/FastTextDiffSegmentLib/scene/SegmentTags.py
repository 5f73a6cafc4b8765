"""Tags of a segment that say how its slices were made. Knows segments; knows nothing about voxels."""

from collections.abc import Mapping

import vtk

from FastTextDiffSegmentLib.contract.images import ACQUISITION
from FastTextDiffSegmentLib.contract.segments import (
    ALGORITHM_NAME_TAG,
    ALGORITHM_TAG,
    AUTOMATIC,
    CORRECTED_TAG,
    REGION_TAG,
    SEMIAUTOMATIC,
    SLICES_TAG,
    joined_slices,
    slice_ranges,
)


def tagOf(segment, name: str) -> str:
    """A segment's tag; empty if it has none of that name."""
    value = vtk.reference("")
    return str(value) if segment.GetTag(name, value) else ""


def recordTags(
    segment, tags: Mapping[str, str], sliceRange: tuple[int, int], isWhole: bool, plane: str = ACQUISITION
) -> None:
    """Record how the segment was made. An edited segment stays marked as edited unless all of it was rewritten.

    Args:
        segment: vtkSegment.
        tags: of the run.
        sliceRange: (first, end) of the run's slices.
        isWhole: whether these are all voxels of the image.
        plane: of the slices.
    """
    isEdited = not isWhole and tagOf(segment, ALGORITHM_TAG) == SEMIAUTOMATIC
    isEdited = isEdited or tags.get(ALGORITHM_TAG) == SEMIAUTOMATIC
    corrected = "" if isWhole else _without(tagOf(segment, CORRECTED_TAG), sliceRange, plane)
    if CORRECTED_TAG in tags:
        corrected = joined_slices(corrected, sliceRange, plane)
    slices = joined_slices("" if isWhole else tagOf(segment, SLICES_TAG), sliceRange, plane)
    fixed = {SLICES_TAG: slices, ALGORITHM_TAG: SEMIAUTOMATIC if isEdited else AUTOMATIC, CORRECTED_TAG: corrected}
    if isWhole:
        fixed[REGION_TAG] = ""
    for name, value in {ALGORITHM_NAME_TAG: "FastTextDiff", **tags, **fixed}.items():
        setTag(segment, name, value)


def setTag(segment, name: str, value: str) -> None:
    """Set a tag; an empty value removes it."""
    if tagOf(segment, name) == value:
        return
    if value:
        segment.SetTag(name, value)
    else:
        segment.RemoveTag(name)


def _without(text: str, removed: tuple[int, int], plane: str) -> str:
    """Slice ranges "3:4 7:8" without those of one more; those of other planes stay."""
    first, end = removed
    left = ""
    for name, ranges in slice_ranges(text).items():
        for a, b in ranges:
            parts = [(a, b)] if name != plane else [(a, min(b, first)), (max(a, end), b)]
            for part in parts:
                left = joined_slices(left, part, name) if part[0] < part[1] else left
    return left
