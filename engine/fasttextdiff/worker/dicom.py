"""DICOM for 3D Slicer: which files a series consists of, and the scene's segments as a DICOM Segmentation.

Knows the protocol's fields; knows nothing about models, threads and streams.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from os.path import commonpath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.contract.segments import (
    ALGORITHM_NAME_TAG,
    ALGORITHM_TAG,
    ALGORITHM_TYPES,
    AUTOMATIC,
    FINDING_TAG,
    MANUAL,
    PRESENCE_TAG,
    unescape_tag,
)
from fasttextdiff.errors import Cancelled, FastTextDiffError, UsageError
from fasttextdiff.image.volume import Volume
from fasttextdiff.io.atomic import whole_files
from fasttextdiff.io.read import read_volume
from fasttextdiff.io.write import check_not_source, check_segmentation_path, check_segmentation_source, dicom_seg_notes
from fasttextdiff.io.write_dicom_seg import DicomSegment, write_segments
from fasttextdiff.paths import as_path
from fasttextdiff.segments.tags import segment_names, texts_of_tags
from fasttextdiff.segments.terminology import code_finding, coded_entry
from fasttextdiff.worker.fields import mapped_array, matrix_of, numbers, optional, required

_SAME_PLACE_MM = 0.05
"""Slicer keeps positions as text in some of its files."""

Request = Mapping[str, Any]


def series_files(request: Request) -> dict[str, Any]:
    """The files of a series in the order of its slices, as they make up the volume that was segmented.

    Raises:
        FastTextDiffError: as `read_volume`.
    """
    volume = read_volume(required(request, "path", str), series_uid=optional(request, "series", str))
    files = list(dict.fromkeys(file for file, _ in volume.source.frames))
    return {"files": files, "instanceUids": list(dict.fromkeys(volume.source.instance_uids))}


def save_dicom_seg(request: Request, progress: Callable[[int, int], bool]) -> dict[str, Any]:
    """Write the segments on the grid of the DICOM images that the volume in Slicer was loaded from.

    Args:
        request: with segments, files and place.
        progress: asked with (done, total) steps; False cancels, and no file is changed.

    Raises:
        Cancelled: `progress` returned False.
        UsageError: the request cannot be served, or the images cannot be referred to.
        MissingPackagesError: highdicom is not there.
        FastTextDiffError: the images are gone, or the volume is not on their grid any more.
    """
    path = as_path(required(request, "output", str))
    check_segmentation_path(path)
    segments = _segments(required(request, "segments", list))
    volume = _source(required(request, "files", list), required(request, "name", str))
    check_segmentation_source(volume, path)
    check_not_source([path], volume)
    _require_same_grid(volume, segments, matrix_of(request))
    with whole_files(path) as (temporary,):
        _go_on(progress, 1)
        write_segments(volume, segments, temporary)
        _go_on(progress, 2)
    return {"notes": dicom_seg_notes(volume, path)}


def _go_on(progress: Callable[[int, int], bool], done: int) -> None:
    if not progress(done, 2):
        raise Cancelled("cancelled: no file was changed")


def _source(files: Sequence[Any], name: str) -> Volume:
    paths = [as_path(required({"files": file}, "files", str)) for file in files]
    missing = sum(not path.is_file() for path in paths)
    if missing or not paths:
        raise FastTextDiffError(f"{missing} of {len(paths)} DICOM files of '{name}' are gone: import the study again")
    return read_volume(commonpath([path.parent for path in paths]), files=paths)


def _require_same_grid(volume: Volume, segments: Sequence[DicomSegment], ijk_to_ras: NDArray[np.float64]) -> None:
    """Refuse to put masks where they do not belong; a projection has no place, only a size."""
    is_same = all(segment.frames.shape == volume.shape for segment in segments)
    if is_same and not volume.is_planar:
        k, j, i = volume.shape
        corners = np.array([(x, y, z, 1) for x in (0, i - 1) for y in (0, j - 1) for z in (0, k - 1)], float)
        moved = corners @ (volume.ijk_to_ras - ijk_to_ras).T
        # one slice has no next one: how thick it is, is a guess that may differ
        is_same = bool(np.abs(moved).max() < _SAME_PLACE_MM)
    if not is_same:
        raise FastTextDiffError(
            "the image is not on the grid of its DICOM files any more (cropped, resampled or straightened): load the "
            "series again, or save as .seg.nrrd or .nii.gz"
        )


def _segments(entries: Sequence[Any]) -> list[DicomSegment]:
    if not entries:
        raise UsageError("there is no segment to save")
    asked = [required({"segments": entry}, "segments", dict) for entry in entries]
    names = segment_names([required(entry, "name", str) for entry in asked])
    return [_segment(entry, name) for entry, name in zip(asked, names, strict=True)]


def _segment(entry: Request, name: str) -> DicomSegment:
    tags = {str(tag): str(value) for tag, value in required(entry, "tags", dict).items()}
    red, green, blue = numbers(entry, "color", int) or (128, 174, 128)
    made = texts_of_tags(tags)
    text = unescape_tag(tags.get(FINDING_TAG, "")) or name
    algorithm = tags.get(ALGORITHM_TAG, "")
    return DicomSegment(
        text=text,
        name=name,
        color=(red, green, blue),
        codes=coded_entry(optional(entry, "terminology", str) or "") or code_finding(text),
        frames=np.asarray(mapped_array(entry), bool),
        made=made,
        presence=unescape_tag(tags.get(PRESENCE_TAG, "not asked")),
        algorithm=algorithm if algorithm in ALGORITHM_TYPES else AUTOMATIC if made else MANUAL,
        algorithm_name=tags.get(ALGORITHM_NAME_TAG, ""),
    )
