"""Saves segments as files on the grid of their image: `.seg.nrrd` for Slicer, `.nii.gz` for everything else.

Files are written completely or not at all, and the scene's own file names do not change. Does not know the engine.
"""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import slicer
from slicer.i18n import tr as _

from FastTextDiffSegmentLib.contract.files import put_in_place
from FastTextDiffSegmentLib.contract.segments import LABEL_MAP, TAG_NAMES, VOLUME_EACH, label_bits, unescape_tag

from .Geometry import SceneError, arrayShape, ijkToRas
from .Overwriting import requireApart
from .SegmentVoxels import gridInSegmentation, segmentArray, segmentIds
from .SegmentWriter import geometryMatches, tagOf

SEG_NRRD, NIFTI = ".seg.nrrd", ".nii.gz"


def save(segmentationNode, volumeNode, path: str | os.PathLike) -> list[Path]:
    """Save all segments of a segmentation.

    `.seg.nrrd` holds everything, including overlaps and tags. `.nii.gz` is a label map if segments do not overlap, else
    4D with a 0/1 volume per segment, as the engine writes it; a `.json` next to it holds names, colours and tags.

    Args:
        segmentationNode: the segments; neither it nor its file name is changed.
        volumeNode: the image whose grid the files get.
        path: ends in `.seg.nrrd` or `.nii.gz`; an existing file is replaced.

    Returns:
        The files written.

    Raises:
        SceneError: nothing to save, another grid, another ending, a file that an image was loaded from, a `.json` of
            another program, or a folder that is not writable. No file is changed.
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
            places = [target.parent / name for name in names]
            requireApart(places)
            put_in_place([Path(folder) / name for name in names], places)
    except OSError as error:
        raise _notSaved(target, error) from error
    return places


def saveText(text: str, path: Path) -> None:
    """Write a text that spreadsheets read too, completely or not at all.

    Raises:
        SceneError: a file that an image was loaded from, or a folder that is not writable.
    """
    requireApart([path])
    try:
        with tempfile.TemporaryDirectory(prefix=".saving-", dir=path.parent) as folder:
            written = Path(folder) / "text"
            written.write_text(text, encoding="utf-8-sig", newline="")  # the mark lets Excel read it as UTF-8
            written.replace(path)
    except OSError as error:
        raise _notSaved(path, error) from error


def _notSaved(path: Path, error: OSError) -> SceneError:
    """What to do about a file that could not be written; on Windows one that is open elsewhere cannot be replaced."""
    message = _("'{path}' could not be saved: {reason}. Choose another folder.")
    if isinstance(error, PermissionError) and path.is_file():
        message = _("'{path}' could not be saved: {reason}. If another program has it open, close it and save again.")
    return SceneError(message.format(path=path, reason=error.strerror or error))


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
    # a copy: saving merges layers, and the user's segmentation must not change
    copy = slicer.vtkMRMLSegmentationNode()
    copy.SetName(segmentationNode.GetName())
    copy.GetSegmentation().DeepCopy(segmentationNode.GetSegmentation())
    if np.allclose(gridInSegmentation(segmentationNode, volumeNode), ijkToRas(volumeNode)):
        copy.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
    _store(slicer.vtkMRMLSegmentationStorageNode(), copy, folder / name)
    return [name]


def _store(storage, node, path: Path) -> None:
    """Write a node with a storage node that is not in the scene.

    Raises:
        OSError: it could not be written.
    """
    storage.SetScene(slicer.mrmlScene)
    storage.SetFileName(str(path))
    if not storage.WriteData(node) or not path.is_file():
        raise OSError(_("Slicer could not write the file"))


def _writeNifti(segmentationNode, volumeNode, folder: Path, name: str) -> list[str]:
    segmentation = segmentationNode.GetSegmentation()
    ids = segmentIds(segmentation)
    labels = _labelMap(segmentationNode, volumeNode, ids)
    layout = VOLUME_EACH if labels is None else LABEL_MAP
    if labels is None:
        masks = (segmentArray(segmentationNode, segmentId, volumeNode) for segmentId in ids)
        _storeNifti([mask.astype(np.uint8) for mask in masks], volumeNode, folder / name)
    else:
        _storeNifti([labels], volumeNode, folder / name)
    segments = [segmentation.GetSegment(segmentId) for segmentId in ids]
    description = {
        "image": volumeNode.GetName(),
        "layout": layout,
        "labels": [_labelEntry(segment, label) for label, segment in enumerate(segments, start=1)],
    }
    record = f"{name[: -len(NIFTI)]}.json"
    text = json.dumps(description, ensure_ascii=False, indent=2) + "\n"
    (folder / record).write_text(text, encoding="utf-8")
    return [name, record]


def _labelMap(segmentationNode, volumeNode, segmentIds: list[str]) -> np.ndarray | None:
    """Labels 1, 2, ... (k, j, i) in the order of the segments; None if two overlap."""
    labels = np.zeros(arrayShape(volumeNode), f"u{label_bits(len(segmentIds)) // 8}")
    for label, segmentId in enumerate(segmentIds, start=1):
        mask = segmentArray(segmentationNode, segmentId, volumeNode)
        if labels[mask].any():
            return None
        labels[mask] = label
    return labels


def _storeNifti(volumes: list[np.ndarray], volumeNode, path: Path) -> None:
    """Write arrays (k, j, i) on the image's own grid: one in 3D, several in 4D.

    Raises:
        OSError: it could not be written.
    """
    import SimpleITK as sitk

    toLps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ ijkToRas(volumeNode)
    spacing = np.linalg.norm(toLps[:3, :3], axis=0)
    images = [sitk.GetImageFromArray(array) for array in volumes]
    for image in images:
        image.SetSpacing(spacing.tolist())
        image.SetOrigin(toLps[:3, 3].tolist())
        image.SetDirection((toLps[:3, :3] / spacing).ravel().tolist())
    try:
        sitk.WriteImage(images[0] if len(images) == 1 else sitk.JoinSeries(images), str(path), useCompression=True)
    except RuntimeError as error:
        raise OSError(_("Slicer could not write the file")) from error


def _labelEntry(segment, label: int) -> dict[str, Any]:
    """One segment as plain text: only Slicer's own format needs escapes."""
    # by name: a vtkSegment cannot list its tags in Python
    tags = {name: unescape_tag(tagOf(segment, name)) for name in TAG_NAMES if tagOf(segment, name)}
    color = [round(255 * part) for part in segment.GetColor()]
    return {"label": label, "name": segment.GetName(), "color": color, "tags": tags}
