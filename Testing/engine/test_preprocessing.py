"""The model's input has the slice's proportions and the right grey levels, and its outputs return to their place."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from fasttextdiff.image.orientation import display_plane
from fasttextdiff.image.preprocessing import (
    Fit,
    ImageSettings,
    Preprocessing,
    Tile,
    apply_window,
    body_box,
    body_tile,
    choose_window,
    percentile_window,
    tile_weight,
    tiles,
    to_model_range,
)
from fasttextdiff.image.volume import Modality, Volume
from fasttextdiff.io.read import read_volume

SAMPLES = Path(__file__).resolve().parents[2] / "Resources" / "samples"
SHARED = Path(__file__).resolve().parents[3] / "shared" / "samples"
LUNG = (-400.0, 1200.0)


def volume(array, modality=Modality.CT, planar=False):
    return Volume(np.asarray(array), np.eye(4), modality, planar)


def random(*shape):
    return np.random.default_rng(0).random(shape, np.float32)


def blob(shape, spacing, center, radius):
    """A disc in millimetres, center (row, column) in pixels: (1, 1, *shape)."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    distance = np.hypot((rows - center[0]) * spacing[0], (columns - center[1]) * spacing[1])
    return (radius + 0.5 - distance).clip(0, 1).astype(np.float32)[None, None]


def moments(image):
    """Centre (row, column) and extent (row, column) of brightness, in pixels."""
    weight = image[0, 0] / image.sum()
    result = []
    for axis in (1, 0):
        profile = weight.sum(axis)
        index = np.arange(len(profile))
        center = (profile * index).sum()
        result.append((float(center), float((profile * (index - center) ** 2).sum() ** 0.5)))
    return result


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [
        ((90, 120), (1, 1)),
        ((512, 400), (0.7, 0.7)),
        ((40, 120), (3.0, 1.0)),
        ((120, 50), (0.5, 2.0)),
        ((64, 64), (1, 1)),
    ],
)
def test_a_round_blob_stays_round_and_returns_to_its_place(shape, spacing):
    extent = (shape[0] * spacing[0], shape[1] * spacing[1])
    center = (0.3 * shape[0], 0.6 * shape[1])
    image = blob(shape, spacing, center, radius=max(extent) / 10)
    fit = Fit.of(shape, spacing, size=64, multiple=16)
    seen = fit.forward(image)
    assert tuple(seen.shape[2:]) == fit.padded
    assert max(fit.resized) == 64
    assert all(side % 16 == 0 and 0 <= side - used < 16 for side, used in zip(fit.padded, fit.resized, strict=True))
    (row, height), (column, width) = moments(seen)
    assert height == pytest.approx(width, rel=0.05)
    scale = 64 / max(extent)
    assert row == pytest.approx((center[0] + 0.5) * spacing[0] * scale - 0.5, abs=0.35)
    assert column == pytest.approx((center[1] + 0.5) * spacing[1] * scale - 0.5, abs=0.35)
    back = fit.inverse(seen)
    assert back.shape == image.shape
    (row, _), (column, _) = moments(back)
    assert row == pytest.approx(center[0], abs=0.01 * shape[0])
    assert column == pytest.approx(center[1], abs=0.01 * shape[1])


def test_half_resolution_logits_return_to_the_same_place():
    fit = Fit.of((50, 120), (1.0, 1.0), 64, 16)
    seen = fit.forward(blob((50, 120), (1, 1), (20, 80), 9))
    half = seen.reshape(1, 1, seen.shape[2] // 2, 2, seen.shape[3] // 2, 2).mean((3, 5))
    (row, _), (column, _) = moments(fit.inverse(half))
    assert (row, column) == pytest.approx((20, 80), abs=0.5)


def test_a_slice_of_the_models_size_passes_unchanged():
    image = random(2, 3, 64, 64)
    fit = Fit.of((64, 64), (0.8, 0.8), 64, 16)
    assert np.array_equal(fit.forward(image), image)
    assert np.array_equal(fit.inverse(image), image)


def test_padding_repeats_the_border_and_is_cut_off_again():
    image = random(1, 1, 20, 64)
    fit = Fit.of((20, 64), (1, 1), 64, 16)
    seen = fit.forward(image)
    assert seen.shape[2:] == (32, 64)
    assert np.array_equal(seen[:, :, 20:], np.repeat(image[:, :, -1:], 12, axis=2))
    assert np.array_equal(fit.inverse(seen), image)


def test_shrinking_is_anti_aliased():
    stripes = np.zeros((1, 1, 256, 256), np.float32)
    stripes[..., ::8] = 1
    seen = Fit.of((256, 256), (1, 1), 32, 16).forward(stripes)
    assert np.abs(seen - 1 / 8).max() < 0.06


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1)])
def test_a_slice_of_one_pixel_is_fitted(shape):
    fit = Fit.of(shape, (1.0, 1.0), 32, 16)
    seen = fit.forward(np.full((1, 3, *shape), 0.25, np.float32))
    assert np.allclose(seen, 0.25)
    assert min(seen.shape[2:]) >= 16
    assert np.allclose(fit.inverse(seen), np.full((1, 3, *shape), 0.25, np.float32))


