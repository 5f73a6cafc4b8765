"""Tags of a segment that say what it is and how its slices were made. Knows segments; knows nothing about voxels."""

from collections.abc import Mapping
from dataclasses import dataclass

import vtk

from FastTextDiffSegmentLib.contract.images import ACQUISITION
from FastTextDiffSegmentLib.contract.segments import (
    ALGORITHM_NAME_TAG,
    ALGORITHM_TAG,
    AUTOMATIC,
    CORRECTED_TAG,
    FINDING_TAG,
    REGION_TAG,
    SEMIAUTOMATIC,
    SLICES_TAG,
    joined_slices,
    slice_ranges,
)


@dataclass(frozen=True)
class Content:
    """What a segment says about itself before a write.

    Attributes:
        finding: its tag FastTextDiff.Finding; empty for a segment that this module did not make.
        algorithm: its tag DICOM.SegmentAlgorithmType.
        voxels: number of its voxels.
    """

    finding: str
    algorithm: str
    voxels: int


def contentOf(segment, voxels: int) -> Content:
    """What a segment says about itself now."""
    return Content(tagOf(segment, FINDING_TAG), tagOf(segment, ALGORITHM_TAG), voxels)


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


def tagMixture(segment, before: Content, isAlone: bool) -> None:
    """Mark a segment that has more in it than one finding of the model: the model did not make all of it.

    Args:
        segment: the segment, already tagged by :func:`recordTags`.
        before: what it said before the write.
        isAlone: whether it consists of what was written, and nothing else.
    """
    finding = tagOf(segment, FINDING_TAG)
    isSame = before.finding == finding and before.algorithm == AUTOMATIC
    if isAlone or isSame or not before.voxels:
        return
    _set(segment, ALGORITHM_TAG, SEMIAUTOMATIC)
    parts = [*filter(None, before.finding.split("; "))]
    _set(segment, FINDING_TAG, "; ".join(parts if finding in parts else [*parts, finding]))


def _set(segment, name: str, value: str) -> None:
    if tagOf(segment, name) != value:
        segment.SetTag(name, value)
