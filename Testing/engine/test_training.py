"""A run can be stopped, resumed and repeated bit for bit, learns, and leaves a model that loads."""

from __future__ import annotations

import json
import math
import re
import signal
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny_models import enliven, one_line

from fasttextdiff.errors import FastTextDiffError, UsageError
from fasttextdiff.evaluation.datasets import load_targets
from fasttextdiff.image.volume import Modality
from fasttextdiff.model.pipeline import FastTextDiffPipeline
from fasttextdiff.training.batches import Batch, StepBatches, allotted
from fasttextdiff.training.checkpoints import load_checkpoint, save_checkpoint
from fasttextdiff.training.compact import build_compact, starting_model
from fasttextdiff.training.config import CompactModelConfig, Stage, TrainingConfig, read_config
from fasttextdiff.training.loop import CHECKPOINT, learning_rate_factor, train, training_losses
from fasttextdiff.training.losses import denoising_loss, foreground_dice, presence_loss, segmentation_loss
from fasttextdiff.training.progress import TrainingProgress
from fasttextdiff.training.samples import LUNGS, SOURCES, Region, Sample, load_samples
from fasttextdiff.training.sole_run import sole_run
from fasttextdiff.training.temperature import temperature
from fasttextdiff.training.tokenizer import read_texts, train_tokenizer

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
needs_data = [pytest.mark.shared, pytest.mark.skipif(not DATA.is_dir(), reason="the research data are not there")]
TINY = CompactModelConfig(
    vocabulary=300,
    text_dim=32,
    text_layers=2,
    text_heads=2,
    channels=(16, 32),
    blocks=(1, 3),
    fusion_width=32,
    fusion_heads=1,
    decoder_channels=(16, 16),
)
YAML = """\
name: tiny
licence: CC0-1.0
data: data
text: ../text
output: out
stages:
  - {steps: 3, size: 32, batch: 4}
  - {steps: 2, size: 48, batch: 2}
mixture: {qata: 0.75, histology: 0.25}
learning_rate: 0.002
model: {vocabulary: 300, channels: [16, 32]}
"""


def chest(rng):
    """An X-ray with a bright lesion in each lung."""
    image, regions = rng.integers(0, 60, (48, 48)).astype(np.uint8), np.zeros((48, 48), np.uint8)
    regions[:, 24:] |= np.uint8(Region.PATIENT_LEFT)
    for bit, column in ((Region.RIGHT_LUNG, 6), (Region.LEFT_LUNG, 28)):
        regions[8:40, column : column + 14] |= np.uint8(bit)
        regions[20:30, column : column + 10] |= np.uint8(Region.LESION)
        image[20:30, column : column + 10] = 220
    return Sample(image, regions, Modality.XRAY, LUNGS | Region.LESION, "Bilateral infection of both lungs.")


def tissue(rng):
    image, regions = rng.integers(150, 255, (64, 64, 3)).astype(np.uint8), np.zeros((64, 64), np.uint8)
    regions[10:40, 10:40] = np.uint8(Region.NUCLEI)
    image[10:40, 10:40] //= 3
    return Sample(image, regions, Modality.HISTOLOGY, Region.NUCLEI)


