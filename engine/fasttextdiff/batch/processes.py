"""Worker processes on this machine: one warm model each, with overlapping reading, inference and writing.

Knows processes and which worker has which case; `work` does the work. If a worker dies, its cases are run again.
"""

from __future__ import annotations

import errno
import multiprocessing
import os
import platform
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from queue import Queue, SimpleQueue
from typing import Any, NoReturn

from fasttextdiff.batch import work
from fasttextdiff.batch.events import Outcome, Started, Timing
from fasttextdiff.batch.folder import BatchFolder, Run
from fasttextdiff.batch.nameless import message_of, traceback_of
from fasttextdiff.batch.plan import Case
from fasttextdiff.batch.stopping import Stop
from fasttextdiff.errors import FastTextDiffError
from fasttextdiff.image.volume import Volume
from fasttextdiff.model.allocator import keep_freed_memory
from fasttextdiff.result import SegmentationResult
from fasttextdiff.segmenter import Segmenter

AHEAD = 3
"""Cases in a worker at a time: one being read, one in the model, one being written."""
ATTEMPTS = 2
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
"""Errors of the output folder that would stop every other case too."""


class _Worker:
    """A worker process and the cases that it holds.

    Cases are sent by a thread: a worker that is loading its model or reading may not take a large one for a while, and
    the parent must still hear the others and the stop signal.
    """

    def __init__(self, process: Any, pipe: Connection) -> None:
        self.process, self.pipe = process, pipe
        self.cases: list[Case] = []
        self._outbox: SimpleQueue[Case | None] = SimpleQueue()
        self._sender = threading.Thread(target=self._send_cases, daemon=True)
        self._sender.start()

    def take(self, case: Case) -> None:
        """Hold a case, and send it when the worker receives it."""
        self.cases.append(case)
        self._outbox.put(case)

    def end(self) -> None:
        """End the process, in whatever state it is."""
        self.process.kill()
        self.process.join()
        self._outbox.put(None)
        self._sender.join()
        self.pipe.close()

    def _send_cases(self) -> None:
        with suppress(OSError):  # the worker died: the parent will read the pipe's end and run its cases again
            while (case := self._outbox.get()) is not None:
                self.pipe.send(case)


