"""Which findings of a request the user has edited, so that a new run asks before it replaces them. Changes nothing."""

from typing import Any

from .contract.segments import ALGORITHM_TAG, FINDING_TAG, SEMIAUTOMATIC, unescape_tag
from .Requests import SegmentationRequest
from .scene.OutputArchive import OutputArchive
from .scene.SegmentVoxels import segmentIds
from .scene.SegmentWriter import geometryMatches, tagOf


def editedFindings(archive: OutputArchive, segmentationNode: Any, request: SegmentationRequest) -> list[str]:
    """Names of segments of a request's findings that were edited by hand on its slices."""
    if segmentationNode is None:
        return []
    segmentation = segmentationNode.GetSegmentation()
    segments = [(segmentId, segmentation.GetSegment(segmentId)) for segmentId in segmentIds(segmentation)]
    return [
        segment.GetName()
        for segmentId, segment in segments
        if unescape_tag(tagOf(segment, FINDING_TAG)) in request.findings
        and _isEdited(archive, segmentationNode, segmentId, request)
    ]


def _isEdited(archive: OutputArchive, segmentationNode: Any, segmentId: str, request: SegmentationRequest) -> bool:
    segment = segmentationNode.GetSegmentation().GetSegment(segmentId)
    if not archive.isStored(segmentationNode, segmentId):  # a plain .mrml lacks the model's output
        return tagOf(segment, ALGORITHM_TAG) == SEMIAUTOMATIC
    if not geometryMatches(segmentationNode, request.volumeNode):
        return archive.isEdited(segmentationNode, segmentId)
    return archive.isEdited(segmentationNode, segmentId, request.slices(), request.volumeNode, request.plane)
