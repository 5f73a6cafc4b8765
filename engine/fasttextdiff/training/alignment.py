"""Which tokens stand where in a text, so that states of two tokenizers, or of a phrase, can be laid side by side.

Knows characters and tokens; knows nothing about what they mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fasttextdiff.model.info import normalise


def tokenize_with_offsets(tokenizer: Any, texts: Sequence[str], longest: int) -> tuple[dict[str, Tensor], Tensor]:
    """Tokens, and the characters that each stands for.

    Args:
        tokenizer: a fast one; slow ones do not know about characters.
        texts: B texts, normalised as a :class:`~fasttextdiff.model.text_encoder.TextEncoder` does.
        longest: tokens after which a text is cut.

    Returns:
        `input_ids` and `attention_mask`, (B, L); characters (first, last + 1) of the normalised text, (B, L, 2), an
        empty range for special tokens and padding.
    """
    batch = tokenizer(
        [normalise(text) for text in texts],
        padding=True,
        truncation=True,
        max_length=longest,
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
        return_tensors="pt",
    )
    offsets = batch["offset_mapping"].masked_fill(batch["special_tokens_mask"].bool()[..., None], 0)
    return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}, offsets


def overlaps(spans: Tensor, others: Tensor) -> Tensor:
    """Whether ranges of characters (B, N, 2) and (B, M, 2) share any: (B, N, M) bool; an empty range shares none."""
    start = torch.maximum(spans[:, :, None, 0], others[:, None, :, 0])
    end = torch.minimum(spans[:, :, None, 1], others[:, None, :, 1])
    return start < end


def mean_states(states: Tensor, chosen: Tensor) -> Tensor:
    """Mean of the chosen states, (B, M, D) and (B, N, M) to (B, N, D); zero where none is chosen."""
    weights = chosen.to(states.dtype)
    return (weights @ states) / weights.sum(-1, keepdim=True).clamp_min(1)
