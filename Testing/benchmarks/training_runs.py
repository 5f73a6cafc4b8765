"""Trains a configuration to its end, for measurements that need several models."""

from __future__ import annotations

from fasttextdiff.training.config import TrainingConfig
from fasttextdiff.training.loop import train
from fasttextdiff.training.progress import TrainingProgress


def train_to_end(run: TrainingConfig) -> int:
    """Train, or resume from the checkpoint in the run's output folder.

    Returns:
        number of steps done in this call; 0 if the model was finished already.

    Raises:
        SystemExit: the run was asked to stop; a checkpoint is kept.
    """
    if (run.output / "model").is_dir():
        return 0
    done = 0
    with TrainingProgress(run.name, run.total_steps, run.output) as progress:

        def note(step: int, losses: dict[str, float]) -> None:
            nonlocal done
            done += 1
            progress.report(step, losses)

        train(run, note, progress.stopped)
    if progress.stopped():
        raise SystemExit(f"stopped; rerun the same command to resume from {run.output}")
    return done
