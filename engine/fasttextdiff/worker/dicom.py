"""DICOM for 3D Slicer: lists the files of a series, and saves segments as a DICOM Segmentation.

Knows the contract's messages; knows nothing about models, threads and streams.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from os.path import commonpath
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.contract.answers import DicomSegSaved, SeriesFiles
from fasttextdiff.contract.requests import ListSeries, SaveDicomSeg, SavedSegment
from fasttextdiff.contract.segments import (
    ALGORITHM_NAME_TAG,
    ALGORITHM_TAG,
    ALGORITHM_TYPES,
    AUTOMATIC,
    FINDING_TAG,
    LOOKED_AT_TAG,
    MANUAL,
    PRESENCE_TAG,
    REVIEW_TAG,
    unescape_tag,
)
from fasttextdiff.errors import Cancelled, FastTextDiffError, UsageError
from fasttextdiff.image.volume import Volume
from fasttextdiff.io.atomic import whole_files
from fasttextdiff.io.dicom_seg_segments import DicomSegment
from fasttextdiff.io.read import read_volume
from fasttextdiff.io.write import (
    check_not_source,
    check_segmentation_path,
    check_segmentation_source,
    dicom_seg_notes,
    is_label_map,
)
from fasttextdiff.io.write_dicom_seg import write_segments
from fasttextdiff.io.write_dicom_sr import check_new_report, write_report
from fasttextdiff.paths import as_path
from fasttextdiff.segments.measuring import MaskedSegment, measure_segments
from fasttextdiff.segments.tags import segment_names, texts_of_tags
from fasttextdiff.segments.terminology import code_finding, coded_entry
from fasttextdiff.worker.values import mapped_array, matrix_of

_SAME_PLACE_MM = 0.05
"""Tolerance of positions, which Slicer keeps as text in some of its files."""


def list_series(request: ListSeries) -> SeriesFiles:
    """The files of a series in slice order, as read for segmentation.

    Raises:
        FastTextDiffError: as `read_volume`.
    """
    volume = read_volume(request.path, series_uid=request.series)
    files = dict.fromkeys(Path(file) for file, _ in volume.source.frames)
    return SeriesFiles(tuple(files), tuple(dict.fromkeys(volume.source.instance_uids)))


def save_dicom_seg(request: SaveDicomSeg, progress: Callable[[int, int], bool]) -> DicomSegSaved:
    """Write the segments on the grid of the DICOM images that the volume in Slicer was loaded from.

    With a report, both files are new, and both appear or none.

    Args:
        request: segments, files and geometry.
        progress: called with (done, total) steps; False cancels, and no file is changed.

    Raises:
        Cancelled: `progress` returned False.
        UsageError: the request is not valid, or the images cannot be referenced.
        MissingPackagesError: highdicom is not installed.
        FastTextDiffError: the images are gone, or the volume is no longer on their grid.
    """
    path = as_path(request.output)
    check_segmentation_path(path)
    segments = _segments(request.segments)
    volume = _source(request.files, request.name)
    check_segmentation_source(volume, path)
    check_not_source([path], volume)
    _require_same_grid(volume, segments, matrix_of(request.ijk_to_ras))
    report = None if request.report is None else as_path(request.report)
    if report is not None:
        for file in (
            path,
            report,
        ):  # the user named only the report, and may not know of the other file
            check_new_report(file)
    with whole_files(*filter(None, (path, report))) as temporary:
        _go_on(progress, 1)
        write_segments(volume, segments, temporary[0], label_map=is_label_map(path))
        if report is not None:
            masked = [MaskedSegment(segment.name, segment.frames, segment.codes) for segment in segments]
            write_report(volume, temporary[0], measure_segments(volume, masked), temporary[1])
        _go_on(progress, 2)
    return DicomSegSaved(tuple(dicom_seg_notes(volume, path, [segment.frames for segment in segments])))


def _go_on(progress: Callable[[int, int], bool], done: int) -> None:
    if not progress(done, 2):
        raise Cancelled("cancelled: no file was changed")


def _source(files: Sequence[Path], name: str) -> Volume:
    paths = [as_path(file) for file in files]
    missing = sum(not path.is_file() for path in paths)
    if missing or not paths:
        raise FastTextDiffError(f"{missing} of {len(paths)} DICOM files of '{name}' are gone: import the study again")
    return read_volume(commonpath([path.parent for path in paths]), files=paths)


def _require_same_grid(volume: Volume, segments: Sequence[DicomSegment], ijk_to_ras: NDArray[np.float64]) -> None:
    """Refuse masks that do not match the images; for a projection only the size can be compared."""
    is_same = all(segment.frames.shape == volume.shape for segment in segments)
    if is_same and not volume.is_planar:
        k, j, i = volume.shape
        corners = np.array([(x, y, z, 1) for x in (0, i - 1) for y in (0, j - 1) for z in (0, k - 1)], float)
        moved = corners @ (volume.ijk_to_ras - ijk_to_ras).T
        # the thickness of a single slice is a guess and may differ
        is_same = bool(np.abs(moved).max() < _SAME_PLACE_MM)
    if not is_same:
        raise FastTextDiffError(
            "the image is no longer on the grid of its DICOM files (cropped, resampled or straightened): load the "
            "series again, or save as .seg.nrrd or .nii.gz"
        )


def _segments(asked: Sequence[SavedSegment]) -> list[DicomSegment]:
    if not asked:
        raise UsageError("there is no segment to save")
    names = segment_names([segment.name for segment in asked])
    return [_segment(segment, name) for segment, name in zip(asked, names, strict=True)]


def _segment(asked: SavedSegment, name: str) -> DicomSegment:
    tags = asked.tags
    made = texts_of_tags(tags)
    text = unescape_tag(tags.get(FINDING_TAG, "")) or name
    algorithm = tags.get(ALGORITHM_TAG, "")
    return DicomSegment(
        text=text,
        name=name,
        color=asked.color,
        codes=coded_entry(asked.terminology) or code_finding(text),
        frames=np.asarray(mapped_array(asked.voxels), bool),
        made=made,
        presence=unescape_tag(tags.get(PRESENCE_TAG, "not asked")),
        algorithm=algorithm if algorithm in ALGORITHM_TYPES else AUTOMATIC if made else MANUAL,
        algorithm_name=tags.get(ALGORITHM_NAME_TAG, ""),
        review=_review(tags),
    )


def _review(tags: Mapping[str, str]) -> str:
    """What was looked at; nothing if nothing was: a result that nobody touched is the command line's."""
    return "" if tags.get(LOOKED_AT_TAG) == "0" else unescape_tag(tags.get(REVIEW_TAG, ""))
