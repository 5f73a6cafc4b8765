"""A model folder restores exactly the saved model, and a broken one is reported in one line."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import SENTENCES, compact_head, one_line, tiny_denoiser, tiny_pipeline, tiny_text_encoder

from fasttextdiff.errors import FastTextDiffError, UsageError
from fasttextdiff.model.denoiser import seeded_noise
from fasttextdiff.model.info import INDEX
from fasttextdiff.model.pipeline import FastTextDiffPipeline

UNET = "unet/diffusion_pytorch_model.safetensors"
FUSION = "fusion/diffusion_pytorch_model.safetensors"
TEXT = "text_encoder/model.safetensors"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    pipeline = tiny_pipeline()
    folder = tmp_path_factory.mktemp("models") / "tiny"
    pipeline.save_pretrained(folder)
    return pipeline, folder


@pytest.fixture
def folder(saved, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(saved[1], tmp_path / "model")


@torch.no_grad()
def outputs(pipeline):
    image, noise = seeded_noise((2, 3, 32, 32), 1).tanh(), seeded_noise((1, 3, 32, 32), 2)
    features = pipeline.features(image, noise)
    return pipeline.decode(features, pipeline.text_encoder.encode(SENTENCES[:2]), (32, 32))


def settings(component):
    """A diffusers configuration as in JSON, without diffusers' notes about its source."""
    return json.loads(json.dumps({k: v for k, v in component.config.items() if not k.startswith("_")}))


def test_a_round_trip_keeps_every_bit_and_every_setting(saved):
    pipeline, folder = saved
    loaded = FastTextDiffPipeline.from_pretrained(folder)
    before, after = outputs(pipeline), outputs(loaded)
    assert before.logits.std() > 0.01
    assert torch.equal(before.logits, after.logits)
    assert torch.equal(before.presence, after.presence)
    assert before.logits.shape == (2, 1, 16, 16)
    assert not loaded.training
    assert loaded.denoiser.plan == pipeline.denoiser.plan
    assert loaded.preprocessing == pipeline.preprocessing
    assert replace(loaded.info, weights_sha256="") == pipeline.info
    assert loaded.text_encoder.max_tokens == 96
    assert settings(loaded.denoiser.scheduler) == settings(pipeline.denoiser.scheduler)
    assert settings(loaded.denoiser.unet) == settings(pipeline.denoiser.unet)
    assert settings(loaded.fusion) == settings(pipeline.fusion)
    assert loaded.n_parameters == pipeline.n_parameters


def test_saving_what_was_loaded_gives_the_same_files(saved, tmp_path):
    FastTextDiffPipeline.from_pretrained(saved[1]).save_pretrained(tmp_path / "again")
    files = sorted(path.relative_to(saved[1]) for path in saved[1].rglob("*") if path.is_file())
    assert files == sorted(p.relative_to(tmp_path / "again") for p in (tmp_path / "again").rglob("*") if p.is_file())
    assert INDEX in {str(path) for path in files}
    for path in files:
        if path.suffix == ".safetensors" or str(path) == INDEX:
            assert (tmp_path / "again" / path).read_bytes() == (saved[1] / path).read_bytes(), path


def test_half_precision_files_are_smaller_and_do_not_change_the_model(saved, tmp_path):
    pipeline, folder = saved
    pipeline.save_pretrained(tmp_path / "half", dtype=torch.float16)
    assert {p.dtype for p in pipeline.parameters()} == {torch.float32}
    for name in (UNET, FUSION, TEXT):
        assert (tmp_path / "half" / name).stat().st_size < 0.75 * (folder / name).stat().st_size
    loaded = FastTextDiffPipeline.from_pretrained(tmp_path / "half")
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    assert torch.equal(loaded.denoiser.unet.conv_in.weight, pipeline.denoiser.unet.conv_in.weight.half().float())


def test_the_weights_hash_depends_only_on_the_weights(saved, folder):
    original = FastTextDiffPipeline.from_pretrained(saved[1]).info.weights_sha256
    assert len(original) == 16
    edit_index(folder, lambda index: index["info"].update(name="renamed"))
    assert FastTextDiffPipeline.from_pretrained(folder).info.weights_sha256 == original
    hashes = {original}
    for name in (UNET, FUSION, TEXT):
        change(folder / name, lambda state: next(iter(state.values())).flatten()[:1].add_(1e-3))
        hashes.add(FastTextDiffPipeline.from_pretrained(folder).info.weights_sha256)
    assert len(hashes) == 4


def change(path, edit):
    state = load_file(path)
    edit(state)
    save_file(state, path, metadata={"format": "pt"})