def test_a_window_maps_its_borders_to_black_and_white():
    greys = apply_window(np.array([-3000, -1000, -400, 200, 3000], np.int16), LUNG)
    assert greys.tolist() == [0, 0, 0.5, 1, 1]
    assert greys.dtype == np.float32


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.array([0, 51, 255], np.uint8), [0, 0.2, 1]),
        (np.array([0, 13107, 65535], np.uint16), [0, 0.2, 1]),
        (np.array([-0.5, 0.2, 7.0], np.float32), [0, 0.2, 1]),
    ],
)
def test_without_a_window_the_range_of_the_voxel_type_is_shown(array, expected):
    assert apply_window(array, None) == pytest.approx(expected)


def test_a_fixed_window_serves_voxels_and_eight_bit_pictures_keep_their_own():
    settings = ImageSettings(64, window=LUNG)
    voxels = np.linspace(-1000, 1000, 4 * 4 * 4, dtype=np.int16).reshape(4, 4, 4)
    assert choose_window(volume(voxels), settings) == LUNG
    picture = np.linspace(10, 200, 64, dtype=np.uint8).reshape(1, 8, 8)
    assert choose_window(volume(picture, planar=True), settings) == (127.5, 255.0)
    assert choose_window(volume(voxels[:1], planar=True), settings) == LUNG


def test_colours_keep_the_range_of_their_type():
    colors = np.zeros((1, 4, 4, 3), np.uint8)
    assert choose_window(volume(colors, Modality.HISTOLOGY), ImageSettings(64, window=LUNG)) is None


def test_percentiles_ignore_a_few_very_bright_voxels():
    array = np.tile(np.arange(1000, dtype=np.int32), 10)
    array[:20] = 1_000_000
    level, width = percentile_window(array, (0.5, 99.5))
    assert level - width / 2 == pytest.approx(5, abs=3)
    assert level + width / 2 == pytest.approx(995, abs=4)


@pytest.mark.parametrize("value", [0, -1000, 255])
def test_a_constant_image_has_one_finite_grey_level(value):
    array = np.full((1, 5, 5), value, np.int16)
    greys = apply_window(array, percentile_window(array, (0.5, 99.5)))
    assert np.unique(greys).tolist() == [0.5]


def test_grey_is_repeated_and_bgr_is_colour_in_reverse():
    grey = to_model_range(np.array([[[0, 0.5, 1]]], np.float32), "rgb")
    assert grey[0, :, 0].tolist() == [[-1, 0, 1]] * 3
    color = np.array([[[[0, 0.5, 1]]]], np.float32)
    assert to_model_range(color, "rgb")[0, :, 0, 0].tolist() == [-1, 0, 1]
    assert to_model_range(color, "bgr")[0, :, 0, 0].tolist() == [1, 0, -1]


LEG, OTHER_LEG, THIN_LEG = (110, 60, 30, 30), (110, 140, 30, 30), (110, 140, 16, 17)
"""Ellipses: centre and radii in pixels, rows first."""


