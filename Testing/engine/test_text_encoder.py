"""Findings become token states: the whole text, no padding, each text only once."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import SENTENCES, one_line, save_text_encoder, tiny_text_encoder

from fasttextdiff.errors import FastTextDiffError, UsageError
from fasttextdiff.model.text_encoder import TextEncoder, attention_implementation

LONG = "opacity in the lung " * 20


@pytest.fixture(scope="module")
def encoder():
    return tiny_text_encoder()


@pytest.fixture
def passes(encoder):
    """Clear the cache and count the model's forward passes."""
    encoder.clear_cache()
    count = []
    hook = encoder.model.register_forward_hook(lambda *_: count.append(1))
    yield count
    hook.remove()


def test_a_batch_gives_the_bits_of_its_findings_one_by_one(encoder):
    batch = encoder.encode(SENTENCES)
    assert batch.mask.sum(1).unique().numel() > 1
    for n, sentence in enumerate(SENTENCES):
        encoder.clear_cache()
        alone = encoder.encode([sentence])
        length = alone.states.shape[1]
        assert torch.equal(batch.states[n, :length], alone.states[0])
        assert batch.mask[n].tolist() == [k < length for k in range(batch.mask.shape[1])]
        assert (batch.states[n, length:] == 0).all()


@torch.no_grad()
def test_padding_is_masked_in_a_padded_pass(encoder):
    tokens = encoder.tokenize(SENTENCES)
    states, mask = encoder(**tokens)
    assert torch.equal(mask, tokens["attention_mask"].bool())
    assert (states[~mask] == 0).all()
    alone = encoder.encode(SENTENCES)
    assert (states - alone.states).abs().max() < 1e-4
    tokens["input_ids"][~mask] = 77
    assert (encoder(**tokens).states - states).abs().max() < 1e-5


def test_a_cached_text_needs_no_pass_and_has_equal_bits(encoder, passes):
    first = encoder.encode(["left lung", "right lung", "left lung"])
    assert len(passes) == 2
    again = encoder.encode(["right lung", "  left \n lung "])
    assert len(passes) == 2
    assert torch.equal(again.states, first.states[1:])
    encoder.clear_cache()
    assert torch.equal(encoder.encode(["left lung"]).states[0], first.states[0])
    assert len(passes) == 3


def test_cached_states_of_another_dtype_are_dropped():
    encoder = tiny_text_encoder()
    encoder.encode(["left lung"])
    assert encoder.to(torch.float64).encode(["left lung"]).states.dtype == torch.float64


def test_the_cache_keeps_the_most_recently_used_texts(encoder, passes, monkeypatch):
    monkeypatch.setattr("fasttextdiff.model.tokens.TEXTS_KEPT", 2)
    for finding in ("one", "two", "one", "three", "one"):
        encoder.encode([finding])
    assert len(passes) == 3
    encoder.encode(["two"])
    assert len(passes) == 4


def test_the_64th_token_is_read():
    encoder = tiny_text_encoder()
    words = LONG.split()
    words = words[: 64 - 2]
    assert encoder.encode([" ".join(words)]).states.shape[1] >= 64
    one, two = encoder.encode([" ".join(words)]).states, encoder.encode([" ".join([*words[:-1], "nuclei"])]).states
    assert (one[0, 0] - two[0, 0]).abs().max() > 1e-4  # even the first token's state depends on the last word


@pytest.mark.parametrize(
    ("finding", "word"),
    [("", "empty"), (" \n ", "empty"), ("12.5 %", "Latin"), ("左肺の浸潤影", "Latin"), (LONG * 3, "tokens")],
)
def test_a_text_that_is_not_a_finding_is_refused_in_one_line(encoder, finding, word):
    with pytest.raises(UsageError) as caught:
        encoder.check(finding)
    one_line(caught, word)


@pytest.mark.parametrize("n", [128, 129])
def test_a_text_with_one_token_too_many_is_refused(encoder, n):
    words = " ".join(SENTENCES).split()
    word = next(word for word in words if encoder.tokenize([word])["input_ids"].shape[1] == 3)
    finding = " ".join([word] * (n - 2))
    assert encoder.tokenize([finding])["input_ids"].shape[1] == n
    if n == 128:
        encoder.check(finding)
        return
    with pytest.raises(UsageError) as caught:
        encoder.check(finding)
    one_line(caught, "129 tokens", "reads 128")


def test_the_empty_text_is_two_tokens_for_a_text_free_result(encoder):
    assert encoder.encode([""]).mask.tolist() == [[True, True]]


def test_an_encoder_of_fewer_than_64_tokens_is_refused(encoder):
    with pytest.raises(ValueError, match="at least 64"):
        TextEncoder(encoder.model, encoder.tokenizer, 63)


def test_a_saved_encoder_is_loaded_with_equal_states(tmp_path):
    saved = save_text_encoder(tmp_path)
    loaded = TextEncoder.from_pretrained(tmp_path)
    assert loaded.dim == 32
    assert torch.equal(loaded.encode(SENTENCES).states, saved.encode(SENTENCES).states)


def test_a_folder_with_weights_only_as_a_pickle_is_refused(tmp_path):
    encoder = save_text_encoder(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(encoder.model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(FastTextDiffError) as caught:
        TextEncoder.from_pretrained(tmp_path)
    one_line(caught, str(tmp_path))


def test_a_missing_tensor_is_not_replaced_by_random_values(tmp_path):
    save_text_encoder(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    del state["layers.2.attn.Wqkv.weight"]
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(FastTextDiffError) as caught:
        TextEncoder.from_pretrained(tmp_path)
    one_line(caught, str(tmp_path), "'layers.2.attn.Wqkv.weight' is missing")


def test_the_weights_of_a_masked_language_model_are_found(tmp_path):
    encoder = save_text_encoder(tmp_path)
    state = {f"model.{name}": tensor for name, tensor in encoder.model.state_dict().items()}
    state["decoder.bias"] = torch.zeros(len(encoder.tokenizer))
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    loaded = TextEncoder.from_pretrained(tmp_path)
    assert torch.equal(loaded.encode(SENTENCES).states, encoder.encode(SENTENCES).states)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_an_incomplete_or_broken_folder_is_reported_in_one_line(tmp_path, name):
    save_text_encoder(tmp_path)
    (tmp_path / name).write_bytes(b"{")
    with pytest.raises(FastTextDiffError) as caught:
        TextEncoder.from_pretrained(tmp_path)
    one_line(caught, str(tmp_path))


@pytest.mark.parametrize(
    ("installed", "device", "dtype", "capability", "expected"),
    [
        (True, "cuda", torch.float16, (8, 0), "flash_attention_2"),
        (True, "cuda:1", torch.bfloat16, (9, 0), "flash_attention_2"),
        (True, "cuda", torch.float32, (8, 0), "sdpa"),
        (True, "cuda", torch.float16, (7, 5), "sdpa"),
        (True, "cpu", torch.bfloat16, (8, 0), "sdpa"),
        (False, "cuda", torch.float16, (8, 0), "sdpa"),
    ],
)
def test_flash_attention_is_used_if_installed_and_supported(
    monkeypatch, installed, device, dtype, capability, expected
):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if installed else None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert attention_implementation(torch.device(device), dtype) == expected


def test_on_a_cpu_an_installed_flash_attention_is_not_used(monkeypatch, encoder):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    with torch.autocast("cpu", torch.bfloat16):
        states = encoder.encode(["left lung"]).states
    assert states.isfinite().all()
