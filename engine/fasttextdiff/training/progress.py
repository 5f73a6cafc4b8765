"""A progress bar with losses, a log file, TensorBoard curves, and a clean stop on Ctrl-C.

Knows nothing about what is trained.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from fasttextdiff.errors import FastTextDiffError, one_line

SMOOTHING = 0.98
LOG_EVERY = 20
LOG = "log.jsonl"
CURVES = "tensorboard"
SHOWN = ("loss", "dice")
"""Numbers of a step that the bar shows; the log has all."""
RATES = ("learning_rate", "text_learning_rate")
"""Numbers that are logged unchanged; all others are logged as running means."""
STOPPING = (signal.SIGINT, signal.SIGTERM)
"""Signals that end the run after a checkpoint."""


def log_line(output: Path, content: Mapping[str, Any]) -> None:
    """Append one line of JSON to the log of a run.

    Raises:
        FastTextDiffError: it cannot be written.
    """
    try:
        with (output / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(content) + "\n")
    except OSError as error:
        raise FastTextDiffError(f"the log {output / LOG} cannot be written: {one_line(error)}") from error


def is_first_process() -> bool:
    """Whether this is the only process, or the first one of `accelerate launch`."""
    return os.environ.get("RANK", "0") == "0"


class TrainingProgress:
    """Context manager whose :meth:`report` is called after every step; :meth:`stopped` is True after Ctrl-C.

    SIGTERM counts as Ctrl-C, because cluster schedulers send it before they end a job. Every 20 steps, a line of JSON
    with running means is appended to `log.jsonl` in the output folder; the numbers of every step go to `tensorboard/`.

    Args:
        name: shown before the bar.
        steps: steps of the whole run.
        output: folder of the run.
        shown: whether to show a bar; only the first of several processes does.
    """

    def __init__(self, name: str, steps: int, output: Path, *, shown: bool = True) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._output, self.step = output, 0
        self._means: dict[str, float] = {}
        self._stop = False
        self._curves: Any = None
        numbers = TextColumn("{task.fields[shown]}")
        columns = TextColumn(name), BarColumn(), MofNCompleteColumn(), numbers, TimeRemainingColumn()
        self._bar = Progress(*columns, disable=not shown)
        self._task = self._bar.add_task("train", total=steps, shown="")
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> TrainingProgress:
        self._previous = {number: signal.signal(number, self._on_interrupt) for number in STOPPING}
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        if self._curves is not None:
            self._curves.close()
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def report(self, step: int, numbers: dict[str, float]) -> None:
        """Show and log one step."""
        self.step = step
        there = {
            name: value for name, value in numbers.items() if value == value
        }  # a batch without findings has no Dice
        for name, value in there.items():
            old = value if name in RATES else self._means.get(name, value)
            self._means[name] = SMOOTHING * old + (1 - SMOOTHING) * value
        shown = "  ".join(f"{name} {self._means[name]:.3f}" for name in SHOWN if name in self._means)
        self._bar.update(self._task, completed=step, shown=shown)
        self._draw(step, there)
        if step % LOG_EVERY == 0:
            log_line(self._output, {"step": step, **{name: float(f"{v:.5g}") for name, v in self._means.items()}})

    def note(self, line: str) -> None:
        """Print a line above the bar."""
        self._bar.console.print(line, markup=False, highlight=False)

    def stopped(self) -> bool:
        """Whether a signal has requested a stop."""
        return self._stop

    def _draw(self, step: int, numbers: Mapping[str, float]) -> None:
        """Add a point to every curve; points of an interrupted run after its checkpoint are removed."""
        from torch.utils.tensorboard import SummaryWriter

        folder = self._output / CURVES
        try:
            if self._curves is None:
                self._curves = SummaryWriter(str(folder), purge_step=step)
            for name, value in numbers.items():
                self._curves.add_scalar(name, value, step)
        except OSError as error:
            raise FastTextDiffError(f"the curves in {folder} cannot be written: {one_line(error)}") from error

    def _on_interrupt(self, *_: object) -> None:
        """The first signal stops after the current step and a checkpoint, the second immediately."""
        if self._stop:
            raise KeyboardInterrupt
        self._stop = True
