"""Decodes DICOM pixels to the values that they stand for. Knows nothing about series and positions of slices."""

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
    reader.SetFileName(str(as_path(path)))  # a name that is not in UTF-8 would end the process
    return reader.Execute()


def itk_ijk_to_ras(image: Any) -> NDArray[np.float64]:
    """The 4x4 matrix from voxel index to RAS millimetres of a 2D or 3D SimpleITK image, whose own space is LPS."""
    dimensions = image.GetDimension()
    to_lps = np.eye(4)
    directions = np.reshape(image.GetDirection(), (dimensions, dimensions))
    to_lps[:dimensions, :dimensions] = directions * image.GetSpacing()
    to_lps[:dimensions, 3] = image.GetOrigin()
    return LPS_TO_RAS @ to_lps


def decode(header: Header) -> Any:
    """A file's frames as a SimpleITK image, with rescale applied.

    MONOCHROME1 says how to show an image (PS3.3 C.7.6.3.1.2). GDCM turns its values round, which is right for a film
    and wrong for Hounsfield units: those are read as MONOCHROME2.

    Raises:
        FastTextDiffError: frames with different scales, or pixels that cannot be decoded.
    """
    if len({plane.rescale for plane in header.planes}) > 1:
        # GDCM applies the first frame's slope and intercept to all of them.
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
    except Exception:  # pydicom raises whatever its parsers raise
        syntax = "unknown"
    return f"the pixel data ({syntax}) are damaged, cut short or of an unsupported kind; copy or export the file again"


def voxels_of(header: Header) -> NDArray[Any]:
    """A file's frames (frame, row, column[, 3]) as :func:`decode` gives them.

    Raises:
        FastTextDiffError: as there, or there are other frames than announced.
    """
    import SimpleITK as sitk  # noqa: N813

    voxels: NDArray[Any] = sitk.GetArrayFromImage(decode(header))
    if voxels.shape[0] != len(header.planes):
        raise FastTextDiffError(
            f"{header.path}: {len(header.planes)} frames are announced, {voxels.shape[0]} are there; export it again"
        )
    return voxels


def padding_of(header: Header, voxels: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Which voxels are padding, none of the patient (PS3.3 C.7.5.1.1.2); None if none are, or all.

    Args:
        header: of the file, or of one file of a stack whose files are scaled alike.
        voxels: grey, as decoded.
    """
    encoding = header.encoding
    if encoding is None or encoding.padding is None or voxels.ndim != 3:
        return None
    ends = np.array(encoding.padding, np.float64)
    if encoding.is_inverted and not header.is_ct:
        # as GDCM turns values round
        ends = (-1.0 if encoding.is_signed else (1 << encoding.bits_stored) - 1.0) - ends
    slope, intercept = header.planes[0].rescale or (1.0, 0.0)
    low, high = sorted(ends * slope + intercept)
    margin = abs(slope) / 4
    padding: NDArray[np.bool_] = (voxels >= low - margin) & (voxels <= high + margin)
    return padding if padding.any() and not padding.all() else None


def blackened(voxels: NDArray[Any], padding: NDArray[np.bool_] | None) -> NDArray[Any]:
    """The voxels with padding as dark as the darkest of the patient."""
    if padding is None:
        return voxels
    return np.where(padding, voxels[~padding].min(), voxels)
