"""Reads DICOM headers: which images there are, how they are stored, and their position in the patient.

Knows nothing about pixel values or stacks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fasttextdiff.errors import FastTextDiffError, UsageError
from fasttextdiff.image.volume import Modality
from fasttextdiff.io.dicom_codestreams import require_possible_deflated
from fasttextdiff.io.dicom_encoding import Encoding, parse_encoding, require_possible_size
from fasttextdiff.io.dicom_numbers import counted, decimal, decimals

# Modality (0008,0060), PS3.3 C.7.3.1.1.1
_MODALITIES = {
    "CT": Modality.CT,
    "MR": Modality.MR,
    "SM": Modality.HISTOLOGY,
    **dict.fromkeys(("CR", "DX", "MG", "RF", "RG", "XA", "PX", "IO"), Modality.XRAY),
}
# Objects with pixels that are not images of a patient, by name of the SOP class, because anonymisers drop modalities.
_NOT_IMAGES = ("Segmentation", "Dose")
# Attributes that differ between acquisitions that a scanner or archive put into one series.
_ACQUISITIONS = (
    "AcquisitionNumber",
    "AcquisitionUID",
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "ConvolutionKernel",
    "KVP",
    "EchoTime",
    "NominalPercentageOfCardiacPhase",
    "ImageType",
)
# In MR, every second slice may be acquired in another pass.
_ACQUISITIONS_OF_CT = ("AcquisitionTime", "AcquisitionDateTime")
_LISTED = 10
_SERIES_UID = 0x0020000E


@dataclass(frozen=True)
class Frame:
    """One slice as described by the Image Plane module (PS3.3 section C.7.6.2) or functional groups (C.7.6.16.2).

    Attributes:
        name: name of the slice in messages: file name, with the frame number in multi-frame objects.
        file: path of the file.
        number: of the frame in the file, from 1.
        instance_uid: SOP Instance UID (0008,0018) of the file.
        size: Rows and Columns.
        position: Image Position (0020,0032), LPS millimetres; None for projections and cine clips.
        orientation: Image Orientation (0020,0037): row direction, then column direction.
        spacing: Pixel Spacing (0028,0030): between rows, between columns; None if not given.
        thickness: Spacing Between Slices (0018,0088), else Slice Thickness (0018,0050), in mm; None if not given.
        rescale: Rescale Slope (0028,1053) and Intercept (0028,1052); None unless both are given.
        unit: Rescale Type (0028,1054).
        acquired: attributes that distinguish acquisitions of one series, by keyword, as text.
    """

    name: str
    file: str
    number: int
    instance_uid: str
    size: tuple[int, int]
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing: tuple[float, ...] | None
    thickness: float | None
    rescale: tuple[float, float] | None
    unit: str
    acquired: tuple[tuple[str, str], ...]

    @property
    def is_placed(self) -> bool:
        """Whether the slice has a position in the patient."""
        return self.position is not None and self.orientation is not None


@dataclass(frozen=True)
class Header:
    """The header of one file.

    Attributes:
        path: the file.
        modality: Modality (0008,0060).
        kind: name of the SOP class, or the modality.
        series_uid: Series Instance UID (0020,000E).
        series_number: Series Number (0020,0011).
        description: Series Description (0008,103E).
        study_uid: Study Instance UID (0020,000D).
        frame_of_reference_uid: Frame of Reference UID (0020,0052).
        patient_orientation: Patient Orientation (0020,0020), as stored.
        view: View Position (0018,5101).
        in_acquisition: Images in Acquisition (0020,1002); 0 if not given.
        encoding: None without pixels.
        frames: one per frame; none without pixels.
    """

    path: Path
    modality: str
    kind: str
    series_uid: str
    series_number: str
    description: str
    study_uid: str
    frame_of_reference_uid: str
    patient_orientation: tuple[str, ...]
    view: str
    in_acquisition: int
    encoding: Encoding | None
    frames: tuple[Frame, ...]

    @property
    def is_image(self) -> bool:
        """Whether the file holds an image of a patient (no segmentation, dose, structure set, report or directory)."""
        return bool(self.frames) and shows_a_patient(self.kind)

    @property
    def is_ct(self) -> bool:
        """Whether voxels must be Hounsfield units."""
        return self.shows is Modality.CT

    @property
    def shows(self) -> Modality | None:
        """The modality; None if unknown. Anonymisers may drop the modality, but not the SOP class."""
        return Modality.CT if not self.modality and "CT Image" in self.kind else modality_of(self.modality)

    @property
    def states_hounsfield(self) -> bool:
        """Whether the header gives the conversion to Hounsfield units for all frames."""
        return all(frame.rescale is not None and frame.unit in ("", "HU") for frame in self.frames)


@dataclass(frozen=True)
class DamagedHeader:
    """A file whose header cannot be read, or is not plausible.

    Attributes:
        series_uid: Series Instance UID (0020,000E); empty if it cannot be read either.
        error: what is wrong.
    """

    series_uid: str
    error: FastTextDiffError


def shows_a_patient(kind: str) -> bool:
    """Whether objects of this SOP class, given by name, are images of a patient: not masks, not dose."""
    return not any(word in kind for word in _NOT_IMAGES)


def modality_of(tag: str) -> Modality | None:
    """The modality for a DICOM Modality (0008,0060); None if it does not tell."""
    tag = tag.strip().upper()  # some writers use small letters
    return None if tag in ("", "OT") else _MODALITIES.get(tag, Modality.OTHER)


# --- headers ---------------------------------------------------------------------------------------------------------


def image_headers(path: Path, files: Sequence[Path]) -> tuple[list[Header], list[DamagedHeader], list[str]]:
    """Headers of the files that hold images, those that cannot be read, and a note on files that hold no images.

    Raises:
        FastTextDiffError: there is no image that can be read.
    """
    read = [_header_or_damage(file) for file in files]
    damaged = [one for one in read if isinstance(one, DamagedHeader)]
    headers = [one for one in read if isinstance(one, Header)]
    images = [header for header in headers if header.is_image]
    others = Counter(header.kind for header in headers if not header.is_image)
    found = ", ".join(f"{count} {kind}" for kind, count in sorted(others.items()))
    if not images and damaged:
        raise damaged[0].error
    if not images and others:
        raise FastTextDiffError(f"{path}: holds no DICOM image, only {found}; give the images that it belongs to")
    if not images:
        raise FastTextDiffError(f"{path}: no DICOM image found here; for other formats, give a single file")
    return images, damaged, [f"ignored DICOM files that are not images: {found}"] if others else []


def _header_or_damage(path: Path) -> Header | DamagedHeader:
    try:
        return _read_header(path)
    except FastTextDiffError as error:
        return DamagedHeader(_series_uid_of(path), error)


def _series_uid_of(path: Path) -> str:
    """The Series Instance UID of a damaged file, if the damage is behind it; else empty."""
    import pydicom

    try:
        require_possible_deflated(path)
        with path.open("rb") as file:
            dataset = pydicom.filereader.read_partial(file, lambda tag, vr, length: tag > _SERIES_UID)
        return str(dataset.get("SeriesInstanceUID") or "")
    except Exception:  # pydicom's parsers may raise anything
        return ""


def _read_header(path: Path) -> Header:
    import pydicom

    try:
        require_possible_deflated(path)
        with path.open("rb") as file:
            dataset = pydicom.dcmread(file, stop_before_pixels=True)
            behind = path.stat().st_size - file.tell()
        header = _parse_header(path, dataset, behind)
    except FastTextDiffError as problem:
        raise FastTextDiffError(f"{path}: {problem}") from problem
    except Exception as problem:  # pydicom's parsers may raise anything
        raise FastTextDiffError(f"{path}: the DICOM header is damaged; copy or export the file again") from problem
    if not header.kind and not header.frames:
        raise FastTextDiffError(f"{path}: the DICOM file is truncated; copy or export it again")
    return header


def _parse_header(path: Path, dataset: Any, behind: int) -> Header:
    sop_class = dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID")
    modality = str(dataset.get("Modality") or "")
    has_pixels = bool(dataset.get("Rows") and dataset.get("Columns"))
    kind = sop_class.name if sop_class else modality
    if has_pixels and shows_a_patient(kind):
        require_possible_size(dataset, path.stat().st_size, behind)
    orientation = dataset.get("PatientOrientation") or ()
    return Header(
        path=path,
        modality=modality,
        kind=kind,
        series_uid=str(dataset.get("SeriesInstanceUID") or ""),
        series_number=str(dataset.get("SeriesNumber") or ""),
        description=" ".join(str(dataset.get("SeriesDescription") or "").split()),
        study_uid=str(dataset.get("StudyInstanceUID") or ""),
        frame_of_reference_uid=str(dataset.get("FrameOfReferenceUID") or ""),
        patient_orientation=(orientation,) if isinstance(orientation, str) else tuple(map(str, orientation)),
        view=str(dataset.get("ViewPosition") or "").strip().upper(),
        in_acquisition=counted(dataset.get("ImagesInAcquisition")),
        encoding=parse_encoding(dataset) if has_pixels and shows_a_patient(kind) else None,
        frames=_parse_frames(path, dataset) if has_pixels else (),
    )


def _parse_frames(path: Path, dataset: Any) -> tuple[Frame, ...]:
    frames = int(dataset.get("NumberOfFrames") or 1)
    groups = dataset.get("PerFrameFunctionalGroupsSequence")
    if groups:
        shared = dataset.get("SharedFunctionalGroupsSequence")
        flat = [_flatten(frame, shared[0] if shared else {}) for frame in groups]
    elif frames > 1:
        # one position cannot place several frames; the rescale applies to all
        flat = [{word: dataset.get(word) for word in ("RescaleSlope", "RescaleIntercept", "RescaleType")}] * frames
    else:
        flat = [dataset]
    names = [path.name] if len(flat) == 1 else [f"{path.name} frame {n + 1}" for n in range(len(flat))]
    return tuple(_parse_frame(path, n + 1, names[n], dataset, place) for n, place in enumerate(flat))


def _flatten(frame: Any, shared: Any) -> dict[str, Any]:
    """Attributes of a frame's functional groups; its own take precedence over shared ones (PS3.3 C.7.6.16.1)."""
    flat: dict[str, Any] = {}
    for group in (shared, frame):
        for macro in (
            "PlanePositionSequence",
            "PlaneOrientationSequence",
            "PixelMeasuresSequence",
            "PixelValueTransformationSequence",
            "FrameContentSequence",
        ):
            for item in group.get(macro) or ():
                flat.update((element.keyword, element.value) for element in item)
    return flat


