"""Writes findings as a DICOM Segmentation (PS3.3 section A.51) that refers to its source images.

The frames are at the positions of the source images, in their frame of reference. The object depends on no clock and no
random number: the same segments give the same bytes. Knows nothing about atomic writing.
"""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.contract.segments import AUTOMATIC
from fasttextdiff.environment import HIGHDICOM, check_package
from fasttextdiff.errors import FastTextDiffError, MissingPackagesError, UsageError, one_line
from fasttextdiff.image.volume import Volume
from fasttextdiff.io.dicom_seg_segments import FULL, DicomSegment, derived_uid, describe, long_string, options_of
from fasttextdiff.io.dicom_seg_sources import USE_INSTEAD, UTF_8, check_source, source_images
from fasttextdiff.io.write_seg_nrrd import label_type
from fasttextdiff.result import SegmentationResult, overlapping
from fasttextdiff.segments.tags import presence_text, provenance_texts, segment_names
from fasttextdiff.segments.terminology import assign_colors, code_finding

# Series are listed by number: segmentations come after the images, in the same order.
_SERIES_OFFSET = 1000
BINARY, FRACTIONAL, LABEL_MAP = "BINARY", "FRACTIONAL", "LABELMAP"
"""Segmentation Type (0062,0001)."""


def check_packages() -> None:
    """Check the optional package before any work.

    Raises:
        MissingPackagesError: highdicom is not installed, or too old.
    """
    problem = check_package(HIGHDICOM).problem
    if problem:
        raise MissingPackagesError(
            f'DICOM SEG needs {HIGHDICOM.name}: {problem}; pip install "{HIGHDICOM}", or {USE_INSTEAD}'
        )


def write_dicom_seg(
    result: SegmentationResult, path: Path, *, fractional: bool = False, label_map: bool = False
) -> None:
    """Write all findings of a run as one Segmentation object; see :func:`write_segments`.

    Args:
        result: at least one finding; its source images are read again for their headers.
        path: file to write; the caller makes the write atomic.
        fractional: store probabilities in steps of 1/255 instead of masks; 3D Slicer reads them as labels.
        label_map: see :func:`write_segments`.
    """
    write_segments(result.volume, _segments_of(result, fractional), path, label_map=label_map)


def _segments_of(result: SegmentationResult, fractional: bool) -> list[DicomSegment]:
    findings = [found.finding for found in result.findings]
    looks = zip(result.findings, segment_names(findings), assign_colors(findings), strict=True)
    return [
        DicomSegment(
            text=found.finding,
            name=name,
            color=color,
            codes=code_finding(found.finding),
            frames=found.probability if fractional else found.mask,
            made=provenance_texts(result.provenance.of(found)),
            presence=presence_text(found.presence),
        )
        for found, name, color in looks
    ]


def write_segments(volume: Volume, segments: Sequence[DicomSegment], path: Path, *, label_map: bool = False) -> None:
    """Write one Segmentation object, one segment each, on the grid of the source images.

    Binary segments hold the masks, including overlaps. Empty frames are left out, but an empty segment keeps one, so
    that readers that go by frames list it too. UIDs are derived from the source, the segments with their provenance,
    and their voxels. Dates are those of the last run in local time, as DICOM assumes without a time zone.

    Args:
        volume: the volume of the segments; its source images are read again for their headers.
        segments: at least one made by the model; all binary or all fractional.
        path: file to write; the caller makes the write atomic.
        label_map: store one label in each voxel instead of one mask for each segment (PS3.3 section A.51.2, Label Map
            Segmentation). Segments that overlap are stored as masks all the same, since one label cannot hold them.

    Raises:
        UsageError: see :func:`check_source`, or the model made none of the segments.
        MissingPackagesError: see :func:`check_packages`.
        FastTextDiffError: the source images are gone or changed, or their headers do not allow a valid object.
        OSError: the file cannot be written.
    """
    check_packages()
    check_source(volume)
    if all(segment.made is None for segment in segments):
        raise UsageError("FastTextDiff made none of these segments: export them with the program that made them")
    from pydicom import config

    # Values of the source are copied unchanged; a warning would show them, and they may name the patient.
    with config.disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            kind = _kind(segments, label_map=label_map)
            _segmentation(volume, segments, kind, source_images(volume)).save_as(path, enforce_file_format=True)
        except (FastTextDiffError, OSError, MemoryError):
            raise
        except Exception as problem:  # highdicom may raise anything for an unusual header
            raise FastTextDiffError(
                f"{volume.source.path}: the DICOM headers do not allow a DICOM SEG ({one_line(problem)}); {USE_INSTEAD}"
            ) from problem


