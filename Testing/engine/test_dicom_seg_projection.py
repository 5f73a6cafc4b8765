"""DICOM Segmentations of projections and captures, for all spacings in their headers."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from dicom_readers import errors_found_by_dciodvfy
from pydicom import uid
from test_dicom_seg import projection, result_of, write

KINDS = {
    "CR": uid.ComputedRadiographyImageStorage,
    "DX": uid.DigitalXRayImageStorageForPresentation,
    "MG": uid.DigitalMammographyXRayImageStorageForPresentation,
    "IO": uid.DigitalIntraOralXRayImageStorageForPresentation,
    "PX": uid.DigitalXRayImageStorageForPresentation,
    "RF": uid.XRayRadiofluoroscopicImageStorage,
    "OT": uid.SecondaryCaptureImageStorage,
    "US": uid.UltrasoundImageStorage,
}
SPACINGS = {
    "none": {"PixelSpacing": None},
    "imager": {"PixelSpacing": None, "ImagerPixelSpacing": [0.2, 0.2]},
    "calibrated": {"PixelSpacing": [0.2, 0.2], "ImagerPixelSpacing": [0.25, 0.25]},
}


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("modality", KINDS)
def test_a_projection_of_any_kind_gets_a_segmentation_with_every_pixel(tmp_path, modality, spacing):
    volume = projection(tmp_path, KINDS[modality], Modality=modality, **SPACINGS[spacing])
    result = result_of(volume)
    path = write(tmp_path, result)
    stored = pydicom.dcmread(path)
    assert int(stored.pixel_array.sum()) == sum(int(found.mask.sum()) for found in result.findings)
    assert "FrameOfReferenceUID" not in stored or not stored.FrameOfReferenceUID
    assert np.shape(stored.pixel_array)[-2:] == volume.shape[1:]
    if spacing == "imager":
        assert errors_found_by_dciodvfy(path) == []
