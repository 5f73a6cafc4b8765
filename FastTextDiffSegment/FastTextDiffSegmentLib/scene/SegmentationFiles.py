"""Saves segments as files on the grid of their image: `.seg.nrrd` for Slicer, `.nii.gz` for everything else.

Files appear whole or not at all, and the scene's own file names stay as they are. Knows nothing about the engine.
"""

import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _
from vtk.util.numpy_support import numpy_to_vtk

from .Geometry import SceneError, arrayShape, ijkToRas, toMatrix
from .SegmentVoxels import gridInSegmentation, segmentArray
from .SegmentWriter import ALGORITHM_NAME_TAG, ALGORITHM_TAG, geometryMatches, tagOf

SEG_NRRD, NIFTI = ".seg.nrrd", ".nii.gz"
_FINDING_TAGS = ("Finding", "Presence", "SequenceItem", "Slices", "Plane", "Window", "Threshold")
_MODEL_TAGS = ("Model", "WeightsSha256", "Software", "Seed", "Samples", "Timesteps", "Device", "Dtype", "Created")
TAG_NAMES = (
    *("TerminologyEntry", ALGORITHM_TAG, ALGORITHM_NAME_TAG),
    *(f"FastTextDiff.{name}" for name in (*_FINDING_TAGS, *_MODEL_TAGS)),
)
"""Tags that are written beside a `.nii.gz`: a vtkSegment cannot list its tags in Python."""


def save(segmentationNode, volumeNode, path: str | os.PathLike) -> list[Path]:
    """Save all segments of a segmentation.

    `.seg.nrrd` holds everything, overlaps and tags too. `.nii.gz` is one label map where segments do not overlap,
    otherwise one file a segment ("name-segment.nii.gz"); a `.json` beside it holds labels, names, colours and tags.

    Args:
        segmentationNode: the segments; neither it nor its file name is changed.
        volumeNode: the image whose grid the files get.
        path: ends in `.seg.nrrd` or `.nii.gz`; a file of that name is replaced.

    Returns:
        The files written.

    Raises:
        SceneError: nothing to save, another grid, another ending, or the folder cannot be written to; no file is
            changed then.
    """
    target = Path(path)
    if not _ending(target):
        message = _("'{name}' cannot be saved: choose .seg.nrrd or .nii.gz, or .dcm for a DICOM series.")
        raise SceneError(message.format(name=target.name))
    requireSegments(segmentationNode, volumeNode)
    try:
        with tempfile.TemporaryDirectory(prefix=".saving-", dir=target.parent) as folder:
            write = _writeSegNrrd if _ending(target) == SEG_NRRD else _writeNifti
            names = write(segmentationNode, volumeNode, Path(folder), target.name)
            for name in names:
                (Path(folder) / name).replace(target.parent / name)
    except OSError as error:
        message = _("The segmentation could not be saved as '{path}': {reason}. Choose another folder.")
        raise SceneError(message.format(path=target, reason=error.strerror or error)) from error
    return [target.parent / name for name in names]


def _ending(path: Path) -> str:
    return next((ending for ending in (SEG_NRRD, NIFTI) if path.name.lower().endswith(ending)), "")


def requireSegments(segmentationNode, volumeNode) -> None:
    """Check that there is something to save on the grid of an image.

    Raises:
        SceneError: no segment, or another grid.
    """
    if segmentationNode is None or segmentationNode.GetSegmentation().GetNumberOfSegments() == 0:
        raise SceneError(_("There is no segment to save. Segment a finding first."))
    if not geometryMatches(segmentationNode, volumeNode):
        message = _("'{segmentation}' is on another grid than '{image}'. Choose the image it was made on.")
        raise SceneError(message.format(segmentation=segmentationNode.GetName(), image=volumeNode.GetName()))


def _writeSegNrrd(segmentationNode, volumeNode, folder: Path, name: str) -> list[str]:
    # a copy: saving merges layers, and the user's segmentation is not to be touched
    copy = slicer.vtkMRMLSegmentationNode()
    copy.SetName(segmentationNode.GetName())
    copy.GetSegmentation().DeepCopy(segmentationNode.GetSegmentation())
    if np.allclose(gridInSegmentation(segmentationNode, volumeNode), ijkToRas(volumeNode)):
        copy.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
    _store(slicer.vtkMRMLSegmentationStorageNode(), copy, folder / name)
    return [name]