SAMPLES = {"qata": [chest(np.random.default_rng(n)) for n in range(3)], "histology": [tissue(np.random.default_rng(9))]}


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Five steps in two stages on synthetic samples."""
    monkeypatch.setattr("fasttextdiff.training.groups.load_samples", lambda _: SAMPLES)
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "reports.txt").write_text("infection in the left lung\nno nuclei in the right lung\n" * 3)
    return TrainingConfig(
        name="tiny",
        licence="CC0-1.0",
        data=tmp_path,
        text=tmp_path / "text",
        output=tmp_path / "whole",
        stages=(Stage(3, 32, 3), Stage(2, 48, 2)),
        mixture={"qata": 0.7, "histology": 0.3},
        model=TINY,
        warmup=2,
    )


class Notes:
    """Collects the reports; asks to stop, or fails, after a step."""

    def __init__(self, stop_after=None, fail_after=None):
        self.losses, self.stop_after, self.fail_after = {}, stop_after, fail_after

    def __call__(self, step, losses):
        self.losses[step] = losses
        if step == self.fail_after:
            raise RuntimeError("power cut")

    def stop(self):
        return max(self.losses) == self.stop_after


def checkpoint(folder):
    return torch.load(folder / CHECKPOINT, weights_only=True)


def same(a, b):
    """Whether two nested states are equal to the bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_stopped_and_crashed_runs_resume_to_the_same_bits(config, optimizer):
    config, whole = replace(config, optimizer=optimizer), Notes()
    assert train(config, whole) == config.output / "model"
    expected = checkpoint(config.output)
    assert sorted(whole.losses) == [1, 2, 3, 4, 5]
    assert expected["step"] == 5

    stopped = replace(config, output=config.output.with_name("stopped"))
    first, rest = Notes(stop_after=2), Notes()
    assert train(stopped, first, first.stop) == stopped.output
    assert not (stopped.output / "model").exists()
    train(stopped, rest)
    assert sorted(rest.losses) == [3, 4, 5]
    assert repr({**first.losses, **rest.losses}) == repr(whole.losses)  # exactly equal; NaN differs from NaN
    assert same(checkpoint(stopped.output), expected)

    cut = replace(config, output=config.output.with_name("cut"), checkpoint_every=3)
    with pytest.raises(RuntimeError, match="power cut"):
        train(cut, Notes(fail_after=4))
    train(cut, again := Notes())
    assert sorted(again.losses) == [4, 5]
    assert same(checkpoint(cut.output), expected)
    for path in (config.output / "model").rglob("*.safetensors"):
        twin = cut.output / "model" / path.relative_to(config.output / "model")
        assert twin.read_bytes() == path.read_bytes()

    train(config, done := Notes())  # no step is left, but the model is written again
    assert not done.losses
    assert same(checkpoint(config.output), expected)


def test_the_finished_model_holds_the_ema_weights_in_full_precision(config):
    folder = train(replace(config, ema=0.5), Notes())
    files = [load_file(path) for path in folder.rglob("*.safetensors")]
    assert len(files) == 3
    assert {t.dtype for weights in files for t in weights.values()} == {torch.float16}
    loaded = FastTextDiffPipeline.from_pretrained(folder)
    state = checkpoint(config.output)
    averaged = state["average"]["shadow_params"]
    assert same([p.detach() for p in loaded.parameters()], [p.bfloat16().half().float() for p in averaged])
    names = [name for name, _ in loaded.named_parameters()]
    last = [state["model"][name] for name in names]
    assert not same(last, averaged)
    assert loaded.info.name == "tiny"
    assert loaded.info.knows("infection in the left lung", Modality.CT)


def test_a_calibrated_model_has_the_same_masks_and_other_probabilities(config):
    train(config, Notes()).rename(plain := config.output.with_name("plain"))
    calibrated = train(replace(config, calibration_batches=3), Notes())  # nothing is left to train
    found = json.loads((config.output / "log.jsonl").read_text().splitlines()[-1])["temperature"]
    assert not 0.99 < found < 1.01
    before, after = (load_file(next((folder / "fusion").glob("*.safetensors"))) for folder in (plain, calibrated))
    for name, weights in before.items():
        factor = found if name.startswith("conv3.") else 1
        assert torch.allclose(after[name].float() * factor, weights.float(), rtol=2e-3, atol=1e-6), name


def test_refitting_the_presence_changes_nothing_else(config):
    train(config, Notes()).rename(plain := config.output.with_name("plain"))
    fitted = train(replace(config, presence_batches=30), Notes())  # nothing is left to train
    found = json.loads((config.output / "log.jsonl").read_text().splitlines()[-1])
    assert found["presence_after"] < found["presence_before"]
    for part in ("fusion", "unet", "text_encoder"):
        before, after = (load_file(next((folder / part).glob("*.safetensors"))) for folder in (plain, fitted))
        changed = {name for name in before if not torch.equal(before[name], after[name])}
        assert changed == {name for name in before if name.startswith("presence_head.")}, part


