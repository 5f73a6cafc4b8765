"""The denoisers of a study, pre-trained here on pictures without labels, or found. Knows folders only."""

from __future__ import annotations

from pathlib import Path

import torch

from fasttextdiff.errors import UsageError
from fasttextdiff.model.pipeline import quiet_libraries
from fasttextdiff.training.pretrain_denoiser import DenoiserPretraining, pretrain_denoiser
from fasttextdiff.training.pretraining import Schedule
from fasttextdiff_lab.study.definition import Study
from fasttextdiff_lab.study.systems.diffusion import COMPACT

FOLDER = "denoisers"
RATE = 4e-4


def place_of(study: Study, name: str, folder: Path) -> Path:
    """The folder of a denoiser: its own, or one in that of the study."""
    return study.denoisers[name].folder or folder / FOLDER / name


def is_ready(study: Study, name: str, folder: Path) -> bool:
    """Whether a denoiser is trained."""
    return study.denoisers[name].folder is not None or (place_of(study, name, folder) / "unet").is_dir()


def train_denoiser(study: Study, name: str, folder: Path, threads: int) -> None:
    """Pre-train a compact denoiser, or resume.

    Raises:
        UsageError: there are no usable pictures, or the size does not fit.
    """
    quiet_libraries()
    torch.set_num_threads(threads)
    spec = study.denoisers[name]
    if spec.images is None or spec.steps < 1:
        raise UsageError("it needs a folder of 'images' and a number of 'steps', or the 'folder' of a finished one")
    schedule = Schedule(spec.steps, RATE, warmup=min(100, spec.steps))
    run = DenoiserPretraining(
        spec.images, place_of(study, name, folder), model=COMPACT, schedule=schedule, size=spec.size, batch=spec.batch
    )
    pretrain_denoiser(run, lambda _step, _losses: None)