def _store(storage, node, path: Path) -> None:
    """Write a node with a storage node that the scene does not know.

    Raises:
        OSError: it could not be written.
    """
    storage.SetScene(slicer.mrmlScene)
    storage.SetFileName(str(path))
    if not storage.WriteData(node) or not path.is_file():
        raise OSError(_("Slicer could not write the file"))


def _writeNifti(segmentationNode, volumeNode, folder: Path, name: str) -> list[str]:
    stem = name[: -len(NIFTI)]
    segmentation = segmentationNode.GetSegmentation()
    ids = [segmentation.GetNthSegmentID(index) for index in range(segmentation.GetNumberOfSegments())]
    labels = _labelMap(segmentationNode, volumeNode, ids)
    groups = {name: ids} if labels is not None else _oneFileEach(segmentation, ids, stem)
    for fileName, members in groups.items():
        array = labels if labels is not None else _labelMap(segmentationNode, volumeNode, members)
        _store(slicer.vtkMRMLVolumeArchetypeStorageNode(), _labelNode(array, volumeNode), folder / fileName)
    description = {
        "image": volumeNode.GetName(),
        "files": [_fileEntry(segmentation, fileName, members) for fileName, members in groups.items()],
    }
    text = json.dumps(description, ensure_ascii=False, indent=2) + "\n"
    (folder / f"{stem}.json").write_text(text, encoding="utf-8")
    return [*groups, f"{stem}.json"]


def _labelMap(segmentationNode, volumeNode, segmentIds: list[str]) -> np.ndarray | None:
    """Labels 1, 2, ... (k, j, i) in the order of the segments; None where two overlap."""
    labels = np.zeros(arrayShape(volumeNode), np.uint8 if len(segmentIds) < 256 else np.uint16)
    for label, segmentId in enumerate(segmentIds, start=1):
        mask = segmentArray(segmentationNode, segmentId, volumeNode)
        if labels[mask].any():
            return None
        labels[mask] = label
    return labels


def _oneFileEach(segmentation, segmentIds: list[str], stem: str) -> dict[str, list[str]]:
    """File names by segment; names that are alike in a file system are numbered."""
    files: dict[str, list[str]] = {}
    taken: set[str] = set()
    for segmentId in segmentIds:
        base = re.sub(r"[^\w.-]+", "_", segmentation.GetSegment(segmentId).GetName()).strip("_.") or "segment"
        name, number = f"{stem}-{base}{NIFTI}", 1
        while name.casefold() in taken:
            number += 1
            name = f"{stem}-{base}_{number}{NIFTI}"
        taken.add(name.casefold())
        files[name] = [segmentId]
    return files


def _labelNode(labels: np.ndarray, volumeNode):
    """Labels as a volume node outside of the scene, on the image's own grid."""
    image = vtk.vtkImageData()
    image.SetDimensions(*labels.shape[::-1])
    image.GetPointData().SetScalars(numpy_to_vtk(labels.ravel(), deep=True))
    node = slicer.vtkMRMLLabelMapVolumeNode()
    node.SetAndObserveImageData(image)
    node.SetIJKToRASMatrix(toMatrix(ijkToRas(volumeNode)))
    return node


def _fileEntry(segmentation, fileName: str, segmentIds: list[str]) -> dict[str, Any]:
    segments = [segmentation.GetSegment(segmentId) for segmentId in segmentIds]
    return {
        "file": fileName,
        "labels": [_labelEntry(segment, label) for label, segment in enumerate(segments, start=1)],
    }


def _labelEntry(segment, label: int) -> dict[str, Any]:
    """One segment in plain text: escapes are only needed in Slicer's own format."""
    tags = {name: unquote(tagOf(segment, name)) for name in TAG_NAMES if tagOf(segment, name)}
    color = [round(255 * part) for part in segment.GetColor()]
    return {"label": label, "name": segment.GetName(), "color": color, "tags": tags}
