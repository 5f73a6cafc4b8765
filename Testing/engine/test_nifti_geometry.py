"""A NIfTI file is placed like in 3D Slicer (ITK), also with contradictory or missing matrices and other units."""

from __future__ import annotations

import itertools
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from fasttextdiff.errors import FastTextDiffError
from fasttextdiff.io.dicom_pixels import itk_ijk_to_ras
from fasttextdiff.io.read import quiet, read_volume

QUATERN, OFFSETS, SROW, PIXDIM, SLOPE, CODES = 256, 268, 280, 80, 112, 252
"""Byte offsets of these fields in the NIfTI-1 header (nifti1.h)."""


def turn(degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s, 0, 30], [s, c, 0, -20], [0, 0, 1, 10], [0, 0, 0, 1]])


SHEAR = np.eye(4) + 0.2 * np.eye(4, k=1) * [0, 1, 0, 0]
PLACE = np.array([[-0.7, 0, 0, 60], [0, -0.6, 1.6, 40], [0, 0.8, 1.2, -30], [0, 0, 0, 1.0]])


def write(path: Path, sform: np.ndarray, codes: tuple[int, int], units: int = 2) -> Path:
    voxels = np.random.default_rng(0).integers(-1000, 500, (4, 5, 6)).astype(np.int16)
    image = nibabel.Nifti1Image(voxels, PLACE)
    image.set_qform(PLACE, codes[0])
    image.set_sform(sform, codes[1])
    image.header["xyzt_units"] = units
    nibabel.save(image, path)
    return path


def patch(path: Path, at: int, values: object, kind: str = "<f4") -> Path:
    content = bytearray(path.read_bytes())
    new = np.asarray(values, kind).tobytes()
    content[at : at + len(new)] = new
    path.write_bytes(bytes(content))
    return path


def as_itk(path: Path) -> np.ndarray:
    with quiet():
        return itk_ijk_to_ras(sitk.ReadImage(str(path)))


SFORMS = {"same": PLACE, "turned": turn(20) @ PLACE, "mirrored": np.diag([-1.0, 1, 1, 1]) @ PLACE}


@pytest.mark.parametrize("name", SFORMS)
def test_every_pair_of_codes_and_every_unit_is_placed_like_itk(tmp_path, name):
    for codes, units in itertools.product(itertools.product((0, 1, 2, 4), repeat=2), (0, 1, 2, 3)):
        path = write(tmp_path / "v.nii", SFORMS[name], codes, units)
        right = as_itk(path)
        volume = read_volume(path)
        assert volume.ijk_to_ras == pytest.approx(right, rel=1e-6, abs=1e-6 * np.abs(right).max()), (codes, units)
        noted = any("disagree" in note for note in volume.source.notes)
        assert noted == (name != "same" and 0 not in codes), (codes, units)


def test_a_sheared_sform_is_used_only_without_qform_as_in_itk(tmp_path):
    path = write(tmp_path / "v.nii", SHEAR @ PLACE, (1, 4))
    assert read_volume(path).ijk_to_ras == pytest.approx(as_itk(path))
    alone = read_volume(write(path, SHEAR @ PLACE, (0, 1), units=3))
    assert alone.ijk_to_ras[:3] == pytest.approx((SHEAR @ PLACE)[:3] / 1000, rel=1e-5)
    assert any("3D Slicer refuses this file" in note for note in alone.source.notes)


def test_a_zero_sform_is_replaced_by_the_qform(tmp_path):
    path = patch(write(tmp_path / "v.nii", PLACE, (1, 1)), SROW, np.zeros(12))
    assert read_volume(path).ijk_to_ras == pytest.approx(PLACE, abs=1e-4)
    with pytest.raises(FastTextDiffError, match="does not give the image's position"):
        read_volume(patch(write(path, PLACE, (0, 1)), SROW, np.zeros(12)))


@pytest.mark.parametrize("codes", [(1, 0), (1, 1), (0, 1)])
def test_a_quaternion_slightly_too_long_from_rounding_is_read(tmp_path, codes):
    path = write(tmp_path / "v.nii", turn(180) @ PLACE, codes)
    stored = np.frombuffer(path.read_bytes(), "<f4", 3, QUATERN)
    patch(path, QUATERN, stored / np.linalg.norm(stored) * np.float32(1.0000004))
    assert read_volume(path).ijk_to_ras == pytest.approx(as_itk(path), abs=1e-4)


FIELDS = {"sform": SROW, "quaternion": QUATERN, "offset": OFFSETS, "voxel size": PIXDIM}


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", FIELDS)
def test_values_that_are_not_finite_are_refused(tmp_path, name, value):
    path = patch(write(tmp_path / "v.nii", PLACE, (1, 1)), FIELDS[name] + 4, [value])
    with pytest.raises(FastTextDiffError, match="not a finite number"):
        read_volume(path)


@pytest.mark.parametrize(("codes", "at"), [((1, 0), OFFSETS), ((0, 1), SROW + 12), ((1, 0), PIXDIM + 4)])
def test_an_origin_far_outside_any_patient_is_refused(tmp_path, codes, at):
    with pytest.raises(FastTextDiffError, match="beyond 1 km"):
        read_volume(patch(write(tmp_path / "v.nii", PLACE, codes), at, [1e30]))


def test_an_infinite_scaling_is_refused_and_nan_means_none(tmp_path):
    path = write(tmp_path / "v.nii", PLACE, (1, 1))
    assert np.array_equal(read_volume(patch(path, SLOPE, [np.nan, np.nan])).array, read_volume(path).array)
    with pytest.raises(FastTextDiffError, match="scaling"):
        read_volume(patch(path, SLOPE, [np.inf, 0]))
