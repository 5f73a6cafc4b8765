"""The laboratory's figures about findings of a volume: what they count, and truths on other grids."""

import json

import nibabel
import numpy as np
import pytest

from fasttextdiff import Modality, Volume
from fasttextdiff.errors import UsageError
from fasttextdiff_lab import commands
from fasttextdiff_lab.volumes import depth_mm, measure_mask, read_truth

LPS = np.diag([-2.0, -2.0, 4.0, 1.0])


@pytest.fixture
def volume():
    voxels = np.full((6, 20, 20), 40, np.int16)
    voxels[:, :10] = -900
    voxels[0, 0, 0] = -1000
    return Volume(voxels, LPS, Modality.CT)


def test_parts_pieces_islands_and_jumps_are_counted(volume):
    mask = np.zeros(volume.shape, bool)
    mask[1:5, 2:8, 2:8] = True
    mask[2, 16:18, 4:6] = True  # an island in tissue
    held = measure_mask("lung", "any", volume, mask, depth_mm(volume), mask & (np.arange(20) < 8))
    assert (held.parts, held.slices, held.several, held.tissue) == (2, 4, 1, 1)
    assert held.ml == pytest.approx((4 * 36 + 4) * 0.016)
    assert held.jump == pytest.approx((36 + 4 + 4 + 36) / 148)
    assert held.dice == pytest.approx(1)


def test_a_truth_on_another_grid_is_brought_to_that_of_the_image(volume, tmp_path):
    labels = np.zeros((40, 40, 12), np.int16)  # half the voxel size, and shifted by two voxels of the image
    labels[8:12, 4:8, 4:6], labels[20:24, 4:8, 4:6] = 3, 5
    matrix = LPS @ np.diag([0.5, 0.5, 0.5, 1.0])
    matrix[0, 3] = -4.0
    nibabel.save(nibabel.Nifti1Image(labels, matrix), tmp_path / "m.nii.gz")
    place = f"lung={tmp_path / 'm.nii.gz'}"
    for ending, columns in (("", {6, 7, 12, 13}), (":3", {6, 7}), (":3,5", {6, 7, 12, 13}), (":4", set())):
        finding, truth = read_truth(place + ending, volume)
        assert finding == "lung"
        assert set(np.nonzero(truth)[2]) == columns
        assert set(np.nonzero(truth)[0]) == ({2} if columns else set())
    with pytest.raises(UsageError, match="--truth takes"):
        read_truth("lung", volume)


def test_the_command_measures_both_ways(run, model, volume, tmp_path):
    path, report = tmp_path / "ct.nii.gz", tmp_path / "figures.json"
    nibabel.save(nibabel.Nifti1Image(volume.array.transpose(2, 1, 0), volume.ijk_to_ras), path)
    asked = ("measure-volume", path, "-f", "left lung", "--json", report, "--model", model)
    assert run(*asked, main=commands.main, with_model=False)[0] == 0
    ways = [one["way"] for one in json.loads(report.read_text())["held"]]
    assert ways == ["slice by slice", "consistent"]
