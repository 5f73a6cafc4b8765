"""One patient in 48 storage orders: without DICOM headers, the slices follow from the geometry."""

from __future__ import annotations

from itertools import permutations, product

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from tiny_models import tiny_pipeline

from fasttextdiff.batch.headers import look_at
from fasttextdiff.contract.images import slice_axis
from fasttextdiff.image.orientation import display_plane, in_standard_order
from fasttextdiff.image.volume import Modality, Volume
from fasttextdiff.io.read import read_volume
from fasttextdiff.segmenter import Segmenter

SHAPE = (18, 16, 8)  # R, A, S
CODES = [
    "".join(pair[sign] for pair, sign in zip(order, signs, strict=True))
    for order in permutations(("LR", "PA", "IS"))
    for signs in product((0, 1), repeat=3)
]


@pytest.fixture(scope="module")
def segmenter():
    return Segmenter(tiny_pipeline())


def patient():
    """Air, a body, and something off all planes of symmetry."""
    rng = np.random.default_rng(0)
    voxels = np.full(SHAPE, -1000, np.int16)
    voxels[2:17, 3:14] = rng.normal(40, 30, (15, 11, 8)).astype(np.int16)
    voxels[4:8, 5:10, 2:6] = -850
    return voxels


def stored(code, spacing):
    image = nibabel.Nifti1Image(patient(), np.diag([*spacing, 1.0]))
    return image.as_reoriented(ornt_transform(io_orientation(image.affine), axcodes2ornt(code)))


def save(image, path):
    if path.suffix == ".gz":
        nibabel.save(image, path)
        return path
    affine = np.diag([-1, -1, 1, 1]) @ image.affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    picture = sitk.GetImageFromArray(np.asarray(image.dataobj).transpose(2, 1, 0))
    picture.SetSpacing(spacing.tolist())
    picture.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    picture.SetOrigin(affine[:3, 3].tolist())
    sitk.WriteImage(picture, str(path))
    return path


def of_patient(volume, array):
    """Voxels of the volume as (R, A, S), for any storage order."""
    image = nibabel.Nifti1Image(np.asarray(array).transpose(2, 1, 0).astype(np.float32), volume.ijk_to_ras)
    return np.asarray(nibabel.as_closest_canonical(image).dataobj)


@pytest.mark.parametrize("spacing", [(2.0, 2.0, 2.0), (4.0, 1.0, 1.0)])
def test_all_storage_orders_of_one_patient_give_the_same_answer(tmp_path, segmenter, spacing):
    expected = None
    for code in CODES[::5]:  # every order of the axes, and both directions of each
        volume = read_volume(save(stored(code, spacing), tmp_path / f"{code}.nii.gz"))
        result = segmenter.segment(volume, ["left lung"])
        answer = of_patient(volume, result.findings[0].probability)
        expected = answer if expected is None else expected
        assert np.allclose(answer, expected, atol=1e-3), code
        notes = [note for note in volume.source.notes if "from its geometry" in note]
        assert len(notes) == (volume.slice_axis != 0)
        assert all(("sagittal" if spacing[0] == 4 else "axial") in note for note in notes)


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("code", ["LPS", "LIA", "PIR", "SAR"])
def test_formats_without_slice_order_use_the_geometry(tmp_path, segmenter, code, ending):
    path = save(stored(code, (1.0, 1.0, 3.0)), tmp_path / f"image{ending}")
    volume = read_volume(path)
    shown = display_plane(volume, "acquisition")
    assert (shown.anatomical, shown.n_slices) == ("axial", SHAPE[2])
    assert look_at(path).images == SHAPE[2]
    part = segmenter.segment(volume, ["left lung"], slices=(2, 4)).findings[0]
    assert np.isfinite(part.presence).sum() == 2
    assert part.probability.shape == volume.shape


def test_the_plane_of_typical_acquisitions_is_found():
    """(spacing along R, A, S; voxels; plane)"""
    cases = [
        ((0.7, 0.7, 5.0), (512, 512, 30), "axial"),
        ((3.0, 0.5, 0.5), (20, 384, 384), "sagittal"),
        ((0.6, 4.0, 0.6), (320, 24, 320), "coronal"),
        ((1.0, 1.0, 1.0), (256, 256, 176), "axial"),
        ((1.0, 1.05, 1.0), (256, 256, 176), "axial"),
        ((0.8, 1.0, 0.8), (400, 1, 500), "coronal"),
        ((1.2, 1.0, 1.0), (1, 256, 256), "sagittal"),
    ]
    for spacing, voxels, plane in cases:
        for code in CODES:
            turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(code))
            affine = np.diag([*spacing, 1.0]) @ nibabel.orientations.inv_ornt_aff(turn, voxels)
            shape = tuple(voxels[int(axis)] for axis in np.argsort(turn[:, 0]))
            axis = slice_axis(affine.tolist(), shape[::-1])
            along = np.argmax(np.abs(affine[:3, 2 - axis]))
            assert ("sagittal", "coronal", "axial")[along] == plane, (spacing, code)


def test_voxel_samples_do_not_depend_on_the_storage_order():
    views = []
    for code in CODES:
        image = stored(code, (1.0, 1.0, 2.0))
        array = np.asarray(image.dataobj).transpose(2, 1, 0)
        view = in_standard_order(Volume(array, image.affine, Modality.CT), array)
        assert np.shares_memory(view, array)
        views.append(view)
    assert all(np.array_equal(view, views[0]) for view in views)
