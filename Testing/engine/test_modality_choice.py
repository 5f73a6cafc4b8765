"""A CT, chosen or guessed, reaches the model in Hounsfield units or is refused, in every format."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from dicom_files import write_slice
from PIL import Image
from test_hounsfield import abdomen, chest

from fasttextdiff.errors import FastTextDiffError
from fasttextdiff.image.preprocessing import ImageSettings, choose_window
from fasttextdiff.image.volume import Modality
from fasttextdiff.io.read import decoded_from_memory, read_volume, volume_from

HU = chest()
LUNG = ImageSettings(64, window=(-400.0, 1200.0))


def write(path, voxels):
    """(k, j, i); a TIFF holds the first slice."""
    if path.name.endswith(".nii.gz"):
        nibabel.save(nibabel.Nifti1Image(voxels.transpose(2, 1, 0), np.eye(4)), path)
    elif path.suffix == ".tif":
        Image.fromarray(voxels[0]).save(path)
    else:
        sitk.WriteImage(sitk.GetImageFromArray(voxels), str(path))
    return path


def refusal(path, **options):
    with pytest.raises(FastTextDiffError) as caught:
        read_volume(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


FORMATS = ["v.nii.gz", "v.nrrd", "v.mha", "v.tif"]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("modality", [Modality.CT, "ct"])
def test_a_ct_that_is_1024_too_high_is_corrected_and_noted(tmp_path, name, modality):
    volume = read_volume(write(tmp_path / name, (HU + 1024).clip(0).astype(np.uint16)), modality=modality)
    assert np.array_equal(volume.array, HU.clip(-1024)[: volume.shape[0]])
    assert any("1024 was subtracted" in note for note in volume.source.notes)
    assert choose_window(volume, LUNG) == LUNG.window


@pytest.mark.parametrize("name", FORMATS[:3])
@pytest.mark.parametrize(
    "stored",
    [((HU + 1000.0) / 2000).clip(0, 1).astype(np.float32), ((HU + 160) / 400 * 255).clip(0, 255).astype(np.uint8)],
    ids=["fraction", "uint8"],
)
def test_a_volume_of_fractions_or_grey_levels_is_not_a_ct(tmp_path, name, stored):
    path = write(tmp_path / name, stored)
    assert "not Hounsfield units" in refusal(path, modality="ct")
    assert read_volume(path, modality="other").modality is Modality.OTHER


@pytest.mark.parametrize("voxels", [HU, abdomen()], ids=["chest", "crop"])
def test_hounsfield_units_are_not_changed(tmp_path, voxels):
    volume = read_volume(write(tmp_path / "v.nii.gz", voxels), modality="ct")
    assert np.array_equal(volume.array, voxels)
    assert not volume.source.notes


@pytest.mark.parametrize("name", ["p.png", "p.jpg", "p.tif", "wide.tif"])
def test_a_picture_of_a_ct_keeps_its_range(tmp_path, name):
    grey = ((HU[0] + 1000) / 2000 * 255).clip(0, 255).astype(np.uint16 if name == "wide.tif" else np.uint8)
    Image.fromarray(grey).save(tmp_path / name)
    volume = read_volume(tmp_path / name, modality="ct")
    assert choose_window(volume, LUNG) == (127.5, 255.0)
    assert any("the model sees it as saved" in note for note in volume.source.notes)


def test_a_picture_in_neither_is_refused(tmp_path):
    grey = ((HU[0] + 1000.0) / 2000 * 65535).clip(0, 65535).astype(np.uint16)
    Image.fromarray(grey).save(tmp_path / "p.png")
    assert "not Hounsfield units" in refusal(tmp_path / "p.png", modality="ct")


def test_an_mr_by_its_header_is_not_a_ct_unless_its_voxels_are_hounsfield_units(tmp_path):
    random = np.random.default_rng(0)
    magnitudes = random.gamma(2, 300, (64, 64)).astype(np.int16)
    for n, voxels in enumerate((magnitudes, HU[0] + np.int16(1024))):
        path = write_slice(tmp_path / f"{n}", voxels, Modality="MR")
        assert "it is not a CT" in refusal(path, modality="ct")
    volume = read_volume(write_slice(tmp_path / "hu", HU[0], Modality="MR"), modality="ct")
    assert np.array_equal(volume.array[0], HU[0])
    assert "read as ct as requested; the DICOM header says otherwise" in volume.source.notes


def test_a_volume_that_may_be_a_shifted_ct_or_an_mr_is_not_guessed(tmp_path):
    path = write(tmp_path / "v.nrrd", (HU + 1024).clip(0).astype(np.uint16))
    assert "give its modality" in refusal(path)
    assert read_volume(path, modality="mr").array.max() == HU.max() + 1024
    far = read_volume(write(path, (HU.astype(np.int32) + 32768).astype(np.uint16)))
    assert far.modality is Modality.CT
    assert np.array_equal(far.array, HU)


def test_a_volume_from_memory_is_checked_like_a_file():
    decoded = decoded_from_memory(HU + np.int16(1024), np.eye(4), name="CT")
    assert np.array_equal(volume_from(decoded, Modality.CT).array, HU)
    with pytest.raises(FastTextDiffError, match=r"^CT: .* not Hounsfield units"):
        volume_from(decoded_from_memory(HU / 4000, np.eye(4), name="CT"), Modality.CT)


def test_a_slice_that_slicer_loaded_is_read_like_its_file(tmp_path):
    path = write_slice(tmp_path / "slice.dcm", HU[0].astype(np.int16), RescaleSlope=None, RescaleIntercept=None)
    file = read_volume(path)
    loaded = volume_from(decoded_from_memory(file.array, file.ijk_to_ras, name="CT", path=path), None)
    assert loaded.modality is file.modality is Modality.CT
    (note,) = loaded.source.notes
    assert "identified as Hounsfield units by their histogram" in note
    assert note in file.source.notes
