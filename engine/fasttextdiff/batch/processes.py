"""Worker processes on this machine: one warm model each, reading, inference and writing overlapping.

Knows processes and who works on what; the work itself is `work`'s. A worker that dies takes nothing with it but time.
"""

from __future__ import annotations

import errno
import multiprocessing
import os
import platform
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from queue import Queue
from typing import Any, NoReturn

import torch

from fasttextdiff.batch import work
from fasttextdiff.batch.events import Outcome, Started, Timing
from fasttextdiff.batch.folder import BatchFolder, Run
from fasttextdiff.batch.plan import Case, without_names
from fasttextdiff.batch.stopping import Stop
from fasttextdiff.errors import FastTextDiffError, one_line
from fasttextdiff.image.volume import Volume
from fasttextdiff.model.allocator import keep_freed_memory
from fasttextdiff.result import SegmentationResult
from fasttextdiff.segmenter import Segmenter

AHEAD = 3
"""Cases that a worker holds at once: one being read, one in the model, one being written."""
ATTEMPTS = 2
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
"""Errors of the output folder that no other case would escape."""


@dataclass
class _Worker:
    process: Any
    pipe: Connection
    cases: list[Case] = field(default_factory=list)


class LocalWorkers:
    """Runs cases in processes of their own.

    Args:
        folder: of the outputs.
        run: what all cases have in common.
        count: worker processes.
        serve: what a worker process runs; tests give another one.
        stop: ends the work early.
    """

    def __init__(
        self, folder: Path, run: Run, count: int, serve: Callable[..., None] | None = None, stop: Stop | None = None
    ) -> None:
        self.folder, self.run, self.count = folder, run, count
        self.serve = serve or serve_cases
        self.stop = stop or Stop()
        self._workers: list[_Worker] = []

    def outcomes(self, cases: Sequence[Case]) -> Iterator[Started | Outcome]:
        """Work on all cases, and report each when it begins, and when it is done or has failed for good.

        Ends early when `stop` is set. Closing the iterator early, too, kills the workers and takes away what they were
        at; it is begun anew the next time.

        Raises:
            FastTextDiffError: the model cannot be loaded.
        """
        waiting = deque(cases)
        attempts = dict.fromkeys((case.name for case in cases), 0)
        suspects: set[str] = set()  # a worker died with them: they go one by one, so that the culprit is found
        try:
            while (waiting or any(worker.cases for worker in self._workers)) and not self.stop.is_set():
                self._hand_out(waiting, suspects)
                for worker in self._ready():
                    told = self._receive(worker)
                    if isinstance(told, Started):
                        yield told
                        continue
                    if told is None:
                        suspects.update(case.name for case in worker.cases)
                        waiting.extendleft(reversed(worker.cases))
                        continue
                    case, outcome = told
                    attempts[case.name] += 1
                    if outcome.message and not outcome.hopeless and attempts[case.name] < ATTEMPTS:
                        waiting.append(case)
                    else:
                        yield outcome
        finally:
            self._stop()

    def _hand_out(self, waiting: deque[Case], suspects: set[str]) -> None:
        """Give idle hands work: a suspect only to a worker that has nothing else."""
        while waiting and len(self._workers) < min(self.count, len(waiting)):
            self._workers.append(self._started())
        for worker in self._workers:
            while waiting and self._may_take(worker, waiting[0], suspects):
                case = waiting.popleft()
                worker.cases.append(case)
                worker.pipe.send(case)

    @staticmethod
    def _may_take(worker: _Worker, case: Case, suspects: set[str]) -> bool:
        careful = case.name in suspects or any(held.name in suspects for held in worker.cases)
        return len(worker.cases) < (1 if careful else AHEAD)

    def _started(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        threads = max(1, (os.cpu_count() or 1) // self.count)
        process = context.Process(target=self.serve, args=(theirs, self.folder, self.run, threads), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours)

    def _ready(self) -> list[_Worker]:
        """Workers that said something or died; none if it is wished to stop."""
        heard = wait_for([self.stop.connection, *(worker.pipe for worker in self._workers)])
        return [] if self.stop.is_set() else [worker for worker in self._workers if worker.pipe in heard]

    def _receive(self, worker: _Worker) -> Started | tuple[Case, Outcome] | None:
        """What a worker has to say of one of its cases; None if it is dead and the case at fault is unknown."""
        try:
            told: Started | Outcome | str = worker.pipe.recv()
        except (EOFError, OSError):
            return self._bury(worker)
        if isinstance(told, str):
            raise FastTextDiffError(told)
        if isinstance(told, Started):
            return told
        case = next(case for case in worker.cases if case.name == told.name)
        worker.cases.remove(case)
        return case, told

    def _bury(self, worker: _Worker) -> tuple[Case, Outcome] | None:
        """Give a dead worker up; if it held a single case, that one is to blame. None if that is unknown."""
        worker.process.join()
        self._workers.remove(worker)
        if len(worker.cases) != 1:
            return None
        code = worker.process.exitcode
        message = f"the worker process died (exit code {code}), perhaps because there was too little memory"
        return worker.cases[0], Outcome(worker.cases[0].name, message)

    def _stop(self) -> None:
        outputs = BatchFolder(self.folder)
        for worker in self._workers:
            worker.pipe.close()
            worker.process.kill()
            worker.process.join()
            for case in worker.cases:
                outputs.discard(case.name)
        self._workers.clear()


@dataclass
class _Job:
    """A case on its way through the three steps."""

    case: Case
    value: Any = None
    begun: float = field(default_factory=time.time)
    steps: list[tuple[float, float]] = field(default_factory=list)
    error: BaseException | None = None

    def step(self, work: Callable[[Case, Any], Any]) -> _Job:
        """Do the next step with what the one before left, unless that failed."""
        start = time.perf_counter()
        if self.error is None:
            try:
                self.value = work(self.case, self.value)
            except Exception as error:
                self.value, self.error = None, error
        self.steps.append((start, time.perf_counter()))
        return self

    def outcome(self) -> Outcome:
        read, infer, write = (end - start for start, end in self.steps)
        wait = self.steps[-1][1] - self.steps[0][0] - read - infer - write
        timing = Timing(read, infer, write, wait, self.begun, f"{platform.node()}-{os.getpid()}")
        if self.error is None:
            return Outcome(self.case.name, timing=timing)
        return replace(failure(self.case, self.error), timing=timing)


def failure(case: Case, error: BaseException) -> Outcome:
    """The outcome of a case that an exception ended, without the names of its files, which may identify the patient."""
    known = isinstance(error, FastTextDiffError)
    message = str(error) if known else f"internal error, {_line(error)}"
    details = "\n".join(_part(one) for one in _chain(error))
    cause = error if isinstance(error, OSError) else error.__cause__
    hopeless = isinstance(cause, OSError) and cause.errno in FULL
    return Outcome(case.name, without_names(message, case), without_names(details, case), hopeless)


def _chain(error: BaseException) -> list[BaseException]:
    """An exception after those that led to it."""
    chain = [error]
    while (before := chain[-1].__cause__ or chain[-1].__context__) is not None and before not in chain:
        chain.append(before)
    return chain[::-1]


def _part(error: BaseException) -> str:
    return "".join(traceback.format_tb(error.__traceback__)) + _line(error) + "\n"


def _line(error: BaseException) -> str:
    """Type and message; without the message where it may quote the header, which names the patient."""
    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    if any(name in Path(file).parts for file in files for name in ("pydicom", "highdicom")):
        return type(error).__name__
    return f"{type(error).__name__}: {one_line(error)}"


class _Steps:
    """Reading, inference and writing of one case each, as :class:`_Job` takes them."""

    def __init__(self, run: Run, outputs: BatchFolder, segmenter: Segmenter) -> None:
        self.run, self.outputs, self.segmenter = run, outputs, segmenter

    def read(self, case: Case, _: None) -> Volume:
        return work.read_case(case)

    def infer(self, case: Case, volume: Volume) -> SegmentationResult:
        return work.segment_case(self.segmenter, volume, case, self.run)

    def write(self, case: Case, result: SegmentationResult) -> None:
        work.write_case(result, case, self.run, self.outputs)


def in_three_steps(case: Case, run: Run, segmenter: Segmenter, outputs: BatchFolder) -> Outcome:
    """One case from file to record."""
    steps = _Steps(run, outputs, segmenter)
    return _Job(case).step(steps.read).step(steps.infer).step(steps.write).outcome()


def serve_cases(pipe: Connection, folder: Path, run: Run, threads: int) -> None:
    """A worker process: cases come through the pipe, outcomes go back; reading and writing have their own threads."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent decides
    _die_with_the_parent()
    torch.set_num_threads(threads)
    keep_freed_memory()
    try:
        steps = _Steps(run, BatchFolder(folder), work.load_segmenter(run))
    except FastTextDiffError as error:
        pipe.send(str(error))
        return
    _Belt(pipe, steps).run()


class _Belt:
    """Cases on their way through the steps of one worker, each step in a thread of its own."""

    def __init__(self, pipe: Connection, steps: _Steps) -> None:
        self._pipe, self._steps = pipe, steps
        self._telling = threading.Lock()
        self._read: Queue[_Job] = Queue(1)
        self._segmented: Queue[_Job] = Queue(1)

    def run(self) -> NoReturn:
        for target in (self._reading, self._writing):
            threading.Thread(target=target, daemon=True).start()
        while True:
            self._segmented.put(self._read.get().step(self._steps.infer))

    def _reading(self) -> None:
        while True:
            try:
                case = self._pipe.recv()
            except (EOFError, OSError):
                os._exit(0)  # the parent is gone: what is begun here will be begun anew
            self._tell(Started(case.name))
            self._read.put(_Job(case).step(self._steps.read))

    def _writing(self) -> None:
        while True:
            self._tell(self._segmented.get().step(self._steps.write).outcome())

    def _tell(self, what: Started | Outcome) -> None:
        with self._telling:
            self._pipe.send(what)


def _die_with_the_parent() -> None:
    """End this process when its parent does, however that ended, even in the middle of a case."""
    parent = multiprocessing.parent_process()
    if parent is not None:

        def watch() -> None:
            parent.join()
            os._exit(0)

        threading.Thread(target=watch, daemon=True).start()
