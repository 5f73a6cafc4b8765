"""A volume node as the engine wants it: voxels, position, and where they came from. Knows the scene, not the engine."""

from pathlib import Path

import slicer

from FastTextDiffSegmentLib.engine.EngineSession import VolumeSource

from .Geometry import inSliceOrder, requireImage, slicesToRas


def volumeSource(volumeNode, modality: str | None = None) -> VolumeSource:
    """Describe a node's present content; the voxels are a view of the node's own and must not be written to.

    Args:
        volumeNode: scalar or vector volume.
        modality: what the user says it is, None to let the engine tell.

    Raises:
        SceneError: there is nothing to segment in it.
    """
    requireImage(volumeNode)
    matrix = slicesToRas(volumeNode)
    # VTK counts modification times for the whole process: no two contents share one
    key = (volumeNode.GetID(), volumeNode.GetImageData().GetMTime(), matrix.tobytes(), modality)
    return VolumeSource(
        key=key,
        array=inSliceOrder(volumeNode, slicer.util.arrayFromVolume(volumeNode)),
        ijkToRas=matrix,
        path=sourceFile(volumeNode),
        dicomModality=dicomModality(volumeNode),
        modality=modality,
        name=volumeNode.GetName() or "",
    )


def sourceFile(volumeNode) -> str | None:
    """A file that the volume was loaded from, if it is still there; of a DICOM series, its first."""
    storage = volumeNode.GetStorageNode()
    for path in (_dicomFile(volumeNode), storage.GetFileName() if storage else None):
        if path and Path(path).is_file():
            return str(Path(path).resolve())
    return None


def _dicomFile(volumeNode) -> str | None:
    database = getattr(slicer, "dicomDatabase", None)
    uids = (volumeNode.GetAttribute("DICOM.instanceUIDs") or "").split()
    return database.fileForInstance(uids[0]) if database and uids else None


def dicomModality(volumeNode) -> str | None:
    """DICOM Modality (0008,0060) of the series, as Slicer keeps it in the subject hierarchy."""
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    item = hierarchy.GetItemByDataNode(volumeNode) if hierarchy else 0
    return (hierarchy.GetItemAttribute(item, "DICOM.Modality") or None) if item else None
