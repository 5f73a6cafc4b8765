"""Distils a pretrained text encoder into a compact one, token by token, with hard negatives.

Sentence vectors are not used as targets, because in them left is close to right and no to yes. Knows text and tokens;
knows nothing about images or segmentation.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from fasttextdiff.errors import UsageError
from fasttextdiff.model.text_encoder import TextEncoder
from fasttextdiff.training.alignment import mean_states, overlaps, tokenize_with_offsets
from fasttextdiff.training.losses import contrastive_loss
from fasttextdiff.training.pretrain_text import save_encoder, split_texts
from fasttextdiff.training.pretraining import Pretraining, Report, Schedule, Tensors
from fasttextdiff.training.text_probe import separability
from fasttextdiff.training.tokenizer import read_texts
from fasttextdiff_lab.statements import Span, family

HELD_OUT_BATCHES = 8
SURVEYED = 256
"""Number of texts for the mean and standard deviation of the teacher's channels."""
CONTRASTED = ("prompt", "finding", "side")
"""Contrasted states: the means over a prompt, over the finding's words, and over the word for the side."""
CONTRAST_DIM = 64


@dataclass(frozen=True)
class TextDistillation:
    """One run.

    Attributes:
        text: folder of .txt and .csv files.
        teacher: folder or hub id of a pretrained encoder that `transformers.AutoModel` loads from safetensors.
        start: output folder of `pretrain-text`, or model folder, with the text encoder to train further.
        output: folder for `model.text_encoder`, `tokenizer`, a checkpoint and a summary.
        schedule: length and learning rate.
        batch: texts per step.
        families: prompts per step, each with its paraphrase and hard negatives.
        longest: maximum number of tokens of a text; the rest is not read.
        contrast: weight of the contrastive losses relative to the teacher's.
        seed: seed of projections, order and prompts.
    """

    text: Path
    teacher: str
    start: Path
    output: Path
    schedule: Schedule = field(default_factory=lambda: Schedule(2000, 4e-4))
    batch: int = 16
    families: int = 8
    longest: int = 96
    contrast: float = 0.3
    seed: int = 0


def distil_text(run: TextDistillation, report: Report, stop: Callable[[], bool] = lambda: False) -> Path:
    """Train, or resume from the checkpoint in the output folder.

    Args:
        run: the run.
        report: called after every step with the number of steps done and the losses.
        stop: called after every step; True saves a checkpoint and ends early.

    Returns:
        The output folder; `model.text_encoder` and `tokenizer` are written when the run is complete.

    Raises:
        ModelError: teacher or start cannot be loaded.
        UsageError: the teacher cannot be aligned, or there are too few texts.
    """
    student = TextEncoder.from_pretrained(run.start / "text_encoder", run.start / "tokenizer")
    learned, held_out = split_texts(list(read_texts(run.text)))
    teacher = Teacher(load_teacher(run.teacher), learned[:SURVEYED], run.longest)
    torch.manual_seed(run.seed)
    training = Pretraining(Distillation(student, teacher.encoder.dim, run.contrast), run.schedule, run.output)
    measured = DistillationBatches(held_out, student.tokenizer, teacher, run)
    if training.done == 0:
        training.note(teacher=separability(teacher.encoder), before=separability(student))
    if training.run(DistillationBatches(learned, student.tokenizer, teacher, run), report, stop):
        save_encoder(student.model, student.tokenizer, run.output)
        unexplained = training.mean_loss(measured, HELD_OUT_BATCHES, "teacher")
        training.note(steps=run.schedule.steps, held_out_unexplained=unexplained, after=separability(student))
    return run.output


def load_teacher(name_or_folder: str) -> TextEncoder:
    """A pretrained encoder, from safetensors and without custom code.

    Raises:
        ModelError: it cannot be loaded.
        UsageError: its tokenizer does not give the position of tokens, or it has a decoder.
    """
    encoder = TextEncoder.from_pretrained(name_or_folder)
    if not encoder.tokenizer.is_fast:
        raise UsageError(f"the tokenizer of {name_or_folder} does not give the position of tokens: choose a fast one")
    if getattr(encoder.model.config, "is_encoder_decoder", False):
        raise UsageError(f"{name_or_folder} has a decoder: choose an encoder such as BERT or ModernBERT")
    return encoder