class LocalWorkers:
    """Runs cases in worker processes.

    Args:
        folder: for the outputs.
        run: settings shared by all cases.
        count: number of worker processes.
        serve: main function of a worker process; replaced in tests.
        stop: ends the run early.
    """

    def __init__(
        self, folder: Path, run: Run, count: int, serve: Callable[..., None] | None = None, stop: Stop | None = None
    ) -> None:
        self.folder, self.run, self.count = folder, run, count
        self.serve = serve or serve_cases
        self.stop = stop or Stop()
        self._workers: list[_Worker] = []

    def outcomes(self, cases: Sequence[Case]) -> Iterator[Started | Outcome]:
        """Run all cases; report each when it starts, and when it is done or has finally failed.

        Ends early when `stop` is set. Closing the iterator early also kills the workers and removes their unfinished
        outputs; the next run starts those cases again.

        Raises:
            FastTextDiffError: the model cannot be loaded.
        """
        waiting = deque(cases)
        attempts = dict.fromkeys((case.name for case in cases), 0)
        suspects: set[str] = set()  # a worker died with these; each now runs alone, to find the one at fault
        try:
            while (waiting or any(worker.cases for worker in self._workers)) and not self.stop.is_set():
                self._hand_out(waiting, suspects)
                for worker in self._ready():
                    message = self._receive(worker)
                    if isinstance(message, Started):
                        yield message
                        continue
                    if message is None:
                        suspects.update(case.name for case in worker.cases)
                        waiting.extendleft(reversed(worker.cases))
                        continue
                    case, outcome = message
                    attempts[case.name] += 1
                    if outcome.message and not outcome.fatal and attempts[case.name] < ATTEMPTS:
                        waiting.append(case)
                    else:
                        yield outcome
        finally:
            self._stop()

    def _hand_out(self, waiting: deque[Case], suspects: set[str]) -> None:
        """Give each case to the worker that holds the fewest; a suspect only to a worker without other cases."""
        while waiting and len(self._workers) < min(self.count, len(waiting)):
            self._workers.append(self._started())
        while waiting:
            able = [worker for worker in self._workers if self._may_take(worker, waiting[0], suspects)]
            if not able:
                return
            min(able, key=lambda worker: len(worker.cases)).take(waiting.popleft())

    @staticmethod
    def _may_take(worker: _Worker, case: Case, suspects: set[str]) -> bool:
        careful = case.name in suspects or any(held.name in suspects for held in worker.cases)
        return len(worker.cases) < (1 if careful else AHEAD)

    def _started(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        threads = None if self.count == 1 else max(1, (os.cpu_count() or 1) // self.count)
        process = context.Process(target=self.serve, args=(theirs, self.folder, self.run, threads), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours)

    def _ready(self) -> list[_Worker]:
        """Workers that sent a message or died; none if `stop` is set."""
        heard = wait_for([self.stop.connection, *(worker.pipe for worker in self._workers)])
        return [] if self.stop.is_set() else [worker for worker in self._workers if worker.pipe in heard]

    def _receive(self, worker: _Worker) -> Started | tuple[Case, Outcome] | None:
        """A worker's message about one of its cases; None if it died and the case at fault is unknown."""
        try:
            message: Started | Outcome | str = worker.pipe.recv()
        except (EOFError, OSError):
            return self._remove_dead(worker)
        if isinstance(message, str):
            raise FastTextDiffError(message)
        if isinstance(message, Started):
            return message
        case = next(case for case in worker.cases if case.name == message.name)
        worker.cases.remove(case)
        return case, message

    def _remove_dead(self, worker: _Worker) -> tuple[Case, Outcome] | None:
        """Remove a dead worker. A single case that it held is at fault; with several, return None."""
        worker.process.join()
        worker.end()
        self._workers.remove(worker)
        if len(worker.cases) != 1:
            return None
        code = worker.process.exitcode
        message = f"the worker process died (exit code {code}), perhaps because there was too little memory"
        return worker.cases[0], Outcome(worker.cases[0].name, message)

    def _stop(self) -> None:
        outputs = BatchFolder(self.folder)
        for worker in self._workers:
            worker.end()
            for case in worker.cases:
                outputs.discard(case.name)
        self._workers.clear()


@dataclass
class _Job:
    """A case passing through the three steps."""

    case: Case
    value: Any = None
    begun: float = field(default_factory=time.time)
    steps: list[tuple[float, float]] = field(default_factory=list)
    error: BaseException | None = None

    def step(self, work: Callable[[Case, Any], Any]) -> _Job:
        """Run the next step on the previous step's value, unless a step has failed."""
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
    """The outcome of a case that raised; its texts name neither files nor the patient.

    The message of a fatal one is about the output folder, which it names; it is shown and not stored.
    """
    cause = error if isinstance(error, OSError) else error.__cause__
    fatal = isinstance(cause, OSError) and cause.errno in FULL
    message = str(error) if fatal and isinstance(error, FastTextDiffError) else message_of(error, case)
    return Outcome(case.name, message, traceback_of(error, case), fatal)


class _Steps:
    """The three steps of a :class:`_Job`: reading, inference and writing."""

    def __init__(self, run: Run, outputs: BatchFolder, segmenter: Segmenter) -> None:
        self.run, self.outputs, self.segmenter = run, outputs, segmenter

    def read(self, case: Case, _: None) -> Volume:
        return work.read_case(case)

    def infer(self, case: Case, volume: Volume) -> SegmentationResult:
        return work.segment_case(self.segmenter, volume, case, self.run)

    def write(self, case: Case, result: SegmentationResult) -> None:
        work.write_case(result, case, self.run, self.outputs)


def in_three_steps(case: Case, run: Run, segmenter: Segmenter, outputs: BatchFolder) -> Outcome:
    """Run one case from file to record."""
    steps = _Steps(run, outputs, segmenter)
    return _Job(case).step(steps.read).step(steps.infer).step(steps.write).outcome()


def serve_cases(pipe: Connection, folder: Path, run: Run, threads: int | None) -> None:
    """Main function of a worker process: receives cases through the pipe and sends outcomes back.

    Args:
        pipe: to the parent.
        folder: of the batch.
        run: model and options.
        threads: for the model, so that several workers share the cores; None for all.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent decides
    _exit_with_parent()
    keep_freed_memory()
    try:
        steps = _Steps(run, BatchFolder(folder), work.load_segmenter(run, threads))
    except FastTextDiffError as error:
        pipe.send(str(error))
        return
    _StepThreads(pipe, steps).run()


class _StepThreads:
    """Runs the three steps of one worker's cases, each step in its own thread."""

    def __init__(self, pipe: Connection, steps: _Steps) -> None:
        self._pipe, self._steps = pipe, steps
        self._sending = threading.Lock()
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
                os._exit(0)  # the parent is gone; the next run starts these cases again
            self._send(Started(case.name))
            self._read.put(_Job(case).step(self._steps.read))

    def _writing(self) -> None:
        while True:
            self._send(self._segmented.get().step(self._steps.write).outcome())

    def _send(self, what: Started | Outcome) -> None:
        with self._sending:
            self._pipe.send(what)


def _exit_with_parent() -> None:
    """Exit when the parent process ends, in whatever way, even during a case."""
    parent = multiprocessing.parent_process()
    if parent is not None:

        def watch() -> None:
            parent.join()
            os._exit(0)

        threading.Thread(target=watch, daemon=True).start()
