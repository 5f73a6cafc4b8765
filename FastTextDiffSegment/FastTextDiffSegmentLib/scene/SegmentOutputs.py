"""The engine's findings as segments to write, and whether the image is still the one that was segmented.

Knows the engine's output and volumes; changes nothing.
"""

from typing import Any

import slicer
from slicer.i18n import tr as _

from FastTextDiffSegmentLib.contract.answers import FoundFinding
from FastTextDiffSegmentLib.contract.images import ACQUISITION
from FastTextDiffSegmentLib.contract.segments import SEQUENCE_ITEM_TAG
from FastTextDiffSegmentLib.engine.EngineSession import VolumeSource
from FastTextDiffSegmentLib.engine.SegmentationOutput import (
    SegmentationOutput,
    highestPresence,
    isAsked,
    maskOf,
    tagsOf,
)

from .Geometry import SceneError, sequenceItemOf
from .Region import Region
from .SceneVolume import volumeSource
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


def requireUnchanged(volumeNode: Any, modality: str | None, source: VolumeSource) -> None:
    """Check that an image is still what was sent to the engine.

    Raises:
        SceneError: it was removed or changed.
    """
    if not slicer.mrmlScene.IsNodePresent(volumeNode):
        raise SceneError(_("The image was removed while it was being segmented; nothing was written."))
    if volumeSource(volumeNode, modality).key != source.key:
        raise SceneError(
            _("The image was changed while it was being segmented; nothing was written. Segment it again.")
        )


def keptIfUnchanged(output: Any, volumeNode: Any, modality: str | None, source: VolumeSource) -> Any:
    """The engine's output, if its image is still what was sent; else it is released.

    Raises:
        SceneError: see :func:`requireUnchanged`.
    """
    try:
        requireUnchanged(volumeNode, modality, source)
    except BaseException:
        output.release()
        raise
    return output
