"""Our classes compute the same as the published networks, and the check of this can fail."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import GuidedReference, one_line, published_state

from fasttextdiff.errors import FastTextDiffError, UsageError
from fasttextdiff.model import denoiser, published
from fasttextdiff_lab import golden
from fasttextdiff_lab.golden import GoldenCheck, verify_golden

GOLDEN = Path(__file__).parent / "golden"


def failures(folder):
    return {check.name for check in verify_golden(folder) if not check.passed}


def edit(folder, change):
    """Change the parsed cases.json."""
    path = folder / "cases.json"
    cases = json.loads(path.read_text())
    change(cases)
    path.write_text(json.dumps(cases))


def edit_arrays(path, change):
    arrays = dict(np.load(path))
    change(arrays)
    np.savez(path, **arrays)


@pytest.fixture
def tiny32(tmp_path):
    """A folder with the fastest case and the schedule."""
    shutil.copy(GOLDEN / "cases.json", tmp_path)
    shutil.copy(GOLDEN / "unet_tiny32.npz", tmp_path)
    edit(tmp_path, lambda cases: [cases.pop(name) for name in ("tiny64", "monuseg", "qata")])
    return tmp_path


def test_every_stored_array_is_reproduced():
    checks = verify_golden(GOLDEN)
    assert [check.name for check in checks if not check.passed] == []
    names = {check.name for check in checks}
    stored = {f"{path.stem.split('_')[1]} {key}" for path in GOLDEN.glob("*.npz") for key in np.load(path)}
    assert len(stored) == 30
    assert stored < names
    assert sum("alphas_cumprod" in name for name in names) == 10


def test_a_wrong_layout_of_queries_keys_and_values_is_noticed(tiny32, monkeypatch):
    original = golden.parameter

    def all_queries_first(name, shape, seed):
        """Rows ordered by q, k, v, then head; the published ones by head first."""
        values = original(name, shape, seed)
        heads = (
            shape[0] // 3 // json.loads((tiny32 / "cases.json").read_text())["tiny32"]["config"]["num_head_channels"]
        )
        return values.unflatten(0, (3, heads, -1)).transpose(0, 1).flatten(0, 2) if ".qkv." in name else values

    monkeypatch.setattr(golden, "parameter", all_queries_first)
    assert {"tiny32 out.50", "tiny32 out.250", "tiny32 block1.t50", "tiny32 block5.t250"} <= failures(tiny32)


def test_features_of_the_neighbouring_block_are_noticed(tiny32):
    def swap(arrays):
        for t in (50, 250):
            for one, other in (("block1", "block2"), ("block4", "block5")):
                first, second = f"{one}.t{t}", f"{other}.t{t}"
                arrays[first], arrays[second] = arrays[second], arrays[first]

    edit_arrays(tiny32 / "unet_tiny32.npz", swap)
    assert failures(tiny32) == {f"tiny32 block{b}.t{t}" for b in (1, 2, 4, 5) for t in (50, 250)}


def test_one_weight_changed_is_noticed(tiny32, monkeypatch):
    original = golden.parameter

    def changed(name, shape, seed):
        values = original(name, shape, seed)
        if name == "input_blocks.2.0.in_layers.2.weight":
            values[3, 1, 1, 1] += 0.1
        return values

    monkeypatch.setattr(golden, "parameter", changed)
    assert {"tiny32 out.50", "tiny32 block1.t50"} <= failures(tiny32)


def test_truncated_features_that_differ_from_full_ones_are_noticed(tiny32, monkeypatch):
    original = denoiser.FeatureDenoiser.forward
    monkeypatch.setattr(denoiser.FeatureDenoiser, "forward", lambda *inputs: [f + 0.01 for f in original(*inputs)])
    assert "tiny32 truncated features against full" in failures(tiny32)


def test_another_schedule_is_noticed(tiny32, monkeypatch):
    schedule = published.linear_schedule
    monkeypatch.setattr(golden, "linear_schedule", lambda steps=1000: schedule(steps * 10))
    assert {"tiny32 x_t.50", "schedule sqrt_alphas_cumprod[50]"} <= failures(tiny32)


def test_a_stored_nan_or_another_shape_is_noticed(tiny32):
    def damage(arrays):
        arrays["out.50"][0, 0, 0, 0] = np.nan
        arrays["out.150"] = arrays["out.150"][:, :, :1, :1]

    edit_arrays(tiny32 / "unet_tiny32.npz", damage)
    assert failures(tiny32) == {"tiny32 out.50", "tiny32 out.150"}


@pytest.mark.parametrize(
    ("key", "value"), [("use_scale_shift_norm", False), ("resblock_updown", False), ("attention_resolutions", [4])]
)
def test_a_configuration_with_other_parameters_fails_on_names_and_shapes(tiny32, key, value):
    edit(tiny32, lambda cases: cases["tiny32"]["config"].update({key: value}))
    assert failures(tiny32) == {"tiny32 parameter names and shapes"}


def test_a_wrong_number_of_head_parameters_is_noticed(tiny32):
    shutil.copy(GOLDEN / "cases.json", tiny32)
    edit(tiny32, lambda cases: [cases.pop(name) for name in ("tiny32", "tiny64", "qata", "schedule")])
    edit(tiny32, lambda cases: cases["monuseg"].update(n_parameters=9683235, feature_sizes=[1, 1, 1, 2]))
    np.savez(tiny32 / "head_monuseg.npz", logits=np.zeros((1, 2, 2, 2)), logits_mean=0, logits_std=0)
    checks = {check.name: check.error for check in verify_golden(tiny32)}
    assert checks["monuseg number of parameters"] == 1


OTHER = {
    "image_size": 32,
    "in_channels": 3,
    "out_channels": 3,
    "model_channels": 32,
    "channel_mult": [1, 3],
    "num_res_blocks": 2,
    "attention_resolutions": [1],
    "num_head_channels": 32,
    "use_scale_shift_norm": False,
    "resblock_updown": False,
}


@pytest.mark.parametrize("residual", [False, True])
def test_cases_of_other_configurations_are_read_from_the_folder(tmp_path, residual):
    config = {**OTHER, "resblock_updown": residual, "use_scale_shift_norm": residual}
    layout = published.unet_layout(config, published.build_unet(config))
    case = {"config": config, "seed": 11, "steps": [999, 0], "blocks": list(range(6)), "image_size": 16}
    case["parameters"] = {name: source.shape for name, source in layout.items()}
    (tmp_path / "cases.json").write_text(json.dumps({"other": case}))
    image = torch.from_numpy(np.tanh(golden.standard_normal("other.11:image", (1, 3, 16, 16))))
    noise = torch.from_numpy(golden.standard_normal("other.11:noise", (1, 3, 16, 16)))
    reference, arrays = GuidedReference(config, published_state(layout, seed=11)), {}
    for t in case["steps"]:
        steps = torch.tensor([t])
        noised = published.linear_schedule().add_noise(image, noise, steps)
        features, arrays[f"out.{t}"] = reference(noised, steps)
        arrays |= {f"block{k}.t{t}": f[..., :: f.shape[-1] // 8, :: f.shape[-1] // 8] for k, f in enumerate(features)}
    np.savez(tmp_path / "unet_other.npz", **arrays)
    checks = verify_golden(tmp_path)
    assert len(checks) == 2 + 2 + 12
    assert max(check.error for check in checks) < 1e-4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"channel_mult": [2, 4]}, "channel_mult"),
        ({"model_channels": 24}, "multiples of 32"),
        ({"num_head_channels": -1}, "num_head_channels"),
        ({"use_new_attention_order": True}, "use_new_attention_order"),
        ({"num_classes": 1000}, "num_classes"),
        ({"swish": True}, "swish"),
    ],
)
def test_a_configuration_that_cannot_be_expressed_exactly_is_refused(change, words):
    with pytest.raises(FastTextDiffError) as caught:
        published.build_unet({**OTHER, **change})
    one_line(caught, words)


def cut_in_half(folder):
    path = folder / "unet_tiny32.npz"
    path.write_bytes(path.read_bytes()[:100_000])


def without_block_4(arrays):
    del arrays["block4.t50"], arrays["block4.t250"]


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (lambda folder: (folder / "cases.json").write_text("{"), "cases.json"),
        (lambda folder: (folder / "cases.json").write_text("[]"), "cases.json"),
        (lambda folder: edit(folder, lambda cases: cases["tiny32"].pop("config")), "neither"),
        (lambda folder: edit(folder, lambda cases: cases["tiny32"].pop("seed")), "seed"),
        (lambda folder: edit(folder, lambda cases: cases["tiny32"]["blocks"].append(99)), "block 99"),
        (lambda folder: edit(folder, lambda cases: cases["schedule"].update(name="cosine")), "cosine"),
        (lambda folder: (folder / "unet_tiny32.npz").unlink(), "unet_tiny32.npz is missing"),
        (cut_in_half, "unet_tiny32.npz cannot be read"),
        (lambda folder: edit_arrays(folder / "unet_tiny32.npz", without_block_4), "nothing is stored of block 4"),
        (lambda folder: edit_arrays(folder / "unet_tiny32.npz", lambda a: a.update(x=a["out.50"])), "holds 'x'"),
        (lambda folder: np.savez(folder / "unet_tiny32.npz", x=np.array([{}], dtype=object)), "cannot be read"),
    ],
)
def test_a_damaged_folder_is_reported_in_one_line(tiny32, damage, word):
    damage(tiny32)
    with pytest.raises(FastTextDiffError) as caught:
        verify_golden(tiny32)
    one_line(caught, word)


def test_a_missing_folder_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError) as caught:
        verify_golden(tmp_path / "nowhere")
    one_line(caught, "nowhere")


def test_a_check_passes_up_to_its_tolerance():
    assert GoldenCheck("x", 2e-4).passed
    assert not GoldenCheck("x", 2.1e-4).passed
    assert not GoldenCheck("x", float("nan")).passed
    assert not GoldenCheck("count", 1, 0).passed
