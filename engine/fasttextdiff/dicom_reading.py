"""Reads DICOM images: one series of slices, one multi-frame object, or one projection, placed in the patient.

Knows nothing about other formats, and does not judge what the voxels show.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.errors import FastTextDiffError, UsageError
from fasttextdiff.volume import Modality, Source

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])

# Modality (0008,0060), PS3.3 C.7.3.1.1.1
_MODALITIES = {
    "CT": Modality.CT,
    "MR": Modality.MR,
    "SM": Modality.HISTOLOGY,
    **dict.fromkeys(("CR", "DX", "MG", "RF", "XA", "PX", "IO"), Modality.XRAY),
}
# Objects with pixels that are no picture of a patient, by the name of their SOP class; anonymisers drop modalities.
_NOT_IMAGES = ("Segmentation", "Dose")

_SAME_POSITION_MM = 1e-3
_SAME_COSINE = 2e-3


@dataclass(frozen=True)
class Decoded:
    """Voxels as a format's decoder found them, before the clean-up that all formats share.

    Attributes:
        array: (k, j, i) or (k, j, i, 3).
        ijk_to_ras: 4x4, voxel index to millimetres.
        modality: what the file says; None if it does not.
        is_planar: one image without a position in the patient.
        source: provenance and notes.
    """

    array: NDArray[Any]
    ijk_to_ras: NDArray[np.float64]
    modality: Modality | None
    is_planar: bool
    source: Source


@dataclass(frozen=True)
class Plane:
    """One slice's place in the patient: Image Plane module (PS3.3 C.7.6.2) or functional groups (C.7.6.16.2).

    Attributes:
        name: file name, with the frame number in multi-frame objects: what an error calls this slice.
        file: path of the file.
        frame: number of the frame in the file, from 1.
        instance_uid: SOP Instance UID (0008,0018) of the file.
        size: Rows and Columns.
        position: Image Position (0020,0032), LPS millimetres; None for projections and films.
        orientation: Image Orientation (0020,0037): row direction, then column direction.
        spacing: Pixel Spacing (0028,0030): between rows, between columns; None if not given.
        thickness: Spacing Between Slices (0018,0088), else Slice Thickness (0018,0050), in mm; None if not given.
        rescale: Rescale Slope (0028,1053) and Intercept (0028,1052), as strings; to compare frames of one file.
    """

    name: str
    file: str
    frame: int
    instance_uid: str
    size: tuple[int, int]
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing: tuple[float, ...] | None
    thickness: float | None
    rescale: tuple[str, str]

    @property
    def is_placed(self) -> bool:
        """Whether the slice has a place in the patient."""
        return self.position is not None and self.orientation is not None


@dataclass(frozen=True)
class Header:
    """What is read of a file before its pixels."""

    path: Path
    modality: str
    kind: str
    series_uid: str
    series_number: str
    description: str
    study_uid: str
    frame_of_reference_uid: str
    planes: tuple[Plane, ...]

    @property
    def is_image(self) -> bool:
        """Whether the file holds pixels of a patient (no segmentation, dose, structure set, report or directory)."""
        return bool(self.planes) and shows_a_patient(self.kind)


def shows_a_patient(kind: str) -> bool:
    """Whether objects with pixels are pictures of a patient, by the name of their SOP class: not masks, not dose."""
    return not any(word in kind for word in _NOT_IMAGES)


def read_dicom(path: Path, series_uid: str | None, files: Sequence[Path] | None = None) -> Decoded:
    """Read one image series.

    Headers come through pydicom and pixels through SimpleITK (GDCM), as in 3D Slicer: rescale slope and intercept are
    applied, palettes and YBR become RGB, and MONOCHROME1 is inverted. GDCM inverts the stored value v to max - v within
    the stored bits (for JPEG 2000, within the precision of the code stream) and rescales after that; a file alone and a
    file of a series, compressed or not, are treated alike.

    Args:
        path: a folder, searched with all folders below it, or one file.
        series_uid: Series Instance UID (0020,000E); needed where the folder holds more than one series.
        files: DICOM files to read in place of all that lie in the folder.

    Raises:
        UsageError: no or several series fit.
        FastTextDiffError: there is no image, it cannot be decoded, or its slices do not make up one regular stack.
    """
    headers, notes = _image_headers(path, _dicom_files(path) if files is None else files)
    headers = _choose_series(path, headers, series_uid)
    planes = [plane for header in headers for plane in header.planes]
    if any(plane.is_placed for plane in planes):
        array, ijk_to_ras, planes, repairs = _read_stack(path, headers, planes)
    else:
        array, ijk_to_ras = _read_projection(path, headers, planes)
        repairs = []
    uids = tuple(plane.instance_uid for plane in planes)
    first = headers[0]
    source = Source(
        path=str(path),
        study_uid=first.study_uid,
        series_uid=first.series_uid,
        frame_of_reference_uid=first.frame_of_reference_uid,
        instance_uids=uids if all(uids) else (),
        frames=tuple((plane.file, plane.frame) for plane in planes),
        notes=(*notes, *repairs),
    )
    return Decoded(array, ijk_to_ras, modality_of(first.modality), not planes[0].is_placed, source)


def looks_like_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its content: "DICM" after a preamble of 128 bytes (PS3.10 7.1)."""
    with path.open("rb") as file:
        return starts_like_dicom(file)


