"""Reads NIfTI-1 and NIfTI-2 files, with the geometry of 3D Slicer (ITK).

Knows nothing about other formats or the meaning of voxels.
"""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.errors import FastTextDiffError, UsageError
from fasttextdiff.image.volume import Source
from fasttextdiff.io.dicom_pixels import LPS_TO_RAS
from fasttextdiff.io.file_checks import (
    GZIP,
    no_stderr,
    require_compressible,
    require_finite,
    require_intact,
    require_room,
)
from fasttextdiff.io.read_dicom import Decoded

_SIZEOF_HDR = {348: "Nifti1Header", 540: "Nifti2Header"}
_MM = {1: 1000.0, 3: 0.001}
"""Millimetres per spatial unit in `xyzt_units`: 1 metre, 3 micrometre; all others are read as millimetres."""
_AFTER_VOXELS = 64 << 20
"""Bytes that may follow the voxels in a compressed file; with more, the file does not match its header."""


def decode_nifti(path: Path) -> Decoded:
    """Read one volume.

    The geometry is ITK's reading of sform and qform (NIfTI-1, "3D image (volume) orientation and location in space"),
    so that results coincide with the image in 3D Slicer. If ITK refuses the file, the sform is used.

    Raises:
        UsageError: there are several volumes.
        FastTextDiffError: the header has more voxels than the file, or numbers that are not finite.
    """
    import nibabel

    header = nifti_header(path)
    sizes, offset = [int(size) for size in header.get_data_shape()], int(header.get_data_offset())
    _require_finite_header(path, header)
    needed = offset + math.prod(sizes) * header.get_data_dtype().itemsize
    if path.name.lower().endswith(".gz"):  # nibabel stops at the last voxel, without checking the checksum
        require_compressible(path, sizes, _bytes_in_memory(header), path.stat().st_size)
        with path.open("rb") as file:
            held = require_intact(file, GZIP, needed + _AFTER_VOXELS)
    else:
        held = path.stat().st_size
    require_room(path, sizes, header.get_data_dtype().itemsize, held - offset)
    voxels = _scalars_or_rgb(np.asanyarray(nibabel.arrayproxy.ArrayProxy(str(path), header, mmap=False)))
    in_space, channels = _three_axes(path, voxels, len(sizes))
    matrix, notes = nifti_matrix(path, header)
    array = in_space.transpose(2, 1, 0, *range(3, 3 + channels))
    source = Source(path=str(path), notes=tuple(notes))
    return Decoded(np.ascontiguousarray(array), matrix, None, False, source, has_slice_order=False)


def _bytes_in_memory(header: Any) -> int:
    """Bytes per voxel; nibabel converts scaled voxels to float64."""
    is_scaled = header.has_data_slope and header.get_slope_inter() not in ((None, None), (1.0, 0.0))
    return max(header.get_data_dtype().itemsize, 8 if is_scaled else 0)


def nifti_header(path: Path) -> Any:
    """Only the header, because nibabel's images refuse quaternions that rounding has made slightly too long.

    Raises:
        FastTextDiffError: the voxels are in another file.
        Exception: errors of the libraries for a damaged file; the caller turns them into one line.
    """
    import nibabel

    with _opened(path) as file:
        first = file.read(4)
        kinds = {_SIZEOF_HDR.get(int.from_bytes(first, "little")), _SIZEOF_HDR.get(int.from_bytes(first, "big"))}
        kind = next(iter(kinds - {None}), None)
        if kind is None:
            raise ValueError("not a NIfTI header")
        file.seek(0)
        header = getattr(nibabel, kind).from_fileobj(file)
    if bytes(header["magic"])[:2] != b"n+":
        raise FastTextDiffError(f"{path}: the voxels are in another file (.img): save the image as one .nii file")
    return header


def _opened(path: Path) -> Any:
    return gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb")


def _require_finite_header(path: Path, header: Any) -> None:
    dimensions = int(header["dim"][0])
    require_finite(path, "a voxel size", [float(size) for size in header["pixdim"][1 : 1 + min(3, dimensions)]])
    if int(header["sform_code"]):
        rows = [float(number) for row in ("srow_x", "srow_y", "srow_z") for number in header[row]]
        require_finite(path, "the position of the image (sform)", rows)
    if int(header["qform_code"]):
        names = ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z")
        require_finite(path, "the position of the image (qform)", [float(header[name]) for name in names])
    # nibabel itself writes NaN for "no scaling"
    if any(math.isinf(float(header[name])) for name in ("scl_slope", "scl_inter")):
        require_finite(path, "the scaling of the voxels", [math.inf])


