"""Published checkpoints are converted to a model folder that computes the same; other files are refused."""

from __future__ import annotations

import argparse
import functools
import os

import pytest
import torch
from tiny_models import GuidedReference, one_line, published_state, save_text_encoder

from fasttextdiff.errors import FastTextDiffError, UsageError
from fasttextdiff.image.volume import Modality
from fasttextdiff.model import published
from fasttextdiff.model.convert import convert, read_checkpoint
from fasttextdiff.model.denoiser import FeatureDenoiser, seeded_noise
from fasttextdiff.model.fusion import FusionHead
from fasttextdiff.model.pipeline import FastTextDiffPipeline

SMALL_UNET = {**published.PUBLISHED_UNET, "model_channels": 32, "num_head_channels": 16}
FINDINGS = ["ground-glass opacity in the left lung", "nuclei"]


def small_head(feature_channels):
    """The published head at 1/8 of its width, like `SMALL_UNET` for the published U-Net."""
    with torch.device("meta"):
        return FusionHead(list(feature_channels), text_dim=32, width=96, heads=2, head_dim=16).eval()


@pytest.fixture
def small(monkeypatch):
    """The published configuration, smaller, with the same blocks."""
    monkeypatch.setattr(published, "PUBLISHED_UNET", SMALL_UNET)
    monkeypatch.setattr(published, "build_head", small_head)


@pytest.fixture
def files(small, tmp_path):
    """A function that writes the three inputs of a plan, with changed state dicts, and returns convert's arguments."""

    def write(plan="monuseg", change_unet=None, wrap_head=lambda state: state):
        unet, head_state = published_tensors(plan)
        (change_unet or dict)(unet)
        torch.save(unet, tmp_path / "256x256_diffusion_uncond.pt")
        torch.save(wrap_head(head_state), tmp_path / "model_best.pth")
        save_text_encoder(tmp_path / "text", dim=32)
        inputs = (tmp_path / "256x256_diffusion_uncond.pt", tmp_path / "model_best.pth", str(tmp_path / "text"))
        return (*inputs, tmp_path / "made")

    return write


def published_tensors(plan):
    """State dicts with the published names and random values, of the configuration in force."""
    unet = published.build_unet(published.PUBLISHED_UNET)
    channels = FeatureDenoiser(unet, published.linear_schedule(), published.PUBLISHED_PLANS[plan]).feature_channels()
    head = published.head_layout(published.build_head(channels))
    small = published.PUBLISHED_UNET is SMALL_UNET
    return dict(small_unet_tensors()) if small else unet_state(published.PUBLISHED_UNET), published_state(head)


@functools.cache
def small_unet_tensors():
    return unet_state(SMALL_UNET)


def unet_state(config):
    return published_state(published.unet_layout(config, published.build_unet(config)))


@torch.no_grad()
def reference_logits(plan, image, noise, text, tensors=None):
    """Logits by the published definition: its U-Net at each timestep, features concatenated, the head."""
    unet, head_state = tensors or published_tensors(plan)
    reference = GuidedReference(published.PUBLISHED_UNET, unet)
    steps = [torch.full((len(image),), t) for t in (50, 150, 250)]
    schedule = published.linear_schedule()
    outputs = [reference(schedule.add_noise(image, noise.expand_as(image), t), t)[0] for t in steps]
    blocks = published.PUBLISHED_PLANS[plan].blocks
    features = [torch.cat([output[block] for output in outputs], dim=1) for block in blocks]
    head = published.build_head(tuple(f.shape[1] for f in features))
    published.fill(head, published.head_layout(head), head_state, "test")
    return head(features, text.states, text.mask, tuple(image.shape[2:])).logits


@torch.no_grad()
def logits_of(pipeline, image, noise, text):
    return pipeline.decode(pipeline.features(image, noise), text, tuple(image.shape[2:])).logits


