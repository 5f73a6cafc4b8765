"""Refits the presence output of a finished model on the outputs of the rest of its head.

Knows a head and truths; knows nothing about their origin.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from fasttextdiff.model.fusion import FusionHead, FusionOutput

HELD_OUT = 0.15
"""Share of the pairs, at the end, that are held out to choose the epoch."""
EPOCHS = 60
BATCH = 256
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 0.01


def refit(head: FusionHead, answers: Iterable[tuple[FusionOutput, Tensor]], seed: int) -> tuple[float, float]:
    """Train only the presence layers, on inputs that are computed once.

    Args:
        head: changed in place; must have a presence output.
        answers: its outputs and the truth (N, H, W), 0 or 1, generated lazily.
        seed: seed of the order of pairs.

    Returns:
        Cross-entropy on held-out pairs, before and after; the layers are unchanged if it does not improve.
    """
    assert head.presence_head is not None
    evidence, there = _collected(head.presence_head, answers)
    first_held_out = round(len(there) * (1 - HELD_OUT))
    held_out = slice(first_held_out, None)
    layers = copy.deepcopy(head.presence_head).float()
    before = best = _cross_entropy(layers, evidence[held_out], there[held_out])
    optimizer = torch.optim.AdamW(layers.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(EPOCHS):
        for chosen in torch.randperm(first_held_out, generator=generator).split(BATCH):
            with torch.enable_grad():
                logits = layers(evidence[chosen]).squeeze(1)
                loss = functional.binary_cross_entropy_with_logits(logits, there[chosen])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        after = _cross_entropy(layers, evidence[held_out], there[held_out])
        if after < best:
            best = after
            head.presence_head.load_state_dict(layers.state_dict())
    return before, best


def _collected(layers: nn.Module, answers: Iterable[tuple[FusionOutput, Tensor]]) -> tuple[Tensor, Tensor]:
    """Inputs of the layers for each pair (N, channels), and whether the finding is there (N,)."""
    given: list[Tensor] = []
    hook = layers.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0].detach().float().cpu()))
    try:
        there = [(truth.amax((1, 2)) > 0).float() for _, truth in answers]
    finally:
        hook.remove()
    return torch.cat(given), torch.cat(there)


@torch.no_grad()
def _cross_entropy(layers: nn.Module, evidence: Tensor, there: Tensor) -> float:
    return float(functional.binary_cross_entropy_with_logits(layers(evidence).squeeze(1), there))
