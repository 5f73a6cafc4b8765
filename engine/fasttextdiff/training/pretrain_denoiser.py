"""Pre-trains a denoiser on unlabelled images: predicts noise at random timesteps (Ho et al. 2020, algorithm 1).

Knows pictures, noise and networks; knows nothing about text, findings or masks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from fasttextdiff.errors import UsageError
from fasttextdiff.model.denoiser import FeatureDenoiser
from fasttextdiff.model.settings import FeaturePlan
from fasttextdiff.training.augment import augment
from fasttextdiff.training.batches import as_images
from fasttextdiff.training.compact import build_denoiser, read_denoiser
from fasttextdiff.training.config import CompactModelConfig
from fasttextdiff.training.losses import denoising_loss
from fasttextdiff.training.pictures import read_pictures
from fasttextdiff.training.pretraining import Pretraining, Report, Schedule, Tensors
from fasttextdiff.training.samples import Sample

HELD_OUT = 20
"""The last of this many parts is held out; it is contiguous, because neighbours are often of one patient."""
HELD_OUT_BATCHES = 8
MEASURED_SEED = 2**31
"""Seed of the held-out batches, whose views and noise are the same before and after, and differ from training."""


@dataclass(frozen=True)
class DenoiserPretraining:
    """One run.

    Attributes:
        images: folder of pictures and volumes, at any depth.
        output: folder for `unet`, `scheduler`, a checkpoint and a summary.
        start: folder with the `unet` and `scheduler` to train further (a model, or an output of this); None for a new
            denoiser.
        model: sizes of a new denoiser, ignored with `start`.
        schedule: length and learning rate.
        size: side of a training image in pixels.
        batch: images per step.
        ema: decay of the EMA weights that are saved.
        seed: seed of weights, order, views and noise.
    """

    images: Path
    output: Path
    start: Path | None = None
    model: CompactModelConfig = field(default_factory=CompactModelConfig)
    schedule: Schedule = field(default_factory=lambda: Schedule(5000, 4e-4))
    size: int = 128
    batch: int = 16
    ema: float = 0.999
    seed: int = 0
    files: tuple[Path, ...] | None = None


def pretrain_denoiser(
    run: DenoiserPretraining,
    report: Report,
    stop: Callable[[], bool] = lambda: False,
    note: Callable[[str], None] = lambda _: None,
) -> Path:
    """Train, or resume from the checkpoint in the output folder.

    Args:
        run: the run.
        report: called after every step with the number of steps done and the loss.
        stop: called after every step; True saves a checkpoint and ends early.
        note: called with one line for every skipped file, and with their number.

    Returns:
        The output folder; `unet` and `scheduler` are written when the run is complete.

    Raises:
        UsageError: there are no usable images, or the size does not fit the network.
        ModelError: `start` cannot be loaded.
    """
    model = NoisePrediction(_start(run))
    if run.size % model.denoiser.multiple:
        raise UsageError(f"the image side must be a multiple of {model.denoiser.multiple} pixels, not {run.size}")
    learned, held_out = _split(_read(run, note))
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    training = Pretraining(model, run.schedule, run.output, run.ema)
    timesteps = int(model.denoiser.scheduler.config.num_train_timesteps)
    measured = NoisedBatches(held_out, replace(run, seed=MEASURED_SEED), timesteps)
    if training.done == 0:
        training.note(before=training.mean_loss(measured, HELD_OUT_BATCHES))
    if training.run(NoisedBatches(learned, run, timesteps), report, stop, workers=1):
        training.average.copy_to(model.parameters())
        training.note(steps=run.schedule.steps, after=training.mean_loss(measured, HELD_OUT_BATCHES))
        model.denoiser.unet.save_pretrained(run.output / "unet")
        model.denoiser.scheduler.save_pretrained(run.output / "scheduler")
    return run.output


def _start(run: DenoiserPretraining) -> FeatureDenoiser:
    """A new denoiser, or that of `start`; its feature plan does not matter here."""
    if run.start is None:
        torch.manual_seed(run.seed)
        return build_denoiser(run.model)
    unet, scheduler = read_denoiser(run.start)
    patch_size = math.isqrt(unet.config.in_channels // 3)
    return FeatureDenoiser(unet, scheduler, FeaturePlan(timesteps=(0,), blocks=(0,), patch_size=patch_size))


class NoisePrediction(nn.Module):
    """A denoiser with its loss as the forward pass."""

    def __init__(self, denoiser: FeatureDenoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, images: Tensor, noise: Tensor, timesteps: Tensor) -> Tensors:
        """Mean squared error of the predicted noise, of a batch of :class:`NoisedBatches`."""
        noised = self.denoiser.add_noise(images, noise, timesteps)
        _, predicted = self.denoiser.run(noised, timesteps, full=True)
        assert predicted is not None
        return {"loss": denoising_loss(predicted, noise)}


class NoisedBatches(Dataset[Tensors]):
    """Item `step` is the batch of that step; equal seed and step give equal batches.

    Args:
        samples: pictures.
        run: seed, sizes and steps.
        timesteps: number of timesteps of the noise schedule.
    """

    def __init__(self, samples: Sequence[Sample], run: DenoiserPretraining, timesteps: int) -> None:
        self.samples, self.run, self.timesteps = samples, run, timesteps

    def __len__(self) -> int:
        return self.run.schedule.steps

    def __getitem__(self, step: int) -> Tensors:
        """`images` (B, 3, S, S) in [-1, 1], `noise` of the same shape, `timesteps` (B,) uniform in the schedule."""
        rng = np.random.default_rng((self.run.seed, step))
        images = as_images(
            [
                augment(self.samples[int(rng.integers(len(self.samples)))], self.run.size, rng).image
                for _ in range(self.run.batch)
            ]
        )
        noise = torch.from_numpy(rng.standard_normal(images.shape, dtype=np.float32))
        drawn = torch.from_numpy(rng.integers(0, self.timesteps, len(images)))
        return {"images": images, "noise": noise, "timesteps": drawn}


def _read(run: DenoiserPretraining, note: Callable[[str], None]) -> list[Sample]:
    found = read_pictures(run.images, run.size, run.files)
    for line in found.skipped:
        note(f"skipped {line}")
    if found.skipped:
        note(f"{len(found.skipped)} of {found.files + len(found.skipped)} files skipped")
    return found.samples


def _split(samples: Sequence[Sample]) -> tuple[list[Sample], list[Sample]]:
    """Training and held-out pictures.

    Raises:
        UsageError: there are too few to hold any out.
    """
    count = len(samples) // HELD_OUT
    if count == 0:
        raise UsageError(f"{len(samples)} pictures are too few: at least {HELD_OUT} are needed")
    return list(samples[:-count]), list(samples[-count:])
