"""Exports the model of an unfinished run: its EMA weights from the last checkpoint.

Knows checkpoints; does not train, and does not change the run's folder.
"""

from __future__ import annotations

from pathlib import Path

import torch

from fasttextdiff.errors import UsageError
from fasttextdiff.model.pipeline import FastTextDiffPipeline
from fasttextdiff.training.checkpoints import load_checkpoint
from fasttextdiff.training.compact import starting_model
from fasttextdiff.training.config import TrainingConfig
from fasttextdiff.training.loop import CHECKPOINT


def snapshot(config: TrainingConfig) -> tuple[FastTextDiffPipeline, int]:
    """The model with its EMA weights, not calibrated and without refitted presence, and the number of steps.

    Args:
        config: configuration of the run.

    Raises:
        UsageError: the run has no checkpoint.
        FastTextDiffError: the checkpoint does not fit the configuration.
    """
    from diffusers.training_utils import EMAModel

    path = config.output / CHECKPOINT
    if not path.is_file():
        raise UsageError(f"{config.output} has no checkpoint yet")
    pipeline = starting_model(config, {})
    average = EMAModel(pipeline.parameters())
    steps = load_checkpoint(path, ("model", pipeline), ("average", average))
    average.copy_to(pipeline.parameters())
    return pipeline.eval(), steps


def save_snapshot(config: TrainingConfig, folder: Path) -> int:
    """Write :func:`snapshot` as a model folder with float16 weights; returns the number of steps."""
    pipeline, steps = snapshot(config)
    pipeline.save_pretrained(folder, dtype=torch.float16)
    return steps