def _parse_frame(path: Path, number: int, name: str, dataset: Any, place: Any) -> Frame:
    return Frame(
        name=name,
        file=str(path),
        number=number,
        instance_uid=str(dataset.get("SOPInstanceUID") or ""),
        size=(int(dataset.Rows), int(dataset.Columns)),
        position=decimals("Image Position", place.get("ImagePositionPatient"), 3),
        orientation=decimals("Image Orientation", place.get("ImageOrientationPatient"), 6),
        spacing=decimals("Pixel Spacing", place.get("PixelSpacing"), 2),
        thickness=_thickness(place),
        rescale=_rescale(place),
        unit=str(place.get("RescaleType") or "").strip().upper(),
        acquired=_acquired(place, dataset),
    )


def _acquired(place: Any, dataset: Any) -> tuple[tuple[str, str], ...]:
    words = [
        *_ACQUISITIONS,
        *(_ACQUISITIONS_OF_CT if modality_of(str(dataset.get("Modality") or "")) is Modality.CT else ()),
    ]
    return tuple((word, str(value)) for word in words if (value := _either(place, dataset, word)))


def _either(place: Any, dataset: Any, word: str) -> Any:
    value = place.get(word)
    return dataset.get(word) if value is None else value


def _thickness(place: Any) -> float | None:
    for word in ("SpacingBetweenSlices", "SliceThickness"):
        value = place.get(word)
        thickness = 0.0 if value in (None, "") else abs(decimal(word, value))
        if thickness:
            return thickness
    return None


