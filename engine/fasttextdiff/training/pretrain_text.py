"""Masked-language pre-training of a compact text encoder on any text files (Devlin et al. 2019; ModernBERT: 30 %).

Knows text and tokens; knows nothing about findings, images or segmentation.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fasttextdiff.errors import UsageError
from fasttextdiff.text_encoder import TextEncoder
from fasttextdiff.training.checkpoints import load_checkpoint, save_checkpoint
from fasttextdiff.training.compact import build_modernbert
from fasttextdiff.training.config import CompactModelConfig
from fasttextdiff.training.text_probe import separability
from fasttextdiff.training.tokenizer import learned_tokenizer, read_texts

CHECKPOINT = "pretraining.pt"
SUMMARY = "pretraining.json"
MASKED = 0.3
"""Share of the tokens that are hidden and predicted."""
HELD_OUT_EVERY = 50
"""Every so manieth text is kept for measuring and never trained on."""
HELD_OUT_BATCHES = 16
NEIGHBOURS = 16
"""Batches are drawn from this many batches of texts of about the same length, so that little is padding."""

Report = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True)
class TextPretraining:
    """One run.

    Attributes:
        text: folder of .txt and .csv files.
        output: gets `text_encoder`, `tokenizer`, a checkpoint and a summary.
        start: model folder whose text encoder and tokenizer are trained further; None makes new ones.
        model: sizes of a new encoder, ignored with `start`.
        steps: optimiser steps.
        batch: texts a step.
        longest: tokens after which a text is cut into another.
        learning_rate: peak, AdamW.
        warmup: steps of linear warm-up; then the rate falls linearly to 0.
        seed: of weights, order and masks.
        checkpoint_every: steps between checkpoints.
    """

    text: Path
    output: Path
    start: Path | None = None
    model: CompactModelConfig = field(default_factory=CompactModelConfig)
    steps: int = 2000
    batch: int = 32
    longest: int = 96
    learning_rate: float = 6e-4
    warmup: int = 100
    seed: int = 0
    checkpoint_every: int = 200

    def rate_at(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        remaining = (self.steps - step) / max(1, self.steps - self.warmup)
        return self.learning_rate * min(1.0, (step + 1) / max(1, self.warmup), remaining)


def pretrain_text(run: TextPretraining, report: Report, stop: Callable[[], bool] = lambda: False) -> Path:
    """Train, or go on from the checkpoint in the output folder.

    Args:
        run: the run.
        report: called after every step with the number of steps done and the loss.
        stop: asked after every step; True saves a checkpoint and ends early.

    Returns:
        the output folder; its `text_encoder` and `tokenizer` are written when the run is complete.
    """
    from accelerate import Accelerator

    accelerator = Accelerator(mixed_precision="bf16", cpu=not torch.cuda.is_available())
    run.output.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(run)
    model = _masked_model(run, tokenizer).to(accelerator.device)
    optimizer = torch.optim.AdamW(model.parameters(), run.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    first = load_checkpoint(run.output / CHECKPOINT, ("model", model), ("optimizer", optimizer))
    learned, held_out = (cut_texts(part, tokenizer, run.longest) for part in split_texts(list(read_texts(run.text))))
    measured = MaskedBatches(held_out, tokenizer, replace(run, steps=HELD_OUT_BATCHES))
    if first == 0:
        _note(run.output / SUMMARY, before=_measure(model, tokenizer, measured))
    model, optimizer = accelerator.prepare(model, optimizer)
    loader = DataLoader(MaskedBatches(learned, tokenizer, run), batch_size=None, sampler=range(first, run.steps))
    for step, batch in enumerate(loader, start=first):
        report(step + 1, {"loss": _train_step(accelerator, model, optimizer, batch, run.rate_at(step))})
        stopping = stop()
        if stopping or (step + 1) % run.checkpoint_every == 0 or step + 1 == run.steps:
            bare = accelerator.unwrap_model(model)
            state = {"step": step + 1, "model": bare.state_dict(), "optimizer": optimizer.state_dict()}
            save_checkpoint(run.output / CHECKPOINT, state)
        if stopping:
            return run.output
    bare = accelerator.unwrap_model(model)
    bare.model.save_pretrained(run.output / "text_encoder")
    tokenizer.save_pretrained(run.output / "tokenizer")
    _note(run.output / SUMMARY, steps=run.steps, after=_measure(bare, tokenizer, measured))
    return run.output


def _train_step(accelerator: Any, model: Any, optimizer: Any, batch: dict[str, Tensor], rate: float) -> float:
    """One optimiser step; returns the loss before it."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    with accelerator.autocast():
        loss = model(**{name: ids.to(accelerator.device) for name, ids in batch.items()}).loss
    accelerator.backward(loss)
    accelerator.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return float(loss.item())