def edit_index(folder, edit):
    index = json.loads((folder / INDEX).read_text())
    edit(index)
    (folder / INDEX).write_text(json.dumps(index))


def pickle_instead(path):
    torch.save(load_file(path), path.with_name("diffusion_pytorch_model.bin"))
    path.unlink()


def replace_conv(state):
    state["conv_in.weight"] = torch.zeros(16, 12, 1, 1)


def replaced_norm():
    return {"final_norm.weight": torch.zeros(5)}


DAMAGE = [
    (lambda f: shutil.rmtree(f / "fusion"), ["'fusion' is missing"]),
    (lambda f: (f / UNET).unlink(), [UNET, "missing"]),
    (lambda f: (f / TEXT).unlink(), ["text_encoder"]),
    (lambda f: (f / "tokenizer" / "tokenizer.json").unlink(), ["text_encoder"]),
    (lambda f: (f / "unet" / "config.json").unlink(), ["unet"]),
    (lambda f: (f / "scheduler" / "scheduler_config.json").unlink(), ["scheduler"]),
    (lambda f: pickle_instead(f / UNET), ["pickled weights are not read"]),
    (lambda f: pickle_instead(f / FUSION), ["pickled weights are not read"]),
    (lambda f: change(f / UNET, replace_conv), [UNET, "conv_in.weight"]),
    (lambda f: change(f / TEXT, lambda state: state.pop("final_norm.weight")), ["text_encoder", "final_norm.weight"]),
    (lambda f: change(f / TEXT, lambda state: state.update(replaced_norm())), ["text_encoder"]),
    (lambda f: change(f / FUSION, lambda state: state.pop("conv3.bias")), [FUSION, "conv3.bias"]),
    (lambda f: change(f / FUSION, lambda state: state.update(extra=torch.zeros(1))), [FUSION, "extra"]),
    (lambda f: (f / FUSION).write_bytes(b"no safetensors"), [FUSION]),
    (lambda f: (f / INDEX).unlink(), [INDEX]),
    (lambda f: (f / INDEX).write_text("{"), [INDEX, "cannot be read"]),
    (lambda f: (f / INDEX).write_text("[]"), [INDEX, "format_version"]),
    (lambda f: edit_index(f, lambda index: index.update(format_version=2)), ["format_version 2", "reads 1"]),
    (lambda f: edit_index(f, lambda index: index.pop("info")), [INDEX, "info"]),
    (lambda f: edit_index(f, lambda index: index["info"].pop("name")), [INDEX, "name"]),
    (lambda f: edit_index(f, lambda index: index["info"].update(taught={"ct": [7]})), [INDEX, "'taught' holds 7"]),
    (lambda f: edit_index(f, lambda index: index["info"].update(threshold="high")), [INDEX, "high"]),
    (lambda f: edit_index(f, lambda index: index.pop("features")), ["features"]),
    (lambda f: edit_index(f, lambda index: index["features"].update(blocks=[1, 99])), ["block 99"]),
    (lambda f: edit_index(f, lambda index: index["features"].update(blocks=[3, 5])), ["channels"]),
    (lambda f: edit_index(f, lambda index: index["preprocessing"]["settings"].pop("other")), ["other"]),
]


@pytest.mark.parametrize(("damage", "words"), DAMAGE)
def test_a_damaged_folder_is_reported_in_one_line(folder, damage, words):
    damage(folder)
    with pytest.raises(FastTextDiffError) as caught:
        FastTextDiffPipeline.from_pretrained(folder)
    one_line(caught, *words)


@pytest.mark.parametrize("name", ["nowhere", "./not/here", "/not/here/either", "~/no"])
def test_a_missing_folder_is_a_usage_error_without_network_access(name, monkeypatch):
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: pytest.fail("reached for the network"))
    with pytest.raises(UsageError) as caught:
        FastTextDiffPipeline.from_pretrained(name)
    one_line(caught, "no model folder")


def test_mismatched_parts_are_refused():
    good = tiny_pipeline()
    parts = {
        "text_encoder": good.text_encoder,
        "denoiser": good.denoiser,
        "fusion": good.fusion,
        "preprocessing": good.preprocessing,
        "info": good.info,
    }
    with pytest.raises(ValueError, match="features of"):
        FastTextDiffPipeline(**{**parts, "denoiser": tiny_denoiser(timesteps=(50,), patch_size=2)})
    with pytest.raises(ValueError, match="text of"):
        FastTextDiffPipeline(**{**parts, "text_encoder": tiny_text_encoder(dim=64)})
    with pytest.raises(ValueError, match="text of"):
        FastTextDiffPipeline(**{**parts, "fusion": compact_head(good.denoiser.feature_channels(), text_dim=16)})