# --- the object ------------------------------------------------------------------------------------------------------


def _kind(segments: Sequence[DicomSegment], *, label_map: bool) -> str:
    """Segmentation Type (0062,0001)."""
    if segments[0].is_fractional:
        return FRACTIONAL
    is_possible = label_map and not overlapping([segment.frames for segment in segments])
    return LABEL_MAP if is_possible else BINARY


def _segmentation(volume: Volume, segments: Sequence[DicomSegment], kind: str, images: Sequence[Any]) -> Any:
    """The Segmentation object (a pydicom dataset)."""
    from highdicom.seg import Segmentation

    logging.getLogger("highdicom").setLevel(logging.ERROR)  # it would log the patient's name
    created, uid = _created(segments), _uids(volume, segments, kind)
    segmentation = Segmentation(
        source_images=images,
        pixel_array=_occupied(volume, segments, kind),
        segmentation_type=kind,
        max_fractional_value=FULL,
        segment_descriptions=[
            describe(n, segment, volume.source.series_uid) for n, segment in enumerate(segments, start=1)
        ],
        series_instance_uid=uid("series"),
        series_number=_SERIES_OFFSET + max(0, int(images[0].get("SeriesNumber") or 0)),
        sop_instance_uid=uid("instance"),
        instance_number=1,
        manufacturer="FastTextDiff",
        manufacturer_model_name=long_string(_made(segments, "model")),
        software_versions=long_string(_made(segments, "software")),
        device_serial_number=long_string(_made(segments, "weights_sha256")),
        content_label="SEGMENTATION",
        content_description=_content(segments),
        series_description="FastTextDiff segmentation, research use only",
        content_date=created.date(),
        content_time=created.time(),
        series_date=created.date(),
        series_time=created.time(),
    )
    _settle(segmentation, segments, kind, created, uid("dimensions"))
    if volume.is_planar:
        segmentation.PatientOrientation = images[0].get("PatientOrientation") or ""
        # highdicom does not write an Imager Pixel Spacing, measured at the detector
        segmentation.SharedFunctionalGroupsSequence[0].pop("PixelMeasuresSequence", None)
    _fill_frames(segmentation, volume, segments, kind)
    return segmentation


def _created(segments: Iterable[DicomSegment]) -> datetime:
    """Time of the last run, in local time without a zone."""
    times = [datetime.fromisoformat(segment.made["created"]) for segment in segments if segment.made]
    return max(times).astimezone().replace(tzinfo=None)


def _made(segments: Iterable[DicomSegment], field: str) -> str:
    """A provenance field of all segments, each value once."""
    return ", ".join(dict.fromkeys(segment.made[field] for segment in segments if segment.made))


def _content(segments: Iterable[DicomSegment]) -> str:
    """Content Description (0070,0081)."""
    is_untouched = all(segment.algorithm == AUTOMATIC for segment in segments)
    what = "Automatic result" if is_untouched else "Result with edits by hand,"
    return f"{what} for research, not for diagnosis"


def _settle(
    segmentation: Any, segments: Sequence[DicomSegment], kind: str, created: datetime, dimensions_uid: str
) -> None:
    """Overwrite values that highdicom takes from the clock, makes at random, or does not know."""
    segmentation.InstanceCreationDate, segmentation.InstanceCreationTime = created.date(), created.time()
    segmentation.ContributingEquipmentSequence[-1].ContributionDateTime = created  # highdicom's own entry
    for item in (*segmentation.DimensionOrganizationSequence, *segmentation.DimensionIndexSequence):
        item.DimensionOrganizationUID = dimensions_uid
    segmentation.SpecificCharacterSet = UTF_8
    segmentation.ContentCreatorName = ""
    if kind == FRACTIONAL:
        segmentation.SegmentsOverlap = "UNDEFINED"
    elif kind == BINARY:
        segmentation.SegmentsOverlap = "YES" if overlapping([segment.frames for segment in segments]) else "NO"