class Teacher:
    """The frozen encoder: states of its tokens, with mean 0 and standard deviation 1 in every channel.

    Args:
        encoder: the pretrained encoder.
        texts: texts for mean and standard deviation.
        longest: maximum tokens of the student; the teacher gets twice as many if it can read them.
    """

    def __init__(self, encoder: TextEncoder, texts: Sequence[str], longest: int) -> None:
        self.encoder = encoder.to("cuda" if torch.cuda.is_available() else "cpu").eval().requires_grad_(False)
        positions = int(getattr(encoder.model.config, "max_position_embeddings", 512))
        self.longest = min(2 * longest, positions - 2)  # RoBERTa's first two positions are padding
        self.mean, self.spread = torch.zeros(1), torch.ones(1)
        states, mask, _ = self._states(texts)
        self.mean, self.spread = states[mask].mean(0), states[mask].std(0).clamp_min(1e-6)

    def states_at(self, texts: Sequence[str], spans: Tensor) -> tuple[Tensor, Tensor]:
        """Target states for the student's tokens.

        Args:
            texts: B texts.
            spans: (B, L, 2), characters of the student's tokens.

        Returns:
            (B, L, D) means of the states of all tokens that overlap the student's; (B, L) bool, False if none does.
        """
        states, _, offsets = self._states(texts)
        shared = overlaps(spans, offsets)
        return mean_states(states, shared), shared.any(-1)

    @torch.no_grad()
    def _states(self, texts: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
        tokens, offsets = tokenize_with_offsets(self.encoder.tokenizer, texts, self.longest)
        device = self.encoder.model.device
        states, mask = self.encoder(**{name: ids.to(device) for name, ids in tokens.items()})
        return (states.float().cpu() - self.mean) / self.spread, mask.cpu(), offsets


class DistillationBatches(Dataset[Tensors]):
    """Item `step` is the batch of that step; equal seed and step give equal batches.

    Args:
        texts: training texts.
        tokenizer: the student's.
        teacher: gives the target states.
        run: seed, sizes and steps.
    """

    def __init__(self, texts: Sequence[str], tokenizer: Any, teacher: Teacher, run: TextDistillation) -> None:
        self.texts, self.tokenizer, self.teacher, self.run = texts, tokenizer, teacher, run

    def __len__(self) -> int:
        return self.run.schedule.steps

    def __getitem__(self, step: int) -> Tensors:
        """Tokens, targets and their positions, for texts ("text_") and prompts ("prompt_"); meanings of prompts.

        Returns:
            For both parts `ids` and `mask` (B, L), `target` (B, L, D), `taught` (B, L) bool; for prompts, under the
            names in :data:`CONTRASTED`, `where` (B, L) bool and `meaning` (B,).
        """
        rng = np.random.default_rng((self.run.seed, step))
        chosen = rng.choice(len(self.texts), size=min(self.run.batch, len(self.texts)), replace=False)
        texts, _ = self._part("text", [self.texts[n] for n in chosen])
        return {**texts, **self._prompts(rng)}

    def _prompts(self, rng: Generator) -> Tensors:
        statements = [member for _ in range(self.run.families) for member in family(rng)]
        tensors, offsets = self._part("prompt", [statement.text for statement in statements])
        meaning = _numbered([statement.meaning for statement in statements])
        sides = [statement.side_span for statement in statements]
        side = _numbered([statement.side for statement in statements])
        tensors["prompt_meaning"] = tensors["finding_meaning"] = meaning
        tensors["side_meaning"] = side.masked_fill(torch.tensor([span is None for span in sides]), -1)
        tensors["prompt_where"] = tensors["prompt_mask"].bool()
        tensors["finding_where"] = _tokens_in([statement.finding_span for statement in statements], offsets)
        tensors["side_where"] = _tokens_in([span or (0, 0) for span in sides], offsets)
        return tensors

    def _part(self, part: str, texts: Sequence[str]) -> tuple[Tensors, Tensor]:
        tokens, offsets = tokenize_with_offsets(self.tokenizer, texts, self.run.longest)
        target, taught = self.teacher.states_at(texts, offsets)
        named = {"ids": tokens["input_ids"], "mask": tokens["attention_mask"], "target": target, "taught": taught}
        return {f"{part}_{name}": tensor for name, tensor in named.items()}, offsets


class Distillation(nn.Module):
    """A student with temporary linear maps to the teacher's states and to a space of meanings.

    Args:
        student: trained in place.
        teacher_dim: channels of the teacher.
        contrast: weight of the contrastive losses relative to the teacher's.
    """

    def __init__(self, student: TextEncoder, teacher_dim: int, contrast: float) -> None:
        super().__init__()
        self.student, self.contrast = student, contrast
        self.to_teacher = nn.Linear(student.dim, teacher_dim)
        self.to_meaning = nn.ModuleDict({name: nn.Linear(student.dim, CONTRAST_DIM) for name in CONTRASTED})

    def forward(self, **batch: Tensor) -> Tensors:
        """Losses of a batch of :class:`DistillationBatches`.

        Returns:
            "teacher", the unexplained share of the teacher's variance (1 explains nothing); "contrast", the mean of the
            contrastive losses; "loss", their weighted sum.
        """
        states = {part: self.student(batch[f"{part}_ids"], batch[f"{part}_mask"]).states for part in ("text", "prompt")}
        unexplained = [self._unexplained(states[part], batch, part) for part in states]
        teacher = torch.stack(unexplained).mean()
        contrast = torch.stack([self._contrast(states["prompt"], batch, name) for name in CONTRASTED]).mean()
        return {"loss": teacher + self.contrast * contrast, "teacher": teacher, "contrast": contrast}

    def _unexplained(self, states: Tensor, batch: Tensors, part: str) -> Tensor:
        taught = batch[f"{part}_taught"]
        return functional.mse_loss(self.to_teacher(states[taught]).float(), batch[f"{part}_target"][taught])

    def _contrast(self, states: Tensor, batch: Tensors, name: str) -> Tensor:
        phrases = mean_states(states, batch[f"{name}_where"][:, None])[:, 0]
        return contrastive_loss(self.to_meaning[name](phrases), batch[f"{name}_meaning"])


def _numbered(meanings: Sequence[Hashable]) -> Tensor:
    """Number the meanings; equal ones get equal numbers."""
    numbers = {meaning: number for number, meaning in enumerate(dict.fromkeys(meanings))}
    return torch.tensor([numbers[meaning] for meaning in meanings])


def _tokens_in(spans: Sequence[Span], offsets: Tensor) -> Tensor:
    """Which tokens overlap each text's span: (B, L) bool."""
    return overlaps(torch.tensor(spans)[:, None], offsets)[:, 0]
