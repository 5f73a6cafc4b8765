"""Sends requests to the engine's process, which it starts when needed, and takes the answers. Knows no volumes."""

import itertools
import logging
from collections.abc import Callable
from typing import Any, Protocol

from FastTextDiffSegmentLib.contract.fields import ContractError
from FastTextDiffSegmentLib.contract.messages import (
    INTERNAL,
    LOST,
    Cancelled,
    Error,
    Progress,
    event_of,
    request_fields,
    require_hello,
)
from FastTextDiffSegmentLib.contract.requests import Cancel, Request

from .Jobs import JobCancelled, Steps

STOPPED = "stopped"
"""The kind of error when the engine's process has ended unexpectedly."""
_KILLED = (-9, 137)
"""Exit codes of SIGKILL, which the operating system sends when memory runs out."""
ProgressCallback = Callable[[int, int], None]


class EngineError(Exception):
    """The engine refused or failed, in one line for the user.

    Attributes:
        kind: one of the contract's `ERROR_KINDS`, or `STOPPED`.
    """

    def __init__(self, kind: str, message: str):
        super().__init__(message)
        self.kind = kind


class Process(Protocol):
    """What a client needs of a process; `EngineProcess` is one."""

    exitCode: int | None

    def send(self, content: dict[str, Any]) -> None:
        """Write one line."""

    def receive(self) -> list[dict[str, Any]]:
        """Lines that have arrived."""

    def lastLogLine(self) -> str:
        """The last line of its log."""

    def close(self, patience: float = 2.0) -> None:
        """End it."""


class Pending:
    """A request that was sent.

    Attributes:
        id: its number.
        request: the request.
        answer: the answer, or why there is none; None until it arrives.
        progress: the last progress; None before the first.
    """

    def __init__(self, number: int, request: Request):
        self.id, self.request = number, request
        self.answer: Any = None
        self.progress: Progress | None = None

    @property
    def hasFailed(self) -> bool:
        """Whether it was refused, failed or cancelled."""
        return isinstance(self.answer, (Error, Cancelled))

    def result(self) -> Any:
        """The answer.

        Raises:
            EngineError: the engine refused, failed or stopped.
            JobCancelled: the request was cancelled.
        """
        if isinstance(self.answer, Cancelled):
            raise JobCancelled()
        if isinstance(self.answer, Error):
            raise EngineError(self.answer.kind, self.answer.message)
        return self.answer


class EngineClient:
    """Talks to one process at a time, and starts another when it has ended.

    Args:
        startProcess: makes a running process.
        require: called with each request before it is sent; raises `EngineError` if it may not be sent.

    Attributes:
        generation: how many processes have been started; a new process knows nothing that an earlier one was sent.
    """

    def __init__(self, startProcess: Callable[[], Process], require: Callable[[Request], None] = lambda request: None):
        self._startProcess, self._require = startProcess, require
        self._process: Process | None = None
        self._hasGreeted = False
        self._pending: dict[int, Pending] = {}
        self._numbers = itertools.count(1)
        self.generation = 0

    @property
    def isRunning(self) -> bool:
        """Whether there is a process; one that ended while idle does not count."""
        self._dropEndedProcess()
        return self._process is not None

    def _dropEndedProcess(self) -> None:
        """Drop a process that ended while idle. No request failed, so it is no error; the next starts another."""
        if self._process is not None and not self._pending and self._process.exitCode is not None:
            self._onProcessEnded(self._process.exitCode)

    def send(self, request: Request) -> Pending:
        """Send a request, starting the process if there is none.

        Raises:
            EngineError: it may not be sent, or the process cannot be started.
        """
        self._require(request)
        self._dropEndedProcess()
        if self._process is None:
            try:
                self._process = self._startProcess()
            except OSError as error:
                raise EngineError(STOPPED, f"The engine could not be started: {error}") from error
            self.generation += 1
            self._hasGreeted = False
        pending = Pending(next(self._numbers), request)
        self._pending[pending.id] = pending
        self._process.send(request_fields(pending.id, request))
        return pending

    def ask(self, request: Request, onProgress: ProgressCallback = lambda done, total: None) -> Steps:
        """Send a request and wait for its answer, step by step (see `Jobs`).

        Returns:
            The answer, of the class that the request names.

        Raises:
            EngineError: the engine refused, failed or stopped.
            JobCancelled: the job was cancelled; by then the engine has stopped working on the request.
        """
        pending = self.send(request)
        last = None
        try:
            while pending.answer is None:
                yield
                if pending.progress is not None and pending.progress != last:
                    last = pending.progress
                    onProgress(last.done, last.total)
        except JobCancelled:
            yield from self._stop(pending)
            raise
        return pending.result()

    def _stop(self, pending: Pending) -> Steps:
        if pending.answer is None:
            self.send(Cancel(pending.id))
        while pending.answer is None:
            yield

    def poll(self) -> None:
        """Read what the process has sent, and notice whether it has ended."""
        if self._process is None:
            return
        exitCode = self._process.exitCode  # before reading: what it sent before it ended is still in the pipe
        try:
            for content in self._process.receive():
                if self._process is not None:  # else it said that it is lost
                    self._take(content)
        except ContractError as error:
            self._end(f"The engine cannot be used: {error}. Install the extension again.", INTERNAL)
            return
        if exitCode is not None and self._process is not None:
            self._onProcessEnded(exitCode)

    def _take(self, content: dict[str, Any]) -> None:
        if not self._hasGreeted:
            require_hello(content)
            self._hasGreeted = True
            return
        number = content.get("id")
        pending = self._pending.get(number) if isinstance(number, int) else None
        if pending is None:
            logging.error("Unexpected message from the engine: %.200s", content)
            return
        event = event_of(content, pending.request)
        if isinstance(event, Progress):
            pending.progress = event
        else:
            pending.answer = event
            del self._pending[pending.id]
            if isinstance(event, Error) and event.kind == LOST:
                self._drop(event)  # the next request starts another process

    def _onProcessEnded(self, exitCode: int) -> None:
        line = self._process.lastLogLine()
        logging.error("The engine stopped unexpectedly: exit code %d. %s", exitCode, line)
        self._end(
            f"The engine stopped unexpectedly{likelyCause(exitCode, line)}; nothing was changed. Please try again."
        )

    def close(self) -> None:
        """End the process; open requests count as cancelled."""
        self._drop(Cancelled())

    def _end(self, message: str, kind: str = STOPPED) -> None:
        self._drop(Error(kind, message))

    def _drop(self, answer: Error | Cancelled) -> None:
        """End the process, and give this answer to all open requests."""
        process, self._process = self._process, None
        if process is not None:
            process.close()
        pending, self._pending = self._pending, {}
        for each in pending.values():
            each.answer = answer


def likelyCause(exitCode: int, lastLogLine: str) -> str:
    """Why a process probably ended, as a clause to append to "stopped unexpectedly"; empty if unknown.

    Args:
        exitCode: negative for a signal, as in Python's subprocess; 128 + signal through a shell.
        lastLogLine: the last line of its log.
    """
    isKilled = exitCode in _KILLED
    return ", probably because memory ran out" if isKilled or "memory" in lastLogLine.lower() else ""
