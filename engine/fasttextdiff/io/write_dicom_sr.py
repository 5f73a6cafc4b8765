"""Writes measurements as a DICOM Structured Report (TID 1500, PS3.16) that refers to a DICOM Segmentation.

The object depends on no clock and no random number: the same segmentation and image give the same bytes. Knows nothing
about how values are measured, nor about atomic writing.
"""

from __future__ import annotations

import json
import uuid
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fasttextdiff.contract.measurements import SegmentMeasurements
from fasttextdiff.contract.segments import plain_line, shorten
from fasttextdiff.errors import FastTextDiffError, UsageError, one_line
from fasttextdiff.image.volume import Volume
from fasttextdiff.io.dicom_seg_sources import UTF_8, check_source, source_images
from fasttextdiff.io.write_dicom_seg import LABEL_MAP, check_packages
from fasttextdiff.version import __version__

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "fasttextdiff.report")
_SERIES_OFFSET = 2000
"""Reports are listed after the images and the segmentations."""
_MM, _ML = ("mm", "millimeter"), ("ml", "milliliter")
_HU = ("[hnsf'U]", "Hounsfield unit")
_MEAN, _SD = ("373098007", "SCT", "Mean"), ("386136009", "SCT", "Standard deviation")
_MEDIAN = ("373099004", "SCT", "Median")
_ATTENUATION = ("112031", "DCM", "Attenuation Coefficient")
# Field, concept (PS3.16, TID 1411), unit and statistic.
_QUANTITIES: tuple[tuple[str, tuple[str, str, str], tuple[str, str], tuple[str, str, str] | None], ...] = (
    ("volume_ml", ("118565006", "SCT", "Volume"), _ML, None),
    ("longest_mm", ("103339001", "SCT", "Long Axis"), _MM, None),
    ("perpendicular_mm", ("103340004", "SCT", "Short Axis"), _MM, None),
    ("mean", _ATTENUATION, _HU, _MEAN),
    ("sd", _ATTENUATION, _HU, _SD),
    ("p50", _ATTENUATION, _HU, _MEDIAN),
)
_DIGITS = 6


def check_report_source(volume: Volume, segmentation: Path) -> None:
    """Refuse a report that could not refer to its images and segments, before any work.

    Raises:
        UsageError: the segmentation is not a `.dcm`, the image is a projection, or as
            :func:`fasttextdiff.io.dicom_seg_sources.check_source`.
        MissingPackagesError: highdicom is not installed.
    """
    if not segmentation.name.lower().endswith(".dcm"):
        raise UsageError(
            f"a DICOM SR refers to a DICOM Segmentation, not to {segmentation.name}: save the segments as .dcm first"
        )
    if volume.is_planar:
        raise UsageError(f"{volume.source.path}: sizes in the patient are not known from a projection; save as .csv")
    check_packages()
    check_source(volume)


def check_new_report(path: Path) -> None:
    """Refuse a file that exists already: whether it is a report of this image is not known.

    Raises:
        UsageError: it exists.
    """
    if path.exists():
        raise UsageError(f"cannot write {path}: it exists already, and a report never replaces a file; name another")


def write_report(volume: Volume, segmentation: Path, measured: Sequence[SegmentMeasurements], path: Path) -> None:
    """Write a report with a measurement group for each segment that has voxels.

    It holds the volume, the two diameters and, of a CT, mean, standard deviation and median; the CSV has the rest.

    Args:
        volume: the image; its DICOM files are read again for their headers.
        segmentation: the DICOM Segmentation of the segments.
        measured: one entry for each of its segments, in order.
        path: file to write; the caller makes the write atomic.

    Raises:
        UsageError: as :func:`check_report_source`.
        FastTextDiffError: the headers do not allow a valid report.
        OSError: the file cannot be written.
    """
    check_report_source(volume, segmentation)
    import pydicom
    from pydicom import config

    with config.disable_value_validation(), warnings.catch_warnings():  # a warning might name the patient
        warnings.simplefilter("ignore")
        try:
            stored = _with_own_segments(pydicom.dcmread(segmentation))
            _report(source_images(volume), stored, measured).save_as(path, enforce_file_format=True)
        except (FastTextDiffError, OSError, MemoryError):
            raise
        except Exception as problem:  # highdicom may raise anything for an unusual header
            raise FastTextDiffError(
                f"{volume.source.path}: the DICOM headers do not allow a DICOM SR ({one_line(problem)}); save as .csv"
            ) from problem


def _with_own_segments(segmentation: Any) -> Any:
    """Name the segment in each frame: highdicom does not look where a single one is named for all (PS3.3 A.51.5)."""
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    if "SegmentIdentificationSequence" in shared:
        for group in segmentation.PerFrameFunctionalGroupsSequence:
            group.SegmentIdentificationSequence = shared.SegmentIdentificationSequence
    return segmentation


