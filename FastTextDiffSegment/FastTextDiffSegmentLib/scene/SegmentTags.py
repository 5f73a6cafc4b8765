"""Tags of a segment that say how its slices were made. Knows segments; knows nothing about voxels."""

import re
from collections.abc import Mapping

import vtk

from FastTextDiffSegmentLib.contract.segments import (
    ALGORITHM_NAME_TAG,
    ALGORITHM_TAG,
    AUTOMATIC,
    CORRECTED_TAG,
    SEMIAUTOMATIC,
    SLICES_TAG,
)


def tagOf(segment, name: str) -> str:
    """A segment's tag; empty if it has none of that name."""
    value = vtk.reference("")
    return str(value) if segment.GetTag(name, value) else ""


def recordTags(segment, tags: Mapping[str, str], sliceRange: tuple[int, int], allSlices: int) -> None:
    """Record how the segment was made. An edited segment stays marked as edited unless all slices were rewritten."""
    isWhole = sliceRange == (0, allSlices)
    isEdited = not isWhole and tagOf(segment, ALGORITHM_TAG) == SEMIAUTOMATIC
    isEdited = isEdited or tags.get(ALGORITHM_TAG) == SEMIAUTOMATIC
    corrected = _without(tagOf(segment, CORRECTED_TAG), sliceRange)
    if CORRECTED_TAG in tags:
        corrected = _joined(corrected, sliceRange)
    if not corrected:
        segment.RemoveTag(CORRECTED_TAG)
    slices = _joined("" if isWhole else tagOf(segment, SLICES_TAG), sliceRange)
    fixed = {SLICES_TAG: slices, ALGORITHM_TAG: SEMIAUTOMATIC if isEdited else AUTOMATIC}
    fixed |= {CORRECTED_TAG: corrected} if corrected else {}
    for name, value in {ALGORITHM_NAME_TAG: "FastTextDiff", **tags, **fixed}.items():
        if tagOf(segment, name) != value:
            segment.SetTag(name, value)


def _without(text: str, removed: tuple[int, int]) -> str:
    """Slice ranges "3:4 7:8" without those of one more."""
    first, end = removed
    left = [k for a, b in re.findall(r"(\d+):(\d+)", text) for k in range(int(a), int(b)) if not first <= k < end]
    ranges = ""
    for k in left:
        ranges = _joined(ranges, (k, k + 1))
    return ranges


def _joined(text: str, added: tuple[int, int]) -> str:
    """Slice ranges "3:4 7:8" with one more, merged where they touch."""
    ranges = [(int(first), int(end)) for first, end in re.findall(r"(\d+):(\d+)", text)]
    merged: list[tuple[int, int]] = []
    for first, end in sorted([*ranges, added]):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((first, end))
    return " ".join(f"{first}:{end}" for first, end in merged)
