"""A denoiser is pre-trained on any folder of images, skips damaged ones, and training can start from it."""

from __future__ import annotations

import json
from dataclasses import replace

import nibabel
import numpy as np
import pytest
import torch
from diffusers import UNet2DModel
from PIL import Image
from test_training import TINY, Notes, checkpoint, config, same  # noqa: F401 (config is a fixture)
from tiny_models import one_line, tiny_denoiser

from fasttextdiff import cli
from fasttextdiff.errors import FastTextDiffError, UsageError
from fasttextdiff.image.volume import Modality
from fasttextdiff.training.compact import starting_model
from fasttextdiff.training.loop import train
from fasttextdiff.training.pictures import read_pictures
from fasttextdiff.training.pretrain_denoiser import DenoiserPretraining, NoisedBatches, pretrain_denoiser
from fasttextdiff.training.pretraining import CHECKPOINT, SUMMARY, Schedule


@pytest.fixture
def run(tmp_path):
    """40 pictures of one bright square each."""
    rng = np.random.default_rng(0)
    (tmp_path / "images" / "deep").mkdir(parents=True)
    for n in range(40):
        pixels = np.full((40, 40), 20, np.uint8)
        row, column = rng.integers(0, 20, 2)
        pixels[row : row + 18, column : column + 18] = 220
        Image.fromarray(pixels).save(tmp_path / "images" / ("deep" if n % 2 else ".") / f"{n:02}.png")
    schedule = Schedule(4, 1e-3, warmup=2)
    return DenoiserPretraining(tmp_path / "images", tmp_path / "out", None, TINY, schedule, size=32, batch=4)


def test_training_improves_noise_prediction_on_held_out_images(run):
    assert pretrain_denoiser(replace(run, schedule=Schedule(60, 3e-3, warmup=5), ema=0.9), Notes()) == run.output
    summary = json.loads((run.output / SUMMARY).read_text())
    assert summary["after"] < 0.7 * summary["before"]
    averaged = torch.load(run.output / CHECKPOINT, weights_only=True)["average"]["shadow_params"]
    saved = UNet2DModel.from_pretrained(run.output / "unet", use_safetensors=True)
    assert same([p.detach() for p in saved.parameters()], averaged)


def test_a_resumed_pretraining_gives_the_same_bits(run):
    pretrain_denoiser(run, whole := Notes())
    stopped = replace(run, output=run.output.with_name("stopped"))
    first, rest = Notes(stop_after=2), Notes()
    pretrain_denoiser(stopped, first, first.stop)
    assert not (stopped.output / "unet").exists()
    pretrain_denoiser(stopped, rest)
    assert {**first.losses, **rest.losses} == whole.losses
    assert same(*(torch.load(r.output / CHECKPOINT, weights_only=True) for r in (run, stopped)))


def test_pictures_and_volumes_at_any_depth_are_read_and_damaged_files_are_named(tmp_path):
    rng = np.random.default_rng(1)
    (tmp_path / "a" / "b").mkdir(parents=True)
    Image.fromarray(rng.integers(0, 255, (30, 90)).astype(np.uint8)).save(tmp_path / "grey.jpg")
    Image.fromarray(rng.integers(0, 255, (90, 60, 3)).astype(np.uint8)).save(tmp_path / "a" / "colour.tif")
    voxels = rng.integers(-1000, 400, (50, 50, 4)).astype(np.int16)
    voxels[..., 2] = -1000
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([-1, -1, 2, 1])), tmp_path / "a" / "b" / "ct.nii.gz")
    (tmp_path / "a" / "cut.png").write_bytes(b"\x89PNG\r\n")
    (tmp_path / "notes.txt").write_text("not an image")
    found = read_pictures(tmp_path, 32)
    kinds = [(sample.modality, sample.image.shape) for sample in found.samples]
    tissue, slices = (Modality.HISTOLOGY, (90, 60, 3)), [(Modality.CT, (40, 40))] * 3  # the empty one has no content
    assert kinds == [*slices, tissue, (Modality.XRAY, (13, 40))]
    assert found.files == 3
    assert len(found.skipped) == 1
    assert "cut.png" in found.skipped[0]


def test_excluded_pictures_are_left_out_on_the_command_line(run, tmp_path, monkeypatch, capsys):
    (tmp_path / "list.txt").write_text("".join(f"{n:02}.png\n" for n in range(25)))
    arguments = ["pretrain-denoiser", run.images, "-o", run.output, "--size", "32", "--exclude", tmp_path / "list.txt"]
    monkeypatch.setattr("sys.argv", ["fasttextdiff", *map(str, arguments)])
    with pytest.raises(SystemExit):
        cli.main()
    assert "15 pictures are too few" in capsys.readouterr().err


def test_a_batch_holds_views_noise_and_timesteps_of_the_whole_schedule(run):
    batches = NoisedBatches(read_pictures(run.images, run.size).samples, run, 1000)
    assert same(batches[1], batches[1])
    assert not same(batches[1], batches[2])
    drawn = torch.cat([batches[n]["timesteps"] for n in range(50)])
    assert drawn.min() < 60
    assert 940 <= drawn.max() < 1000
    assert batches[0]["images"].shape == batches[0]["noise"].shape == (4, 3, 32, 32)
    assert -1 <= batches[0]["images"].min() < batches[0]["images"].max() <= 1


def test_training_starts_from_a_pretrained_denoiser_and_can_leave_it_as_it_is(run, config):  # noqa: F811
    pretrain_denoiser(run, Notes())
    unet = UNet2DModel.from_pretrained(run.output / "unet", use_safetensors=True)
    pretrained = {f"denoiser.unet.{name}": tensor for name, tensor in unet.state_dict().items()}
    frozen = replace(config, denoiser=run.output, frozen=("denoiser",))
    start = starting_model(frozen, {}).state_dict()
    train(frozen, notes := Notes())
    assert all("denoising" not in losses for losses in notes.losses.values())
    end = checkpoint(frozen.output)["model"]
    assert same({name: end[name] for name in pretrained}, pretrained)
    assert not same(end, start)
    joint = replace(config, denoiser=run.output, output=config.output.with_name("joint"))
    train(joint, notes := Notes())
    assert all("denoising" in losses for losses in notes.losses.values())
    end = checkpoint(joint.output)["model"]
    assert not same({name: end[name] for name in pretrained}, pretrained)


def test_a_mismatch_is_reported_in_one_line(run, config, tmp_path):  # noqa: F811
    tiny_denoiser().unet.save_pretrained(tmp_path / "other" / "unet")
    tiny_denoiser().scheduler.save_pretrained(tmp_path / "other" / "scheduler")
    with pytest.raises(FastTextDiffError) as caught:
        starting_model(replace(config, denoiser=tmp_path / "other"), {})
    one_line(caught, "other", "(16, 16, 32)", "(16, 32)")
    with pytest.raises(UsageError) as caught:
        starting_model(replace(config, denoiser=run.images), {})
    one_line(caught, "images", "unet")
    with pytest.raises(UsageError) as caught:
        pretrain_denoiser(replace(run, size=30), Notes())
    one_line(caught, "multiple", "30")
    (tmp_path / "few").mkdir()
    with pytest.raises(UsageError) as caught:
        pretrain_denoiser(replace(run, images=tmp_path / "few"), Notes())
    one_line(caught, "few", "no image")
