"""Pre-trains a compact text encoder by masked-language modelling (Devlin et al. 2019; 30 % masked, as in ModernBERT).

Knows text and tokens; knows nothing about findings, images or segmentation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from fasttextdiff.errors import UsageError
from fasttextdiff.model.text_encoder import TextEncoder
from fasttextdiff.training.compact import build_modernbert
from fasttextdiff.training.config import CompactModelConfig
from fasttextdiff.training.pretraining import Pretraining, Report, Schedule, Tensors
from fasttextdiff.training.text_probe import separability
from fasttextdiff.training.tokenizer import learned_tokenizer, read_texts

MASKED = 0.3
"""Share of tokens that are masked and predicted."""
HELD_OUT_EVERY = 50
"""Every N-th text is held out for measuring."""
HELD_OUT_BATCHES = 16
NEIGHBOURS = 16
"""Texts of this many batches are sorted by length, so that there is little padding."""


@dataclass(frozen=True)
class TextPretraining:
    """One run.

    Attributes:
        text: folder of .txt and .csv files.
        output: folder for `model.text_encoder`, `tokenizer`, a checkpoint and a summary.
        start: model folder whose text encoder and tokenizer to train further; None for new ones.
        model: sizes of a new encoder, ignored with `start`.
        schedule: length and learning rate.
        batch: texts per step.
        longest: maximum number of tokens of a text; longer texts are split.
        seed: seed of weights, order and masks.
    """

    text: Path
    output: Path
    start: Path | None = None
    model: CompactModelConfig = field(default_factory=CompactModelConfig)
    schedule: Schedule = field(default_factory=lambda: Schedule(2000, 6e-4))
    batch: int = 32
    longest: int = 96
    seed: int = 0


def pretrain_text(run: TextPretraining, report: Report, stop: Callable[[], bool] = lambda: False) -> Path:
    """Train, or resume from the checkpoint in the output folder.

    Args:
        run: the run.
        report: called after every step with the number of steps done and the loss.
        stop: called after every step; True saves a checkpoint and ends early.

    Returns:
        The output folder; `model.text_encoder` and `tokenizer` are written when the run is complete.
    """
    run.output.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(run)
    model = MaskedWords(_start_encoder(run, tokenizer), tokenizer)
    learned, held_out = (cut_texts(part, tokenizer, run.longest) for part in split_texts(list(read_texts(run.text))))
    training = Pretraining(model, run.schedule, run.output)
    measured = MaskedBatches(held_out, tokenizer, run)
    if training.done == 0:
        training.note(before=_measure(training, model, tokenizer, measured))
    if training.run(MaskedBatches(learned, tokenizer, run), report, stop):
        save_encoder(model.encoder, tokenizer, run.output)
        training.note(steps=run.schedule.steps, after=_measure(training, model, tokenizer, measured))
    return run.output


class MaskedWords(nn.Module):
    """An encoder with a temporary head that predicts masked tokens.

    Args:
        encoder: `transformers.ModernBertModel`.
        tokenizer: its tokenizer.
    """

    def __init__(self, encoder: Any, tokenizer: Any) -> None:
        from transformers import ModernBertForMaskedLM

        super().__init__()
        encoder.config.sparse_prediction = True  # logits of masked tokens only, which saves a quarter of the work
        self.masked_model = ModernBertForMaskedLM(encoder.config)
        self.masked_model.model.load_state_dict(encoder.state_dict())

    @property
    def encoder(self) -> Any:
        """The encoder without the head."""
        return self.masked_model.model

    def forward(self, **batch: Tensor) -> Tensors:
        """Cross-entropy (natural logarithm) of the masked tokens in a batch of :class:`MaskedBatches`."""
        return {"loss": self.masked_model(**batch).loss}


def save_encoder(encoder: Any, tokenizer: Any, folder: Path) -> None:
    """Write `model.text_encoder` and `tokenizer`, for `text_encoder:` in a training configuration."""
    encoder.save_pretrained(folder / "text_encoder")
    tokenizer.save_pretrained(folder / "tokenizer")


class MaskedBatches(Dataset[dict[str, Tensor]]):
    """Item `step` is the batch of that step with masked tokens; equal seed and step give equal batches.

    Args:
        texts: token ids of each text, including [CLS] and [SEP].
        tokenizer: masks and pads.
        run: seed, batch and steps.
    """

    def __init__(self, texts: Sequence[list[int]], tokenizer: Any, run: TextPretraining) -> None:
        from transformers import DataCollatorForLanguageModeling

        self.texts, self.run = sorted(texts, key=len), run
        self.hide = DataCollatorForLanguageModeling(tokenizer, mlm_probability=MASKED)

    def __len__(self) -> int:
        return self.run.schedule.steps

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        """`input_ids`, `attention_mask` and `labels`, each (B, L); labels are -100 where nothing was masked."""
        rng = np.random.default_rng((self.run.seed, step))
        count = min(self.run.batch, len(self.texts))
        near = min(NEIGHBOURS * count, len(self.texts))
        start = int(rng.integers(len(self.texts) - near + 1))
        chosen = start + rng.choice(near, size=count, replace=False)
        with torch.random.fork_rng(devices=[]):  # the collator uses torch's global generator
            torch.manual_seed(int(rng.integers(2**31)))
            hidden: dict[str, Tensor] = dict(self.hide([{"input_ids": self.texts[n]} for n in chosen]))
        return hidden


def split_texts(texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """Training and held-out texts, each once.

    Raises:
        UsageError: there are too few to hold any out.
    """
    different = list(dict.fromkeys(text for text in texts if text))
    held_out = different[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY]
    if not held_out:
        raise UsageError(f"{len(different)} texts are too few: at least {HELD_OUT_EVERY} are needed")
    held = set(held_out)
    return [text for text in different if text not in held], held_out


def cut_texts(texts: Sequence[str], tokenizer: Any, longest: int) -> list[list[int]]:
    """Token ids of every text; texts longer than `longest` tokens are split."""
    inner = longest - 2
    pieces = []
    for ids in tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False)["input_ids"]:
        pieces += [ids[start : start + inner] for start in range(0, len(ids), inner)]
    # a piece of one or two words has no context for the masked tokens
    return [[tokenizer.cls_token_id, *piece, tokenizer.sep_token_id] for piece in pieces if len(piece) >= 4]


def _measure(training: Pretraining, model: MaskedWords, tokenizer: Any, held_out: MaskedBatches) -> dict[str, Any]:
    """Measures an encoder for the summary."""
    loss = training.mean_loss(held_out, HELD_OUT_BATCHES)
    return {"held_out_loss": loss, "probe": separability(TextEncoder(model.encoder, tokenizer))}


def _tokenizer(run: TextPretraining) -> Any:
    from transformers import AutoTokenizer

    if run.start is not None:
        return AutoTokenizer.from_pretrained(run.start / "tokenizer")
    return learned_tokenizer(run.output / "tokenizer", run.text, run.model.vocabulary)


def _start_encoder(run: TextPretraining, tokenizer: Any) -> Any:
    """A new encoder, or that of `start`."""
    torch.manual_seed(run.seed)
    if run.start is None:
        return build_modernbert(run.model, tokenizer)
    return TextEncoder.from_pretrained(run.start / "text_encoder", run.start / "tokenizer").model
