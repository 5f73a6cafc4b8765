"""Runs the cells of a study that are not done yet, on Dask workers, and writes the report.

Knows the study's folder; knows nothing about networks. A cell is done when its record is written, so a study can be
killed at any time, and the same command resumes it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from fasttextdiff.batch.cluster import ClusterTasks, announce
from fasttextdiff.batch.events import Started
from fasttextdiff.batch.folder import BatchFolder
from fasttextdiff.batch.stopping import Stop
from fasttextdiff.errors import UsageError
from fasttextdiff.io.atomic import whole_files
from fasttextdiff.training.sole_run import sole_run
from fasttextdiff_lab.study import cells, denoisers, encoders
from fasttextdiff_lab.study.cells import Failed
from fasttextdiff_lab.study.definition import Cell, Study
from fasttextdiff_lab.study.parts import require_as_defined
from fasttextdiff_lab.study.report import write_report
from fasttextdiff_lab.study.systems.registry import check_systems

DEFINITION = "study.json"
LOSSES = 1
"""Times that a cell is run again after its worker was lost."""
Say = Callable[[str], None]


def run_study(
    study: Study,
    folder: Path,
    say: Say,
    *,
    workers: int = 1,
    scheduler: str | None = None,
    retry_failed: bool = False,
) -> dict[str, Any]:
    """Run a study, or resume it, and write `report.json`, `report.md` and `report.html`.

    Args:
        study: the study.
        folder: for all outputs; created if missing.
        say: called with one line for each event.
        workers: processes on this machine.
        scheduler: address of a Dask scheduler, instead of processes on this machine.
        retry_failed: whether to try cells again that failed in an earlier run.

    Returns:
        The content of `report.json`.

    Raises:
        UsageError: a system or an option is unknown, the folder belongs to something else or holds a part trained in
            another way, or a denoiser learns from evaluated pictures.
    """
    reads_text = check_systems(study)
    denoisers.require_unseen(study)
    grid, folder = study.cells(reads_text), folder.resolve()
    outputs = _begin(study, folder)
    with sole_run(folder):
        require_as_defined(study, folder)
        todo = [cell for cell in grid if _is_open(outputs, study, cell, retry_failed)]
        say(f"{len(grid)} cells, {len(grid) - len(todo)} of them done or failed before")
        if todo:
            with _scheduler(scheduler, workers) as place:
                _run(study, folder, todo, _Runs(place, workers, say))
        content = write_report(study, grid, reads_text, outputs, folder)
    say(f"wrote {folder / 'report.html'}")
    return content


def _begin(study: Study, folder: Path) -> BatchFolder:
    """The folder of the cells; the study's title guards against another study."""
    place = folder / DEFINITION
    if place.is_file():
        stored = json.loads(place.read_text(encoding="utf-8")).get("title")
        if stored != study.title:
            raise UsageError(f"{folder} holds the study '{stored}', not '{study.title}': choose another output folder")
    elif folder.is_dir() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty and holds no study: choose another output folder")
    outputs = BatchFolder(folder / "cells")
    with whole_files(place) as (temporary,):
        temporary.write_text(json.dumps({"title": study.title, "question": study.question}), encoding="utf-8")
    return outputs


def _is_open(outputs: BatchFolder, study: Study, cell: Cell, retry_failed: bool) -> bool:
    """Whether a cell must run.

    Raises:
        UsageError: it was done with other settings.
    """
    if outputs.record(cell.name, study.request(cell)) is not None:
        return False
    return retry_failed or outputs.failure(cell.name) is None


class _Runs:
    """Where tasks run, and what is done with their events.

    Args:
        place: scheduler's address or a local cluster.
        workers: number of processes that share this machine's cores.
        say: see :func:`run_study`.
    """

    def __init__(self, place: Any, workers: int, say: Say) -> None:
        self.place, self.say = place, say
        self.threads = max(1, (os.cpu_count() or 1) // workers)

    def results(self, work: Callable[..., Any], tasks: Mapping[str, Sequence[Any]]) -> Iterator[tuple[str, Any]]:
        """Name and value or exception of every task."""
        if not tasks:
            return
        for event in ClusterTasks(self.place, Stop()).results(work, tasks, gpu=False):
            if isinstance(event, Started):
                self.say(f"{event.name}: started")
            else:
                yield event


def _run(study: Study, folder: Path, todo: Sequence[Cell], runs: _Runs) -> None:
    """Train missing encoders and denoisers, then the cells; a cell whose part failed, fails with its reason."""
    needs = {cell: [" ".join(part) for part in study.systems[cell.system].parts] for cell in todo}
    missing = [part for part in dict.fromkeys(chain(*needs.values())) if not _is_ready(study, part, folder)]
    tasks = {part: (study, part, str(folder), runs.threads) for part in missing}
    broken = {part: why for part, end in runs.results(part_task, tasks) if (why := _why(end)) is not None}
    outputs = BatchFolder(folder / "cells")
    able = {}
    for cell in todo:
        part = next((part for part in needs[cell] if part in broken), None)
        if part is None:
            able[cell.name] = (study, cell, str(folder), runs.threads)
        else:
            _fail(outputs, cell.name, replace(broken[part], reason=f"{part}: {broken[part].reason}"), runs.say)
    for name, end in runs.results(cell_task, able):
        why = _why(end)
        if why is None:
            runs.say(f"{name}: done")
        else:
            _fail(outputs, name, why, runs.say)


def _is_ready(study: Study, part: str, folder: Path) -> bool:
    kind, name = part.split(" ")
    ready = encoders.is_ready if kind == "encoder" else denoisers.is_ready
    return ready(study, name, folder)


def _why(end: Any) -> Failed | None:
    """Why a task failed, from its value or exception."""
    return cells.failed(end) if isinstance(end, BaseException) else end


def _fail(outputs: BatchFolder, name: str, why: Failed, say: Say) -> None:
    outputs.fail(name, why.reason, why.details)
    say(f"{name}: failed, {why.reason}")


def cell_task(study: Study, cell: Cell, folder: str, threads: int, topic: str) -> Failed | None:
    """On a worker: run a cell."""
    announce(topic, cell.name)
    return cells.run_cell(study, cell, folder, threads)


def part_task(study: Study, part: str, folder: str, threads: int, topic: str) -> Failed | None:
    """On a worker: train an encoder or a denoiser."""
    announce(topic, part)
    kind, name = part.split(" ")
    try:
        train = encoders.train_encoder if kind == "encoder" else denoisers.train_denoiser
        train(study, name, Path(folder), threads)
    except Exception as error:
        return cells.failed(error)
    return None


@contextmanager
def _scheduler(address: str | None, workers: int) -> Iterator[Any]:
    """A scheduler: at an address, or with processes on this machine that end with this one."""
    if address is not None:
        yield address
        return
    try:
        import dask
        from dask.distributed import LocalCluster
    except ImportError:
        raise UsageError("a study needs Dask: pip install 'fasttextdiff[cluster]'") from None
    settings = {
        "distributed.scheduler.allowed-failures": LOSSES,
        "distributed.scheduler.worker-saturation": 1.0,  # so that a dying task takes no waiting one with it
        "distributed.worker.daemon": False,  # so that a worker may load pictures in a process of its own
    }
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=workers, threads_per_worker=1, memory_limit=None, dashboard_address=None, silence_logs=50
        ) as cluster,
    ):
        yield cluster