def test_without_training_steps_only_the_presence_output_changes(config):
    start = config.output.with_name("start")
    starting_model(config, {}).save_pretrained(start, dtype=torch.float16)
    folder = train(replace(config, start=start, stages=(Stage(0, 32, 3),), presence_batches=30), Notes())
    before, after = (FastTextDiffPipeline.from_pretrained(model).state_dict() for model in (start, folder))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if name.startswith("fusion.presence_head.")}


def test_the_temperature_is_the_factor_by_which_log_odds_are_too_large():
    generator = torch.Generator().manual_seed(0)
    odds = 2 * torch.randn(40_000, generator=generator)
    truth = (torch.rand(40_000, generator=generator) < odds.sigmoid()).float()
    assert temperature(odds, truth) == pytest.approx(1, abs=0.05)
    assert temperature(2.5 * odds, truth) == pytest.approx(2.5, abs=0.12)
    assert temperature(100 * odds, truth) == pytest.approx(4, abs=0.01)  # more than the limit


def test_training_changes_the_weights_and_the_seed_matters(config):
    train(config, Notes())
    other = replace(config, output=config.output.with_name("other"), seed=1)
    train(other, Notes())
    trained, different = checkpoint(config.output)["model"], checkpoint(other.output)["model"]
    tokenizer = train_tokenizer(read_texts(config.text), TINY.vocabulary)
    untrained = build_compact(config, tokenizer).state_dict()
    weights = [name for name, tensor in untrained.items() if tensor.is_floating_point() and tensor.ndim > 1]
    moved = sum(not torch.equal(trained[name], untrained[name]) for name in weights)
    assert moved > 0.95 * len(weights)
    assert not same(trained, different)


def test_frozen_parts_keep_their_bits_and_the_others_learn(config):
    names = ("text_encoder", "denoiser.unet.conv_in", "denoiser.unet.mid_block")
    partly = replace(config, frozen=names)
    start = starting_model(partly, {}).state_dict()
    train(partly, notes := Notes())
    assert all("denoising" in losses for losses in notes.losses.values())
    end = checkpoint(config.output)["model"]
    model = FastTextDiffPipeline.from_pretrained(config.output / "model").state_dict()
    for name in (n for n in start if n.startswith(tuple(f"{part}." for part in names))):
        assert same(end[name], start[name]), name
        assert same(model[name], start[name].half().float()), name
    for part in ("denoiser.unet.down_blocks", "denoiser.unet.up_blocks", "fusion"):
        assert any(not same(end[n], start[n]) for n in start if n.startswith(f"{part}.")), part
    with pytest.raises(UsageError) as caught:
        starting_model(replace(config, frozen=("text_encoder", "denoiser.unet.middle")), {})
    one_line(caught, "denoiser.unet.middle", "text_encoder, denoiser, fusion")


def test_a_start_model_accepts_other_timesteps_only_if_its_head_fits(config):
    train(config, Notes())
    onwards = replace(config, start=config.output / "model", output=config.output.with_name("onwards"))
    assert starting_model(replace(onwards, timesteps=(20,)), {}).denoiser.plan.timesteps == (20,)
    for timesteps in ((20, 50), (1000,)):
        with pytest.raises(FastTextDiffError, match="timestep") as caught:
            starting_model(replace(onwards, timesteps=timesteps), {})
        assert "\n" not in str(caught.value)


def test_a_checkpoint_of_another_model_is_refused_in_one_line(config):
    notes = Notes(stop_after=1)
    train(config, notes, notes.stop)
    wider = replace(config, model=replace(TINY, fusion_width=64))
    with pytest.raises(FastTextDiffError) as caught:
        train(wider, Notes())
    one_line(caught, str(config.output / CHECKPOINT), "output folder")


def test_a_folder_in_use_is_refused_in_one_line(config):
    config.output.mkdir(exist_ok=True)
    with sole_run(config.output), pytest.raises(UsageError) as caught:
        train(config, Notes())
    one_line(caught, "another process", str(config.output))
    with sole_run(config.output):
        assert config.output.is_dir()