def starts_like_dicom(file: BinaryIO) -> bool:
    """As :func:`looks_like_dicom`, of an open file, which is left at its beginning."""
    start = file.read(132)
    file.seek(0)
    return start[128:] == b"DICM"


def describe_dicom(path: Path) -> tuple[Modality | None, bool]:
    """What the header of one image file says: the modality, and whether the image has a place in the patient.

    Raises:
        FastTextDiffError: the header is damaged, or the file holds no image.
    """
    headers, _ = _image_headers(path, _dicom_files(path))
    return modality_of(headers[0].modality), headers[0].planes[0].is_placed


def modality_of(tag: str) -> Modality | None:
    """The modality for a DICOM Modality (0008,0060); None where it says nothing about the kind of image."""
    return None if tag in ("", "OT") else _MODALITIES.get(tag, Modality.OTHER)


# --- headers ---------------------------------------------------------------------------------------------------------


def _dicom_files(path: Path) -> list[Path]:
    """All DICOM files at or below the path."""
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    return [file for file in files if looks_like_dicom(file)]


def _image_headers(path: Path, files: Sequence[Path]) -> tuple[list[Header], list[str]]:
    """Headers of the files that hold images, and a note on those that do not."""
    headers = [_read_header(file) for file in files]
    images = [header for header in headers if header.is_image]
    others = Counter(header.kind for header in headers if not header.is_image)
    found = ", ".join(f"{count} {kind}" for kind, count in sorted(others.items()))
    if not images and others:
        raise FastTextDiffError(f"{path}: holds no DICOM image, only {found}; give the images that it belongs to")
    if not images:
        raise FastTextDiffError(f"{path}: no DICOM image found here; other formats are read file by file")
    return images, [f"ignored DICOM files that are not images: {found}"] if others else []


def _read_header(path: Path) -> Header:
    import pydicom

    try:
        dataset = pydicom.dcmread(path, stop_before_pixels=True)
        header = _parse_header(path, dataset)
    except Exception as problem:  # pydicom raises whatever its parsers raise
        raise FastTextDiffError(f"{path}: the DICOM header is damaged; copy or export the file again") from problem
    if not header.kind and not header.planes:
        raise FastTextDiffError(f"{path}: the DICOM file is cut short; copy or export it again")
    return header


def _parse_header(path: Path, dataset: Any) -> Header:
    sop_class = dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID")
    modality = str(dataset.get("Modality") or "")
    return Header(
        path=path,
        modality=modality,
        kind=sop_class.name if sop_class else modality,
        series_uid=str(dataset.get("SeriesInstanceUID") or ""),
        series_number=str(dataset.get("SeriesNumber") or ""),
        description=" ".join(str(dataset.get("SeriesDescription") or "").split()),
        study_uid=str(dataset.get("StudyInstanceUID") or ""),
        frame_of_reference_uid=str(dataset.get("FrameOfReferenceUID") or ""),
        planes=_parse_planes(path, dataset) if dataset.get("Rows") and dataset.get("Columns") else (),
    )


