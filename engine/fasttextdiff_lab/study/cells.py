"""Runs one cell: trains its system, segments the test images, and keeps masks and costs.

Knows the order of the steps and the files of a cell; other modules do each step.
"""

from __future__ import annotations

import os
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fasttextdiff.batch.folder import BatchFolder
from fasttextdiff.errors import FastTextDiffError, UsageError, one_line
from fasttextdiff.evaluation.datasets import Target
from fasttextdiff.evaluation.metrics import save_mask, shown
from fasttextdiff.model.allocator import keep_freed_memory
from fasttextdiff.model.fusion import foreground_logit
from fasttextdiff.model.pipeline import quiet_libraries
from fasttextdiff_lab.benchmarks.measuring import machine, versions
from fasttextdiff_lab.study.costs import Clock, PeakMemory, multiply_adds, parameters
from fasttextdiff_lab.study.definition import Cell, Study
from fasttextdiff_lab.study.denoisers import place_of
from fasttextdiff_lab.study.encoders import load_encoder
from fasttextdiff_lab.study.images import Batches, as_input, from_output, test_targets, training_set
from fasttextdiff_lab.study.systems.registry import build
from fasttextdiff_lab.study.systems.system import System
from fasttextdiff_lab.study.texts import chosen
from fasttextdiff_lab.study.training import Progress, Task, train
from fasttextdiff_lab.study.weak import weak_loss

MASKS, CHECKPOINTS = "masks", "checkpoints"
WEAK_STREAM = 1
"""Batches without masks are drawn apart, so that those with masks are the same with and without them."""
OUT_OF_MEMORY = ("not enough memory", "out of memory", "cannot allocate memory", "can't allocate memory")


@dataclass(frozen=True)
class Failed:
    """Why a cell has no result.

    Attributes:
        reason: in one line.
        details: the traceback.
    """

    reason: str
    details: str = ""


def failed(error: BaseException) -> Failed:
    """The reason of an exception; one of a lost worker says so."""
    details = "".join(traceback.format_exception(error))
    if isinstance(error, MemoryError) or any(words in str(error).lower() for words in OUT_OF_MEMORY):
        return Failed(f"out of memory: {one_line(error)}", details)
    if type(error).__name__ == "KilledWorker":
        return Failed("the worker process died again and again, perhaps because there was too little memory", details)
    known = isinstance(error, FastTextDiffError)
    return Failed(str(error) if known else f"internal error, {type(error).__name__}: {one_line(error)}", details)


def run_cell(study: Study, cell: Cell, folder: str, threads: int) -> Failed | None:
    """Run a cell and write its record; returns why it failed, if so.

    Args:
        study: the study.
        cell: the cell.
        folder: of the study, under the same path on all workers.
        threads: of this process.
    """
    quiet_libraries()
    keep_freed_memory()
    torch.set_num_threads(threads)
    try:
        _run(study, cell, Path(folder))
    except Exception as error:  # whatever happens in one cell, the others continue
        return failed(error)
    return None


def _run(study: Study, cell: Cell, folder: Path) -> None:
    memory = PeakMemory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    spec = study.systems[cell.system]
    encoder = load_encoder(study, spec.encoder, folder) if spec.encoder else None
    denoiser = dict(spec.parts).get("denoiser")
    system = build(spec, study.size, encoder, place_of(study, denoiser, folder) if denoiser else None, cell.seed)
    outputs = BatchFolder(folder / "cells")
    checkpoint = folder / CHECKPOINTS / f"{cell.name}.pt"
    checkpoint.parent.mkdir(exist_ok=True)
    progress = train(system, _task(study, cell, checkpoint), device)
    place = outputs.clean(cell.name)
    clock = Clock(system, study.size)
    for asked in study.asked_of(cell, encoder is not None):
        _segment(study, cell, clock, asked, place / MASKS / asked)
    outputs.finish(
        cell.name,
        {
            "cell": cell.name,
            "request": study.request(cell),
            "reads_text": encoder is not None,
            "steps": progress.steps,
            "resumed_at": progress.resumed,
            "train_s": progress.seconds,
            **_costs(system, study, cell, progress),
            **clock.medians(),
            **memory.megabytes(),
            "device": str(device),
            "machine": {**machine(), "load": _load()},
            "versions": versions(),
        },
    )
    checkpoint.unlink(missing_ok=True)


def _costs(system: System, study: Study, cell: Cell, progress: Progress) -> dict[str, Any]:
    text = test_targets(study.data[cell.data])[0].text
    return {**parameters(system), **multiply_adds(system, study.size, text), **progress.medians()}


def _task(study: Study, cell: Cell, checkpoint: Path) -> Task:
    learned, spec = training_set(study, cell), study.systems[cell.system]
    weak = [*learned.unlabelled, *learned.healthy] if spec.weak else []
    if not learned.labelled and not weak:
        raise UsageError("there is nothing to learn from: no labels, and no images with texts")
    labelled = Batches(learned.labelled, study.size, study.batch, cell.seed) if learned.labelled else None
    return Task(
        labelled=labelled,
        weak=Batches(weak, study.size, study.batch, cell.seed, WEAK_STREAM) if weak else None,
        weak_loss=weak_loss,
        budget=study.budget,
        learning_rate=study.learning_rate if spec.learning_rate is None else spec.learning_rate,
        seed=cell.seed,
        checkpoint=checkpoint,
        choices=study.request(cell),
    )


def _segment(study: Study, cell: Cell, clock: Clock, asked: str, folder: Path) -> None:
    """Masks of the test images for one kind of text, in every protocol."""
    targets = test_targets(study.data[cell.data])
    texts = chosen([target.text for target in targets], asked, 0)
    for target, text in zip(targets, texts, strict=True):
        for protocol in study.protocols:
            save_mask(folder / protocol, target, _mask(clock, target, text, protocol, study.size))


def _mask(clock: Clock, target: Target, text: str, protocol: str, size: int) -> NDArray[np.bool_]:
    """The mask (h, w) of a picture at the protocol's resolution.

    Raises:
        FastTextDiffError: the system's answer is not finite.
    """
    volume, truth = shown(target, protocol)
    image = as_input(np.asarray(volume.array[0], np.uint8), target.modality, size)
    odds = foreground_logit(clock.logits(image, text).float())[0].sigmoid().cpu().numpy()
    if not np.isfinite(odds).all():
        raise FastTextDiffError(f"the answer for {target.image.name} is not a finite number (NaN)")
    mask: NDArray[np.bool_] = from_output(odds, (truth.shape[0], truth.shape[1])) > 0.5
    return mask


def _load() -> float | None:
    """Processes that wanted to run in the last minute: times say little on a busy machine."""
    return round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None
