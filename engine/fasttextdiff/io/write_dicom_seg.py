"""Writes findings as a DICOM Segmentation (PS3.3 section A.51) that refers to its source images.

The frames are at the positions of the source images, in their frame of reference. The object depends on no clock and no
random number: the same segments give the same bytes. Knows nothing about atomic writing.
"""

from __future__ import annotations

import hashlib
import json
import logging
import uuid
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.contract.colors import Rgb
from fasttextdiff.contract.segments import AUTOMATIC, MANUAL, plain_line, shorten
from fasttextdiff.environment import HIGHDICOM, check_package
from fasttextdiff.errors import FastTextDiffError, MissingPackagesError, UsageError, one_line
from fasttextdiff.image.volume import Volume
from fasttextdiff.io.dicom_seg_sources import USE_INSTEAD, UTF_8, check_source, source_images
from fasttextdiff.result import SegmentationResult, overlapping
from fasttextdiff.segments.tags import (
    algorithm_name,
    escape_parameter,
    presence_text,
    provenance_texts,
    segment_names,
)
from fasttextdiff.segments.terminology import Code, CodedFinding, assign_colors, code_finding

# Our namespace, so that no other software derives the same UIDs from the same series (RFC 9562, section 5.5).
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "fasttextdiff")
# Series are listed by number: segmentations come after the images, in the same order.
_SERIES_OFFSET = 1000
_FULL = 255  # Maximum Fractional Value (0062,000E)
# Segment Description (0062,0006) is an ST; Algorithm Parameters (0066,0032) are an LT of 10,240 characters, where an
# escaped byte takes three.
_DESCRIPTION_LENGTH = 1024
_EDITED = " (edited by hand)"
_PARAMETER_LENGTH = 3000


@dataclass(frozen=True)
class DicomSegment:
    """One segment to write, edited or as the model made it.

    Attributes:
        text: the finding as typed; for a segment not made by the model, its name.
        name: Segment Label (0062,0005), unique.
        color: display colour.
        codes: coded description.
        frames: (k, j, i), bool; or float32 probabilities in [0, 1].
        made: `Provenance` fields as text, by name; None if the model did not make it.
        presence: text from `presence_text`.
        algorithm: Segment Algorithm Type (0062,0008): "AUTOMATIC", "SEMIAUTOMATIC" if edited, or "MANUAL".
        algorithm_name: Segment Algorithm Name (0062,0009), if another algorithm made it.
    """

    text: str
    name: str
    color: Rgb
    codes: CodedFinding
    frames: NDArray[Any]
    made: Mapping[str, str] | None
    presence: str = "not asked"
    algorithm: str = AUTOMATIC
    algorithm_name: str = ""

    @property
    def is_fractional(self) -> bool:
        """Whether it holds probabilities."""
        return self.frames.dtype.kind == "f"

    def pixels(self, k: int) -> NDArray[Any]:
        """Stored pixels of slice k, (j, i): bool, or probabilities as uint8 in steps of 1/255."""
        return np.rint(self.frames[k] * np.float32(_FULL)).astype(np.uint8) if self.is_fractional else self.frames[k]


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


def write_dicom_seg(result: SegmentationResult, path: Path, *, fractional: bool = False) -> None:
    """Write all findings of a run as one Segmentation object; see :func:`write_segments`.

    Args:
        result: at least one finding; its source images are read again for their headers.
        path: file to write; the caller makes the write atomic.
        fractional: store probabilities in steps of 1/255 instead of masks; 3D Slicer reads them as labels.
    """
    write_segments(result.volume, _segments_of(result, fractional), path)


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


