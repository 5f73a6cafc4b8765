"""A volume node as the engine needs it: voxels, position and source file. Knows the scene, not the engine."""

import zlib
from pathlib import Path

import numpy as np
import slicer

from FastTextDiffSegmentLib.engine.EngineSession import VolumeSource

from .Geometry import inSliceOrder, requireImage, slicesToRas

MODALITY_ATTRIBUTE = "FastTextDiff.DicomModality"
"""The modality of an image that has no place in the subject hierarchy."""
_SAMPLE = 1 << 12


def contentKey(volumeNode) -> tuple:
    """A value that stays equal while the voxels and the geometry of an image do.

    VTK's modification times are unique within the process, so no two contents share one.

    Raises:
        SceneError: there is nothing to segment in it.
    """
    requireImage(volumeNode)
    return volumeNode.GetID(), volumeNode.GetImageData().GetMTime(), slicesToRas(volumeNode).tobytes()


def voxelDigest(volumeNode) -> str:
    """Distinguishes images of one grid, also after they were saved, by a few voxels: it takes almost no time."""
    voxels = slicer.util.arrayFromVolume(volumeNode).ravel()
    step = max(1, voxels.size // _SAMPLE) | 1  # odd, so that it does not stay in one column
    return f"{zlib.crc32(voxels[::step].astype(np.float64).tobytes()):08x}"


def volumeSource(volumeNode, modality: str | None = None) -> VolumeSource:
    """Describe a node's current content; the array is a view of the node's voxels and must not be written to.

    Args:
        volumeNode: scalar or vector volume.
        modality: the kind of image that the user chose; None lets the engine decide.

    Raises:
        SceneError: there is nothing to segment in it.
    """
    return VolumeSource(
        key=(*contentKey(volumeNode), modality),
        array=inSliceOrder(volumeNode, slicer.util.arrayFromVolume(volumeNode)),
        ijkToRas=slicesToRas(volumeNode),
        path=sourceFile(volumeNode),
        dicomModality=dicomModality(volumeNode),
        modality=modality,
        name=volumeNode.GetName() or "",
    )


def sourceFile(volumeNode) -> str | None:
    """A file that the volume was loaded from, if it still exists; the first one of a DICOM series."""
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
    """DICOM Modality (0008,0060) of the series, from the node or from Slicer's subject hierarchy."""
    if volumeNode.GetAttribute(MODALITY_ATTRIBUTE):
        return volumeNode.GetAttribute(MODALITY_ATTRIBUTE)
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    item = hierarchy.GetItemByDataNode(volumeNode) if hierarchy else 0
    return (hierarchy.GetItemAttribute(item, "DICOM.Modality") or None) if item else None
