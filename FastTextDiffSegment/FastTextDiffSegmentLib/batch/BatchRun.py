"""Runs one batch at a time, in its own process. It stops when its input is closed, so that it never outlives Slicer.

Knows processes and jobs; knows nothing about widgets or the scene.
"""

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from FastTextDiffSegmentLib.engine.EngineClient import likelyCause
from FastTextDiffSegmentLib.engine.EnginePath import engineCommand, engineEnvironment
from FastTextDiffSegmentLib.engine.EngineProcess import EngineProcess
from FastTextDiffSegmentLib.engine.Jobs import Job, JobCancelled, JobRunner, Steps
from FastTextDiffSegmentLib.engine.WorkFolder import WorkFolder, remove

from .BatchCases import BatchState, arguments

_PATIENCE = 20.0
"""Seconds after which a batch that was asked to stop is killed; unfinished cases then start over."""


class BatchRun:
    """Starts, follows and stops the engine's `batch`.

    Args:
        runner: advances jobs.
        work: holds the process's log.
        onChanged: called when the state has changed, or the run has started or ended.

    Attributes:
        state: what the process reported.
    """

    def __init__(self, runner: JobRunner, work: WorkFolder, onChanged: Callable[[], None]):
        self._runner, self._work, self._onChanged = runner, work, onChanged
        self._process: EngineProcess | None = None
        self._folder: Path | None = None
        self._job: Job | None = None
        self.state = BatchState()

    @property
    def isRunning(self) -> bool:
        """Whether a batch is running."""
        return self._job is not None

    def start(self, request: Mapping[str, Any], *options: str) -> None:
        """Start a batch; none may be running.

        Args:
            request: as in an output folder's `request.local.json`.
            options: e.g. "--dry-run".

        Raises:
            OSError: the process cannot be started.
        """
        self.state.ended = self.state.error = ""
        command = engineCommand("batch", *arguments(request), "--json", "--until-eof", *options)
        self._folder = self._work.newFolder("batch")
        self._process = EngineProcess(command, engineEnvironment(), self._folder)
        self._job = self._runner.start(Job(self._steps(self._process), self._onEnd, self._onFailed))
        self._onChanged()

    def stop(self) -> None:
        """Ask the process to stop; it ends a little later. Finished cases are kept."""
        if self._job is not None:
            self._job.cancel()

    def close(self) -> None:
        """Stop, and wait until the process has ended."""
        job = self._job
        if job is not None:
            job.cancel()
            while not job.isFinished:  # without the runner, whose tick may be what called this
                job.advance()
                time.sleep(0.01)

    def _steps(self, process: EngineProcess) -> Steps:
        deadline: float | None = None
        try:
            while True:
                exitCode = process.exitCode  # before reading: what it sent before it ended is still in the pipe
                self._take(process.receive())
                if exitCode is not None:
                    return exitCode
                if deadline is not None and time.monotonic() > deadline:
                    return _STOPPED
                try:
                    yield
                except JobCancelled:
                    process.endInput()
                    deadline = time.monotonic() + _PATIENCE
        finally:
            process.close(0.0)

    def _take(self, events: list[dict[str, Any]]) -> None:
        for event in events:
            self.state.take(event)
        if events:
            self._onChanged()

    def _onEnd(self, exitCode: int) -> None:
        if exitCode and not (self.state.ended or self.state.error or exitCode == _STOPPED):
            line = self._process.lastLogLine() if self._process is not None else ""
            logging.error("The batch stopped unexpectedly: exit code %d. %s", exitCode, line)
            message = _("The batch stopped unexpectedly{cause}; Start resumes it.")
            self.state.error = message.format(cause=likelyCause(exitCode, line))
        if self._folder is not None:
            remove(self._folder)
        self._process = self._job = self._folder = None
        self.state.stopped()
        self._onChanged()

    def _onFailed(self, error: Exception) -> None:
        self.state.error = str(error)
        self._onEnd(0)


_STOPPED = 130
"""Exit code of a batch that was asked to stop."""