def _parse_planes(path: Path, dataset: Any) -> tuple[Plane, ...]:
    frames = int(dataset.get("NumberOfFrames") or 1)
    groups = dataset.get("PerFrameFunctionalGroupsSequence")
    if groups:
        shared = dataset.get("SharedFunctionalGroupsSequence")
        flat = [_flatten(frame, shared[0] if shared else {}) for frame in groups]
    elif frames > 1:
        flat = [{}] * frames  # one position cannot place several frames
    else:
        flat = [dataset]
    names = [path.name] if len(flat) == 1 else [f"{path.name} frame {n + 1}" for n in range(len(flat))]
    return tuple(_parse_plane(path, n + 1, names[n], dataset, place) for n, place in enumerate(flat))


def _flatten(frame: Any, shared: Any) -> dict[str, Any]:
    """Attributes of a frame's functional groups, its own before the shared ones (PS3.3 C.7.6.16.1)."""
    flat: dict[str, Any] = {}
    for group in (shared, frame):
        for macro in (
            "PlanePositionSequence",
            "PlaneOrientationSequence",
            "PixelMeasuresSequence",
            "PixelValueTransformationSequence",
        ):
            for item in group.get(macro) or ():
                flat.update((element.keyword, element.value) for element in item)
    return flat


def _parse_plane(path: Path, frame: int, name: str, dataset: Any, place: Any) -> Plane:
    return Plane(
        name=name,
        file=str(path),
        frame=frame,
        instance_uid=str(dataset.get("SOPInstanceUID") or ""),
        size=(int(dataset.Rows), int(dataset.Columns)),
        position=_numbers(place.get("ImagePositionPatient"), 3),
        orientation=_numbers(place.get("ImageOrientationPatient"), 6),
        spacing=_numbers(place.get("PixelSpacing"), 2),
        thickness=abs(float(place.get("SpacingBetweenSlices") or place.get("SliceThickness") or 0)) or None,
        rescale=(str(place.get("RescaleSlope")), str(place.get("RescaleIntercept"))),
    )


def _numbers(value: Any, count: int) -> tuple[float, ...] | None:
    """A multi-valued attribute as numbers; None if absent or empty. Raises ValueError if damaged."""
    if not value:
        return None
    numbers = tuple(float(number) for number in value)
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise ValueError(f"expected {count} numbers, got {value}")
    return numbers


# --- which series ----------------------------------------------------------------------------------------------------


def _choose_series(path: Path, headers: list[Header], series_uid: str | None) -> list[Header]:
    """The headers of the one series that was asked for, or of the only one there is."""
    series: dict[str, list[Header]] = {}
    for header in headers:
        series.setdefault(header.series_uid, []).append(header)
    if series_uid is None and len(series) == 1:
        return headers
    if series_uid in series:
        return series[series_uid]
    listing = "; ".join(_describe_series(uid, found) for uid, found in series.items())
    if series_uid is None:
        raise UsageError(f"{path}: {len(series)} image series; choose one with --series UID: {listing}")
    raise UsageError(f"{path}: no image series {series_uid}; there is {listing}")


def _describe_series(uid: str, headers: list[Header]) -> str:
    first = headers[0]
    images = sum(len(header.planes) for header in headers)
    return f"no. {first.series_number or '?'} '{first.description}' {first.modality}, {images} images, UID {uid or '?'}"


# --- pixels ----------------------------------------------------------------------------------------------------------


def read_itk(path: Path, image_io: str = "") -> Any:
    """Read a file as a SimpleITK image; raises RuntimeError if SimpleITK cannot."""
    import SimpleITK as sitk  # noqa: N813

    reader = sitk.ImageFileReader()
    reader.SetImageIO(image_io)
    reader.SetFileName(str(path))
    return reader.Execute()


def itk_ijk_to_ras(image: Any) -> NDArray[np.float64]:
    """The 4x4 matrix from voxel index to RAS millimetres of a 2D or 3D SimpleITK image, whose own space is LPS."""
    dimensions = image.GetDimension()
    to_lps = np.eye(4)
    directions = np.reshape(image.GetDirection(), (dimensions, dimensions))
    to_lps[:dimensions, :dimensions] = directions * image.GetSpacing()
    to_lps[:dimensions, 3] = image.GetOrigin()
    return LPS_TO_RAS @ to_lps


def _decode(header: Header) -> Any:
    """A file's frames as a SimpleITK image."""
    try:
        return read_itk(header.path, "GDCMImageIO")
    except RuntimeError as problem:
        raise FastTextDiffError(f"{header.path}: {_why_undecodable(header.path)}") from problem