@pytest.mark.parametrize("plan", ["monuseg", "qata"])
def test_a_converted_folder_computes_the_published_logits(files, plan):
    arguments = files(plan)
    pipeline = FastTextDiffPipeline.from_pretrained(convert(*arguments))
    image, noise = seeded_noise((2, 3, 64, 64), 1).tanh(), seeded_noise((1, 3, 64, 64), 2)
    text = pipeline.text_encoder.encode(FINDINGS)
    expected = reference_logits(plan, image, noise, text)
    found = logits_of(pipeline, image, noise, text)
    assert expected.std() > 0.1
    assert (found - expected).abs().max() < 1e-4
    assert pipeline.denoiser.plan == published.PUBLISHED_PLANS[plan]
    assert pipeline.info.name == f"paper-{plan}"


def test_a_converted_folder_stores_the_published_preprocessing(files):
    pipeline = FastTextDiffPipeline.from_pretrained(convert(*files()))
    assert pipeline.info.taught == {}
    assert pipeline.preprocessing.channel_order == "bgr"
    assert {pipeline.preprocessing.of(modality).size for modality in Modality} == {256}
    assert pipeline.denoiser.scheduler.config.beta_end == pytest.approx(0.02)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3, "model": "LViT"},
        lambda state: {"model": state, "optimizer": {"lr": 1e-4}},
        lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
        lambda state: {"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}},
    ],
)
def test_a_head_is_found_in_every_checkpoint_layout(files, wrap):
    _, path, _, _ = files(wrap_head=wrap)
    _, expected = published_tensors("monuseg")
    found = read_checkpoint(path)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_half_precision_and_the_old_file_format_are_read(files):
    denoiser, head, text, output = files()
    halves = {name: tensor.half() for name, tensor in torch.load(denoiser, weights_only=True).items()}
    torch.save(halves, denoiser, _use_new_zipfile_serialization=False)
    pipeline = FastTextDiffPipeline.from_pretrained(convert(denoiser, head, text, output))
    assert torch.equal(pipeline.denoiser.unet.conv_in.weight, halves["input_blocks.0.0.weight"].float())