def test_a_failed_checkpoint_keeps_the_previous_one(tmp_path, monkeypatch):
    path = tmp_path / CHECKPOINT
    save_checkpoint(path, {"step": 1})

    def full(state, file):
        file.write(b"half of it")
        raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(FastTextDiffError) as caught:
        save_checkpoint(path, {"step": 2})
    one_line(caught, str(path), "previous one is kept")
    assert [p.name for p in tmp_path.iterdir()] == [CHECKPOINT]
    assert load_checkpoint(path) == 1


def test_a_damaged_checkpoint_is_reported_in_one_line(tmp_path):
    path = tmp_path / CHECKPOINT
    save_checkpoint(path, {"step": 1})
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(FastTextDiffError) as caught:
        load_checkpoint(path)
    one_line(caught, str(path))


def test_a_tiny_model_overfits_one_batch(config):
    batch = StepBatches(SAMPLES, replace(config, stages=(Stage(1, 32, 6),)))[0]
    model = build_compact(config, train_tokenizer(batch.texts, TINY.vocabulary)).train()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    history = []
    for _ in range(20):
        losses = training_losses(model, batch, config, torch.device("cpu"))
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        history.append({name: value.item() for name, value in losses.items()})
    for name in ("loss", "segmentation", "denoising", "presence"):
        assert history[-1][name] < 0.85 * history[0][name], name
    total = history[0]["segmentation"] + 0.2 * history[0]["denoising"] + 0.1 * history[0]["presence"]
    assert history[0]["loss"] == pytest.approx(total, rel=1e-5)


def test_a_step_always_gives_the_same_batch_in_its_stages_size(config):
    batches = StepBatches(SAMPLES, config)
    first, again, later = batches[1], StepBatches(SAMPLES, config)[1], batches[4]
    assert same(vars(first), vars(again))
    long = StepBatches(SAMPLES, replace(config, stages=(Stage(12, 32, 3),)))
    assert len({tuple(long[step].texts) for step in range(12)}) == 12
    assert (first.images.shape, later.images.shape) == ((3, 3, 32, 32), (2, 3, 48, 48))
    assert first.noise.shape == first.images.shape
    assert first.masks.shape == (3 * config.prompts, 32, 32)
    assert len(first.texts) == 3 * config.prompts
    assert set(first.masks.unique().tolist()) <= {0.0, 1.0}
    assert -1 <= first.images.min() < first.images.max() <= 1
    assert len(batches) == 5


