"""Distillation aligns the tokens of two tokenizers, brings the student close to the teacher, keeps opposites apart."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_training import Notes, same
from tiny_models import one_line, save_text_encoder, tiny_text_encoder
from torch.nn import functional

from fasttextdiff.errors import ModelError, UsageError
from fasttextdiff.evaluation.datasets import swap_sides
from fasttextdiff.model.text_encoder import TextEncoder
from fasttextdiff.training.alignment import mean_states, overlaps, tokenize_with_offsets
from fasttextdiff.training.losses import contrastive_loss
from fasttextdiff.training.pretraining import CHECKPOINT, SUMMARY, Schedule
from fasttextdiff_lab.distil_text import (
    DistillationBatches,
    Teacher,
    TextDistillation,
    distil_text,
    load_teacher,
)
from fasttextdiff_lab.statements import family

WORDS = ("infection", "opacity", "nodule", "effusion")


@pytest.fixture
def run(tmp_path):
    """A student of 32 channels, a teacher of 64 with another tokenizer, and 120 sentences."""
    rng = random.Random(0)
    lines = [f"{side} lung {rng.choice(WORDS)} number {n}" for n in range(60) for side in ("left", "right")]
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "reports.txt").write_text("\n".join(lines))
    student = tiny_text_encoder()
    student.model.save_pretrained(tmp_path / "start" / "text_encoder")
    student.tokenizer.save_pretrained(tmp_path / "start" / "tokenizer")
    save_text_encoder(tmp_path / "teacher", dim=64)
    return TextDistillation(
        tmp_path / "corpus",
        str(tmp_path / "teacher"),
        tmp_path / "start",
        tmp_path / "out",
        Schedule(5, 1e-3, warmup=2),
        batch=4,
        families=2,
    )


def test_the_student_learns_from_the_teacher_and_keeps_opposites_apart(run):
    notes = Notes()
    distil_text(replace(run, schedule=Schedule(60, 3e-3, warmup=5), families=4), notes)
    first, last = ({name: np.mean([notes.losses[n][name] for n in steps]) for name in ("teacher", "contrast")}
                   for steps in (range(1, 6), range(56, 61)))  # fmt: skip
    assert last["teacher"] < 0.8 * first["teacher"]
    assert last["contrast"] < 0.9 * first["contrast"]
    summary = json.loads((run.output / SUMMARY).read_text())
    assert summary["held_out_unexplained"] < 1
    assert set(summary["after"]) == set(summary["teacher"]) == {"side", "negation", "finding"}
    encoder = TextEncoder.from_pretrained(run.output / "text_encoder", run.output / "tokenizer")
    assert encoder.dim == 32
    before = TextEncoder.from_pretrained(run.start / "text_encoder", run.start / "tokenizer")
    assert encoder.tokenizer.get_vocab() == before.tokenizer.get_vocab()


def test_a_resumed_distillation_gives_the_same_bits(run):
    distil_text(run, whole := Notes())
    stopped = replace(run, output=run.output.with_name("stopped"))
    first, rest = Notes(stop_after=2), Notes()
    distil_text(stopped, first, first.stop)
    assert not (stopped.output / "text_encoder").exists()
    distil_text(stopped, rest)
    assert {**first.losses, **rest.losses} == whole.losses
    assert same(*(torch.load(r.output / CHECKPOINT, weights_only=True) for r in (run, stopped)))


def test_a_target_is_the_mean_of_the_teachers_tokens_with_the_same_characters():
    spans = torch.tensor([[[0, 0], [0, 4], [4, 9], [9, 9]]])
    others = torch.tensor([[[0, 2], [2, 5], [5, 9], [0, 0]]])
    shared = overlaps(spans, others)
    assert shared.int().tolist() == [[[0, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]]
    states = torch.tensor([[[2.0], [4.0], [8.0], [99.0]]])
    assert mean_states(states, shared).flatten().tolist() == [0, 3, 6, 0]


def test_with_a_shared_tokenizer_targets_are_the_teachers_own_states(run):
    texts = ["ground-glass  opacity in the left lung", "no nuclei"]
    encoder = load_teacher(run.teacher)
    teacher = Teacher(encoder, texts, 96)
    tokens, offsets = tokenize_with_offsets(encoder.tokenizer, texts, 96)
    target, taught = teacher.states_at(texts, offsets)
    inner = tokens["attention_mask"].bool()
    inner[:, 0] = inner[torch.arange(2), tokens["attention_mask"].sum(1) - 1] = False
    assert torch.equal(taught, inner)  # [CLS], the state of the whole sentence, is never a target
    states = encoder(**tokens).states
    whole = states[tokens["attention_mask"].bool()]
    alone = (states - whole.mean(0)) / whole.std(0)
    one_to_one = (overlaps(offsets, offsets).sum(-1) == 1) & taught
    assert one_to_one.sum() > 8
    assert torch.allclose(target[one_to_one], alone[one_to_one], atol=1e-4)


def test_every_family_has_a_paraphrase_and_hard_negatives_with_one_difference():
    swapped = denied = 0
    for seed in range(200):
        members = family(np.random.default_rng(seed))
        base, paraphrase, turned, other, *rest = members
        assert paraphrase.meaning == base.meaning
        assert all(member.meaning != base.meaning for member in (turned, other, *rest))
        assert turned.denied is not base.denied
        assert (turned.finding, turned.side) == (base.finding, base.side)
        assert other.finding != base.finding
        for member in members:
            assert member.text[slice(*member.finding_span)] == member.word
            assert (member.side_span is None) == (not member.side)
            assert "{" not in member.text
            negated = any(f"{word} " in f"{member.text} ".lower() for word in ("no", "without"))
            assert negated == member.denied, member.text
        swapped += base.side in ("left", "right") and rest[0].text == swap_sides(base.text)
        denied += turned.text.endswith(base.text)
    assert swapped > 60
    assert denied > 60


def test_spans_of_a_batch_cover_the_intended_words(run):
    student = tiny_text_encoder()
    teacher = Teacher(load_teacher(run.teacher), ["left lung"], 96)
    batches = DistillationBatches(["left lung"] * 9, student.tokenizer, teacher, run)
    assert same(batches[3], batches[3])
    assert not same(batches[3], batches[4])
    batch = batches[3]
    members = [m for rng in [np.random.default_rng((run.seed, 3))] for _ in [rng.choice(9, 4, False)]
               for _ in range(run.families) for m in family(rng)]  # fmt: skip
    assert len(members) == len(batch["prompt_ids"])
    for row, member in enumerate(members):
        words = student.tokenizer.decode(batch["prompt_ids"][row][batch["finding_where"][row]]).split()
        assert " ".join(words) == " ".join(student.tokenizer.decode(student.tokenizer.encode(member.word, add_special_tokens=False)).split())  # fmt: skip # noqa: E501
        assert batch["side_where"][row].any() == (batch["side_meaning"][row] >= 0) == bool(member.side)
    equal = batch["prompt_meaning"][:, None] == batch["prompt_meaning"]
    assert equal.tolist() == [[a.meaning == b.meaning for b in members] for a in members]


def test_contrastive_loss_pulls_equal_meanings_together_and_separates_others():
    meaning = torch.tensor([0, 0, 1, 1, -1])
    together = functional.one_hot(torch.tensor([0, 0, 1, 1, 0]), 2).float()
    mixed = functional.one_hot(torch.tensor([0, 1, 0, 1, 0]), 2).float()
    assert contrastive_loss(together, meaning) < 0.01
    assert contrastive_loss(mixed, meaning) > 5
    alone = contrastive_loss(torch.eye(3, requires_grad=True), torch.arange(3))
    assert alone.item() == 0  # there are no pairs
    alone.backward()


def test_unusable_teachers_are_refused_in_one_line(run, tmp_path):
    with pytest.raises(ModelError) as caught:
        load_teacher(str(tmp_path / "nowhere"))
    one_line(caught, "nowhere")
    torch.save({"weight": torch.zeros(1)}, tmp_path / "teacher" / "pytorch_model.bin")
    (tmp_path / "teacher" / "model.safetensors").unlink()
    with pytest.raises(ModelError) as caught:  # only a pickle is left
        load_teacher(run.teacher)
    one_line(caught, "teacher")
    with pytest.raises(UsageError):
        distil_text(replace(run, text=tmp_path / "start" / "text_encoder"), Notes())