class Attack:
    """Creates a folder when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, (os.environ["ATTACK"],)


@pytest.mark.parametrize(("which", "intruder"), [(0, Attack()), (1, Attack()), (1, argparse.Namespace(lr=1))])
def test_a_pickle_with_code_is_refused_and_not_executed(files, tmp_path, monkeypatch, which, intruder):
    monkeypatch.setenv("ATTACK", str(tmp_path / "attacked"))
    arguments = files()
    torch.save({"state_dict": {}, "args": intruder}, arguments[which])
    with pytest.raises(FastTextDiffError) as caught:
        convert(*arguments)
    one_line(caught, arguments[which].name, "pickle is not run")
    assert not (tmp_path / "attacked").exists()
    assert not arguments[3].exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 half a zip", None, [1, 2], {}, {1: 2}])
def test_a_file_that_is_not_a_checkpoint_is_refused_in_one_line(files, content):
    denoiser, head, text, output = files()
    if isinstance(content, bytes):
        head.write_bytes(content)
    else:
        torch.save(content, head)
    with pytest.raises(FastTextDiffError) as caught:
        convert(denoiser, head, text, output)
    one_line(caught, "model_best.pth")


def test_a_truncated_checkpoint_is_refused_in_one_line(files):
    arguments = files()
    arguments[0].write_bytes(arguments[0].read_bytes()[:1_000_000])
    with pytest.raises(FastTextDiffError) as caught:
        convert(*arguments)
    one_line(caught, "256x256_diffusion_uncond.pt")


QKV = "middle_block.1.qkv.weight"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda state: state.pop(QKV), f"'{QKV}' is missing"),
        (lambda state: state.update(label_emb=torch.zeros(1)), "'label_emb' is unexpected"),
        (lambda state: state.update({QKV: state[QKV][:-3]}), "has shape (381, 128, 1), expected (384, 128, 1)"),
        (lambda state: state.update({QKV: 7}), f"'{QKV}' is not a tensor"),
    ],
)
def test_a_denoiser_with_wrong_tensors_is_refused_naming_the_first(files, change, word):
    arguments = files(change_unet=change)
    with pytest.raises(FastTextDiffError) as caught:
        convert(*arguments)
    one_line(caught, "256x256_diffusion_uncond.pt", word)
    assert not arguments[3].exists()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda state: {k: v for k, v in state.items() if k != "down1.weight"}, "'down1.weight' is missing"),
        (lambda state: {**state, "down1.weight": torch.zeros(96, 100, 1, 1)}, "(96, 100, 1, 1)"),
        (lambda state: {k: v for k, v in state.items() if k != "decodes.4.running_var"}, "decodes.4.running_var"),
    ],
)
def test_a_head_that_fits_no_published_plan_is_refused(files, change, word):
    with pytest.raises(FastTextDiffError) as caught:
        convert(*files(wrap_head=change))
    one_line(caught, "model_best.pth", word)


def test_a_text_encoder_of_another_width_is_refused(files, tmp_path):
    denoiser, head, _, output = files()
    save_text_encoder(tmp_path / "wide", dim=64)
    with pytest.raises(FastTextDiffError) as caught:
        convert(denoiser, head, str(tmp_path / "wide"), output)
    one_line(caught, "text of 32 channels, got 64")


def test_an_existing_folder_is_only_used_if_empty(files):
    arguments = files()
    output = arguments[3]
    output.mkdir()
    (output / "precious.txt").write_text("x")
    with pytest.raises(UsageError) as caught:
        convert(*arguments)
    one_line(caught, str(output))
    assert [path.name for path in output.iterdir()] == ["precious.txt"]
    (output / "precious.txt").unlink()
    assert FastTextDiffPipeline.from_pretrained(convert(*arguments)).n_parameters > 0


@pytest.mark.parametrize("which", [0, 1])
def test_a_missing_checkpoint_is_a_usage_error(files, which):
    arguments = files()
    arguments[which].unlink()
    with pytest.raises(UsageError) as caught:
        convert(*arguments)
    one_line(caught, arguments[which].name)


def test_a_full_disk_leaves_nothing_behind(files, tmp_path, monkeypatch):
    arguments = files()
    before = set(tmp_path.iterdir())

    def fail(self, folder):
        (folder / "half").write_text("x")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(FastTextDiffPipeline, "save_pretrained", fail)
    with pytest.raises(FastTextDiffError) as caught:
        convert(*arguments)
    one_line(caught, "no space left")
    assert set(tmp_path.iterdir()) == before


def test_the_published_configuration_has_the_published_size():
    unet = published.build_unet(published.PUBLISHED_UNET)
    assert sum(tensor.numel() for tensor in unet.parameters()) == 552_814_086
    assert unet.mid_block.attentions[0].heads == 16
    plans = {
        name: FeatureDenoiser(unet, published.linear_schedule(), plan).feature_channels()
        for name, plan in published.PUBLISHED_PLANS.items()
    }
    assert plans == {"monuseg": (1536, 1536, 768, 768), "qata": (3072, 1536, 1536, 768)}


@pytest.mark.slow
def test_the_full_size_published_network_computes_the_published_logits(tmp_path):
    unet, head_state = published_tensors("qata")
    assert sum(tensor.numel() for tensor in unet.values()) == 552_814_086
    torch.save(unet, tmp_path / "256x256_diffusion_uncond.pt")
    torch.save({"state_dict": head_state}, tmp_path / "model_best.pth")
    del unet  # two copies in memory are too many
    save_text_encoder(tmp_path / "text", dim=768)
    output = convert(
        tmp_path / "256x256_diffusion_uncond.pt", tmp_path / "model_best.pth", str(tmp_path / "text"), tmp_path / "made"
    )
    pipeline = FastTextDiffPipeline.from_pretrained(output)
    image, noise = seeded_noise((1, 3, 64, 64), 1).tanh(), seeded_noise((1, 3, 64, 64), 2)
    text = pipeline.text_encoder.encode(FINDINGS[:1])
    found = logits_of(pipeline, image, noise, text)
    del pipeline
    unet = torch.load(tmp_path / "256x256_diffusion_uncond.pt", mmap=True, weights_only=True)
    assert (found - reference_logits("qata", image, noise, text, (unet, head_state))).abs().max() < 2e-4
