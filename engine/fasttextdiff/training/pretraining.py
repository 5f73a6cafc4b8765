"""One optimisation run of a part of a model, for any loss: resumable, seeded, stoppable.

Knows optimisation and checkpoints; other modules make batches and losses.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from fasttextdiff.io.atomic import whole_files
from fasttextdiff.io.json_files import parse_json
from fasttextdiff.training.checkpoints import load_checkpoint, save_checkpoint
from fasttextdiff.training.precision import training_precision
from fasttextdiff.training.sole_run import sole_run

CHECKPOINT = "pretraining.pt"
SUMMARY = "pretraining.json"

Report = Callable[[int, dict[str, float]], None]
Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Schedule:
    """Length and learning rate of a run.

    Attributes:
        steps: optimiser steps.
        learning_rate: peak learning rate (AdamW).
        warmup: steps of linear warm-up; then the rate falls linearly to 0.
        checkpoint_every: steps between checkpoints.
    """

    steps: int
    learning_rate: float
    warmup: int = 100
    checkpoint_every: int = 200

    def rate_at(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        remaining = (self.steps - step) / max(1, self.steps - self.warmup)
        return self.learning_rate * min(1.0, (step + 1) / max(1, self.warmup), remaining)


class Pretraining:
    """A model, its optimiser and their state; resumes from the checkpoint in the output folder if there is one.

    Args:
        model: takes the tensors of a batch by name and returns losses by name; "loss" is minimised, the others are only
            for display.
        schedule: length and learning rate.
        output: folder of the checkpoint and the summary; created if missing.
        ema: decay of the EMA weights `average`; None without them.

    Raises:
        FastTextDiffError: the checkpoint is from another model.
    """

    def __init__(self, model: nn.Module, schedule: Schedule, output: Path, ema: float | None = None) -> None:
        from accelerate import Accelerator
        from diffusers.training_utils import EMAModel

        self.accelerator = Accelerator(mixed_precision=training_precision(), cpu=not torch.cuda.is_available())
        self.schedule, self.output = schedule, output
        output.mkdir(parents=True, exist_ok=True)
        model = model.to(self.accelerator.device).train()
        optimizer = torch.optim.AdamW(model.parameters(), schedule.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
        self._parts: dict[str, Any] = {"model": model, "optimizer": optimizer}
        self.average: Any = None
        if ema is not None:
            self.average = EMAModel(model.parameters(), decay=ema, use_ema_warmup=True, power=0.75)
            self._parts["average"] = self.average
        self.done = load_checkpoint(output / CHECKPOINT, *self._parts.items())
        if self.average is not None:
            self.average.to(self.accelerator.device)
        self.model, self._optimizer = self.accelerator.prepare(model, optimizer)

    def run(self, batches: Dataset[Tensors], report: Report, stop: Callable[[], bool], workers: int = 0) -> bool:
        """Train until the schedule ends or `stop` returns True; save a checkpoint in both cases.

        Args:
            batches: item `step` is the batch of that step.
            report: called after every step with the number of steps done and the losses before it.
            stop: called after every step.
            workers: processes that make batches; 0 makes them in this process.

        Returns:
            Whether the run is complete.

        Raises:
            UsageError: another process trains in the folder.
        """
        with sole_run(self.output):
            return self._run(batches, report, stop, workers)

    def _run(self, batches: Dataset[Tensors], report: Report, stop: Callable[[], bool], workers: int) -> bool:
        last = self.schedule.steps
        loader = DataLoader(batches, batch_size=None, sampler=range(self.done, last), num_workers=workers)
        for step, batch in enumerate(loader, start=self.done):
            report(step + 1, self._step(batch, self.schedule.rate_at(step)))
            self.done = step + 1
            stopping = stop() and self.done < last
            if stopping or self.done % self.schedule.checkpoint_every == 0 or self.done == last:
                states = {name: part.state_dict() for name, part in self._parts.items()}
                save_checkpoint(self.output / CHECKPOINT, {"step": self.done, **states})
            if stopping:
                return False
        return True

    def note(self, **values: object) -> None:
        """Add values to the summary."""
        path, known = self.output / SUMMARY, {}
        with suppress(OSError, ValueError, TypeError):  # it is missing, or was truncated by a crash
            known = dict(parse_json(path.read_text(encoding="utf-8")))
        with whole_files(path) as (temporary,):
            temporary.write_text(json.dumps({**known, **values}, indent=1) + "\n", encoding="utf-8")

    @torch.no_grad()
    def mean_loss(self, batches: Dataset[Tensors], count: int, name: str = "loss") -> float:
        """The mean of a loss over the first `count` batches, without training."""
        self.model.eval()
        losses = [float(self.model(**self._to_device(batches[n]))[name].item()) for n in range(count)]
        self.model.train()
        return sum(losses) / count

    def _to_device(self, batch: Tensors) -> Tensors:
        """The batch on the model's device."""
        return {name: tensor.to(self.accelerator.device) for name, tensor in batch.items()}

    def _step(self, batch: Tensors, rate: float) -> dict[str, float]:
        """Run one optimiser step; return the losses before it."""
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        losses = self.model(**self._to_device(batch))
        self.accelerator.backward(losses["loss"])
        self.accelerator.clip_grad_norm_(self.model.parameters(), 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.step(self.model.parameters())
        return {name: float(value.item()) for name, value in losses.items()}
