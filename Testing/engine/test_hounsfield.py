"""CT voxels that are not Hounsfield units: turned into them where that is certain, else refused."""

from __future__ import annotations

import numpy as np
import pytest

from fasttextdiff.errors import FastTextDiffError
from fasttextdiff.image.hounsfield import hounsfield_offset, in_hounsfield


def chest(noise: float = 3.0) -> np.ndarray:
    """Air around a body of fat and muscle with two lungs and a spine, int16 Hounsfield units."""
    random = np.random.default_rng(0)
    hu = np.full((6, 64, 64), -1000.0)
    hu[:, 12:52, 6:58] = -100
    hu[:, 16:48, 10:54] = 50
    hu[:, 20:44, 14:28] = hu[:, 20:44, 36:50] = -850
    hu[:, 40:46, 29:35] = 400
    return (hu + random.normal(0, noise, hu.shape)).round().astype(np.int16)


def abdomen() -> np.ndarray:
    """A crop inside the body, without air."""
    return chest()[:, 8:48, 29:35].clip(-200)


SHIFTS = {
    "hounsfield": (0, 0, np.int16),
    "unsigned_1024": (1024, 1024, np.uint16),
    "signed_1024": (1024, 1024, np.int16),
    "float_1024": (1024, 1024, np.float32),
    "clipped_1000": (1000, 1000, np.uint16),
    "sixteen_bits": (32768, 32768, np.uint16),
}


@pytest.mark.parametrize("is_stated", [False, True])
@pytest.mark.parametrize("name", list(SHIFTS))
def test_an_added_offset_is_found_noted_and_removed(name, is_stated):
    added, expected, kind = SHIFTS[name]
    stored = (chest().astype(np.int32) + added).clip(0 if np.dtype(kind).kind == "u" else None).astype(kind)

    array, notes = in_hounsfield("a", stored, is_stated=is_stated)

    assert np.abs(array.astype(int) - chest()).max() <= (20 if name == "clipped_1000" else 0)
    assert np.median(array[:, 20:44, 14:28]) == np.median(chest()[:, 20:44, 14:28])
    assert len(notes) == (1 if expected else 0)
    assert all(f"+ {expected}" in note for note in notes)


@pytest.mark.parametrize("padding", [-2000, -3024])
@pytest.mark.parametrize("added", [0, 1024])
def test_padding_outside_the_field_of_view_is_ignored(padding, added):
    stored = chest().astype(np.int32) + added
    y, x = np.mgrid[:64, :64] - 31.5
    stored[:, x**2 + y**2 > 32**2] = padding
    assert hounsfield_offset(stored) == added


def test_a_crop_without_air_is_recognised_by_its_soft_tissue():
    assert hounsfield_offset(abdomen()) == 0
    assert hounsfield_offset(abdomen() + 1024) == 1024


@pytest.mark.parametrize(
    "stored",
    [
        ((chest() + 160) / 400 * 255).clip(0, 255).astype(np.uint8),
        ((chest() + 1000.0) / 1400 * 255).clip(0, 255).astype(np.uint16),
        ((chest() + 1000.0) / 2000).clip(0, 1).astype(np.float32),
        ((chest() + 1000.0) / 1000 - 1).clip(-1, 1).astype(np.float32),
    ],
    ids=["uint8", "uint16", "fraction", "minus_one_to_one"],
)
@pytest.mark.parametrize("is_stated", [False, True])
def test_windowed_voxels_are_refused_whatever_the_header_states(stored, is_stated):
    with pytest.raises(FastTextDiffError, match=r"^a: .* not Hounsfield units .* export") as caught:
        in_hounsfield("a", stored, is_stated=is_stated)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("is_stated", [False, True])
@pytest.mark.parametrize("stored", [-chest(), chest() - 1024], ids=["turned_round", "too_low"])
def test_an_inverted_or_twice_shifted_ct_is_refused_whatever_the_header_states(stored, is_stated):
    with pytest.raises(FastTextDiffError, match=r"^a: .*export the CT again"):
        in_hounsfield("a", stored, is_stated=is_stated)


def test_an_inconclusive_histogram_is_refused_unless_the_header_states_the_units():
    masked = np.zeros((2, 40, 40), np.int16)
    masked[:, 10:30, 10:30] = np.random.default_rng(1).normal(900, 300, (2, 20, 20)).clip(300)
    with pytest.raises(FastTextDiffError):
        in_hounsfield("a", masked, is_stated=False)
    array, notes = in_hounsfield("a", masked, is_stated=True)
    assert array is masked
    assert not notes


def test_mr_magnitudes_are_not_taken_for_a_shifted_ct():
    random = np.random.default_rng(2)
    assert hounsfield_offset(random.gamma(2, 300, (4, 32, 32)).astype(np.uint16)) is None
    assert hounsfield_offset(random.normal(0, 1, (4, 32, 32)).astype(np.float32)) is None


def test_the_bundled_ct_holds_hounsfield_units_and_is_found_again_when_shifted(samples):
    import nibabel

    hu = np.asarray(nibabel.load(samples / "chest_ct/chest_ct_cropped.nii.gz").dataobj).astype(np.int32)
    assert hounsfield_offset(hu) == 0
    assert hounsfield_offset((hu + 1024).clip(0).astype(np.uint16)) == 1024