def write_segments(volume: Volume, segments: Sequence[DicomSegment], path: Path) -> None:
    """Write one Segmentation object, one segment each, on the grid of the source images.

    Binary segments hold the masks, including overlaps. Empty frames are left out, but an empty segment keeps one, so
    that readers that go by frames list it too. UIDs are derived from the source, the segments with their provenance,
    and their voxels. Dates are those of the last run in local time, as DICOM assumes without a time zone.

    Args:
        volume: the volume of the segments; its source images are read again for their headers.
        segments: at least one made by the model; all binary or all fractional.
        path: file to write; the caller makes the write atomic.

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
            _segmentation(volume, segments, source_images(volume)).save_as(path, enforce_file_format=True)
        except (FastTextDiffError, OSError, MemoryError):
            raise
        except Exception as problem:  # highdicom may raise anything for an unusual header
            raise FastTextDiffError(
                f"{volume.source.path}: the DICOM headers do not allow a DICOM SEG ({one_line(problem)}); {USE_INSTEAD}"
            ) from problem


# --- the object ------------------------------------------------------------------------------------------------------


def _segmentation(volume: Volume, segments: Sequence[DicomSegment], images: Sequence[Any]) -> Any:
    """The Segmentation object (a pydicom dataset)."""
    from highdicom.seg import Segmentation

    logging.getLogger("highdicom").setLevel(logging.ERROR)  # it would log the patient's name
    created, uid = _created(segments), _uids(volume, segments)
    stored = _stored_frames(volume, segments)
    segmentation = Segmentation(
        source_images=images,
        # Only tells which frames exist; pixels are filled in later, which avoids a second copy of all masks.
        pixel_array=np.broadcast_to(stored[:, None, None, :], (*volume.shape, len(segments))),
        segmentation_type="FRACTIONAL" if segments[0].is_fractional else "BINARY",
        max_fractional_value=_FULL,
        segment_descriptions=[_describe(n, segment, volume) for n, segment in enumerate(segments, start=1)],
        series_instance_uid=uid("series"),
        series_number=_SERIES_OFFSET + max(0, int(images[0].get("SeriesNumber") or 0)),
        sop_instance_uid=uid("instance"),
        instance_number=1,
        manufacturer="FastTextDiff",
        manufacturer_model_name=_long_string(_made(segments, "model")),
        software_versions=_long_string(_made(segments, "software")),
        device_serial_number=_long_string(_made(segments, "weights_sha256")),
        content_label="SEGMENTATION",
        content_description=_content(segments),
        series_description="FastTextDiff segmentation, research use only",
        content_date=created.date(),
        content_time=created.time(),
        series_date=created.date(),
        series_time=created.time(),
    )
    _settle(segmentation, segments, created, uid("dimensions"))
    if volume.is_planar:
        segmentation.PatientOrientation = images[0].get("PatientOrientation") or ""
        # highdicom does not write an Imager Pixel Spacing, measured at the detector
        segmentation.SharedFunctionalGroupsSequence[0].pop("PixelMeasuresSequence", None)
    _fill_frames(segmentation, volume, segments)
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


def _settle(segmentation: Any, segments: Sequence[DicomSegment], created: datetime, dimensions_uid: str) -> None:
    """Overwrite values that highdicom takes from the clock, makes at random, or does not know."""
    segmentation.InstanceCreationDate, segmentation.InstanceCreationTime = created.date(), created.time()
    segmentation.ContributingEquipmentSequence[-1].ContributionDateTime = created  # highdicom's own entry
    for item in (*segmentation.DimensionOrganizationSequence, *segmentation.DimensionIndexSequence):
        item.DimensionOrganizationUID = dimensions_uid
    segmentation.SpecificCharacterSet = UTF_8
    segmentation.ContentCreatorName = ""
    if segments[0].is_fractional:
        segmentation.SegmentsOverlap = "UNDEFINED"
    else:
        segmentation.SegmentsOverlap = "YES" if overlapping([segment.frames for segment in segments]) else "NO"


def _stored_frames(volume: Volume, segments: Sequence[DicomSegment]) -> NDArray[np.bool_]:
    """Which frames are stored: (k, segment)."""
    stored = np.array([[segment.pixels(k).any() for segment in segments] for k in range(volume.shape[0])])
    nowhere = ~stored.any(axis=0)
    stored[stored.any(axis=1).argmax(), nowhere] = True
    return stored


def _fill_frames(segmentation: Any, volume: Volume, segments: Sequence[DicomSegment]) -> None:
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
    owners = [segments[_segment_number(segmentation, group) - 1] for group in groups]
    pixels = np.concatenate([segment.pixels(k).ravel() for segment, k in zip(owners, slices, strict=True)])
    data = pixels.tobytes() if segments[0].is_fractional else np.packbits(pixels, bitorder="little").tobytes()
    segmentation.PixelData = data + b"\0" * (len(data) % 2)


def _segment_number(segmentation: Any, group: Any) -> int:
    """The segment of a frame; a single segment is given once for all frames."""
    owner = group if "SegmentIdentificationSequence" in group else segmentation.SharedFunctionalGroupsSequence[0]
    return int(owner.SegmentIdentificationSequence[0].ReferencedSegmentNumber)


def _uids(volume: Volume, segments: Sequence[DicomSegment]) -> Callable[[str], str]:
    """A function that derives UUID-based UIDs (PS3.5 annex B.2) from the object's source, provenance and voxels.

    Voxels count, because edited segments and segments combined from several runs may have the same provenance.
    """
    voxels = hashlib.sha256()
    for segment in segments:
        for k in range(volume.shape[0]):
            pixels = segment.pixels(k)
            voxels.update((pixels if segment.is_fractional else np.packbits(pixels)).tobytes())
    described = [
        [segment.text, segment.name, segment.algorithm, str(segment.codes), segment.color, _options(segment)]
        for segment in segments
    ]
    made_from = [volume.source.series_uid, volume.source.instance_uids, described, voxels.hexdigest()]
    return lambda what: f"2.25.{uuid.uuid5(_NAMESPACE, json.dumps([what, *made_from])).int}"


def _options(segment: DicomSegment) -> dict[str, str]:
    """All settings that determine the result; of the device only its type, because its index does not matter."""
    texts = dict(segment.made or {})
    texts.pop("created", None)
    return {name: text.partition(":")[0] if name == "device" else text for name, text in texts.items()}


def _long_string(text: str) -> str:
    """Text for an LO (PS3.5 section 6.2) that must not be empty."""
    return shorten(plain_line(text)) or "unknown"


# --- segments --------------------------------------------------------------------------------------------------------


def _describe(number: int, segment: DicomSegment, volume: Volume) -> Any:
    """Segment Description (PS3.3 section C.8.20.4)."""
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentDescription

    codes, text = segment.codes, plain_line(segment.text) or segment.name
    followed = json.dumps([volume.source.series_uid, segment.text])
    described = SegmentDescription(
        segment_number=number,
        segment_label=segment.name,
        segmented_property_category=_concept(codes.category),
        segmented_property_type=_concept(codes.type),
        algorithm_type=segment.algorithm if segment.made else MANUAL,
        algorithm_identification=_identify_algorithm(segment, segment.made) if segment.made else None,
        tracking_uid=f"2.25.{uuid.uuid5(_NAMESPACE, followed).int}",
        tracking_id=text,
        anatomic_regions=None if codes.region is None else [_concept(codes.region)],
        display_color=CIELabColor.from_rgb(*segment.color),
    )
    if segment.algorithm != MANUAL and not segment.made:  # only the name of another program's algorithm is known
        described.SegmentAlgorithmType = segment.algorithm
        described.SegmentAlgorithmName = _long_string(segment.algorithm_name)
    is_edited = segment.made and segment.algorithm != AUTOMATIC
    described.SegmentDescription = shorten(text, _DESCRIPTION_LENGTH - len(_EDITED)) + (_EDITED if is_edited else "")
    if codes.modifier is not None:
        kind = described.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [_concept(codes.modifier)]
    if codes.region_modifier is not None:
        described.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = [_concept(codes.region_modifier)]
    return described


def _concept(code: Code) -> Any:
    from highdicom.sr import CodedConcept

    return CodedConcept(code.value, code.scheme, code.meaning)


def _identify_algorithm(segment: DicomSegment, made: Mapping[str, str]) -> Any:
    """Algorithm Identification (PS3.3 section 10.16): everything needed to reproduce the segment."""
    from highdicom import AlgorithmIdentificationSequence
    from pydicom.sr.codedict import codes

    parameters = {
        **_options(segment),
        "presence": segment.presence,
        "finding": shorten(segment.text, _PARAMETER_LENGTH),
    }
    return AlgorithmIdentificationSequence(
        name=algorithm_name(made["model"]),
        family=codes.cid7162.ArtificialIntelligence,
        version=_long_string(made["software"]),
        parameters={name: escape_parameter(text) for name, text in parameters.items()},
    )
