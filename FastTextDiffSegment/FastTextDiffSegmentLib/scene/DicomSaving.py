"""Sends the current segments to the engine, which writes them as a DICOM Segmentation.

Knows the scene and the contract's messages; knows nothing about the DICOM Segmentation format.
"""

import os
from pathlib import Path
from typing import Any

from FastTextDiffSegmentLib.contract.requests import SaveDicomSeg
from FastTextDiffSegmentLib.engine.EngineSession import EngineSession
from FastTextDiffSegmentLib.engine.Jobs import Steps
from FastTextDiffSegmentLib.engine.WorkFolder import remove

from .DicomSource import dicomFiles
from .Geometry import ijkToRas
from .SegmentationFiles import requireSegments
from .SentSegments import sentSegmentSteps

DICOM_SEG = ".dcm"


def dicomSegSteps(
    session: EngineSession,
    segmentationNode: Any,
    volumeNode: Any,
    path: str | os.PathLike[str],
    report: str | os.PathLike[str] | None = None,
) -> Steps:
    """Write all segments of a segmentation as one DICOM Segmentation, in the engine's process.

    Args:
        session: the engine.
        segmentationNode: the segments; not changed.
        volumeNode: the image, loaded from DICOM, whose grid the segments are on.
        path: ends in `.dcm`, for a label map in `.labelmap.dcm`; an existing file is replaced by a complete one or not
            at all.
        report: new file for a DICOM SR with their measurements; None for none.

    Returns:
        Notes for the user, one line each.

    Raises:
        SceneError: nothing to save, another grid, no DICOM files, or segments that changed in the meantime.
        EngineError: the engine refused, e.g. because of images without UIDs, a missing package or a full disk.
    """
    requireSegments(segmentationNode, volumeNode)
    files = dicomFiles(volumeNode)
    folder = session.folder.newFolder("saving")
    try:
        segments = yield from sentSegmentSteps(segmentationNode, volumeNode, folder)
        request = SaveDicomSeg(
            output=Path(path).absolute(),
            files=tuple(map(Path, files)),
            name=volumeNode.GetName() or "",
            ijk_to_ras=tuple(ijkToRas(volumeNode).ravel().tolist()),
            segments=segments,
            report=None if report is None else Path(report).absolute(),
        )
        answer = yield from session.client.ask(request)
        return list(answer.notes)
    finally:
        remove(folder)