def _why_undecodable(path: Path) -> str:
    import pydicom

    try:
        dataset = pydicom.dcmread(path)
        if not any(keyword in dataset for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
            return "the DICOM file has no pixel data; export it again with its images"
        syntax = dataset.file_meta.TransferSyntaxUID.name
    except Exception:  # pydicom raises whatever its parsers raise
        syntax = "unknown"
    return f"the pixel data ({syntax}) are damaged, cut short or of an unsupported kind; copy or export the file again"


def _voxels(header: Header) -> NDArray[Any]:
    """A file's frames (frame, row, column[, 3]) with rescale applied."""
    import SimpleITK as sitk  # noqa: N813

    if len({plane.rescale for plane in header.planes}) > 1:
        # GDCM applies the first frame's slope and intercept to all of them.
        raise FastTextDiffError(f"{header.path}: frames differ in rescale slope; export one file per slice")
    voxels: NDArray[Any] = sitk.GetArrayFromImage(_decode(header))
    if voxels.shape[0] != len(header.planes):
        raise FastTextDiffError(
            f"{header.path}: {len(header.planes)} frames are announced, {voxels.shape[0]} are there; export it again"
        )
    return voxels


def _read_projection(
    path: Path, headers: list[Header], planes: list[Plane]
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """The one image of a series without positions, with the geometry that 3D Slicer gives it."""
    import SimpleITK as sitk  # noqa: N813

    if len(planes) > 1:
        raise UsageError(
            f"{path}: {len(planes)} images without a position in the patient (projections, a film over time or tiles "
            f"of a slide); give one single image"
        )
    image = _decode(headers[0])
    return sitk.GetArrayFromImage(image), itk_ijk_to_ras(image)


# --- a stack of slices -----------------------------------------------------------------------------------------------


def _read_stack(
    path: Path, headers: list[Header], planes: list[Plane]
) -> tuple[NDArray[Any], NDArray[np.float64], list[Plane], list[str]]:
    """Slices in the order of their positions along the normal, their matrix, and notes; refuses irregular stacks."""
    _require_one_layout(path, planes)
    voxels = _gather(path, headers)
    normal = np.cross(*_unit_directions(path, planes[0]))
    order = np.argsort([np.dot(plane.position or (), normal) for plane in planes], kind="stable")
    kept = _without_duplicates(path, planes, voxels, order.tolist())
    stack = [planes[n] for n in kept]
    repairs = [f"ignored {len(planes) - len(kept)} repeated slices"] if len(kept) < len(planes) else []
    step = _regular_step(path, stack, normal, repairs)
    if kept != list(range(len(planes))):
        voxels = voxels[kept]
    return voxels, _stack_matrix(path, stack[0], step, repairs), stack, repairs


def _require_one_layout(path: Path, planes: Sequence[Plane]) -> None:
    """Refuse a series in which a slice differs from most others in size, spacing or orientation."""
    # Rounding only finds the most usual layout; the comparison itself has a tolerance.
    usual_key = Counter(_layout_key(plane) for plane in planes).most_common(1)[0][0]
    usual = next(plane for plane in planes if _layout_key(plane) == usual_key)
    for plane in planes:
        difference = _layout_difference(plane, usual)
        if difference:
            raise FastTextDiffError(
                f"{path}: slice {plane.name} differs from the others in {difference}; "
                f"a localizer or a second stack must be moved out of the series"
            )


def _layout_key(plane: Plane) -> tuple[object, ...]:
    return plane.is_placed, plane.size, tuple(round(cosine, 2) for cosine in plane.orientation or ())


def _layout_difference(plane: Plane, usual: Plane) -> str:
    """What differs, in words; empty if nothing does."""
    if plane.is_placed != usual.is_placed:
        return "having a position in the patient"
    if plane.size != usual.size:
        return f"size ({plane.size[1]} x {plane.size[0]}, not {usual.size[1]} x {usual.size[0]})"
    if not np.allclose(plane.orientation or (), usual.orientation or (), rtol=0, atol=_SAME_COSINE):
        return "orientation"
    if not np.allclose(plane.spacing or (1, 1), usual.spacing or (1, 1), rtol=1e-3, atol=0):
        return "pixel spacing"
    return ""


def _unit_directions(path: Path, plane: Plane) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Unit vectors in LPS along which the column index and the row index grow."""
    along_row, along_column = np.reshape(plane.orientation or (), (2, 3))
    lengths = np.linalg.norm(along_row), np.linalg.norm(along_column)
    if min(lengths) < 0.5 or abs(np.dot(along_row, along_column)) > 0.01:
        raise FastTextDiffError(f"{path}: slice {plane.name} has a damaged Image Orientation; export it again")
    return along_row / lengths[0], along_column / lengths[1]


def _gather(path: Path, headers: list[Header]) -> NDArray[Any]:
    """All frames of all files, in the order of the planes."""
    frames: list[NDArray[Any]] = []
    for header in headers:
        voxels = _voxels(header)
        if frames and voxels.shape[1:] != frames[0].shape[1:]:
            raise FastTextDiffError(f"{path}: slice {header.path.name} differs from the others in its pixels' layout")
        frames.append(voxels)
    return np.concatenate(frames) if len(frames) > 1 else frames[0]


def _without_duplicates(path: Path, planes: list[Plane], voxels: NDArray[Any], order: list[int]) -> list[int]:
    """The order without slices that repeat their neighbour; refuses different slices at one position."""
    kept = order[:1]
    for n in order[1:]:
        last = kept[-1]
        distance = np.linalg.norm(np.subtract(planes[n].position or (), planes[last].position or ()))
        if distance > _SAME_POSITION_MM:
            kept.append(n)
        elif not np.array_equal(voxels[n], voxels[last]):
            raise FastTextDiffError(
                f"{path}: {planes[last].name} and {planes[n].name} show different images at the same position "
                f"(time points, echoes or b-values?); export one stack on its own"
            )
    return kept


def _regular_step(path: Path, stack: list[Plane], normal: NDArray[np.float64], notes: list[str]) -> NDArray[np.float64]:
    """The LPS vector from one slice to the next; refuses gaps, and slices that do not follow one straight line."""
    if len(stack) == 1:
        thickness = stack[0].thickness
        notes.append(f"one slice, taken as {thickness or 1:g} mm thick{'' if thickness else ' (no thickness given)'}")
        return normal * (thickness or 1.0)
    positions = np.array([plane.position for plane in stack])
    _require_even_steps(path, stack, np.diff(positions, axis=0))
    step: NDArray[np.float64] = (positions[-1] - positions[0]) / (len(stack) - 1)
    tilt = float(np.degrees(np.arccos(min(1.0, np.dot(step, normal) / np.linalg.norm(step)))))
    if tilt > 85:
        raise FastTextDiffError(f"{path}: the slices lie side by side, not behind one another; give one of them")
    if tilt > 0.1:
        notes.append(f"the stack is sheared by {tilt:.1f} degrees (gantry tilt); kept as it is")
    return step


def _require_even_steps(path: Path, stack: list[Plane], steps: NDArray[np.float64]) -> None:
    lengths = np.linalg.norm(steps, axis=1)
    usual = steps[np.argsort(lengths, kind="stable")[(len(steps) - 1) // 2]]
    distance = float(np.linalg.norm(usual))
    # 5 %; but positions are often rounded to 0.1 mm, which shows in thin slices.
    tolerance = max(0.05 * distance, min(0.1, 0.25 * distance))
    off = np.linalg.norm(steps - usual, axis=1)
    worst = int(off.argmax())
    if off[worst] > tolerance:
        raise FastTextDiffError(
            f"{path}: the slices are not evenly spaced: {lengths[worst]:.2f} mm from {stack[worst].name} "
            f"to {stack[worst + 1].name}, elsewhere {distance:.2f} mm; slices are missing or belong to another stack"
        )


def _stack_matrix(path: Path, first: Plane, step: NDArray[np.float64], notes: list[str]) -> NDArray[np.float64]:
    """The 4x4 matrix from (i, j, k) to RAS (PS3.3 C.7.6.2.1.1, extended by the step to the next slice)."""
    along_row, along_column = _unit_directions(path, first)
    if first.spacing is None:
        notes.append("no pixel spacing given: 1 mm assumed")
    between_rows, between_columns = first.spacing or (1.0, 1.0)
    if min(between_rows, between_columns) <= 0:
        raise FastTextDiffError(f"{path}: slice {first.name} has a Pixel Spacing that is not positive; export it again")
    to_lps = np.eye(4)
    to_lps[:3, :3] = np.column_stack([along_row * between_columns, along_column * between_rows, step])
    to_lps[:3, 3] = first.position
    return LPS_TO_RAS @ to_lps
