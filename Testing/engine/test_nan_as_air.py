"""NaN outside the body, as research tools leave it: refused, or taken as air on request."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest
from batch_runs import PATIENCE, batch
from test_hounsfield import chest
from typer.testing import CliRunner

from fasttextdiff.errors import FastTextDiffError
from fasttextdiff.image.preprocessing import ImageSettings, choose_window
from fasttextdiff.image.volume import Modality
from fasttextdiff.io.read import read_volume

OUTSIDE = np.zeros((6, 64, 64), bool)
OUTSIDE[:, :10] = OUTSIDE[:, 54:] = True
COUNT = f"{int(OUTSIDE.sum()):,}"
HU = chest().astype(np.float32)


def write(path, voxels):
    """Write voxels (k, j, i)."""
    nibabel.save(nibabel.Nifti1Image(voxels.astype(np.float32).transpose(2, 1, 0), np.diag([2, 2, 2, 1])), path)
    return path


def masked(voxels, value=np.nan):
    return np.where(OUTSIDE, np.float32(value), voxels)


def test_nan_is_refused_with_a_hint(tmp_path):
    with pytest.raises(FastTextDiffError, match=rf"{COUNT} of 24,576 .* NaN .* --nan-as-air \(nan_as"):
        read_volume(write(tmp_path / "v.nii", masked(HU)))


@pytest.mark.parametrize("modality", [None, "ct"])
@pytest.mark.parametrize("added", [0, 1024])
def test_in_a_ct_nan_becomes_air_also_with_an_offset(tmp_path, modality, added):
    path = write(tmp_path / "v.nii", masked(HU + added))
    if added and modality is None:
        with pytest.raises(FastTextDiffError, match="give its modality"):
            read_volume(path, nan_as_air=True)
        return
    volume = read_volume(path, modality=modality, nan_as_air=True)
    assert volume.modality is Modality.CT
    assert (volume.array[OUTSIDE] == min(-1024, HU[~OUTSIDE].min())).all()
    assert np.array_equal(volume.array[~OUTSIDE], HU[~OUTSIDE])
    assert np.array_equal(volume.padding, OUTSIDE)
    assert any(note.startswith(f"{COUNT} NaN voxels read as air (-10") for note in volume.source.notes)


def test_in_other_images_nan_becomes_the_minimum_and_is_not_part_of_the_window(tmp_path):
    scores = np.random.default_rng(0).normal(0, 1, OUTSIDE.shape).astype(np.float32)
    volume = read_volume(write(tmp_path / "v.nii", masked(scores)), modality="mr", nan_as_air=True)
    inside = scores[~OUTSIDE]
    assert (volume.array[OUTSIDE] == inside.min()).all()
    level, width = choose_window(volume, ImageSettings(64))
    assert (level - width / 2, level + width / 2) == pytest.approx(tuple(np.percentile(inside, (0.5, 99.5))), abs=1e-5)


def test_infinity_and_an_image_of_only_nan_are_refused(tmp_path):
    for voxels in (masked(HU, np.inf), np.full(HU.shape, np.nan)):
        with pytest.raises(FastTextDiffError, match="NaN or infinite"):
            read_volume(write(tmp_path / "v.nii", voxels), nan_as_air=True)


def test_without_nan_the_option_changes_nothing(tmp_path):
    path = write(tmp_path / "v.nii", HU)
    asked, plain = read_volume(path, nan_as_air=True), read_volume(path)
    assert np.array_equal(asked.array, plain.array)
    assert asked.padding is None
    assert asked.source.notes == plain.source.notes


def test_the_command_line_counts_the_nan_voxels_and_finds_nothing_in_them(tmp_path):
    from fasttextdiff.cli import app

    path, result = write(tmp_path / "v.nii", masked(HU)), tmp_path / "out.nii.gz"
    options = ["segment", str(path), "-f", "left lung", "-o", str(result), "--threshold", "0.01", "--nan-as-air"]
    assert CliRunner().invoke(app, options).exit_code == 0
    assert not np.asarray(nibabel.load(result).dataobj).transpose(2, 1, 0)[OUTSIDE].any()
    record = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert any(note.startswith(f"{COUNT} NaN voxels") for note in record["source"]["notes"])


def test_a_batch_refuses_nan_unless_it_is_to_be_taken_as_air(tmp_path):
    source = tmp_path / "images"
    source.mkdir()
    write(source / "v.nii", masked(HU))
    process = batch(source, tmp_path / "plain", "-f", "left lung")
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    process = batch(source, tmp_path / "air", "-f", "left lung", "--nan-as-air")
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    (place,) = (tmp_path / "air").glob("*/case.json")
    record = json.loads(place.read_text(encoding="utf-8"))
    assert record["request"]["nan_as_air"] is True
    assert any(COUNT in note for note in record["notes"])
