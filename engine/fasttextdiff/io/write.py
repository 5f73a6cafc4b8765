"""Writes results to files for other programs: segmentations with their record, and uncertainty maps.

Knows nothing about models or pictures (see `render`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.contract.segments import FINDING_TAG, LABEL_MAP, VOLUME_EACH
from fasttextdiff.errors import UsageError, require_type
from fasttextdiff.image.volume import Volume
from fasttextdiff.io import dicom_seg_sources, write_dicom_seg
from fasttextdiff.io.atomic import whole_files
from fasttextdiff.io.nrrd import write_nrrd
from fasttextdiff.io.overwriting import files_of, require_apart, require_own_record
from fasttextdiff.io.write_seg_nrrd import label_type, write_seg_nrrd
from fasttextdiff.paths import PathText, as_path
from fasttextdiff.result import SegmentationResult, entropy, overlapping
from fasttextdiff.segments.terminology import assign_colors, code_finding
from fasttextdiff.version import DISCLAIMER

DICOM_SEG, DICOM_LABEL_MAP = ".dcm", ".labelmap.dcm"
DICOM_FORMATS = (DICOM_LABEL_MAP, DICOM_SEG)
SEGMENTATION_FORMATS = (".seg.nrrd", ".nii.gz", ".nii", *DICOM_FORMATS)
NIFTI_DESCRIPTION = b"FastTextDiff, research use only"
"""The `descrip` of every NIfTI file that we write, so that it is not mistaken for an input image."""
UNCERTAINTY_FORMATS = (".nii.gz", ".nii", ".nrrd")
# NIfTI-1 stores the number of voxels along an axis in 16 bits (dim, nifti.nimh.nih.gov/nifti-1).
_NIFTI_AXIS = 32767


def is_label_map(path: PathText) -> bool:
    """Whether the name asks for a DICOM Segmentation with a label map."""
    return as_path(path).name.lower().endswith(DICOM_LABEL_MAP)


def check_segmentation_path(path: PathText, fractional: bool = False) -> None:
    """Refuse a file name with an unsupported format, before any work.

    Args:
        path: file to write later.
        fractional: whether it should hold probabilities.

    Raises:
        UsageError: the name does not end in one of `SEGMENTATION_FORMATS`, or the format holds masks only.
        MissingPackagesError: the format needs a package that is not installed.
    """
    path = as_path(path)
    extension = _extension(path, SEGMENTATION_FORMATS, "a segmentation")
    if extension in DICOM_FORMATS:
        write_dicom_seg.check_packages()
    if fractional and extension != DICOM_SEG:
        raise UsageError(f"only DICOM SEG (.dcm, not {DICOM_LABEL_MAP}) holds probabilities, not {path.name!r}")


def check_segmentation_source(volume: Volume, path: PathText) -> None:
    """Refuse a volume whose segmentation cannot be stored in the format, before it is segmented.

    Raises:
        UsageError: `path` is a DICOM SEG, and the volume lacks the DICOM images that it must refer to.
    """
    path = as_path(path)
    if path.name.lower().endswith(DICOM_FORMATS):
        dicom_seg_sources.check_source(volume)


def check_uncertainty_path(path: PathText) -> None:
    """Refuse a file name with an unsupported format.

    Raises:
        UsageError: the name does not end in one of `UNCERTAINTY_FORMATS`.
    """
    path = as_path(path)
    _extension(path, UNCERTAINTY_FORMATS, "an uncertainty map")


def segmentation_files(path: PathText) -> list[Path]:
    """The files that :func:`write_segmentation` writes under a name, the segmentation first."""
    path = as_path(path)
    is_nifti = _extension(path, SEGMENTATION_FORMATS, "a segmentation") in (".nii.gz", ".nii")
    return [path, _record_path(path)] if is_nifti else [path]


def check_not_source(outputs: Sequence[Path], volume: Volume) -> None:
    """Refuse to overwrite a file of the input image.

    Raises:
        UsageError: an output is such a file, or two outputs are the same.
    """
    source = volume.source
    require_apart(outputs, [*files_of(Path(source.path)), *(Path(file) for file, _ in source.frames)])


def write_segmentation(result: SegmentationResult, path: PathText, *, fractional: bool = False) -> list[Path]:
    """Write the masks on the grid of the volume, in the format that the name ends in.

    `.seg.nrrd` is a Slicer segmentation with names, codes and provenance of its segments as tags. `.nii.gz` and `.nii`
    are label maps with value n for finding n or, if findings overlap, 4D with one 0/1 volume per finding; a `.json` of
    the same name describes the values. `.dcm` is a DICOM Segmentation that refers to its source images, with one mask
    per finding, and `.labelmap.dcm` one with a label map, unless findings overlap. Files are written completely or not
    at all.

    Args:
        result: at least one finding.
        path: file to write; an existing one is replaced.
        fractional: probabilities instead of masks, `.dcm` only; 3D Slicer reads them as labels.

    Returns:
        The files written, the segmentation first.

    Raises:
        UsageError: another extension, a folder that is missing or not writable, an image too large for NIfTI, or one
            that is not DICOM for `.dcm`.
        MissingPackagesError: `.dcm` without highdicom.
        FastTextDiffError: writing failed, or see :func:`fasttextdiff.io.write_dicom_seg.write_dicom_seg`.
    """
    path = as_path(path)
    require_type(result, SegmentationResult, "result", "use Segmenter.segment")
    check_segmentation_path(path, fractional)
    check_not_source(segmentation_files(path), result.volume)
    extension = _extension(path, SEGMENTATION_FORMATS, "a segmentation")
    if extension in DICOM_FORMATS:
        with whole_files(path) as (temporary,):
            write_dicom_seg.write_dicom_seg(result, temporary, fractional=fractional, label_map=is_label_map(path))
        return [path]
    if extension == ".seg.nrrd":
        with whole_files(path) as (temporary,):
            write_seg_nrrd(result, temporary)
        return [path]
    record = _record_path(path)
    require_own_record(record)
    with whole_files(path, record) as (temporary, temporary_record):
        _write_nifti(temporary, result.volume, _labels(result))
        text = json.dumps(_record(result, path), indent=2, ensure_ascii=False, allow_nan=False)
        temporary_record.write_text(text + "\n", encoding="utf-8", errors="replace", newline="\n")
    return [path, record]


def segmentation_notes(result: SegmentationResult, path: PathText) -> list[str]:
    """Notes for the user on a segmentation file, one line each; also in the `.json` of NIfTI files."""
    path = as_path(path)
    extension = _extension(path, SEGMENTATION_FORMATS, "a segmentation")
    if extension == ".seg.nrrd":
        return []
    if extension in DICOM_FORMATS:
        return dicom_seg_notes(result.volume, path, [finding.mask for finding in result.findings])
    notes = []
    if result.overlapping:
        notes.append(
            f"findings overlap, so {path.name} is 4D with one volume of 0 and 1 for each finding, in the order typed; "
            "write .seg.nrrd for overlapping segments in Slicer"
        )
    if not _right_angled(result.volume.ijk_to_ras):
        notes.append(
            f"the axes of this volume are not at right angles; some programs, including Slicer, therefore refuse "
            f"{path.name}: write .seg.nrrd instead"
        )
    return notes


def dicom_seg_notes(volume: Volume, path: PathText, masks: Sequence[NDArray[np.bool_]]) -> list[str]:
    """Notes on a DICOM SEG of these masks, and on how 3D Slicer 5, which reads it with dcmqi, shows a valid object."""
    path = as_path(path)
    name, notes = path.name, []
    if is_label_map(path) and overlapping(masks):
        notes.append(f"findings overlap, which a label map cannot hold, so {name} has one mask for each finding")
    if volume.is_planar:
        notes.append(
            f"3D Slicer cannot open {name}, since a projection has no position in the patient: use .seg.nrrd there"
        )
    elif not _right_angled(volume.ijk_to_ras):
        notes.append(
            f"this stack is sheared (gantry tilt): 3D Slicer straightens {name}, which misplaces it, so use "
            ".seg.nrrd there; viewers that overlay it on the source images show it correctly"
        )
    return notes


def write_uncertainty(result: SegmentationResult, path: PathText) -> None:
    """Write the entropy of the probability, averaged over the noise samples, in bits as float32.

    It ranks wrong pixels and slices better than the disagreement of samples (`evaluate --report` compares them), and
    needs only one sample. Slices outside the request are 0.

    Args:
        result: with any number of samples.
        path: `.nii.gz`, `.nii` or `.nrrd`; 3D for one finding, else 4D with one volume per finding in the order typed.

    Raises:
        UsageError: another extension, or a path that cannot be written.
        FastTextDiffError: writing failed.
    """
    path = as_path(path)
    require_type(result, SegmentationResult, "result", "use Segmenter.segment")
    extension = _extension(path, UNCERTAINTY_FORMATS, "an uncertainty map")
    check_not_source([path], result.volume)
    maps = [entropy(finding.probability) for finding in result.findings]
    with whole_files(path) as (temporary,):
        if extension == ".nrrd":
            fields = {f"{FINDING_TAG}{n}": finding.finding for n, finding in enumerate(result.findings, start=1)}
            write_nrrd(temporary, list(maps), result.volume.ijk_to_ras, fields)
        else:
            _write_nifti(temporary, result.volume, maps)


def _extension(path: Path, supported: Sequence[str], what: str) -> str:
    """The supported extension of a file name, in any case."""
    name = path.name.lower()
    for extension in supported:
        if name.endswith(extension) and name != extension:
            if extension == ".nrrd" and name.endswith(".seg.nrrd"):
                break
            return extension
    raise UsageError(f"cannot write {what} as {path.name!r}: the name must end in {' or '.join(supported)}")


def _record_path(path: Path) -> Path:
    """`scan.nii.gz` -> `scan.json`."""
    extension = _extension(path, SEGMENTATION_FORMATS, "a segmentation")
    return path.with_name(path.name[: -len(extension)] + ".json")


def _labels(result: SegmentationResult) -> list[NDArray[np.unsignedinteger]]:
    """One label map with value n for finding n, or one 0/1 map per finding if they overlap."""
    masks = [finding.mask for finding in result.findings]
    if result.overlapping:
        return [mask.astype(np.uint8) for mask in masks]
    labels = np.zeros(result.volume.shape, label_type(len(masks)))
    for label, mask in enumerate(masks, start=1):
        labels[mask] = label
    return [labels]


def _right_angled(ijk_to_ras: NDArray[np.float64]) -> bool:
    """Whether the axes are at right angles, to the precision of a NIfTI header (float32)."""
    axes = ijk_to_ras[:3, :3] / np.linalg.norm(ijk_to_ras[:3, :3], axis=0)
    return bool(np.allclose(axes.T @ axes, np.eye(3), atol=1e-5))


def _write_nifti(path: Path, volume: Volume, maps: Sequence[NDArray[Any]]) -> None:
    """Write maps (k, j, i) as NIfTI-1, 3D or 4D, with the volume's IJK-to-RAS matrix as sform."""
    import nibabel

    if max(volume.shape) > _NIFTI_AXIS:
        raise UsageError(f"NIfTI allows {_NIFTI_AXIS} voxels along an axis, this image has {max(volume.shape)}")
    array = maps[0].T if len(maps) == 1 else np.stack([one.T for one in maps], axis=-1)
    image = nibabel.Nifti1Image(array, volume.ijk_to_ras)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = NIFTI_DESCRIPTION
    image.set_sform(volume.ijk_to_ras, code=1)
    # A quaternion cannot express shear: without right angles only the sform is correct.
    image.set_qform(volume.ijk_to_ras, code=1 if _right_angled(volume.ijk_to_ras) else 0)
    nibabel.save(image, path)


