"""Sends the current segments to the engine, which writes them as a DICOM Segmentation.

Knows the scene and the contract's messages; knows nothing about the DICOM Segmentation format.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import slicer
from slicer.i18n import tr as _

from FastTextDiffSegmentLib.contract.answers import ArrayFile
from FastTextDiffSegmentLib.contract.requests import SaveDicomSeg, SavedSegment
from FastTextDiffSegmentLib.contract.segments import TAG_NAMES
from FastTextDiffSegmentLib.engine.EngineSession import EngineSession, slabs, writeSteps
from FastTextDiffSegmentLib.engine.Jobs import Steps
from FastTextDiffSegmentLib.engine.WorkFolder import remove

from .DicomSource import dicomFiles
from .Geometry import SceneError, arrayShape, ijkToRas
from .SegmentationFiles import requireSegments
from .SegmentVoxels import labelmapOf, segmentArray, segmentIds
from .SegmentWriter import tagOf

DICOM_SEG = ".dcm"


def dicomSegSteps(
    session: EngineSession, segmentationNode: Any, volumeNode: Any, path: str | os.PathLike[str]
) -> Steps:
    """Write all segments of a segmentation as one DICOM Segmentation, in the engine's process.

    Args:
        session: the engine.
        segmentationNode: the segments; not changed.
        volumeNode: the image, loaded from DICOM, whose grid the segments are on.
        path: ends in `.dcm`; an existing file is replaced by a complete one or not at all.

    Returns:
        Notes for the user, one line each.

    Raises:
        SceneError: nothing to save, another grid, no DICOM files, or segments that changed meanwhile.
        EngineError: the engine refused, e.g. because of images without UIDs, a missing package or a full disk.
    """
    requireSegments(segmentationNode, volumeNode)
    files = dicomFiles(volumeNode)
    folder = session.folder.newFolder("saving")
    try:
        before = _state(segmentationNode, volumeNode)
        segments = []
        for segmentId in segmentIds(segmentationNode.GetSegmentation()):
            file = folder / f"{len(segments)}.raw"
            yield from writeSteps(_parts(segmentationNode, segmentId, volumeNode), file)
            if _state(segmentationNode, volumeNode) != before:
                raise SceneError(_("The segments were changed while they were being saved: save them again."))
            segment = segmentationNode.GetSegmentation().GetSegment(segmentId)
            segments.append(_saved(segment, ArrayFile(file, "bool", arrayShape(volumeNode))))
        request = SaveDicomSeg(
            output=Path(path).absolute(),
            files=tuple(map(Path, files)),
            name=volumeNode.GetName() or "",
            ijk_to_ras=tuple(ijkToRas(volumeNode).ravel().tolist()),
            segments=tuple(segments),
        )
        answer = yield from session.client.ask(request)
        return list(answer.notes)
    finally:
        remove(folder)


def _parts(segmentationNode: Any, segmentId: str, volumeNode: Any) -> Iterator[np.ndarray]:
    """The voxels of a segment, bool, a few slices (n, j, i) at a time."""
    k, j, i = arrayShape(volumeNode)
    for part in slabs(k, j * i):
        yield segmentArray(segmentationNode, segmentId, volumeNode, (part.start, part.stop))


def _saved(segment: Any, voxels: ArrayFile) -> SavedSegment:
    red, green, blue = (round(255 * part) for part in segment.GetColor())
    return SavedSegment(
        name=segment.GetName() or "",
        color=(red, green, blue),
        terminology=segment.GetTerminology() or "",
        tags={name: tagOf(segment, name) for name in TAG_NAMES if tagOf(segment, name)},
        voxels=voxels,
    )


def _state(segmentationNode: Any, volumeNode: Any) -> Any:
    """A value that stays equal as long as voxels and grid do not change; None once a node is removed."""
    if not all(slicer.mrmlScene.IsNodePresent(node) for node in (segmentationNode, volumeNode)):
        return None
    segmentation = segmentationNode.GetSegmentation()
    times = [
        (segmentId, image.GetMTime() if (image := labelmapOf(segmentation, segmentId)) else 0)
        for segmentId in segmentIds(segmentation)
    ]
    return times, np.round(ijkToRas(volumeNode), 6).tolist()
