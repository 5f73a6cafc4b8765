"""Describes segments as rows of the result table. Knows the scene, no widget."""

from typing import Any

from slicer.i18n import tr as _

from FastTextDiffSegmentLib.contract.images import ACQUISITION
from FastTextDiffSegmentLib.contract.segments import (
    ALGORITHM_TAG,
    FINDING_TAG,
    PREFIX,
    PRESENCE_TAG,
    SEMIAUTOMATIC,
    SLICES_TAG,
    slice_ranges,
    unescape_tag,
)
from FastTextDiffSegmentLib.scene.Geometry import SceneError, pixelMm2, sliceShape, voxelMl
from FastTextDiffSegmentLib.scene.SegmentVoxels import segmentGrid, segmentIds, segmentVoxels
from FastTextDiffSegmentLib.scene.SegmentWriter import geometryMatches, tagOf

from .ResultTable import ResultRow

_TIP_TAGS = (
    "Finding",
    "Untaught",
    "Model",
    "WeightsSha256",
    "Software",
    "Slices",
    "Region",
    "Window",
    "Threshold",
    "Samples",
    "Seed",
    "Consistency",
    "Adapter",
    "CorrectedSlices",
    "Device",
)


def resultRows(segmentationNode: Any, volumeNode: Any, isPlanar: bool) -> list[ResultRow]:
    """One row for each segment made by this module; empty without segmentation or image."""
    if segmentationNode is None or volumeNode is None:
        return []
    segmentation = segmentationNode.GetSegmentation()
    made = [
        segmentId for segmentId in segmentIds(segmentation) if tagOf(segmentation.GetSegment(segmentId), FINDING_TAG)
    ]
    image = volumeNode if _isItsImage(segmentationNode, volumeNode) else None
    return [_row(segmentationNode, image, segmentId, isPlanar) for segmentId in made]


def _isItsImage(segmentationNode: Any, volumeNode: Any) -> bool:
    try:
        return geometryMatches(segmentationNode, volumeNode)
    except SceneError:
        return False


def _row(segmentationNode: Any, volumeNode: Any, segmentId: str, isPlanar: bool) -> ResultRow:
    """A segment as a row; without a volume on its grid, its slices and area are unknown."""
    segment = segmentationNode.GetSegmentation().GetSegment(segmentId)
    lines = [(name, tagOf(segment, PREFIX + name)) for name in _TIP_TAGS]
    return ResultRow(
        segmentId=segmentId,
        name=segment.GetName(),
        color=tuple(segment.GetColor()),
        amount=_amountText(segmentationNode, segmentId, volumeNode, isPlanar)
        + ("" if volumeNode is None else _slicesText(tagOf(segment, SLICES_TAG), sliceShape(volumeNode)[0])),
        presence=_percent(tagOf(segment, PRESENCE_TAG)),
        isEdited=tagOf(segment, ALGORITHM_TAG) == SEMIAUTOMATIC,
        tip="\n".join(f"{name}: {unescape_tag(value)}" for name, value in lines if value),
    )


def _amountText(segmentationNode: Any, segmentId: str, volumeNode: Any, isPlanar: bool) -> str:
    """The size in millilitres; in a picture in square millimetres, or in pixels if their size is unknown."""
    voxels, grid = (
        segmentVoxels(segmentationNode, segmentId),
        segmentGrid(segmentationNode.GetSegmentation(), segmentId),
    )
    if volumeNode is None or not isPlanar:
        return _("{volume:.1f} ml").format(volume=0.0 if grid is None else voxels * voxelMl(grid))
    if tuple(volumeNode.GetSpacing()[:2]) == (1.0, 1.0):
        return _("{count:,} pixels").format(count=voxels)
    return _("{area:,.0f} mm²").format(area=voxels * pixelMm2(volumeNode))


def _slicesText(ranges: str, total: int) -> str:
    """The slices that an amount covers, e.g. " on 1 of 112 slices"; empty for the whole image.

    Args:
        ranges: slices that were segmented, as in the tag.
        total: number of slices of the image as acquired.
    """
    planes = slice_ranges(ranges)
    segmented = sum(end - first for first, end in planes.pop(ACQUISITION, []))
    counts = {plane: sum(end - first for first, end in pairs) for plane, pairs in planes.items()}
    if segmented == total:
        return ""
    parts = [_("{count} of {total} slices").format(count=segmented, total=total)] if segmented else []
    parts += [_("{count} {plane} slices").format(count=count, plane=plane) for plane, count in counts.items()]
    return _(" on {slices}").format(slices=", ".join(parts)) if parts else ""


def _percent(probability: str) -> str:
    """A probability from a tag in percent; never shown as 0 or 100 %, since no model is that certain."""
    try:
        percent = 100 * float(probability)
    except ValueError:
        return ""
    if percent < 1 or percent > 99:
        return _("< 1 %") if percent < 1 else _("> 99 %")
    return _("{percent:.0f} %").format(percent=percent)
