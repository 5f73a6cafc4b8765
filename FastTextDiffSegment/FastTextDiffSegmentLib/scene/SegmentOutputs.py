"""The engine's findings as segments to write, and whether the image is still the one that was segmented.

Knows the engine's output and volumes; changes nothing.
"""

from collections.abc import Hashable
from typing import Any

import slicer
from slicer.i18n import tr as _

from FastTextDiffSegmentLib.contract.answers import FoundFinding
from FastTextDiffSegmentLib.contract.images import ACQUISITION
from FastTextDiffSegmentLib.contract.segments import SEQUENCE_ITEM_TAG
from FastTextDiffSegmentLib.engine.SegmentationOutput import (
    SegmentationOutput,
    highestPresence,
    isAsked,
    maskOf,
    tagsOf,
)

from .Geometry import SceneError, sequenceItemOf
from .Region import Region
from .SceneVolume import contentKey
from .SegmentWriter import SegmentOutput


def segmentOutputs(
    output: SegmentationOutput,
    volumeNode: Any,
    threshold: float | None = None,
    plane: str = ACQUISITION,
    region: Region | None = None,
) -> list[SegmentOutput]:
    """The engine's findings as segment outputs, at a threshold; only inside a region."""
    item = sequenceItemOf(volumeNode)
    extra = {} if item is None else {SEQUENCE_ITEM_TAG: str(item)}
    outputs = [_segmentOutput(found, output.sliceRange, threshold, extra, plane) for found in output.findings]
    if region is None:
        return outputs
    inside = region.mask(volumeNode, output.sliceRange, plane)
    return [each.limitedTo(inside, region.text()) for each in outputs]


def _segmentOutput(
    found: FoundFinding, sliceRange: tuple[int, int], threshold: float | None, extra: dict[str, str], plane: str
) -> SegmentOutput:
    return SegmentOutput(
        finding=found.finding,
        name=found.name,
        color=found.color,
        terminology=found.terminology,
        tags={**tagsOf(found, threshold), **extra},
        mask=maskOf(found, threshold),
        sliceRange=sliceRange,
        presence=highestPresence(found),
        isAsked=isAsked(found),
        warnings=found.warnings,
        plane=plane,
    )


def requireUnchanged(volumeNode: Any, content: Hashable) -> None:
    """Check that an image is still what was segmented, before anything of the result is written.

    Args:
        volumeNode: the image.
        content: its `contentKey` at that time.

    Raises:
        SceneError: it was removed or changed, e.g. because a sequence shows another item.
    """
    if not slicer.mrmlScene.IsNodePresent(volumeNode):
        raise SceneError(_("The image was removed while it was being segmented; nothing was written."))
    if contentKey(volumeNode) != content:
        raise SceneError(_("The image was changed since it was segmented; nothing was written. Segment it again."))


def isOutdated(output: SegmentationOutput, volumeNode: Any) -> bool:
    """Whether an image is no longer what was segmented."""
    try:
        requireUnchanged(volumeNode, output.content)
    except SceneError:
        return True
    return False


def keptIfUnchanged(output: SegmentationOutput, volumeNode: Any, content: Hashable) -> SegmentationOutput:
    """The engine's output, if its image is still what was sent; else it is released.

    Raises:
        SceneError: see :func:`requireUnchanged`.
    """
    try:
        requireUnchanged(volumeNode, content)
    except BaseException:
        output.release()
        raise
    output.content = content
    return output