@pytest.mark.parametrize(
    ("ellipses", "table", "columns"),
    [
        ([LEG], None, (30, 90)),
        ([LEG, OTHER_LEG], None, (30, 170)),
        ([LEG, THIN_LEG], None, (30, 157)),
        ([(100, 40 + 32 * n, 30, 12) for n in range(5)], None, (28, 180)),  # fingers
        ([(100, 100, 50, 70), (110, 190, 14, 9)], None, (30, 170)),  # a trunk with an arm at its side
        ([LEG], (160, 172), (30, 90)),  # a table as large as the leg
        ([LEG, OTHER_LEG], (160, 172), (30, 170)),
        ([LEG, (60, 170, 5, 5)], None, (30, 90)),  # a cable
    ],
    ids=["leg", "legs", "a thin leg", "fingers", "trunk", "leg on a table", "legs on a table", "cable"],
)
def test_the_body_is_all_of_its_parts_and_neither_table_nor_cable(ellipses, table, columns):
    row, column = np.mgrid[:200, :200]
    stack = np.full((3, 200, 200), -1000, np.int16)
    for middle, across, high, wide in ellipses:
        stack[:, ((row - middle) / high) ** 2 + ((column - across) / wide) ** 2 < 1] = 40
    if table:
        stack[:, slice(*table), 5:195] = 0
    box = body_box(stack)
    assert (box.column, box.column + box.width) == pytest.approx((columns[0] - 2, columns[1] + 2), abs=3)
    assert box.row + box.height < 160


@pytest.mark.parametrize(
    ("path", "box"),
    [
        (SAMPLES / "abdominal_ct_dicom", Tile(157, 2, 265, 435)),
        (SAMPLES / "chest_ct" / "chest_ct_cropped.nii.gz", Tile(0, 0, 102, 122)),
        (SHARED / "ct_totalsegmentator" / "example_ct_sm.nii.gz", Tile(3, 4, 96, 118)),
        (SHARED / "ct_liver_dcmqi" / "01.dcm", Tile(93, 36, 376, 456)),
    ],
    ids=lambda value: value.name if isinstance(value, Path) else "",
)
def test_a_body_of_one_part_keeps_the_box_that_models_were_trained_with(path, box):
    if not path.exists():
        pytest.skip("needs the shared samples")
    volume = read_volume(path, modality=Modality.CT)
    assert body_tile(volume, display_plane(volume, "axial")) == box


@pytest.mark.parametrize("shape", [(1, 1), (256, 256), (257, 256), (1000, 1000), (300, 90), (777, 2049)])
def test_tiles_are_inside_overlap_and_cover_everything(shape):
    side, covered = 256, np.zeros(shape, int)
    found = tiles(shape, side)
    for tile in found:
        assert 0 <= tile.row <= shape[0] - tile.height
        assert 0 <= tile.column <= shape[1] - tile.width
        assert (tile.height, tile.width) == (min(side, shape[0]), min(side, shape[1]))
        covered[tile.row : tile.row + tile.height, tile.column : tile.column + tile.width] += 1
    assert covered.min() >= 1
    for starts in (sorted({t.row for t in found}), sorted({t.column for t in found})):
        assert all(b - a <= side * 0.75 + 1 for a, b in itertools.pairwise(starts))


def test_blended_tiles_give_back_what_they_were_cut_from():
    whole = random(300, 700)
    total, weights = np.zeros((300, 700)), np.zeros((300, 700))
    for tile in tiles((300, 700), 256):
        weight = tile_weight(tile.height, tile.width)
        total[tile.slices] += whole[tile.slices] * weight
        weights[tile.slices] += weight
    assert np.abs(total / weights - whole).max() < 1e-5


def test_a_tiles_weight_is_highest_in_the_middle_and_positive_at_the_border():
    weight = tile_weight(63, 31)
    assert weight.shape == (63, 31)
    assert weight[31, 15] == weight.max() == pytest.approx(1)
    assert 0 < weight.min() < 0.01
    assert np.allclose(weight, weight[::-1, ::-1], atol=1e-6)
    assert (np.diff(weight[:32], axis=0) >= 0).all()


def test_settings_survive_json_and_other_serves_the_rest():
    settings = Preprocessing(
        {
            Modality.CT: ImageSettings(32, LUNG, (1.0, 98.0)),
            Modality.HISTOLOGY: ImageSettings(64, tiled=True),
            Modality.OTHER: ImageSettings(48),
        },
        channel_order="bgr",
    )
    assert Preprocessing.from_dict(settings.to_dict()) == settings
    assert settings.of(Modality.MR) == ImageSettings(48)
    assert settings.of(Modality.CT).size == 32


def test_settings_that_leave_an_image_without_an_answer_are_refused():
    with pytest.raises(ValueError, match="other"):
        Preprocessing({Modality.CT: ImageSettings(32)})
    with pytest.raises(ValueError, match="channel_order"):
        Preprocessing({Modality.OTHER: ImageSettings(32)}, "rbg")