@pytest.mark.parametrize("prompts", [2, 3])
def test_prompt_rows_belong_to_their_image(config, prompts):
    """Lesions are bright and nuclei dark, so each mask shows which image it was made for."""
    checked = 0
    for step in range(12):
        batch = StepBatches(SAMPLES, replace(config, stages=(Stage(12, 48, 4),), prompts=prompts))[step]
        assert len(batch.texts) == 4 * prompts
        for row, (text, mask) in enumerate(zip(batch.texts, batch.masks, strict=True)):
            image = batch.images[row // prompts].mean(0)
            if mask.any() and re.search("nucle|infect|opacit|lesion|pneumonia", text):
                sign = -1 if "nucle" in text else 1
                assert sign * (image[mask > 0].mean() - image[mask == 0].mean()) > 0.2, text
                checked += 1
    assert checked > 10


@torch.no_grad()
def test_the_loss_of_a_batch_is_the_mean_over_its_images_each_with_its_own_prompts(config):
    generator = torch.Generator().manual_seed(0)
    images, noise = (torch.randn((2, 3, 32, 32), generator=generator) for _ in range(2))
    masks = (torch.rand((4, 32, 32), generator=generator) > 0.5).float()
    texts = ["left lung", "right lung"] * 2
    model = build_compact(config, train_tokenizer(texts, TINY.vocabulary)).eval()
    enliven(model.fusion)

    def segmentation(*chosen):
        rows = [2 * image + prompt for image in chosen for prompt in range(2)]
        batch = Batch(images[[*chosen]], noise[[*chosen]], [texts[row] for row in rows], masks[rows])
        return training_losses(model, batch, config, torch.device("cpu"))["segmentation"].item()

    assert segmentation(0, 1) == pytest.approx((segmentation(0) + segmentation(1)) / 2, rel=1e-5)


def test_every_batch_keeps_the_mixture_as_exactly_as_possible():
    shares, rng = np.array([0.54, 0.18, 0.13, 0.15]), np.random.default_rng(0)
    counts = np.array([np.bincount(allotted(shares, 12, rng), minlength=4) for _ in range(2000)])
    assert (counts.sum(axis=1) == 12).all()
    assert (counts >= np.floor(shares * 12)).all()
    assert np.abs(counts.mean(axis=0) - shares * 12).max() < 0.12


@pytest.mark.parametrize("mixture", [{}, {"qatta": 1.0}, {"qata": 0.5, "ct": 0.5}])
def test_a_mixture_of_unknown_groups_is_refused(config, mixture):
    with pytest.raises(UsageError) as caught:
        StepBatches(SAMPLES, replace(config, mixture=mixture))
    one_line(caught, "mixture", "qata, histology")


def test_the_learning_rate_warms_up_stays_and_cools_down(config):
    run = replace(config, stages=(Stage(12, 32, 1), Stage(8, 48, 1)), warmup=4, cooldown=0.5)
    factors = [learning_rate_factor(step, run) for step in range(20)]
    assert factors[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert factors[4:11] == [1.0] * 7
    assert factors[11:] == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
    long = replace(run, stages=(Stage(1000, 32, 1),))
    assert learning_rate_factor(999, long) == 0.02
    assert learning_rate_factor(0, replace(run, warmup=0)) == 1.0


def test_segmentation_loss_is_cross_entropy_plus_log_dice_or_the_false_positive_area():
    logits = torch.zeros(2, 1, 4, 4)
    truth = torch.zeros(2, 4, 4)
    truth[0, :2] = 1
    dice = (2 * 4 + 1) / (8 + 8 + 1)  # probability one half everywhere, eight true pixels
    invented = 0.5 / (0.5 + 0.01)
    assert segmentation_loss(logits[1:], truth[1:]).item() == pytest.approx(math.log(2) + invented)
    assert segmentation_loss(logits, truth).item() == pytest.approx(math.log(2) + (-math.log(dice) + invented) / 2)
    perfect = (truth * 2 - 1)[:, None] * 30
    assert segmentation_loss(perfect, truth).item() == pytest.approx(0, abs=1e-4)


def test_segmentation_loss_pulls_a_small_lesion_up_from_the_base_rate():
    truth = torch.zeros(1, 100, 100)
    truth[:, 40:50, 40:50] = 1
    logits = torch.full((1, 1, 100, 100), math.log(0.01 / 0.99), requires_grad=True)
    segmentation_loss(logits, truth).backward()
    pull = -logits.grad[0, 0, 45, 45].item()
    assert pull > 20 * 0.99 / truth.numel()  # the pull of cross-entropy alone


def test_segmentation_loss_compares_on_the_grid_of_the_truth():
    truth = torch.zeros(1, 32, 32)
    truth[:, 8:24, 8:24] = 1
    coarse = truth[:, None, ::4, ::4] * 40 - 20
    assert segmentation_loss(coarse, truth) < 0.6 * segmentation_loss(-coarse, truth)
    assert foreground_dice(coarse, truth) > 0.85


def test_a_batch_without_any_finding_has_finite_gradients():
    logits = torch.randn(3, 1, 8, 8, requires_grad=True)
    truth = torch.zeros(3, 16, 16)
    segmentation_loss(logits, truth).backward()
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad > 0).all()  # every pixel is pushed down
    assert torch.isnan(foreground_dice(logits.detach(), truth))


def test_presence_loss_depends_on_whether_anything_is_there():
    truth = torch.zeros(2, 8, 8)
    truth[0, 3, 3] = 1
    right, wrong = torch.tensor([9.0, -9.0]), torch.tensor([-9.0, 9.0])
    assert presence_loss(right, truth).item() == pytest.approx(math.log1p(math.exp(-9)), abs=1e-6)
    assert presence_loss(wrong, truth).item() == pytest.approx(9, abs=0.01)


def test_denoising_loss_ignores_predicted_variances():
    noise = torch.randn(2, 3, 8, 8)
    predicted = torch.cat([noise + 2, torch.full_like(noise, 50)], dim=1)
    assert denoising_loss(predicted, noise).item() == pytest.approx(4, rel=1e-5)


def test_a_configuration_is_read_with_paths_relative_to_its_file(tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "run.yaml").write_text(YAML)
    config = read_config(tmp_path / "configs" / "run.yaml")
    assert (config.data, config.text) == (tmp_path / "configs" / "data", tmp_path / "text")
    assert config.stages == (Stage(3, 32, 4), Stage(2, 48, 2))
    assert config.total_steps == 5
    assert [config.stage_at(step).size for step in range(6)] == [32, 32, 32, 48, 48, 48]
    assert config.model == CompactModelConfig(vocabulary=300, channels=(16, 32))
    assert config.learning_rate == 0.002
    (tmp_path / "configs" / "run.yaml").write_text(YAML.replace("0.002", "2e-3"))  # a text to YAML
    assert read_config(tmp_path / "configs" / "run.yaml") == config


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda text: text + "speed: 3\n", "speed"),
        (lambda text: text.replace("vocabulary", "vocabluary"), "vocabluary"),
        (lambda text: text.replace("size: 48, ", ""), "size"),
        (lambda text: text.replace("licence: CC0-1.0\n", ""), "licence"),
        (lambda text: text.replace("stages:", "stags:"), "stages"),
        (lambda text: text.replace("]}", ""), "line"),
        (lambda text: text.replace("0.002", "fast"), "fast"),
        (lambda _: "", "cannot be used"),
        (lambda _: "- 3\n", "cannot be used"),
        (lambda _: "name: " + "[" * 10_000, "nested too deeply"),
        (lambda text: text.replace("output: out", "output: 3"), "a path must be a text"),
        (lambda text: text.replace("data: data", "data: "), "a path must be a text"),
        (lambda text: text.replace("0.002", ".nan"), "'learning_rate' must be"),
        (lambda text: text.replace("size: 48", "size: 1000000"), "'size' must be"),
    ],
)
def test_an_unusable_configuration_is_reported_in_one_line(tmp_path, change, word):
    path = tmp_path / "run.yaml"
    path.write_text(change(YAML))
    with pytest.raises(FastTextDiffError) as caught:
        read_config(path)
    one_line(caught, str(path), word)


