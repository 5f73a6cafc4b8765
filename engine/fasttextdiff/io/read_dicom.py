"""Reads DICOM images: one series of slices, one multi-frame object, or one projection, with their geometry.

Knows nothing about other formats or the meaning of voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.errors import FastTextDiffError, UsageError
from fasttextdiff.image.volume import Modality, Source
from fasttextdiff.io.dicom_folders import series_files
from fasttextdiff.io.dicom_headers import Frame, Header, choose_series, image_headers
from fasttextdiff.io.dicom_pixels import blackened, decode, itk_ijk_to_ras, padding_of
from fasttextdiff.io.dicom_projection import directions_of, projection_notes
from fasttextdiff.io.dicom_stack import read_stack


@dataclass(frozen=True)
class Decoded:
    """A decoded file, before the clean-up common to all formats.

    Attributes:
        array: voxels (k, j, i) or (k, j, i, 3).
        ijk_to_ras: 4x4, voxel index to millimetres.
        modality: from the file; None if it does not say.
        is_planar: one image without a position in the patient.
        source: provenance and notes.
        is_hounsfield: whether the header gives a conversion to Hounsfield units, which has been applied.
        padding: padding voxels, on the array's grid; None if there are none.
        patient_orientation: for planar images, the directions of rows and columns, if known.
        has_slice_order: whether slices are known to be along k, as in DICOM; other formats do not say.
    """

    array: NDArray[Any]
    ijk_to_ras: NDArray[np.float64]
    modality: Modality | None
    is_planar: bool
    source: Source
    is_hounsfield: bool = False
    padding: NDArray[np.bool_] | None = None
    patient_orientation: tuple[str, str] | None = None
    has_slice_order: bool = True


def read_dicom(path: Path, series_uid: str | None, files: Sequence[Path] | None = None) -> Decoded:
    """Read one image series.

    Headers are read by pydicom and pixels by SimpleITK (GDCM), as in 3D Slicer: rescale slope and intercept are
    applied, palettes and YBR become RGB, and MONOCHROME1 is inverted, but never in a CT. GDCM inverts the stored value
    v to max - v within the stored bits, or for JPEG 2000 within the precision of the code stream, and rescales after
    that. Single files and files of a series, compressed or not, are treated alike.

    Args:
        path: a folder, searched with its subfolders, or one file.
        series_uid: Series Instance UID (0020,000E); required if the folder holds more than one series.
        files: DICOM files to read instead of all files in the folder.

    Raises:
        UsageError: no series matches, or several do.
        FastTextDiffError: there is no image, it cannot be decoded, or its slices do not form one regular stack.
    """
    lost: list[str] = []
    if files is None:
        files, lost = series_files(path)
    headers, damaged, notes = image_headers(path, files)
    headers = choose_series(path, headers, damaged, series_uid)
    if any(frame.is_placed for header in headers for frame in header.frames):
        found = _decoded_stack(path, headers)
    else:
        found = _decoded_projection(path, headers)
    return replace(found, source=replace(found.source, notes=(*lost, *notes, *found.source.notes)))


def _decoded_stack(path: Path, headers: list[Header]) -> Decoded:
    stack = read_stack(path, headers)
    return Decoded(
        blackened(stack.voxels, stack.padding),
        stack.ijk_to_ras,
        headers[0].shows,
        is_planar=False,
        source=_source(path, headers[0], stack.frames, [*stack.notes, *_unit_notes(headers, stack.voxels)]),
        is_hounsfield=all(header.states_hounsfield for header in headers),
        padding=stack.padding,
    )


def _unit_notes(headers: Sequence[Header], voxels: NDArray[Any]) -> list[str]:
    if not headers[0].is_ct or voxels.ndim == 4 or all(header.states_hounsfield for header in headers):
        return []
    return ["no Rescale Slope and Intercept: the voxels were identified as Hounsfield units by their histogram"]


def _source(path: Path, first: Header, frames: Sequence[Frame], notes: Sequence[str]) -> Source:
    uids = tuple(frame.instance_uid for frame in frames)
    return Source(
        path=str(path),
        study_uid=first.study_uid,
        series_uid=first.series_uid,
        frame_of_reference_uid=first.frame_of_reference_uid,
        instance_uids=uids if all(uids) else (),
        frames=tuple((frame.file, frame.number) for frame in frames),
        notes=tuple(notes),
    )


def _decoded_projection(path: Path, headers: list[Header]) -> Decoded:
    """The only image of a series without positions, with the geometry that 3D Slicer gives it."""
    import SimpleITK as sitk  # noqa: N813

    header = headers[0]
    if len(headers) > 1 or len(header.frames) > 1:
        single = next((f", such as {one.path.name}" for one in headers if len(one.frames) == 1), "")
        raise _no_stack(str(path), sum(len(one.frames) for one in headers), single)
    image = decode(header)
    voxels = sitk.GetArrayFromImage(image)
    padding = padding_of(header, voxels)
    return Decoded(
        blackened(voxels, padding),
        itk_ijk_to_ras(image),
        header.shows,
        is_planar=True,
        source=_source(path, header, header.frames, projection_notes(header) if _is_xray(header) else ()),
        is_hounsfield=header.states_hounsfield,
        padding=padding,
        patient_orientation=directions_of(header.patient_orientation),
    )


def _no_stack(name: str, count: int, single: str = "") -> UsageError:
    """Why images without positions are not segmented together; `single` names one that may be given."""
    return UsageError(
        f"{name}: {count} images without a position in the patient (projections, cine, nuclear medicine or tiles of a "
        f"slide); give a single image{single}"
    )


def _is_xray(header: Header) -> bool:
    """Whether the patient's sides matter in it: an X-ray, or another image with a Patient Orientation."""
    return header.shows is Modality.XRAY or any(header.patient_orientation)


@dataclass(frozen=True)
class Described:
    """Header data of an image that another program loaded from a file.

    Attributes:
        modality: None if unknown.
        is_placed: whether the image has a position in the patient.
        header: the whole header.
    """

    modality: Modality | None
    is_placed: bool
    header: Header


def describe_dicom(path: Path) -> Described:
    """Read the header of one image file.

    Raises:
        FastTextDiffError: the header is damaged, or the file holds no image.
    """
    headers, *_ = image_headers(path, [path])
    return Described(headers[0].shows, headers[0].frames[0].is_placed, headers[0])


def as_read(decoded: Decoded, described: Described) -> Decoded:
    """Complete an image loaded by another program from its header, to match :func:`read_dicom`.

    Raises:
        UsageError: it is a cine clip, or several pictures.
        FastTextDiffError: the other program has inverted Hounsfield units.
    """
    header = described.header
    if not described.is_placed and len(decoded.array) > 1:
        raise _no_stack(decoded.source.path, len(decoded.array))
    if header.is_ct and header.encoding is not None and header.encoding.is_inverted:
        raise FastTextDiffError(
            f"{decoded.source.path}: a CT stored as MONOCHROME1, which was loaded with inverted Hounsfield units; "
            f"use the command line on its DICOM files"
        )
    padding = padding_of(header, decoded.array)
    is_planar = not described.is_placed
    notes = projection_notes(header) if is_planar and _is_xray(header) else _unit_notes([header], decoded.array)
    return replace(
        decoded,
        array=blackened(decoded.array, padding),
        modality=described.modality,
        is_planar=is_planar,
        source=replace(decoded.source, notes=(*decoded.source.notes, *notes)),
        is_hounsfield=header.states_hounsfield,
        padding=padding,
        patient_orientation=directions_of(header.patient_orientation) if is_planar else None,
    )