def _record(result: SegmentationResult, path: Path) -> dict[str, Any]:
    """The meaning and provenance of the values in a NIfTI file, which NIfTI itself cannot store."""
    source = asdict(result.volume.source)
    del source["instance_uids"], source["frames"]
    return {
        "image": path.name,
        "layout": VOLUME_EACH if result.overlapping else LABEL_MAP,
        "findings": _finding_records(result),
        "provenance": asdict(result.provenance),
        "source": source,
        "notes": segmentation_notes(result, path),
        "use": DISCLAIMER,
    }


def _finding_records(result: SegmentationResult) -> list[dict[str, Any]]:
    """One entry per finding; `label` is its value in the label map; in a 4D file it is 1 in volume `label - 1`."""
    colors = assign_colors([finding.finding for finding in result.findings])
    records = []
    for label, (finding, color) in enumerate(zip(result.findings, colors, strict=True), start=1):
        voxels = int(np.count_nonzero(finding.mask))
        records.append(
            {
                "finding": finding.finding,
                "label": label,
                "consistency": finding.consistency,
                "voxels": voxels,
                "ml": None if result.volume.is_planar else round(voxels * result.volume.voxel_ml, 6),
                "presence": [round(float(p), 4) if np.isfinite(p) else None for p in finding.presence],
                "color": list(color),
                "terminology": code_finding(finding.finding).slicer_entry,
                "warnings": list(finding.warnings),
                "adapter": finding.adapter,
            }
        )
    return records
