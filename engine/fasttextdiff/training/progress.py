"""A progress bar with losses for a training run, a log file, and Ctrl-C as a wish to stop.

Knows nothing about what is trained.
"""

from __future__ import annotations

import json
import signal
from pathlib import Path
from types import TracebackType
from typing import Any

SMOOTHING = 0.98
LOG_EVERY = 20
SHOWN = ("loss", "dice")
"""What the bar shows of a step's numbers; the log has all."""


class TrainingProgress:
    """Context manager whose :meth:`report` is called after every step and whose :meth:`stopped` tells of Ctrl-C.

    A line of JSON is added to `log.jsonl` in the output folder every 20 steps, with running means.
    """

    def __init__(self, name: str, steps: int, output: Path) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._output, self.step = output, 0
        self._means: dict[str, float] = {}
        self._stop = False
        shown = TextColumn("{task.fields[shown]}")
        self._bar = Progress(TextColumn(name), BarColumn(), MofNCompleteColumn(), shown, TimeRemainingColumn())
        self._task = self._bar.add_task("train", total=steps, shown="")
        self._previous: Any = None

    def __enter__(self) -> TrainingProgress:
        self._previous = signal.signal(signal.SIGINT, self._on_interrupt)
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        signal.signal(signal.SIGINT, self._previous)

    def report(self, step: int, losses: dict[str, float]) -> None:
        """Show and log one step."""
        self.step = step
        for name, value in losses.items():
            if value == value:  # the Dice of a batch in which nothing is there is NaN
                self._means[name] = SMOOTHING * self._means.get(name, value) + (1 - SMOOTHING) * value
        shown = "  ".join(f"{name} {self._means[name]:.3f}" for name in SHOWN if name in self._means)
        self._bar.update(self._task, completed=step, shown=shown)
        if step % LOG_EVERY == 0:
            with (self._output / "log.jsonl").open("a", encoding="utf-8") as file:
                rounded = {name: round(value, 5) for name, value in self._means.items()}
                file.write(json.dumps({"step": step, **rounded}) + "\n")

    def stopped(self) -> bool:
        """Whether Ctrl-C was pressed."""
        return self._stop

    def _on_interrupt(self, *_: object) -> None:
        """The first Ctrl-C lets the step finish and be saved; the second stops at once."""
        if self._stop:
            raise KeyboardInterrupt
        self._stop = True
