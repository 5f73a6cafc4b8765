"""Masked-language pre-training works, can be stopped and resumed, and training can start from its encoder."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest
import torch
from test_training import TINY, Notes, config, same  # noqa: F401 (config is a fixture)
from tiny_models import one_line

from fasttextdiff.errors import FastTextDiffError, UsageError
from fasttextdiff.model.text_encoder import TextEncoder, TextStates
from fasttextdiff.training.compact import starting_model
from fasttextdiff.training.loop import train
from fasttextdiff.training.pretrain_text import MaskedBatches, TextPretraining, cut_texts, pretrain_text, split_texts
from fasttextdiff.training.pretraining import CHECKPOINT, SUMMARY, Schedule
from fasttextdiff.training.prompts import EVERYWHERE, FINDINGS, IN_ZONE, LUNGS_WORDS, NEGATED, ON_SIDE
from fasttextdiff.training.text_probe import (
    FITTED_PLAIN,
    FITTED_TEMPLATES,
    FITTED_WORDS,
    HELD_OUT_PLAIN,
    HELD_OUT_TEMPLATES,
    HELD_OUT_WORDS,
    separability,
)
from fasttextdiff.training.tokenizer import learned_tokenizer, train_tokenizer

WORDS = ("infection", "opacity", "nodule", "effusion")


@pytest.fixture
def run(tmp_path):
    """200 different sentences, whose last word follows from the first."""
    rng = random.Random(0)
    lines = [
        f"{side} lung {rng.choice(WORDS)} number {n} seen on the {side}"
        for n in range(100)
        for side in ("left", "right")
    ]
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "reports.txt").write_text("\n".join(lines))
    return TextPretraining(
        tmp_path / "corpus", tmp_path / "out", model=TINY, schedule=Schedule(6, 6e-4, warmup=2), batch=8
    )


def encoder(folder):
    return TextEncoder.from_pretrained(folder / "text_encoder", folder / "tokenizer")


def test_training_improves_masked_word_prediction_on_held_out_texts(run):
    pretrain_text(replace(run, schedule=Schedule(60, 3e-3, warmup=5)), Notes())
    summary = json.loads((run.output / SUMMARY).read_text())
    assert summary["after"]["held_out_loss"] < 0.8 * summary["before"]["held_out_loss"]
    assert 0 <= summary["after"]["probe"]["side"]["synonyms"] <= 1
    assert encoder(run.output).dim == TINY.text_dim


def test_a_resumed_pretraining_gives_the_same_bits(run):
    pretrain_text(run, whole := Notes())
    stopped = replace(run, output=run.output.with_name("stopped"))
    first, rest = Notes(stop_after=3), Notes()
    assert pretrain_text(stopped, first, first.stop) == stopped.output
    assert not (stopped.output / "text_encoder").exists()
    pretrain_text(stopped, rest)
    assert {**first.losses, **rest.losses} == whole.losses
    states = [torch.load(r.output / CHECKPOINT, weights_only=True) for r in (run, stopped)]
    assert same(*states)


def test_another_model_is_trained_further_with_its_own_vocabulary(run):
    pretrain_text(run, Notes())
    onwards = replace(run, start=run.output, output=run.output.with_name("more"), schedule=Schedule(1, 1e-9))
    pretrain_text(onwards, Notes())
    old, new = encoder(run.output), encoder(onwards.output)
    assert new.tokenizer.get_vocab() == old.tokenizer.get_vocab()
    for a, b in zip(old.parameters(), new.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


class Listener(TextEncoder):
    """Replaces a network: every token's state counts the given words of its text."""

    def __init__(self, *words):
        torch.nn.Module.__init__(self)
        self.words, self.max_tokens = words, 128
        self.device_of_states = torch.nn.Parameter(torch.zeros(1))
        self.tokenizer = train_tokenizer([text for texts in (*WORDS, *words) for text in texts.split()], 400)

    def forward(self, input_ids, attention_mask):
        texts = [f" {text} ".replace(",", " ") for text in self.tokenizer.batch_decode(input_ids, True)]
        counts = torch.tensor([[float(f" {word} " in text) for word in self.words] for text in texts])
        noise = torch.randn((*input_ids.shape, 4), generator=torch.Generator().manual_seed(0))
        states = torch.cat([counts[:, None].expand(-1, input_ids.shape[1], -1), 0.1 * noise], dim=-1)
        return TextStates(states, attention_mask.bool())


