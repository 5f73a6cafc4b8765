"""Measurements of the current segments, taken by the engine and compared with Slicer's Segment Statistics.

Knows the scene and the contract's messages; knows no widgets.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import slicer
from slicer.i18n import tr as _

from FastTextDiffSegmentLib.contract.answers import Measured
from FastTextDiffSegmentLib.contract.measurements import SegmentMeasurements
from FastTextDiffSegmentLib.contract.requests import Measure
from FastTextDiffSegmentLib.engine.EngineSession import EngineSession
from FastTextDiffSegmentLib.engine.Jobs import Steps
from FastTextDiffSegmentLib.engine.WorkFolder import remove

from .SceneVolume import volumeSource
from .SegmentationFiles import requireSegments
from .SegmentVoxels import segmentIds
from .SentSegments import sentSegmentSteps

_LABELMAP, _SCALAR = "LabelmapSegmentStatisticsPlugin", "ScalarVolumeSegmentStatisticsPlugin"
_OF_SLICER = {
    "voxels": f"{_LABELMAP}.voxel_count",
    "volume_ml": f"{_LABELMAP}.volume_cm3",
    "mean": f"{_SCALAR}.mean",
    "sd": f"{_SCALAR}.stdev",
}
"""Slicer's keys for the same quantities."""
_ROUNDING = 1e-3


def measureSteps(session: EngineSession, segmentationNode: Any, volumeNode: Any, modality: str | None = None) -> Steps:
    """Measure all segments of a segmentation on the grid of a volume.

    Args:
        session: the engine.
        segmentationNode: the segments, from any program; not changed.
        volumeNode: the image.
        modality: the kind of image that the user chose; None lets the engine decide.

    Returns:
        The contract's `Measured`; its notes say where Slicer's Segment Statistics, if it is there, finds other values.

    Raises:
        SceneError: no segments, another grid, or segments that changed in the meantime.
        EngineError: the engine refused or failed.
    """
    requireSegments(segmentationNode, volumeNode)
    yield from session.opened()
    volume = yield from session.provided(volumeSource(volumeNode, modality))
    folder = session.folder.newFolder("measuring")
    try:
        segments = yield from sentSegmentSteps(segmentationNode, volumeNode, folder)
        answer = yield from session.client.ask(Measure(volume.volume, segments))
    finally:
        remove(folder)
    notes = [] if volume.planar else differences(answer.segments, slicersStatistics(segmentationNode, volumeNode))
    return Measured(answer.segments, (*answer.notes, *notes))


def slicersStatistics(segmentationNode: Any, volumeNode: Any) -> list[dict[str, float]]:
    """What Slicer's module Segment Statistics measures, one entry for each segment; empty without the module."""
    try:
        from SegmentStatistics import SegmentStatisticsLogic
    except ImportError:
        return []
    with _ownParameters() as parameters:
        logic = SegmentStatisticsLogic()
        logic.setParameterNode(parameters)
        values = {"Segmentation": segmentationNode.GetID(), "ScalarVolume": volumeNode.GetID()}
        values |= {"visibleSegmentsOnly": "False", "ClosedSurfaceSegmentStatisticsPlugin.enabled": "False"}
        for name, value in values.items():
            parameters.SetParameter(name, value)
        logic.computeStatistics()
        found = logic.getStatistics()
    ids = segmentIds(segmentationNode.GetSegmentation())
    return [
        {field: float(found[one, key]) for field, key in _OF_SLICER.items() if found.get((one, key)) not in (None, "")}
        for one in ids
    ]


@contextmanager
def _ownParameters() -> Iterator[Any]:
    """A parameter node for one use, so that the user's settings of that module stay; nothing is left in the scene."""
    before = set(slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode"))
    node = slicer.vtkMRMLScriptedModuleNode()
    node.SetHideFromEditors(True)
    node.SetSaveWithScene(False)
    slicer.mrmlScene.AddNode(node)
    try:
        yield node
    finally:
        for each in set(slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode")) - before:
            slicer.mrmlScene.RemoveNode(each)


def differences(measured: Sequence[SegmentMeasurements], slicers: Sequence[dict[str, float]]) -> list[str]:
    """Where two measurements of the same segments differ, one line each; nothing is compared without the other."""
    lines = []
    for mine, other in zip(measured, slicers, strict=False):
        for field, value in other.items():
            own = getattr(mine, field)
            if own is not None and mine.voxels and abs(own - value) > _ROUNDING * max(1.0, abs(own)):
                text = _("'{name}': {field} is {own:.3f} here and {other:.3f} in Slicer's Segment Statistics")
                lines.append(text.format(name=mine.name, field=field, own=own, other=value))
    return lines