def _scalars_or_rgb(voxels: NDArray[Any]) -> NDArray[Any]:
    """Convert NIfTI's RGB24 and RGBA32 voxels to a last axis of three channels."""
    if voxels.dtype.names is None:
        return voxels
    return np.stack([voxels[channel] for channel in ("R", "G", "B")], axis=-1)


def _three_axes(path: Path, voxels: NDArray[Any], axes: int) -> tuple[NDArray[Any], int]:
    """Voxels with exactly three spatial axes, and the number of axes after them (0, or 1 for colour)."""
    space, channels = voxels.shape[:axes], voxels.shape[axes:]
    if any(length != 1 for length in space[3:]):
        sizes = " x ".join(map(str, space))
        raise UsageError(f"{path}: several volumes in one file ({sizes}); extract one time point")
    return voxels.reshape((*space, 1, 1)[:3] + channels), len(channels)


def nifti_matrix(path: Path, header: Any) -> tuple[NDArray[np.float64], list[str]]:
    """The geometry that 3D Slicer gives a file, and notes on it.

    Args:
        path: the file.
        header: its header from nibabel, with finite numbers.

    Returns:
        4x4 from voxel index to RAS millimetres, and notes.

    Raises:
        FastTextDiffError: there is no usable geometry in the header.
    """
    unit = _MM.get(int(header["xyzt_units"]) & 7, 1.0)
    notes = [] if unit == 1 else [f"lengths in the NIfTI header are in {'metres' if unit > 1 else 'micrometres'}"]
    itk = _as_itk(path)
    if itk is None:
        return _without_itk(path, header, unit), [
            *notes,
            "3D Slicer refuses this file: its axes are not at right angles",
        ]
    forms = _forms(header, unit)
    if not forms:
        # The patient's sides are unknown; this is how ITK and 3D Slicer place such a file.
        notes.append("no orientation in the NIfTI header: assumed left-posterior")
    differing = [name for name, form in forms.items() if not _is_alike(form, itk)]
    if len(forms) == 2 and len(differing) == 1:
        used = next(name for name in forms if name not in differing)
        notes.append(f"sform and qform of the NIfTI header disagree: {used} used")
    return itk, notes


def _as_itk(path: Path) -> NDArray[np.float64] | None:
    """ITK's geometry, which 3D Slicer shows; None if ITK refuses the file."""
    import SimpleITK as sitk  # noqa: N813

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        with no_stderr():
            reader.ReadImageInformation()
    except RuntimeError:
        return None
    axes = reader.GetDimension()
    matrix = np.eye(4)
    spatial = min(3, axes)
    directions = np.reshape(reader.GetDirection(), (axes, axes))[:spatial, :spatial]
    matrix[:spatial, :spatial] = directions * reader.GetSpacing()[:spatial]
    matrix[:spatial, 3] = reader.GetOrigin()[:spatial]
    matrix = LPS_TO_RAS @ matrix
    return matrix if np.isfinite(matrix).all() else None


def _forms(header: Any, unit: float) -> dict[str, NDArray[np.float64] | None]:
    """The matrices in use, in millimetres; None for one that nibabel cannot read."""
    forms: dict[str, NDArray[np.float64] | None] = {}
    if int(header["sform_code"]):
        forms["sform"] = _in_mm(header.get_sform(), unit)
    if int(header["qform_code"]):
        try:
            forms["qform"] = _in_mm(header.get_qform(), unit)
        except ValueError:  # a quaternion longer than 1, which ITK normalises
            forms["qform"] = None
    return forms


def _in_mm(matrix: Any, unit: float) -> NDArray[np.float64]:
    return np.diag([unit, unit, unit, 1.0]) @ np.asarray(matrix, np.float64)


def _is_alike(form: NDArray[np.float64] | None, matrix: NDArray[np.float64]) -> bool:
    """Whether two matrices place voxels within a tenth of a voxel or a hundredth of their distance."""
    voxel = np.linalg.norm(matrix[:3, :3], axis=0).min()
    return form is not None and bool(np.allclose(form, matrix, rtol=1e-2, atol=0.1 * voxel))


def _without_itk(path: Path, header: Any, unit: float) -> NDArray[np.float64]:
    """The sform of a file that ITK refuses, usually because its axes are not at right angles."""
    matrix = _forms(header, unit).get("sform")
    if matrix is None or abs(np.linalg.det(matrix)) < 1e-12:
        raise FastTextDiffError(
            f"{path}: the header does not give the image's position (neither sform nor qform is usable), and 3D Slicer "
            "cannot open it either: save the image again"
        )
    return matrix
