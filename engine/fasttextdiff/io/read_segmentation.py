"""Reads segmentations back onto the grid of their image: `.seg.nrrd`, `.nii.gz` and `.nii`, DICOM SEG.

Segments of other programs are read too. Knows nothing about models or measurements.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.contract.segments import TERMINOLOGY_TAG
from fasttextdiff.errors import FastTextDiffError, UsageError, one_line
from fasttextdiff.image.volume import Volume
from fasttextdiff.io.dicom_pixels import itk_ijk_to_ras, read_itk
from fasttextdiff.io.file_checks import no_stderr
from fasttextdiff.io.itk_headers import require_sound_header
from fasttextdiff.io.json_files import parse_json
from fasttextdiff.io.read_nifti import nifti_header, nifti_matrix
from fasttextdiff.io.write_dicom_seg import BINARY, LABEL_MAP, check_packages
from fasttextdiff.paths import PathText, as_path
from fasttextdiff.segments.measuring import MaskedSegment
from fasttextdiff.segments.terminology import CodedFinding, code_finding, coded_entry

_SAME_VOXEL = 0.05
"""Part of a voxel by which two grids may differ, from rounding in files."""
Mask = NDArray[np.bool_]


def read_segmentation(path: PathText, volume: Volume) -> list[MaskedSegment]:
    """Read every segment of a file.

    Args:
        path: the segmentation.
        volume: its image. The voxels of both must coincide; axes may be permuted or flipped, and the file may be
            cropped, as Slicer writes it.

    Raises:
        UsageError: another format, or no segment in it.
        FastTextDiffError: it is damaged, or belongs to another image.
        MissingPackagesError: `.dcm` without highdicom.
    """
    path = as_path(path)
    if not path.is_file():
        raise UsageError(f"{path}: there is no such file")
    readers: dict[str, Callable[[Path, Volume], list[MaskedSegment]]] = {
        ".nrrd": _read_nrrd,
        ".nii.gz": _read_nifti,
        ".nii": _read_nifti,
        ".dcm": _read_dicom,
    }
    read = next((read for ending, read in readers.items() if path.name.lower().endswith(ending)), None)
    if read is None:
        raise UsageError(f"{path}: not a segmentation: its name must end in {', '.join(readers)}")
    try:
        segments = read(path, volume)
    except (FastTextDiffError, MemoryError):
        raise
    except Exception as error:  # libraries raise anything for a damaged file
        raise FastTextDiffError(f"{path}: this segmentation cannot be read ({one_line(error)})") from error
    if not segments:
        raise UsageError(f"{path}: there is no segment in it")
    return segments


# --- .seg.nrrd -------------------------------------------------------------------------------------------------------


def _read_nrrd(path: Path, volume: Volume) -> list[MaskedSegment]:
    require_sound_header(path)
    with no_stderr():
        image = read_itk(path)
    fields = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys()}
    if "Segment0_ID" not in fields:
        raise UsageError(f"{path}: this is not a segmentation of 3D Slicer")
    import SimpleITK as sitk  # noqa: N813

    labels = sitk.GetArrayFromImage(image)
    layers = labels[..., np.newaxis] if labels.ndim == 3 else labels
    matrix = itk_ijk_to_ras(image)
    segments = []
    for values in _segment_fields(fields):
        mask = layers[..., int(values.get("Layer", 0))] == int(values["LabelValue"])
        name = values.get("Name") or values["ID"]
        segments.append(MaskedSegment(name, _placed(path, mask, matrix, volume), _codes(values.get("Tags", ""), name)))
    return segments


def _segment_fields(fields: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """The header fields of each segment, without "Segment0_"."""
    number = 0
    while f"Segment{number}_ID" in fields:
        prefix = f"Segment{number}_"
        yield {key.removeprefix(prefix): value for key, value in fields.items() if key.startswith(prefix)}
        number += 1


def _codes(tags: str, name: str) -> CodedFinding:
    entries = dict(tag.partition(":")[::2] for tag in tags.split("|"))
    return coded_entry(entries.get(TERMINOLOGY_TAG, "")) or code_finding(name)


# --- NIfTI -----------------------------------------------------------------------------------------------------------


def _read_nifti(path: Path, volume: Volume) -> list[MaskedSegment]:
    """A label map, or one 0/1 volume per segment; its `.json` names them."""
    import nibabel

    header = nifti_header(path)
    labels = np.asanyarray(nibabel.arrayproxy.ArrayProxy(str(path), header, mmap=False))
    if labels.dtype.names or labels.ndim not in (3, 4) or not np.array_equal(labels, np.rint(labels)):
        raise UsageError(f"{path}: its values are not labels but e.g. probabilities or grey levels")
    matrix, _ = nifti_matrix(path, header)
    names = _names(path)
    segments = []
    for label, mask in _label_masks(labels):
        name = names.get(label, f"label {label}")
        placed = _placed(path, mask.transpose(2, 1, 0), matrix, volume)
        segments.append(MaskedSegment(name, placed, code_finding(name)))
    return segments


def _label_masks(labels: NDArray[Any]) -> Iterator[tuple[int, Mask]]:
    if labels.ndim == 4 and labels.shape[3] > 1:
        yield from ((n + 1, labels[..., n] != 0) for n in range(labels.shape[3]))
        return
    labels = labels.reshape(labels.shape[:3])
    for label in np.unique(labels[labels > 0]):
        yield int(label), labels == label


def _names(path: Path) -> dict[int, str]:
    """Names by label from our record, from the engine or the module; empty without one."""
    stem = path.name.lower().removesuffix(".gz").removesuffix(".nii")
    record = path.with_name(path.name[: len(stem)] + ".json")
    if not record.is_file():
        return {}
    content = parse_json(record.read_bytes())
    entries = content.get("findings") or content.get("labels") or [] if isinstance(content, dict) else []
    return {int(entry["label"]): str(entry.get("finding") or entry.get("name")) for entry in entries}


# --- DICOM SEG -------------------------------------------------------------------------------------------------------


def _read_dicom(path: Path, volume: Volume) -> list[MaskedSegment]:
    check_packages()
    from highdicom.seg import segread

    source = volume.source
    if not source.instance_uids:
        raise UsageError(f"{path}: a DICOM SEG fits only the DICOM images that it refers to: give those as the image")
    stored = segread(path)
    if str(stored.SegmentationType) not in (BINARY, LABEL_MAP):
        raise UsageError(f"{path}: it holds probabilities: measure the segmentation without --fractional")
    referred = {str(image.ReferencedSOPInstanceUID) for series in stored.ReferencedSeriesSequence
                for image in series.ReferencedInstanceSequence}  # fmt: skip
    if not referred & set(source.instance_uids):
        raise FastTextDiffError(f"{path}: it refers to other images than {source.path}")
    is_label_map = str(stored.SegmentationType) == LABEL_MAP
    options = {"ignore_spatial_locations": True, "assert_missing_frames_are_empty": True}
    options["combine_segments"] = is_label_map  # highdicom 0.28 separates no more than 255 segments of a label map
    if len({file for file, _ in source.frames}) < len(source.frames):
        frames = [frame for _, frame in source.frames]
        pixels = stored.get_pixels_by_source_frame(source.instance_uids[0], frames, **options)
    else:
        pixels = stored.get_pixels_by_source_instance(list(source.instance_uids), **options)
    numbers = stored.segment_numbers
    masks = [pixels == number if is_label_map else pixels[..., n] != 0 for n, number in enumerate(numbers)]
    described = map(stored.get_segment_description, numbers)
    return [
        MaskedSegment(str(each.segment_label), mask, _coded(each)) for each, mask in zip(described, masks, strict=True)
    ]


def _coded(described: Any) -> CodedFinding:
    """The codes of a segment, through Slicer's form of them."""
    category, kind = described.segmented_property_category, described.segmented_property_type
    parts = "~".join(f"{code.scheme_designator}^{code.value}^{code.meaning}" for code in (category, kind))
    return coded_entry(f"~{parts}~^^~~^^~^^") or code_finding(str(described.segment_label))


# --- grids -----------------------------------------------------------------------------------------------------------


def _placed(path: Path, mask: Mask, matrix: NDArray[np.float64], volume: Volume) -> Mask:
    """A mask (k, j, i) of another grid on the grid of a volume.

    Raises:
        FastTextDiffError: its voxels are not voxels of the volume.
    """
    between = np.linalg.inv(volume.ijk_to_ras) @ matrix
    there = np.argwhere(mask)[:, ::-1]
    exact = there @ between[:3, :3].T + between[:3, 3]
    index = np.rint(exact).astype(np.int64)
    axes = np.abs(np.rint(between[:3, :3]))
    is_permutation = bool((axes.sum(axis=0) == 1).all() and (axes.sum(axis=1) == 1).all())
    size = np.array(volume.shape[::-1])
    is_same = is_permutation and (np.abs(exact - index) < _SAME_VOXEL).all() and (index >= 0).all()
    if not is_same or not (index < size).all():
        raise FastTextDiffError(
            f"{path}: its voxels are not those of {volume.source.path or 'the image'}: give the image it was made on"
        )
    placed = np.zeros(volume.shape, bool)
    placed[tuple(index[:, ::-1].T)] = True
    return placed
