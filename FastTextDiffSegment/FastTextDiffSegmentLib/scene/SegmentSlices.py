"""One slice of a segment, as acquired. Knows segments and volumes; knows nothing about what a slice is used for."""

import numpy as np

from FastTextDiffSegmentLib.contract.findings import same_key
from FastTextDiffSegmentLib.contract.segments import FINDING_TAG, unescape_tag

from .Geometry import inSliceOrder, sliceShape
from .SegmentVoxels import patchOfSlices, readVoxels, replaceVoxels, segmentIds
from .SegmentWriter import tagOf


def segmentSlice(segmentationNode, segmentId: str, volumeNode, index: int) -> np.ndarray:
    """A slice (rows, columns) of a segment, bool, copied.

    Raises:
        SceneError: the segment is on another grid than the volume.
    """
    empty = np.broadcast_to(np.False_, (1, *sliceShape(volumeNode)[1:]))
    patch = patchOfSlices(segmentationNode, segmentId, volumeNode, empty, index, resample=False)
    voxels = readVoxels(segmentationNode.GetSegmentation(), segmentId, patch.start, patch.shape)
    return inSliceOrder(volumeNode, voxels)[0]


def setSegmentSlice(segmentationNode, segmentId: str, volumeNode, index: int, mask: np.ndarray) -> None:
    """Replace a slice of a segment by a mask (rows, columns).

    Raises:
        SceneError: the segment is on another grid than the volume.
    """
    patch = patchOfSlices(segmentationNode, segmentId, volumeNode, mask[np.newaxis] != 0, index, resample=False)
    replaceVoxels(segmentationNode.GetSegmentation(), segmentId, patch)


def segmentOf(segmentationNode, words) -> str | None:
    """Id of the segment that shows a finding: made for one of the words, or named so; None if there is none."""
    if segmentationNode is None:
        return None
    segmentation = segmentationNode.GetSegmentation()
    keys = {same_key(word) for word in words}
    for segmentId in segmentIds(segmentation):
        segment = segmentation.GetSegment(segmentId)
        made = unescape_tag(tagOf(segment, FINDING_TAG)) or segment.GetName()
        if same_key(made) in keys:
            return segmentId
    return None
