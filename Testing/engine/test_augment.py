"""Augmented samples stay consistent: image, regions, sides and text change together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fasttextdiff.image.volume import Modality
from fasttextdiff.training.augment import SOFT_TISSUE, augment, with_contrast
from fasttextdiff.training.samples import LUNGS, Region, Sample, single_zones

SENTENCE = "Bilateral pulmonary infection, upper right lung and lower left lung."
MIRRORED = "Bilateral pulmonary infection, upper left lung and lower right lung."
SEEDS = range(40)
SQUARE = (slice(30, 50), slice(80, 100))


def chest(modality=Modality.XRAY, shape=(96, 128)):
    """Two lungs of different height on a dark background, with a bright lesion in the left one."""
    image = np.full(shape, 40, np.uint8)
    regions = np.zeros(shape, np.uint8)
    regions[:, shape[1] // 2 :] |= np.uint8(Region.PATIENT_LEFT)
    regions[16:80, 70:110] |= np.uint8(Region.LEFT_LUNG)
    regions[16:60, 18:58] |= np.uint8(Region.RIGHT_LUNG)
    regions[SQUARE] |= np.uint8(Region.LESION)
    image[SQUARE] = 230
    return Sample(image, regions, modality, LUNGS | Region.LESION, SENTENCE, single_zones(SENTENCE))


def tile():
    image = np.full((160, 160, 3), 60, np.uint8)
    regions = np.zeros((160, 160), np.uint8)
    image[60:100, 50:120] = 220
    regions[60:100, 50:120] = np.uint8(Region.NUCLEI)
    return Sample(image, regions, Modality.HISTOLOGY, Region.NUCLEI, "The nuclei density in the upper left is high.")


def in_colour(sample):
    """The same as a grey image saved with three channels."""
    return replace(sample, image=np.stack([sample.image] * 3, axis=-1))


def views(sample, size=64):
    return [augment(sample, size, np.random.default_rng(seed)) for seed in SEEDS]


def bits(sample, region):
    return (sample.regions & np.uint8(region)) > 0


def grey(sample):
    image = sample.image.astype(float)
    return image.mean(axis=-1) if image.ndim == 3 else image


@pytest.mark.parametrize("modality", [Modality.XRAY, Modality.CT])
def test_the_left_lung_stays_on_the_patients_left_and_right_in_the_picture(modality):
    whole = 0
    for view in views(chest(modality)):
        left, right, half = (bits(view, r) for r in (Region.LEFT_LUNG, Region.RIGHT_LUNG, Region.PATIENT_LEFT))
        assert half[left].all()
        assert not half[right].any()
        if left.sum() > 100 and right.sum() > 100:
            whole += 1
            assert np.nonzero(left)[1].mean() > np.nonzero(right)[1].mean() + 10
    assert whole == len(SEEDS) if modality is Modality.XRAY else whole > 0.8 * len(SEEDS)  # close-ups may show one


@pytest.mark.parametrize("modality", [Modality.XRAY, Modality.CT])
def test_sentence_and_zones_swap_sides_exactly_when_the_image_is_mirrored(modality):
    mirrored = 0
    shown = [view for view in views(chest(modality)) if bits(view, Region.LESION).any()]
    for view in shown:
        lesion_left = (bits(view, Region.LESION) & bits(view, Region.PATIENT_LEFT)).any()
        is_mirror = not lesion_left  # the lesion was on the patient's left
        mirrored += is_mirror
        assert (bits(view, Region.LESION) & bits(view, Region.RIGHT_LUNG)).any() == is_mirror
        assert view.sentence == (MIRRORED if is_mirror else SENTENCE)
        assert view.zones == single_zones(view.sentence)
    assert len(shown) / 4 < mirrored < len(shown) * 3 / 4
    assert len(shown) > 0.8 * len(SEEDS)


@pytest.mark.parametrize(
    ("sample", "region"),
    [
        (chest(), Region.LESION),
        (chest(Modality.CT), Region.LESION),
        (tile(), Region.NUCLEI),
        (replace(tile(), image=tile().image[..., 0]), Region.NUCLEI),
        (in_colour(chest(Modality.CT)), Region.LESION),
    ],
)
def test_image_and_regions_move_together(sample, region):
    shown = [view for view in views(sample, 96) if bits(view, region).sum() > 100]
    assert len(shown) > (0.8 if sample.modality is Modality.CT else 0.99) * len(SEEDS)  # outside some close-ups
    for view in shown:
        assert view.image.ndim == sample.image.ndim
        painted, mask = grey(view), bits(view, region)
        bright = painted > (np.percentile(painted[mask], 50) + np.percentile(painted[~mask], 50)) / 2
        dice = 2 * (bright & mask).sum() / (bright.sum() + mask.sum())
        assert dice > 0.9


def test_some_views_of_a_ct_show_only_a_part_of_it():
    """The largest zoom of other views shows the lungs on a third of the picture."""
    lungs = [bits(view, LUNGS).mean() for view in views(chest(Modality.CT, (128, 128)))]
    assert 3 <= sum(share > 0.38 for share in lungs) < 0.3 * len(SEEDS)
    assert not any(bits(view, LUNGS).mean() > 0.38 for view in views(chest(Modality.XRAY, (128, 128))))


def test_histology_rotates_freely_and_keeps_its_text():
    made = views(tile(), 96)
    assert {view.sentence for view in made} == {tile().sentence}
    extents = [np.ptp(np.nonzero(bits(view, Region.NUCLEI)), axis=1) for view in made]
    taller = sum(rows > columns for rows, columns in extents)
    assert 5 < taller < len(made) - 5  # the painted nucleus is wider than tall
    assert not any(bits(view, Region.PATIENT_LEFT).any() for view in made)


def test_views_are_square_uint8_differ_and_do_not_change_the_sample():
    sample, untouched = chest(), chest()
    made = views(sample, 48)
    assert {(v.image.shape, v.image.dtype, v.regions.shape, v.regions.dtype) for v in made} == {
        ((48, 48), np.dtype(np.uint8), (48, 48), np.dtype(np.uint8))
    }
    assert len({v.image.tobytes() for v in made}) == len(made)
    assert np.array_equal(sample.image, untouched.image)
    assert np.array_equal(sample.regions, untouched.regions)
    assert augment(tile(), 48, np.random.default_rng(0)).image.shape == (48, 48, 3)


@pytest.mark.parametrize("sample", [chest(), chest(Modality.CT), tile()])
def test_the_same_seed_gives_the_same_bits(sample):
    first, second, other = (augment(sample, 64, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert np.array_equal(first.image, second.image)
    assert np.array_equal(first.regions, second.regions)
    assert (first.sentence, first.zones) == (second.sentence, second.zones)
    assert not np.array_equal(first.image, other.image)


def test_contrast_agent_brightens_only_patches_of_soft_tissue():
    slice_ = np.full((96, 128), 0.8, np.float32)
    slice_[20:70, 20:100] = 0.2  # lung
    changed = [with_contrast(slice_, np.random.default_rng(seed)) != slice_ for seed in SEEDS]
    brighter = [with_contrast(slice_, np.random.default_rng(seed)) >= slice_ for seed in SEEDS]
    assert not any(where[slice_ < SOFT_TISSUE].any() for where in changed)
    assert all(where.all() for where in brighter)
    shares = [where[slice_ > SOFT_TISSUE].mean() for where in changed]
    assert 0.1 < np.mean(shares) < 0.6