def _rescale(place: Any) -> tuple[float, float] | None:
    """Slope and intercept (PS3.3 section C.11.1.1.2); None if either is missing."""
    slope, intercept = place.get("RescaleSlope"), place.get("RescaleIntercept")
    numbers = [decimal("Rescale", value) for value in (slope, intercept) if value not in (None, "")]
    if slope not in (None, "") and numbers[0] == 0:
        raise FastTextDiffError("its Rescale Slope is 0, which makes all values equal; export the image again")
    return (numbers[0], numbers[1]) if len(numbers) == 2 else None


# --- which series ----------------------------------------------------------------------------------------------------


def choose_series(
    path: Path, headers: list[Header], damaged: Sequence[DamagedHeader], series_uid: str | None
) -> list[Header]:
    """The headers of the requested series, or of the only one.

    Raises:
        UsageError: no series matches, or several do.
        FastTextDiffError: a header that is or may be of this series is damaged.
    """
    series: dict[str, list[Header]] = {}
    for header in headers:
        series.setdefault(header.series_uid, []).append(header)
    if series_uid is not None or len(series) == 1:
        for one in damaged:
            if series_uid is None or one.series_uid in ("", series_uid):
                raise one.error
    if series_uid is None and len(series) == 1:
        return headers
    if series_uid in series:
        return series[series_uid]
    listing = "; ".join(_describe_series(uid, found) for uid, found in list(series.items())[:_LISTED])
    listing += "; ..." if len(series) > _LISTED else ""
    if series_uid is None:
        raise UsageError(f"{path}: {len(series)} image series; choose one with --series UID: {listing}")
    raise UsageError(f"{path}: no image series {series_uid}; there is {listing}")


def _describe_series(uid: str, headers: list[Header]) -> str:
    first = headers[0]
    images = sum(len(header.frames) for header in headers)
    return f"no. {first.series_number or '?'} '{first.description}' {first.modality}, {images} images, UID {uid or '?'}"
