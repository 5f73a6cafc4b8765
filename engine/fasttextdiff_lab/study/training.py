"""Trains a system on the batches of a study, within its budget; resumes from its checkpoint.

Knows optimisation and time; knows nothing about data sets, grids or what a system is made of.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fasttextdiff.errors import FastTextDiffError
from fasttextdiff.training.checkpoints import load_checkpoint, save_checkpoint
from fasttextdiff.training.losses import segmentation_loss
from fasttextdiff_lab.study.definition import Budget
from fasttextdiff_lab.study.images import Batches, StudyBatch
from fasttextdiff_lab.study.systems.system import System

WARMUP = 0.03
"""Share of the budget over which the learning rate rises."""
COOLDOWN = 0.3
"""Share of the budget over which it falls linearly to 2 %, as in the engine's training."""
FINAL_SHARE = 0.02
CHECKPOINT_SECONDS = 60.0
"""Training seconds between checkpoints."""
WEIGHT_DECAY = 0.02
STEPS_TIMED = 2000
"""Number of the last steps whose times are kept."""

WeakLoss = Callable[[System, StudyBatch, torch.device], Tensor]


@dataclass
class Progress:
    """How far a training is.

    Attributes:
        steps: steps done.
        seconds: time of all steps on the wall clock, without checkpoints.
        wall: time of single steps.
        cpu: processor time of single steps, over all threads.
        loss: of the last step.
        resumed: steps done when this process took over; 0 if it began.
    """

    steps: int = 0
    seconds: float = 0.0
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    loss: float = float("nan")
    resumed: int = 0

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"seconds": self.seconds, "wall": self.wall, "cpu": self.cpu, "loss": self.loss}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From the checkpoint."""
        self.seconds, self.wall, self.cpu, self.loss = state["seconds"], state["wall"], state["cpu"], state["loss"]

    def share(self, budget: Budget) -> float:
        """The part of the budget that is used up, 0 to 1 or above."""
        return self.steps / budget.steps if budget.steps else self.seconds / budget.seconds

    def medians(self) -> dict[str, float]:
        """Seconds of a step; the first ones, which warm caches up, count like the others."""
        return {"step_s": statistics.median(self.wall), "step_cpu_s": statistics.median(self.cpu)}


@dataclass(frozen=True)
class Task:
    """One training.

    Attributes:
        labelled: batches with masks; None without any.
        weak: batches of images of which only the texts are known; None without any.
        weak_loss: their loss.
        budget: its end.
        learning_rate: peak.
        seed: of dropout.
        checkpoint: file.
        choices: settings that a checkpoint must have been made with.
    """

    labelled: Batches | None
    weak: Batches | None
    weak_loss: WeakLoss
    budget: Budget
    learning_rate: float
    seed: int
    checkpoint: Path
    choices: dict[str, Any]


class _Learned:
    """The state of a system without its frozen parameters, which are the same in every run."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.frozen = {name for name, one in system.named_parameters() if not one.requires_grad}

    def state_dict(self) -> dict[str, Tensor]:
        """Trained parameters and buffers."""
        return {name: one for name, one in self.system.state_dict().items() if name not in self.frozen}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """As stored."""
        whole = self.system.state_dict()
        self.system.load_state_dict({**whole, **state})


def train(system: System, task: Task, device: torch.device) -> Progress:
    """Train, or resume.

    Raises:
        FastTextDiffError: the loss or its gradient is not a finite number.
    """
    system.to(device).train()
    trained = [parameter for parameter in system.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, task.learning_rate, weight_decay=WEIGHT_DECAY)
    progress = Progress()
    parts: dict[str, Any] = {"system": _Learned(system), "optimiser": optimiser, "progress": progress}
    progress.steps = progress.resumed = load_checkpoint(task.checkpoint, *parts.items(), choices=task.choices)
    saved = progress.seconds
    while progress.share(task.budget) < 1:
        batches = [None if source is None else source(progress.steps) for source in (task.labelled, task.weak)]
        start, start_cpu = time.perf_counter(), time.process_time()
        progress.loss = _step(system, batches, task, optimiser, progress, device)
        progress.cpu = [*progress.cpu[-STEPS_TIMED:], time.process_time() - start_cpu]
        progress.wall = [*progress.wall[-STEPS_TIMED:], time.perf_counter() - start]
        progress.seconds += progress.wall[-1]
        progress.steps += 1
        if progress.seconds - saved > CHECKPOINT_SECONDS:
            saved = progress.seconds
            states = {name: part.state_dict() for name, part in parts.items()}
            save_checkpoint(task.checkpoint, {"step": progress.steps, "choices": task.choices, **states})
    system.eval()
    return progress


def _step(
    system: System,
    batches: list[StudyBatch | None],
    task: Task,
    optimiser: torch.optim.Optimizer,
    progress: Progress,
    device: torch.device,
) -> float:
    """One optimiser step; returns the loss."""
    torch.manual_seed(int(np.random.SeedSequence((task.seed, progress.steps)).generate_state(1)[0]))
    for group in optimiser.param_groups:
        group["lr"] = task.learning_rate * rate_factor(progress.share(task.budget))
    labelled, weak = batches
    losses = []
    if labelled is not None:
        losses.append(_mask_loss(system, labelled, device))
    if weak is not None:
        losses.append(task.weak_loss(system, weak, device))
    loss = torch.stack(losses).sum()
    value = float(loss.detach())
    _require_finite(value, progress.steps, task)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_([p for group in optimiser.param_groups for p in group["params"]], 1.0)
    _require_finite(float(norm), progress.steps, task)
    optimiser.step()
    return value


def _mask_loss(system: System, batch: StudyBatch, device: torch.device) -> Tensor:
    logits, own = system.learn(
        batch.images.to(device), on_device(system.words(batch.texts), device), batch.noise.to(device)
    )
    loss = segmentation_loss(logits, batch.masks.to(device))
    return loss if own is None else loss + own


def on_device(words: Any, device: torch.device) -> Any:
    """Token states on a device; None stays None."""
    return words if words is None else type(words)(*(None if part is None else part.to(device) for part in words))


def rate_factor(share: float) -> float:
    """The learning rate as a part of its peak when this share of the budget is used up."""
    return min(1.0, (share + 0.001) / WARMUP, max(FINAL_SHARE, (1 - share) / COOLDOWN))


def _require_finite(value: float, step: int, task: Task) -> None:
    if not np.isfinite(value):
        raise FastTextDiffError(
            f"in step {step + 1} the loss or its gradient is not a finite number (NaN), with a learning rate of "
            f"{task.learning_rate:g}: lower it for this system"
        )
