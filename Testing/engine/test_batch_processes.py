"""The parent of a batch's worker processes: it survives workers that die, and waits for none that is busy."""

from __future__ import annotations

import functools
import multiprocessing
import os
from pathlib import Path

from batch_runs import PATIENCE

from fasttextdiff.batch.events import Outcome, Started
from fasttextdiff.batch.folder import Run
from fasttextdiff.batch.plan import Case
from fasttextdiff.batch.processes import LocalWorkers

RUN = Run("", "0" * 16, (".png",), "cpu", "float32", False, "2026-01-01T00:00:00+00:00")
NAMES = [f"ct-{n}" for n in range(8)]


def cases(files=0):
    """Cases whose series has so many files."""
    slices = tuple(Path(f"/archive/study/series/{'slice' * 8}-{n:05}.dcm") for n in range(files))
    return [Case(name, Path("/archive/study"), "", ("left lung",), files=slices) for name in NAMES]


def mortal(pipe, folder, run, threads):
    """The first worker dies after its first case, without an error of the case."""
    is_first = not (folder / "died").exists()
    (folder / "died").touch()
    while True:
        pipe.send(Outcome(pipe.recv().name))
        if is_first:
            return


def test_a_worker_that_dies_between_two_cases_costs_no_case(tmp_path):
    done = []
    for outcome in LocalWorkers(tmp_path, RUN, 1, serve=mortal).outcomes(cases()):
        if not done:
            multiprocessing.active_children()[0].join()  # the next case is handed to a worker that is gone
        done.append(outcome)
    assert sorted(outcome.name for outcome in done if not outcome.message) == NAMES


def busy(may_receive, pipe, folder, run, threads):
    """A worker that takes no case before the parent has heard it, as during the loading of a model."""
    pipe.send(Started("ct-0"))
    if not may_receive.wait(PATIENCE):
        os._exit(1)
    while True:
        pipe.send(Outcome(pipe.recv().name))


def test_the_parent_hears_a_worker_that_does_not_take_a_large_series_yet(tmp_path):
    may_receive = multiprocessing.get_context("spawn").Event()
    workers = LocalWorkers(tmp_path, RUN, 1, serve=functools.partial(busy, may_receive))
    heard = []
    for event in workers.outcomes(cases(files=5000)):
        may_receive.set()
        heard.append(event)
    assert [one.name for one in heard if isinstance(one, Outcome)] == NAMES


def test_a_stopped_batch_does_not_wait_for_a_worker_that_does_not_take_a_large_series(tmp_path):
    never = multiprocessing.get_context("spawn").Event()
    workers = LocalWorkers(tmp_path, RUN, 1, serve=functools.partial(busy, never))
    for _ in workers.outcomes(cases(files=5000)):
        workers.stop.set()
    assert not multiprocessing.active_children()
