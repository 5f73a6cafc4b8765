"""Synthetic negatives are correct: clear halves have no lesion, and removed lungs are not visible."""

from __future__ import annotations

import numpy as np
import pytest
from dicom_files import write_slice

from fasttextdiff.image.volume import Modality
from fasttextdiff.training.negatives import (
    FILLINGS,
    PULMONARY,
    is_one_sided,
    symmetric_chests,
    with_negatives,
    without_lungs,
)
from fasttextdiff.training.samples import LESION_CLASSES, LUNGS, Region, Sample, load_samples

SPLIT = 28  # the patient's midline is not the picture's
SIZE = 60


def has(sample, region):
    return (sample.regions & np.uint8(region)) > 0


def chest(lesion_columns, modality=Modality.XRAY, colour=False):
    """Each half has its own grey level; a lesion is bright."""
    image = np.full((SIZE, SIZE), 50, np.uint8)
    image[:, SPLIT:] = 90
    regions = np.zeros((SIZE, SIZE), np.uint8)
    regions[:, SPLIT:] |= np.uint8(Region.PATIENT_LEFT)
    for columns in lesion_columns:
        image[20:40, columns] = 200
        regions[20:40, columns] |= np.uint8(Region.LESION)
    picture = np.stack([image] * 3, axis=-1) if colour else image
    return Sample(picture, regions, modality, Region.LESION, "Infection, left lung.", {"left": "lower"})


RIGHT, LEFT = slice(5, 15), slice(40, 50)


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize(("side", "clear_level"), [(LEFT, 50), (RIGHT, 90)])
def test_a_one_sided_lesion_gives_a_clear_chest_and_a_two_sided_one(side, clear_level, colour):
    made = sorted(symmetric_chests(chest([side], colour=colour)), key=lambda s: has(s, Region.LESION).sum())
    clear, sick = made
    assert not has(clear, Region.LESION).any()
    assert set(np.unique(clear.image)) <= {0, clear_level}
    left = has(sick, Region.PATIENT_LEFT)
    assert has(sick, Region.LESION)[:, SPLIT:].any()
    assert has(sick, Region.LESION)[:, :SPLIT].any()
    for sample in made:
        assert np.array_equal(left[0], np.arange(SIZE) >= SPLIT)
        bright = np.atleast_3d(sample.image)[..., 0] == 200
        assert np.array_equal(bright, has(sample, Region.LESION))
        assert (sample.sentence, sample.zones, sample.annotated) == ("", {}, Region.LESION)
        mirror = np.atleast_3d(sample.image)[:, :SPLIT][:, ::-1]
        assert np.array_equal(mirror, np.atleast_3d(sample.image)[:, SPLIT : 2 * SPLIT])


@pytest.mark.parametrize(("sides", "expected"), [([], False), ([LEFT], True), ([RIGHT], True), ([LEFT, RIGHT], False)])
def test_chests_that_are_clear_or_have_lesions_on_both_sides_are_not_one_sided(sides, expected):
    assert is_one_sided(chest(sides)) is expected


def slice_with_lungs():
    """A body of soft tissue with two dark lungs."""
    rng = np.random.default_rng(0)
    image = rng.normal(180, 4, (96, 96))
    regions = np.zeros((96, 96), np.uint8)
    regions[:, 48:] |= np.uint8(Region.PATIENT_LEFT)
    for bit, columns in ((Region.RIGHT_LUNG, slice(10, 40)), (Region.LEFT_LUNG, slice(56, 86))):
        regions[15:80, columns] |= np.uint8(bit)
        image[15:80, columns] = rng.normal(20, 4, (65, 30))
    return Sample(image.clip(0, 255).astype(np.uint8), regions, Modality.CT, LUNGS)


def test_a_slice_without_lungs_has_tissue_in_their_place_and_labels_them_absent():
    source = slice_with_lungs()
    lungs = has(source, LUNGS)
    dark = []
    for seed in range(8):
        made = without_lungs(source, np.random.default_rng(seed))
        assert made.annotated == LUNGS | LESION_CLASSES | Region.LESION
        assert not has(made, made.annotated).any()
        assert np.array_equal(has(made, Region.PATIENT_LEFT), has(source, Region.PATIENT_LEFT))
        far = ~np.pad(lungs, 8)[:-16, 8:-8] & ~np.pad(lungs, 8)[16:, 8:-8] & ~lungs
        far[:, 5:91] = False
        assert np.array_equal(made.image[far], source.image[far])  # nothing changes outside the lungs
        dark.append((made.image[lungs] < 90).mean())
    assert np.mean(dark) < 0.2  # gas only
    assert max(dark) > 0


def test_negatives_are_separate_groups_and_depend_on_the_seed():
    samples = {
        "qata": [chest([LEFT]), chest([LEFT, RIGHT])],
        "ct_lungs": [slice_with_lungs()],
        "lung_bases": [slice_with_lungs()],
    }
    first, again, other = (with_negatives(samples, seed) for seed in (0, 0, 1))
    assert {name: len(group) for name, group in first.items()} == {
        "qata": 2,
        "ct_lungs": 1,
        "lung_bases": 1,
        "one_sided": 1,
        "symmetric": 2,
        "lungless": 1,
        "abdomen": FILLINGS,
    }
    fillings = first["abdomen"]
    assert not any(has(sample, PULMONARY | LUNGS).any() for sample in fillings)
    assert len({sample.image.tobytes() for sample in fillings}) == FILLINGS
    assert np.array_equal(first["lungless"][0].image, again["lungless"][0].image)
    assert not np.array_equal(first["lungless"][0].image, other["lungless"][0].image)


def test_slices_next_to_the_liver_show_clear_lung_bases_on_the_patients_sides(tmp_path):
    voxels = np.full((200, 240), -1000, np.int16)
    voxels[20:180, 20:220] = 40  # the body, off the picture's corners
    for columns in (slice(30, 90), slice(150, 210)):
        voxels[90:170, columns] = -850
    write_slice(tmp_path / "samples" / "ct_liver_dcmqi" / "01.dcm", voxels)
    (tmp_path / "data").mkdir()
    (sample,) = load_samples(tmp_path / "data")["lung_bases"]
    assert sample.image.shape == sample.regions.shape == (164, 204)  # two pixels around the body
    assert sample.annotated == LUNGS | PULMONARY
    assert not has(sample, PULMONARY).any()
    for region, columns in ((Region.RIGHT_LUNG, slice(12, 72)), (Region.LEFT_LUNG, slice(132, 192))):
        expected = np.zeros(sample.regions.shape, bool)
        expected[72:152, columns] = True
        overlap = (has(sample, region) & expected).sum()
        assert 2 * overlap > 0.97 * (has(sample, region).sum() + expected.sum()), region
    assert abs(int(np.median(sample.image[100, 30:60])) - 255 * 150 // 1200) <= 1  # -850 HU in the lung window
    filled = with_negatives({"lung_bases": [sample]}, 0)["abdomen"]
    assert all(view.image[72:152, 12:72].mean() > 150 for view in filled)