class MaskedBatches(Dataset[dict[str, Tensor]]):
    """Item `step` is that step's batch with some tokens hidden, the same for the same seed and step.

    Args:
        texts: token ids of each text, [CLS] and [SEP] included.
        tokenizer: knows the mask and pads.
        run: seed, batch and steps.
    """

    def __init__(self, texts: Sequence[list[int]], tokenizer: Any, run: TextPretraining) -> None:
        from transformers import DataCollatorForLanguageModeling

        self.texts, self.run = sorted(texts, key=len), run
        self.hide = DataCollatorForLanguageModeling(tokenizer, mlm_probability=MASKED)

    def __len__(self) -> int:
        return self.run.steps

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        """`input_ids`, `attention_mask` and `labels`, each (B, L); labels are -100 where nothing was hidden."""
        rng = np.random.default_rng((self.run.seed, step))
        count = min(self.run.batch, len(self.texts))
        near = min(NEIGHBOURS * count, len(self.texts))
        start = int(rng.integers(len(self.texts) - near + 1))
        chosen = start + rng.choice(near, size=count, replace=False)
        with torch.random.fork_rng(devices=[]):  # the collator draws from torch's own generator
            torch.manual_seed(int(rng.integers(2**31)))
            hidden: dict[str, Tensor] = dict(self.hide([{"input_ids": self.texts[n]} for n in chosen]))
        return hidden


def split_texts(texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """Texts to learn from, and the few that are held out; each is there once.

    Raises:
        UsageError: there are too few to hold any out.
    """
    different = list(dict.fromkeys(text for text in texts if text))
    held_out = different[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY]
    if not held_out:
        raise UsageError(f"{len(different)} texts are too few to learn from: at least {HELD_OUT_EVERY} are needed")
    held = set(held_out)
    return [text for text in different if text not in held], held_out


def cut_texts(texts: Sequence[str], tokenizer: Any, longest: int) -> list[list[int]]:
    """Token ids of every text; what is longer than `longest` tokens goes on in another one."""
    inner = longest - 2
    pieces = []
    for ids in tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False)["input_ids"]:
        pieces += [ids[start : start + inner] for start in range(0, len(ids), inner)]
    # a piece of a word or two has nothing around what is hidden
    return [[tokenizer.cls_token_id, *piece, tokenizer.sep_token_id] for piece in pieces if len(piece) >= 4]


@torch.no_grad()
def held_out_loss(model: Any, batches: MaskedBatches) -> float:
    """Mean cross-entropy of the hidden tokens (natural logarithm) over all batches."""
    model.eval()
    device = next(model.parameters()).device
    losses = [
        model(**{name: ids.to(device) for name, ids in batches[n].items()}).loss.item() for n in range(len(batches))
    ]
    model.train()
    return float(np.mean(losses))


def _measure(model: Any, tokenizer: Any, held_out: MaskedBatches) -> dict[str, float]:
    """What the summary says of an encoder."""
    return {"held_out_loss": held_out_loss(model, held_out), **separability(TextEncoder(model.model, tokenizer))}


def _tokenizer(run: TextPretraining) -> Any:
    from transformers import AutoTokenizer

    if run.start is not None:
        return AutoTokenizer.from_pretrained(run.start / "tokenizer")
    return learned_tokenizer(run.output / "tokenizer", run.text, run.model.vocabulary)


def _masked_model(run: TextPretraining, tokenizer: Any) -> Any:
    """A new encoder, or the one of `start`, with a head that predicts hidden tokens."""
    from transformers import ModernBertForMaskedLM

    torch.manual_seed(run.seed)
    if run.start is None:
        encoder = build_modernbert(run.model, tokenizer)
    else:
        encoder = TextEncoder.from_pretrained(run.start / "text_encoder", run.start / "tokenizer").model
    encoder.config.sparse_prediction = True  # logits of the hidden tokens only: a quarter less work
    model = ModernBertForMaskedLM(encoder.config)
    model.model.load_state_dict(encoder.state_dict())
    return model.train()


def _note(path: Path, **values: object) -> None:
    """Add values to the summary."""
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    path.write_text(json.dumps({**known, **values}, indent=1) + "\n", encoding="utf-8")
