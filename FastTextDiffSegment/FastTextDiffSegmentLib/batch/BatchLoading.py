"""Loads a finished case of a batch into the scene: its segmentation, and its image if it can still be found.

Knows the scene and the engine's protocol; knows nothing about how a batch runs.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slicer
import vtk
from slicer.i18n import tr as _

from FastTextDiffSegmentLib.contract.requests import ListSeries
from FastTextDiffSegmentLib.engine.EngineSession import EngineSession
from FastTextDiffSegmentLib.engine.Jobs import Steps
from FastTextDiffSegmentLib.scene.Geometry import SceneError, startsLikeDicom
from FastTextDiffSegmentLib.scene.SegmentationFiles import NIFTI, SEG_NRRD

from .BatchCases import BatchCase


@dataclass(frozen=True)
class LoadedCase:
    """The nodes of a loaded case.

    Attributes:
        segmentation: segmentation node.
        volume: volume node; None if the image was not found.
        text: message for the user, in one line.
    """

    segmentation: Any
    volume: Any
    text: str


def caseSteps(session: EngineSession, case: BatchCase, folder: Path) -> Steps:
    """Load a case.

    Args:
        session: the engine, which knows the order of a DICOM series.
        case: a case that is done.
        folder: the folder of its outputs.

    Returns:
        :class:`LoadedCase`.

    Raises:
        SceneError: there is no segmentation that Slicer can open.
        EngineError: the image exists but can no longer be read.
    """
    file = next((file for ending in (SEG_NRRD, NIFTI) if (file := folder / f"{case.name}{ending}").is_file()), None)
    if file is None:
        message = _("'{folder}' has no .seg.nrrd or .nii.gz: open its DICOM Segmentation with the DICOM module.")
        raise SceneError(message.format(folder=folder))
    volume = yield from _imageSteps(session, case)
    try:
        segmentation = slicer.util.loadSegmentation(str(file))
    except RuntimeError as error:
        raise SceneError(_("'{file}' cannot be opened: run the case again.").format(file=file)) from error
    if volume is None:
        text = _("The image at {path} cannot be found or opened: only its segmentation was loaded.").format(
            path=case.path
        )
        return LoadedCase(segmentation, None, text)
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    return LoadedCase(segmentation, volume, _("Loaded {case}").format(case=case.name))


def _imageSteps(session: EngineSession, case: BatchCase) -> Steps:
    """The image as a new volume node; None if it is gone."""
    path = Path(case.path)
    if not path.exists():
        return None
    if path.is_file() and not startsLikeDicom(str(path)):
        try:
            return slicer.util.loadVolume(str(path), {"name": case.name, "singleFile": True})
        except RuntimeError:
            return None
    series = yield from session.client.ask(ListSeries(path, case.seriesUid or None))
    names = vtk.vtkStringArray()
    for file in series.files:
        names.InsertNextValue(str(file))
    volume = slicer.modules.volumes.logic().AddArchetypeVolume(str(series.files[0]), case.name, 0, names)
    if volume is not None:
        volume.SetAttribute("DICOM.instanceUIDs", " ".join(series.instance_uids))
    return volume
