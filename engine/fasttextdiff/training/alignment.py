"""Maps tokens to characters, so that states of two tokenizers, or of a phrase, can be compared.

Knows characters and tokens; knows nothing about their meaning.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fasttextdiff.model.info import normalise


def tokenize_with_offsets(tokenizer: Any, texts: Sequence[str], longest: int) -> tuple[dict[str, Tensor], Tensor]:
    """Tokens, and the characters of each token.

    Args:
        tokenizer: a fast tokenizer; slow ones do not give characters.
        texts: B texts, normalised as by :class:`~fasttextdiff.model.text_encoder.TextEncoder`.
        longest: maximum number of tokens of a text.

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
    """Whether ranges of characters (B, N, 2) and (B, M, 2) overlap: (B, N, M) bool; an empty range overlaps none."""
    start = torch.maximum(spans[:, :, None, 0], others[:, None, :, 0])
    end = torch.minimum(spans[:, :, None, 1], others[:, None, :, 1])
    return start < end


def mean_states(states: Tensor, chosen: Tensor) -> Tensor:
    """Mean of the chosen states, (B, M, D) and (B, N, M) to (B, N, D); zero if none is chosen."""
    weights = chosen.to(states.dtype)
    return (weights @ states) / weights.sum(-1, keepdim=True).clamp_min(1)