def _report(images: Sequence[Any], segmentation: Any, measured: Sequence[SegmentMeasurements]) -> Any:
    from highdicom.sr import ComprehensiveSR, MeasurementReport

    content = MeasurementReport(
        observation_context=_observer(segmentation),
        procedure_reported=_concept(("363679005", "SCT", "Imaging procedure")),
        imaging_measurements=[
            _group(segmentation, number, each) for number, each in enumerate(measured, start=1) if each.voxels
        ],
    )
    report = ComprehensiveSR(
        evidence=[*images, segmentation],
        content=content,
        series_instance_uid=_uid("series", segmentation, measured),
        series_number=_SERIES_OFFSET + max(0, int(images[0].get("SeriesNumber") or 0)),
        sop_instance_uid=_uid("instance", segmentation, measured),
        instance_number=1,
        manufacturer="FastTextDiff",
        manufacturer_model_name=f"fasttextdiff {__version__}",
        software_versions=__version__,
        device_serial_number=str(segmentation.get("DeviceSerialNumber") or "unknown"),
        series_description="FastTextDiff measurements, research use only",
    )
    _settle(report, segmentation)
    return report


def _settle(report: Any, segmentation: Any) -> None:
    """Overwrite values that highdicom takes from the clock, with those of the segmentation."""
    date, time = segmentation.ContentDate, segmentation.ContentTime
    for keyword in ("InstanceCreation", "Content", "Series"):
        setattr(report, f"{keyword}Date", date)
        setattr(report, f"{keyword}Time", time)
    for item in report.get("ContributingEquipmentSequence", ()):
        item.ContributionDateTime = f"{date}{time}"
    report.SpecificCharacterSet = UTF_8


def _observer(segmentation: Any) -> Any:
    """The software as observer: no person has looked at the values."""
    from highdicom.sr import DeviceObserverIdentifyingAttributes, ObservationContext, ObserverContext

    device = DeviceObserverIdentifyingAttributes(
        uid=f"2.25.{uuid.uuid5(_NAMESPACE, 'device').int}",
        name="FastTextDiff",
        manufacturer_name="FastTextDiff",
        model_name=shorten(plain_line(str(segmentation.get("ManufacturerModelName") or "unknown"))),
        serial_number=shorten(plain_line(str(segmentation.get("DeviceSerialNumber") or "unknown"))),
    )
    kind = _concept(("121007", "DCM", "Device"))
    return ObservationContext(observer_device_context=ObserverContext(kind, device))


def _group(segmentation: Any, number: int, measured: SegmentMeasurements) -> Any:
    """Measurements of one segment (TID 1411)."""
    from highdicom.sr import TrackingIdentifier, VolumetricROIMeasurementsAndQualitativeEvaluations

    described = next(each for each in segmentation.SegmentSequence if each.SegmentNumber == number)
    return VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(str(described.TrackingUID), str(described.TrackingID)),
        referenced_segment=_reference(segmentation, number),
        finding_type=_copied(described.SegmentedPropertyTypeCodeSequence[0]),
        finding_category=_copied(described.SegmentedPropertyCategoryCodeSequence[0]),
        finding_sites=_sites(described),
        measurements=_quantities(measured),
    )


def _reference(segmentation: Any, number: int) -> Any:
    """A segment with its source images; a frame of a label map belongs to several segments, so it has the series."""
    from highdicom.sr import ReferencedSegment, SourceSeriesForSegmentation

    if segmentation.SegmentationType != LABEL_MAP:
        return ReferencedSegment.from_segmentation(segmentation, number)
    series = segmentation.ReferencedSeriesSequence[0].SeriesInstanceUID
    return ReferencedSegment(
        segmentation.SOPClassUID,
        segmentation.SOPInstanceUID,
        number,
        source_series=SourceSeriesForSegmentation(series),
    )


def _quantities(measured: SegmentMeasurements) -> list[Any]:
    from highdicom.sr import CodedConcept, Measurement

    found = []
    for field, name, (unit, meaning), derivation in _QUANTITIES:
        value = getattr(measured, field)
        if value is None or (derivation is not None and measured.unit != "HU"):
            continue
        found.append(
            Measurement(
                name=_concept(name),
                value=round(float(value), _DIGITS),
                unit=CodedConcept(unit, "UCUM", meaning),
                derivation=None if derivation is None else _concept(derivation),
            )
        )
    return found


def _sites(described: Any) -> list[Any] | None:
    """The anatomic region of an abnormality, with its side."""
    from highdicom.sr import FindingSite

    if "AnatomicRegionSequence" not in described:
        return None
    region = described.AnatomicRegionSequence[0]
    side = region.get("AnatomicRegionModifierSequence")
    return [FindingSite(_copied(region), laterality=_copied(side[0]) if side else None)]


def _concept(code: tuple[str, str, str]) -> Any:
    from highdicom.sr import CodedConcept

    return CodedConcept(*code)


def _copied(item: Any) -> Any:
    return _concept((str(item.CodeValue), str(item.CodingSchemeDesignator), str(item.CodeMeaning)))


def _uid(what: str, segmentation: Any, measured: Sequence[SegmentMeasurements]) -> str:
    """A UUID-based UID (PS3.5 annex B.2), the same for the same segmentation and values."""
    made_from = json.dumps([what, str(segmentation.SOPInstanceUID), [repr(each) for each in measured]])
    return f"2.25.{uuid.uuid5(_NAMESPACE, made_from).int}"
