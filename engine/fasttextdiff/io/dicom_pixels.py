"""Decodes DICOM pixels and applies the rescale. Knows nothing about series and positions of slices."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.errors import FastTextDiffError
from fasttextdiff.io.dicom_codestreams import require_matching_frames
from fasttextdiff.io.dicom_headers import Header
from fasttextdiff.paths import as_path

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_itk(path: Path, image_io: str = "") -> Any:
    """Read a file as a SimpleITK image; raises RuntimeError if SimpleITK cannot."""
    import SimpleITK as sitk  # noqa: N813

    reader = sitk.ImageFileReader()
    reader.SetImageIO(image_io)
    reader.SetFileName(str(as_path(path)))  # a name that is not UTF-8 would abort the process
    return reader.Execute()


def itk_ijk_to_ras(image: Any) -> NDArray[np.float64]:
    """The 4x4 matrix from voxel index to RAS millimetres of a 2D or 3D SimpleITK image, which uses LPS."""
    dimensions = image.GetDimension()
    to_lps = np.eye(4)
    directions = np.reshape(image.GetDirection(), (dimensions, dimensions))
    to_lps[:dimensions, :dimensions] = directions * image.GetSpacing()
    to_lps[:dimensions, 3] = image.GetOrigin()
    return LPS_TO_RAS @ to_lps


def decode(header: Header) -> Any:
    """A file's frames as a SimpleITK image, with rescale applied.

    MONOCHROME1 only affects display (PS3.3 section C.7.6.3.1.2). GDCM inverts its values, which is right for an X-ray
    and wrong for Hounsfield units; those are read as MONOCHROME2.

    Raises:
        FastTextDiffError: frames have different rescale values, or pixels cannot be decoded.
    """
    if len({frame.rescale for frame in header.frames}) > 1:
        # GDCM applies the first frame's slope and intercept to all frames.
        raise FastTextDiffError(f"{header.path}: frames differ in rescale slope; export one file per slice")
    if header.encoding is not None and header.encoding.is_compressed:
        require_matching_frames(header.path)
    try:
        if header.is_ct and header.encoding is not None and header.encoding.is_inverted:
            return _read_as_stored(header.path)
        return read_itk(header.path, "GDCMImageIO")
    except RuntimeError as problem:
        raise FastTextDiffError(f"{header.path}: {_why_undecodable(header.path)}") from problem


def _read_as_stored(path: Path) -> Any:
    import pydicom

    dataset = pydicom.dcmread(path)
    dataset.PhotometricInterpretation = "MONOCHROME2"
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "image.dcm"
        dataset.save_as(copy)
        return read_itk(copy, "GDCMImageIO")


def _why_undecodable(path: Path) -> str:
    import pydicom

    try:
        dataset = pydicom.dcmread(path)
        if not any(keyword in dataset for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
            return "the DICOM file has no pixel data; export it again with its images"
        syntax = dataset.file_meta.TransferSyntaxUID.name
    except Exception:  # pydicom's parsers may raise anything
        syntax = "unknown"
    return f"the pixel data ({syntax}) are damaged, truncated or of an unsupported kind; copy or export the file again"


def voxels_of(header: Header) -> NDArray[Any]:
    """A file's frames (frame, row, column[, 3]), decoded by :func:`decode`.

    Raises:
        FastTextDiffError: as :func:`decode`, or the number of frames differs from the header.
    """
    import SimpleITK as sitk  # noqa: N813

    voxels: NDArray[Any] = sitk.GetArrayFromImage(decode(header))
    if voxels.shape[0] != len(header.frames):
        raise FastTextDiffError(
            f"{header.path}: {len(header.frames)} frames in the header, {voxels.shape[0]} in the file; export it again"
        )
    return voxels


def padding_of(header: Header, voxels: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Which voxels are padding (PS3.3 section C.7.5.1.1.2); None if none or all are.

    Args:
        header: of the file, or of any file of a stack with equal rescale values.
        voxels: grey, as decoded.
    """
    encoding = header.encoding
    if encoding is None or encoding.padding is None or voxels.ndim != 3:
        return None
    ends = np.array(encoding.padding, np.float64)
    if encoding.is_inverted and not header.is_ct:
        # as GDCM inverts values
        ends = (-1.0 if encoding.is_signed else (1 << encoding.bits_stored) - 1.0) - ends
    slope, intercept = header.frames[0].rescale or (1.0, 0.0)
    low, high = sorted(ends * slope + intercept)
    margin = abs(slope) / 4
    padding: NDArray[np.bool_] = (voxels >= low - margin) & (voxels <= high + margin)
    return padding if padding.any() and not padding.all() else None


def blackened(voxels: NDArray[Any], padding: NDArray[np.bool_] | None) -> NDArray[Any]:
    """The voxels with padding set to the lowest other value."""
    if padding is None:
        return voxels
    return np.where(padding, voxels[~padding].min(), voxels)
