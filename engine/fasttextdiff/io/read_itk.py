"""Reads NRRD and MetaImage files through ITK, as 3D Slicer does. Knows nothing about the meaning of voxels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fasttextdiff.errors import UsageError
from fasttextdiff.image.volume import Source
from fasttextdiff.io.dicom_pixels import itk_ijk_to_ras, read_itk
from fasttextdiff.io.file_checks import no_stderr
from fasttextdiff.io.itk_headers import require_sound_header
from fasttextdiff.io.read_dicom import Decoded


def decode_itk(path: Path) -> Decoded:
    """Read one volume or picture.

    Raises:
        UsageError: a segmentation, several volumes, or values that are neither grey nor 8-bit RGB.
        FastTextDiffError: the header has invalid numbers, or more voxels than the file.
        Exception: errors of the libraries for a damaged file; the caller turns them into one line.
    """
    import SimpleITK as sitk  # noqa: N813

    require_sound_header(path)
    with no_stderr():
        image = read_itk(path)
    if image.HasMetaDataKey("Segment0_ID"):
        raise UsageError(f"{path}: this is a segmentation, not an image")
    if image.GetDimension() == 4 and image.GetSize()[3] == 1:
        image = image[:, :, :, 0]
    components, size = image.GetNumberOfComponentsPerPixel(), image.GetSize()
    if len(size) > 3:
        raise UsageError(f"{path}: several volumes in one file ({' x '.join(map(str, size))}); extract one time point")
    if components > 1 and (components, image.GetPixelID()) != (3, sitk.sitkVectorUInt8):
        raise UsageError(f"{path}: {components} values per voxel; only grey and 8-bit RGB images are read")
    array = sitk.GetArrayFromImage(image)
    is_planar = len(size) == 2
    source = Source(path=str(path))
    array = array[np.newaxis] if is_planar else array
    return Decoded(array, itk_ijk_to_ras(image), None, is_planar, source, has_slice_order=is_planar)