def test_the_probe_detects_whether_an_encoder_keeps_sides_and_negations():
    keen = separability(Listener("left", "right", "no", "without", "not", "never"))
    assert keen["side"]["synonyms"] > 0.95
    assert keen["negation"]["synonyms"] > 0.55
    deaf = separability(Listener("liver"))
    assert deaf["side"]["synonyms"] < 0.5
    assert deaf["negation"]["synonyms"] < 0.7
    assert deaf["finding"]["synonyms"] < 0.5


def test_the_probes_held_out_data_are_never_trained_on():
    templates = {*ON_SIDE, *IN_ZONE, *EVERYWHERE, *NEGATED}
    held_out = [*HELD_OUT_TEMPLATES[0], *HELD_OUT_TEMPLATES[1], *HELD_OUT_PLAIN]
    fitted = {*FITTED_TEMPLATES[0], *FITTED_TEMPLATES[1], *FITTED_PLAIN}
    assert not {t.replace("words", "finding").replace("{lung}", "the {side} lung") for t in held_out} & templates
    assert not set(held_out) & fitted
    trained = {word.lower() for words in (*FINDINGS.values(), LUNGS_WORDS) for word in words}
    words = [word.lower() for words in HELD_OUT_WORDS.values() for word in words]
    assert not set(words) & (trained | {word.lower() for words in FITTED_WORDS.values() for word in words})


def test_no_text_is_both_in_training_and_held_out():
    texts = [f"text {n % 120}" for n in range(500)]
    learned, held_out = split_texts(texts)
    assert len(learned) + len(held_out) == 120
    assert not set(learned) & set(held_out)
    with pytest.raises(UsageError) as caught:
        split_texts(texts[:10])
    one_line(caught, "too few")


def test_long_texts_are_split_and_tiny_rests_dropped():
    tokenizer = train_tokenizer(["one two three four five six seven"] * 5, 300)
    text = " ".join(["one two three four five six seven"] * 9)
    pieces = cut_texts([text, "one"], tokenizer, 16)
    assert all(len(piece) <= 16 for piece in pieces)
    assert all((p[0], p[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id) for p in pieces)
    inner = [token for piece in pieces for token in piece[1:-1]]
    whole = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert inner == whole[: len(inner)]
    assert len(whole) - len(inner) < 4


def test_a_step_masks_the_same_tokens_again_and_only_those_count(run):
    tokenizer = train_tokenizer((run.text / "reports.txt").read_text().splitlines(), 300)
    texts = cut_texts((run.text / "reports.txt").read_text().splitlines(), tokenizer, 96)
    batches = MaskedBatches(texts, tokenizer, run)
    batch = batches[1]
    assert same(batch, batches[1])
    assert not same(batch, batches[2])
    asked = batch["labels"] != -100
    assert 0.15 < asked.float().mean() < 0.45
    assert (batch["input_ids"][asked] != batch["labels"][asked]).float().mean() > 0.7
    assert not asked[batch["attention_mask"] == 0].any()


def test_training_starts_from_a_model_and_from_a_pretrained_encoder(run, config):  # noqa: F811
    folder = train(config, Notes())
    pretrain_text(replace(run, start=folder), Notes())
    renamed = replace(config, name="next", start=folder, text_encoder=run.output)
    pipeline = starting_model(renamed, {})
    assert pipeline.info.name == "next"
    old = dict(starting_model(replace(config, start=folder), {}).named_parameters())
    pretrained = dict(encoder(run.output).named_parameters())
    for name, tensor in pipeline.named_parameters():
        expected = pretrained[name.removeprefix("text_encoder.")] if name.startswith("text_encoder.") else old[name]
        assert torch.equal(tensor, expected), name


def test_a_text_encoder_of_another_width_is_refused(run, config):  # noqa: F811
    pretrain_text(replace(run, model=replace(TINY, text_dim=64)), Notes())
    with pytest.raises(FastTextDiffError) as caught:
        starting_model(replace(config, text_encoder=run.output, model=TINY), {})
    one_line(caught, "64 channels")


def test_a_tokenizer_of_another_vocabulary_is_not_used_silently(run):
    folder = run.output / "tokenizer"
    size = len(learned_tokenizer(folder, run.text, 320))
    assert len(learned_tokenizer(folder, run.text, 320)) == size
    with pytest.raises(UsageError) as caught:
        learned_tokenizer(folder, run.text, 310)
    one_line(caught, str(folder), "another vocabulary")