def test_a_missing_configuration_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError) as caught:
        read_config(tmp_path / "none.yaml")
    one_line(caught, "none.yaml")


def test_texts_are_lines_and_cells_with_words_without_licences(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "captions.txt").write_text("id1\tclear lungs\nleft effusion\n")
    (tmp_path / "reports.csv").write_text('id,text\n7,"no, really no effusion"\n')
    (tmp_path / "licences.csv").write_text("all rights reserved\n")
    assert list(read_texts(tmp_path)) == ["clear lungs", "left effusion", "no, really no effusion"]
    with pytest.raises(UsageError) as caught:
        list(read_texts(tmp_path / "nowhere"))
    one_line(caught, "nowhere")


def test_the_tokenizer_ignores_capitals_shares_words_across_hyphens_and_knows_every_byte():
    tokenizer = train_tokenizer(["left-sided infection, left lung"] * 5, 330)
    ids = tokenizer("Left lung")["input_ids"]
    assert ids == tokenizer("left lung")["input_ids"]
    assert (ids[0], ids[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
    assert tokenizer.tokenize("left-sided")[0] == tokenizer.tokenize("left sided")[0]
    assert tokenizer.unk_token_id not in tokenizer("Lungenentzündung 肺 🫁")["input_ids"]
    assert len(tokenizer) <= 330


def test_a_caption_that_contradicts_its_mask_is_not_taught(tmp_path):
    from openpyxl import Workbook

    dataset = tmp_path / "qata_cov19_v2_2"
    folder = dataset / "Train_Folder"
    mask = np.zeros((40, 40), np.uint8)
    mask[10:20, 28:36] = 255  # the patient's left, which the table calls the picture's right
    book = Workbook()
    book.active.append(["Image", "Description"])
    for stem, side in (("true", "right"), ("false", "left")):
        for kind, name, pixels in (("img", stem, mask // 2), ("labelcol", f"mask_{stem}", mask)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / kind / f"{name}.png")
        book.active.append([f"mask_{stem}.png", f"Infection, one infected area, upper {side} lung."])
    book.save(folder / "Train_text.xlsx")
    (dataset / "dataset.json").write_text('{"modality": "xray", "mask_name": "mask_{stem}.png", "laterality": "image"}')
    true, false = load_samples(tmp_path)["qata"]
    assert (true.sentence, true.zones) == ("Infection, one infected area, upper left lung.", {"left": "upper"})
    assert (false.sentence, false.zones) == ("", {})
    assert np.array_equal(true.regions, false.regions)


def test_progress_logs_running_means_and_leaves_out_what_is_not_a_number(config):
    config.output.mkdir()
    with TrainingProgress(config.name, config.total_steps, config.output) as progress:
        for step in range(1, 41):
            progress.report(step, {"loss": 1.0, "dice": float("nan") if step % 2 else 0.5})
    lines = [json.loads(line) for line in (config.output / "log.jsonl").read_text().splitlines()]
    assert lines == [{"step": step, "loss": 1.0, "dice": 0.5} for step in (20, 40)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_the_run_to_stop_and_the_second_ends_it(config, number):
    before = signal.getsignal(number)
    with TrainingProgress(config.name, config.total_steps, config.output) as progress:
        assert not progress.stopped()
        signal.raise_signal(number)
        assert progress.stopped()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signal.getsignal(number) is before


class TestResearchData:
    """The loaders understand the real files correctly."""

    pytestmark = needs_data

    def test_captions_of_one_side_have_their_lesions_on_that_side_of_the_patient(self):
        """Per image: 3 % of the set's captions name the wrong side, including masks of nearly half the picture."""
        targets = load_targets(DATA / "qata_cov19_v2_2", "train")
        sided = [(t, sides[0]) for t in targets if len(sides := re.findall(r"\b(left|right)\b", t.text)) == 1][:300]
        shares = {"left": [], "right": []}
        for target, side in sided:
            mask = target.load_mask()
            middle = mask.shape[1] // 2
            inside = mask[:, middle:] if side == "left" else mask[:, :middle]
            shares[side].append(inside.sum() / mask.sum())
        for side in shares.values():
            assert len(side) > 100
            assert np.mean(np.array(side) >= 0.95) >= 0.9

    @pytest.mark.parametrize(
        ("folder", "modality", "known"),
        [
            ("qata_cov19_v2_2", Modality.XRAY, Region.LESION),
            ("covid_cxr_structures/train", Modality.XRAY, LUNGS | Region.HEART | Region.LESION),
            ("cxr_lungs_v7", Modality.XRAY, LUNGS),
            ("monuseg_2", Modality.HISTOLOGY, Region.NUCLEI),
            ("dsb2018/stained", Modality.HISTOLOGY, Region.NUCLEI),
            ("MosMedDataPlus_bjorke", Modality.CT, Region.LESION),
            ("unlabelled_ct", Modality.CT, LUNGS),
        ],
    )
    def test_the_first_samples_of_each_set_are_as_training_expects(self, folder, modality, known):
        (load,) = (load for readers in SOURCES.values() for load, name in readers if name == folder)
        found = list(islice(load(DATA / folder), 5))
        assert len(found) == 5
        for sample in found:
            assert sample.modality is modality
            assert sample.annotated & known == known
            assert sample.image.dtype == sample.regions.dtype == np.uint8
            assert sample.image.shape[:2] == sample.regions.shape
            assert sample.image.std() > 5
            left, right, half = (
                (sample.regions & np.uint8(bit)) > 0
                for bit in (Region.LEFT_LUNG, Region.RIGHT_LUNG, Region.PATIENT_LEFT)
            )
            if LUNGS & sample.annotated:
                assert half[left].mean() > 0.9
                assert half[right].mean() < 0.1
        shown = [np.bitwise_or.reduce(sample.regions, axis=None) for sample in found]
        assert np.bitwise_or.reduce(shown) & np.uint8(known) == known
