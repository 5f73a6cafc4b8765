"""The denoisers of a study, pre-trained here on pictures without labels, or found.

Knows folders, and which pictures a denoiser may see: none that the study evaluates.
"""

from __future__ import annotations

from pathlib import Path

import torch

from fasttextdiff.errors import UsageError
from fasttextdiff.evaluation.datasets import excluded
from fasttextdiff.io.csv_tables import read_csv_table
from fasttextdiff.model.pipeline import quiet_libraries
from fasttextdiff.training.pictures import left_in, picture_files
from fasttextdiff.training.pretrain_denoiser import DenoiserPretraining, pretrain_denoiser
from fasttextdiff.training.pretraining import Schedule
from fasttextdiff_lab.study.definition import Denoiser, Study
from fasttextdiff_lab.study.images import test_targets
from fasttextdiff_lab.study.parts import FOLDERS, keep_definition
from fasttextdiff_lab.study.systems.diffusion import COMPACT

RATE = 4e-4


def place_of(study: Study, name: str, folder: Path) -> Path:
    """The folder of a denoiser: its own, or one in that of the study."""
    return study.denoisers[name].folder or folder / FOLDERS["denoiser"] / name


def is_ready(study: Study, name: str, folder: Path) -> bool:
    """Whether a denoiser is trained."""
    return study.denoisers[name].folder is not None or (place_of(study, name, folder) / "unet").is_dir()


def train_denoiser(study: Study, name: str, folder: Path, threads: int) -> None:
    """Pre-train a compact denoiser, or resume.

    Raises:
        UsageError: there are no usable pictures, the size does not fit, or the folder holds a denoiser trained in
            another way.
    """
    quiet_libraries()
    torch.set_num_threads(threads)
    spec, place = study.denoisers[name], place_of(study, name, folder)
    if spec.images is None or spec.steps < 1:
        raise UsageError("it needs a folder of 'images' and a number of 'steps', or the 'folder' of a finished one")
    keep_definition(place, spec)
    schedule = Schedule(spec.steps, RATE, warmup=min(100, spec.steps))
    run = DenoiserPretraining(
        spec.images,
        place,
        files=tuple(pictures_of(spec)),
        model=COMPACT,
        schedule=schedule,
        size=spec.size,
        batch=spec.batch,
    )
    pretrain_denoiser(run, lambda _step, _losses: None)


def pictures_of(spec: Denoiser) -> list[Path]:
    """The pictures that a denoiser is trained on.

    Raises:
        UsageError: its list cannot be read.
        FastTextDiffError: its table cannot be read or lacks a column.
    """
    files = [] if spec.images is None else picture_files(spec.images)
    if spec.table is not None:
        known = _training_names(spec.table)
        files = [file for file in files if file.name in known]
    if spec.exclude is not None:
        files = left_in(files, spec.exclude)
    return files


def _training_names(table: Path) -> set[str]:
    rows = read_csv_table(table, ("Image", "Split"))
    return {Path(cells["image"]).name for _, cells in rows if cells["split"] == "train"}


def require_unseen(study: Study) -> None:
    """Refuse a denoiser that learns from pictures on which the study measures, or from known copies of them.

    Raises:
        UsageError: one does.
    """
    trained = {name: spec for name, spec in study.denoisers.items() if spec.folder is None}
    if not trained:
        return
    evaluated = {target.image.resolve() for data in study.data.values() for target in test_targets(data)}
    copies = [(data.folder.resolve(), excluded(data.folder)) for data in study.data.values()]
    for name, spec in trained.items():
        seen = [
            file
            for file in pictures_of(spec)
            if (place := file.resolve()) in evaluated
            or any(file.stem in names and folder in place.parents for folder, names in copies)
        ]
        if seen:
            raise UsageError(
                f"the denoiser '{name}' learns from {len(seen)} pictures that are evaluated, or are copies of those, "
                f"e.g. {seen[0].name}: leave them out with 'table' or 'exclude'"
            )
