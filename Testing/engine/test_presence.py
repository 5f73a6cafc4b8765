"""The presence output is fitted to the head's logits, and nothing else in the head changes."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from tiny_models import compact_head

from fasttextdiff.model.fusion import FusionOutput
from fasttextdiff.training.presence import refit

BATCHES, PAIRS = 80, 16


@pytest.fixture
def head():
    return compact_head((48, 32, 24))


def answers(head, is_there, seed=0):
    """The head's output for random maps, with a truth of one pixel where `is_there` holds for the coarsest map."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(BATCHES):
        coarsest = torch.randn(PAIRS, 32, 4, 4, generator=generator)
        hidden = torch.randn(PAIRS, 8, 16, 16, generator=generator)
        truth = torch.zeros(PAIRS, 16, 16)
        truth[:, 3, 5] = is_there(coarsest, generator).float()
        with torch.no_grad():
            yield FusionOutput(torch.zeros(PAIRS, 1, 16, 16), head.presence(coarsest, hidden)), truth


def in_first_channel(coarsest, _):
    return coarsest[:, 0].mean((1, 2)) > 0


def by_chance(coarsest, generator):
    return torch.rand(len(coarsest), generator=generator) > 0.5


def test_presence_generalises_to_other_images_and_masks_do_not_change(head):
    old = copy.deepcopy(head)
    before, after = refit(head, answers(head, in_first_channel), seed=0)
    assert after < 0.6 * before
    changed = {n for n, w in head.state_dict().items() if not torch.equal(w, old.state_dict()[n])}
    assert changed == {n for n in head.state_dict() if n.startswith("presence_head.")}
    right = total = 0
    for output, truth in answers(head, in_first_channel, seed=1):
        there = truth.amax((1, 2)) > 0
        right += int(((output.presence > 0) == there).sum())
        total += len(there)
    assert right / total > 0.85


def test_the_same_seed_gives_the_same_weights(head):
    twin = copy.deepcopy(head)
    assert refit(head, answers(head, in_first_channel), 3) == refit(twin, answers(twin, in_first_channel), 3)
    assert all(torch.equal(w, twin.state_dict()[n]) for n, w in head.state_dict().items())


def test_without_a_signal_the_fit_does_not_get_worse(head):
    before, after = refit(head, answers(head, by_chance), seed=0)
    assert after <= before


def test_a_failed_fit_leaves_the_head_unchanged(head):
    def broken():
        yield from list(answers(head, in_first_channel))[:1]
        raise OSError("an image is gone")

    old = copy.deepcopy(head.state_dict())
    with pytest.raises(OSError, match="gone"):
        refit(head, broken(), seed=0)
    assert all(torch.equal(w, old[n]) for n, w in head.state_dict().items())
    pickle.dumps(head)  # no hook is left: it could not be stored
