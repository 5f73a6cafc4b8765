"""Rules that hold for all inputs: hypothesis searches for counterexamples."""

from __future__ import annotations

import unicodedata

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_writing import provenance

from fasttextdiff.contract.images import slice_axis
from fasttextdiff.contract.segments import escape_tag, unescape_tag
from fasttextdiff.image.orientation import PLANES, display_plane, in_standard_order
from fasttextdiff.image.volume import Modality, Volume
from fasttextdiff.io.dicom_pixels import itk_ijk_to_ras
from fasttextdiff.io.write import write_segmentation
from fasttextdiff.result import FindingResult, SegmentationResult
from fasttextdiff.segments.tags import escape_parameter, segment_names

LENGTH = st.integers(1, 6)
TEXT = st.text(max_size=90)
often = settings(deadline=None, max_examples=80)
seldom = settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def matrices(draw):
    """IJK to RAS: any right-angled axes in any order and direction, any spacing and origin."""
    seed, spacing = draw(st.integers(0, 2**32 - 1)), [draw(st.floats(0.2, 9)) for _ in range(3)]
    rng = np.random.default_rng(seed)
    axes = np.eye(3)[rng.permutation(3)] * rng.choice([-1, 1], 3)
    if draw(st.booleans()):  # oblique
        axes = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = axes * spacing, rng.uniform(-300, 300, 3)
    return matrix


@st.composite
def volumes(draw, smallest=1):
    shape = tuple(draw(st.integers(smallest, 6)) for _ in range(3)) + draw(st.sampled_from([(), (3,)]))
    array = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    return Volume(array, draw(matrices()), Modality.CT, slice_axis=draw(st.integers(0, 2)))


@often
@given(volumes(), st.sampled_from(PLANES))
def test_slices_written_into_the_display_of_a_grid_return_to_their_voxels(volume, plane):
    shown = display_plane(volume, plane)
    displayed = shown.to_display(volume.array)
    assert displayed.shape[:3] == shown.display_shape
    assert np.shares_memory(displayed, volume.array)
    grid = np.zeros_like(volume.array)
    shown.to_display(grid)[:] = displayed
    assert np.array_equal(grid, volume.array)


@often
@given(volumes(), st.permutations(range(3)), st.tuples(*[st.booleans()] * 3))
def test_the_storage_order_does_not_change_a_volume(volume, order, reverse):
    """Transposed and flipped with its matrix, voxels stay where they are in the patient."""
    array, matrix = volume.array.transpose(*order, *range(3, volume.array.ndim)), np.eye(4)
    columns = [2 - axis for axis in order][::-1]  # of i, j, k
    matrix[:3, :3], matrix[:3, 3] = volume.ijk_to_ras[:3, columns], volume.ijk_to_ras[:3, 3]
    for axis, is_reversed in enumerate(reverse):
        if is_reversed:
            array = np.flip(array, axis)
            matrix[:3, 3] += matrix[:3, 2 - axis] * (array.shape[axis] - 1)
            matrix[:3, 2 - axis] *= -1
    other = Volume(array, matrix, Modality.CT)
    assert np.array_equal(in_standard_order(other, array), in_standard_order(volume, volume.array))
    axis = slice_axis(volume.ijk_to_ras.tolist(), volume.shape)
    if len(set(volume.shape)) == 3 or len({round(length, 3) for length in volume.spacing}) == 3:
        assert order[slice_axis(matrix.tolist(), other.shape)] == axis


@often
@given(TEXT)
def test_tags_and_parameters_survive_a_round_trip_without_separators(text):
    written = text.encode("utf-8", "replace").decode("utf-8")
    for escape, special in ((escape_tag, "|\n\r"), (escape_parameter, ",=\\\n\r")):
        escaped = escape(text)
        assert not set(escaped) & set(special)
        assert unescape_tag(escaped) == written


@often
@given(st.lists(TEXT, min_size=1, max_size=6))
def test_segment_names_fit_dicom_and_are_unique(findings):
    names = segment_names(findings)
    assert len(names) == len(set(names)) == len(findings)
    assert all(0 < len(name.encode("utf-8", "replace")) <= 64 for name in names)
    assert not any(char == "\\" or unicodedata.category(char) in ("Cc", "Cs") for name in names for char in name)


@seldom
@given(volumes(smallest=2), st.sampled_from(["a.seg.nrrd", "a.nii.gz"]), st.integers(0, 999))
def test_masks_are_written_at_the_place_of_their_voxels(tmp_path, volume, name, seed):
    rng = np.random.default_rng(seed)
    mask = rng.random(volume.shape) < 0.5
    found = FindingResult("heart", mask.astype(np.float32), mask, None, np.ones(volume.shape[0], np.float32))
    path = tmp_path / name
    write_segmentation(SegmentationResult(volume, (found,), provenance()), path)
    image = sitk.ReadImage(str(path))
    assert np.allclose(itk_ijk_to_ras(image), volume.ijk_to_ras, atol=1e-3)
    assert np.array_equal(sitk.GetArrayFromImage(image) > 0, mask)
    if name.endswith(".gz"):
        assert np.allclose(nibabel.load(path).affine, volume.ijk_to_ras, atol=1e-3)


def test_the_strategies_reach_oblique_left_handed_and_permuted_volumes():
    seen = set()

    @settings(deadline=None, max_examples=200, database=None)
    @given(matrices())
    def look(matrix):
        turn = matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0)
        seen.add("oblique" if np.abs(turn).max() < 0.999 else "straight")
        seen.add("left-handed" if np.linalg.det(turn) < 0 else "right-handed")
        seen.add("permuted" if np.abs(turn).argmax(axis=0).tolist() != [0, 1, 2] else "in order")

    look()
    assert len(seen) == 6, seen


def test_a_slice_axis_out_of_range_is_refused():
    with pytest.raises(ValueError, match="slice_axis"):
        Volume(np.zeros((2, 2, 2), np.int16), np.eye(4), Modality.CT, slice_axis=3)
