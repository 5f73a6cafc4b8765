"""Writes the current segments into files for the engine. Knows the scene, not what the engine does with them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import slicer
from slicer.i18n import tr as _

from FastTextDiffSegmentLib.contract.answers import ArrayFile
from FastTextDiffSegmentLib.contract.requests import SavedSegment
from FastTextDiffSegmentLib.contract.segments import TAG_NAMES
from FastTextDiffSegmentLib.engine.EngineSession import slabs, writeSteps
from FastTextDiffSegmentLib.engine.Jobs import Steps

from .Geometry import SceneError, arrayShape, ijkToRas, inSliceOrder, sliceAxis, sliceShape
from .SegmentVoxels import labelmapOf, segmentArray, segmentIds
from .SegmentWriter import tagOf


def sentSegmentSteps(segmentationNode: Any, volumeNode: Any, folder: Path) -> Steps:
    """Write all segments on the grid of a volume, in slice order, one file each.

    Returns:
        The contract's `SavedSegment` of each, in the order of the segments.

    Raises:
        SceneError: the segments changed in the meantime.
        EngineError: a file cannot be written.
    """
    before, segments = segmentsState(segmentationNode, volumeNode), []
    for segmentId in segmentIds(segmentationNode.GetSegmentation()):
        file = folder / f"{len(segments)}.raw"
        yield from writeSteps(_parts(segmentationNode, segmentId, volumeNode), file)
        if segmentsState(segmentationNode, volumeNode) != before:
            raise SceneError(_("Segments or image were changed while they were being sent to the engine: try again."))
        segment = segmentationNode.GetSegmentation().GetSegment(segmentId)
        segments.append(_saved(segment, ArrayFile(file, "bool", sliceShape(volumeNode))))
    return tuple(segments)


def _parts(segmentationNode: Any, segmentId: str, volumeNode: Any) -> Iterator[np.ndarray]:
    """The voxels of a segment, bool, a few slices (n, row, column) at a time."""
    slices, rows, columns = sliceShape(volumeNode)
    if sliceAxis(volumeNode) == 0:  # as stored: only these slices are read
        for part in slabs(slices, rows * columns):
            yield segmentArray(segmentationNode, segmentId, volumeNode, (part.start, part.stop))
        return
    voxels = inSliceOrder(volumeNode, segmentArray(segmentationNode, segmentId, volumeNode))
    yield from (voxels[part] for part in slabs(slices, rows * columns))


def _saved(segment: Any, voxels: ArrayFile) -> SavedSegment:
    red, green, blue = (round(255 * part) for part in segment.GetColor())
    return SavedSegment(
        name=segment.GetName() or "",
        color=(red, green, blue),
        terminology=segment.GetTerminology() or "",
        tags={name: tagOf(segment, name) for name in TAG_NAMES if tagOf(segment, name)},
        voxels=voxels,
    )


def segmentsState(segmentationNode: Any, volumeNode: Any) -> Any:
    """A value that stays equal while segments, names, grid and image do not change; None once a node is removed."""
    if not all(node is not None and slicer.mrmlScene.IsNodePresent(node) for node in (segmentationNode, volumeNode)):
        return None
    segmentation = segmentationNode.GetSegmentation()
    times = [
        (segmentId, segmentation.GetSegment(segmentId).GetName(), image.GetMTime() if image else 0)
        for segmentId in segmentIds(segmentation)
        for image in (labelmapOf(segmentation, segmentId),)
    ]
    image = volumeNode.GetImageData()
    content = volumeNode.GetID(), image.GetMTime() if image else 0
    return times, np.round(ijkToRas(volumeNode), 6).tolist(), content, arrayShape(volumeNode)