def _occupied(volume: Volume, segments: Sequence[DicomSegment], kind: str) -> NDArray[Any]:
    """Pixels that only tell which frames exist; the real ones are filled in later, without a second copy of all masks.

    Returns:
        (k, j, i, segment), bool; for a label map (k, j, i), uint8.
    """
    stored = _stored_frames(volume, segments)
    if kind == LABEL_MAP:
        in_use = np.asarray(stored.any(axis=1), np.uint8)
        return np.broadcast_to(in_use[:, None, None], volume.shape)
    return np.broadcast_to(stored[:, None, None, :], (*volume.shape, len(segments)))


def _stored_frames(volume: Volume, segments: Sequence[DicomSegment]) -> NDArray[np.bool_]:
    """Which frames are stored: (k, segment)."""
    stored = np.array([[segment.pixels(k).any() for segment in segments] for k in range(volume.shape[0])])
    nowhere = ~stored.any(axis=0)
    stored[stored.any(axis=1).argmax(), nowhere] = True
    return stored


def _fill_frames(segmentation: Any, volume: Volume, segments: Sequence[DicomSegment], kind: str) -> None:
    """Fill in the pixels, in the object's order of frames, and reference the frames of a multi-frame source."""
    source, groups = volume.source, segmentation.PerFrameFunctionalGroupsSequence
    origins = [group.DerivationImageSequence[0].SourceImageSequence[0] for group in groups]
    slice_of = {uid: k for k, uid in enumerate(source.instance_uids)}
    slices = [
        int(origin.ReferencedFrameNumber) - 1
        if "ReferencedFrameNumber" in origin
        else slice_of[origin.ReferencedSOPInstanceUID]
        for origin in origins
    ]
    for origin, k in zip(origins, slices, strict=True):  # only now, because segments share one item per slice
        if "ReferencedFrameNumber" in origin:
            origin.ReferencedFrameNumber = source.frames[k][1]
    if kind == LABEL_MAP:
        data = b"".join(_labels(segments, k).tobytes() for k in slices)
    else:
        owners = [segments[_segment_number(segmentation, group) - 1] for group in groups]
        pixels = np.concatenate([segment.pixels(k).ravel() for segment, k in zip(owners, slices, strict=True)])
        data = (pixels if kind == FRACTIONAL else np.packbits(pixels, bitorder="little")).tobytes()
    segmentation.PixelData = data + b"\0" * (len(data) % 2)


def _labels(segments: Sequence[DicomSegment], k: int) -> NDArray[Any]:
    """Segment numbers of slice k, (j, i); 0 is background. The type is little-endian, as the file's."""
    labels = np.zeros(segments[0].frames.shape[1:], np.dtype(label_type(len(segments))).newbyteorder("<"))
    for number, segment in enumerate(segments, start=1):
        labels[segment.frames[k]] = number
    return labels


def _segment_number(segmentation: Any, group: Any) -> int:
    """The segment of a frame; a single segment is given once for all frames."""
    owner = group if "SegmentIdentificationSequence" in group else segmentation.SharedFunctionalGroupsSequence[0]
    return int(owner.SegmentIdentificationSequence[0].ReferencedSegmentNumber)


def _uids(volume: Volume, segments: Sequence[DicomSegment], kind: str) -> Callable[[str], str]:
    """A function that derives UUID-based UIDs (PS3.5 annex B.2) from the object's source, provenance and voxels.

    Voxels count, because edited segments and segments combined from several runs may have the same provenance.
    """
    voxels = hashlib.sha256()
    for segment in segments:
        for k in range(volume.shape[0]):
            pixels = segment.pixels(k)
            voxels.update((pixels if segment.is_fractional else np.packbits(pixels)).tobytes())
    described = [
        [
            *(segment.text, segment.name, segment.algorithm, str(segment.codes), segment.color, options_of(segment)),
            *([segment.review] if segment.review else []),
        ]
        for segment in segments
    ]
    made_from = [volume.source.series_uid, volume.source.instance_uids, described, voxels.hexdigest()]
    layout = [kind] if kind == LABEL_MAP else []
    return lambda what: derived_uid([what, *made_from, *layout])
