"""Requests to the engine's process and its answers; starts it when needed. Knows nothing about volumes or Slicer."""

import itertools
import logging
from collections.abc import Callable
from typing import Any, Protocol

from .Jobs import JobCancelled, Steps

PROTOCOL = 1
_KILLED = (-9, 137)
"""Ended by SIGKILL, which an operating system sends when memory runs out."""
ProgressCallback = Callable[[int, int], None]


class EngineError(Exception):
    """The engine refused or failed, in one line for the user.

    Attributes:
        kind: "usage", "image", "model", "missing", "memory", "internal", or "stopped" when the process died.
    """

    def __init__(self, kind: str, message: str):
        super().__init__(message)
        self.kind = kind


class Process(Protocol):
    """What a client needs of a process; see `EngineProcess`."""

    exitCode: int | None

    def send(self, message: dict[str, Any]) -> None:
        """Write one message."""

    def receive(self) -> list[dict[str, Any]]:
        """Messages that have arrived."""

    def lastWords(self) -> str:
        """The last line of its log."""

    def close(self, patience: float = 2.0) -> None:
        """End it."""


class Request:
    """One question on its way.

    Attributes:
        id: its number.
        answer: the last message about it; None while it is being worked on.
        progress: (done, total) as last told; None before the first.
    """

    def __init__(self, number: int):
        self.id = number
        self.answer: dict[str, Any] | None = None
        self.progress: tuple[int, int] | None = None

    @property
    def hasFailed(self) -> bool:
        """Whether the answer is anything but success."""
        return self.answer is not None and self.answer["event"] != "done"

    def result(self) -> dict[str, Any]:
        """The fields of the answer.

        Raises:
            EngineError: the engine refused, failed or died.
            JobCancelled: the question was withdrawn.
        """
        if self.answer["event"] == "cancelled":
            raise JobCancelled()
        if self.answer["event"] == "error":
            raise EngineError(str(self.answer.get("kind", "internal")), str(self.answer.get("message", "")))
        return self.answer


class EngineClient:
    """Speaks with one process at a time and starts another when it has died.

    Args:
        startProcess: makes a running process.

    Attributes:
        generation: how many processes have been started; what one of them was told is unknown to the next.
    """

    def __init__(self, startProcess: Callable[[], Process]):
        self._startProcess = startProcess
        self._process: Process | None = None
        self._pending: dict[int, Request] = {}
        self._numbers = itertools.count(1)
        self.generation = 0

    @property
    def isRunning(self) -> bool:
        """Whether there is a process to speak with; one that ended while nothing was asked of it is let go of."""
        self._letGoOfIdleDead()
        return self._process is not None

    def _letGoOfIdleDead(self) -> None:
        """Nobody waits for it, so nobody needs to be told: the next question starts another."""
        if self._process is not None and not self._pending and self._process.exitCode is not None:
            self._buryProcess(self._process.exitCode)

    def send(self, op: str, **fields: Any) -> Request:
        """Send a question, starting the process if there is none.

        Raises:
            EngineError: the process cannot be started.
        """
        self._letGoOfIdleDead()
        if self._process is None:
            try:
                self._process = self._startProcess()
            except OSError as error:
                raise EngineError("stopped", f"The engine could not be started: {error}") from error
            self.generation += 1
        request = Request(next(self._numbers))
        self._pending[request.id] = request
        self._process.send({"id": request.id, "op": op, **fields})
        return request

    def ask(self, op: str, onProgress: ProgressCallback = lambda done, total: None, **fields: Any) -> Steps:
        """Send a question and wait for its answer, step by step (see `Jobs`).

        Returns:
            The fields of the answer.

        Raises:
            EngineError: the engine refused, failed or died.
            JobCancelled: the job was cancelled; the engine has stopped working on the question by then.
        """
        request = self.send(op, **fields)
        told = None
        try:
            while request.answer is None:
                yield
                if request.progress != told:
                    told = request.progress
                    onProgress(*told)
        except JobCancelled:
            yield from self._stop(request)
            raise
        return request.result()

    def _stop(self, request: Request) -> Steps:
        if request.answer is None:
            self.send("cancel", target=request.id)
        while request.answer is None:
            yield

    def poll(self) -> None:
        """Take in what the process has said, and notice its death."""
        if self._process is None:
            return
        exitCode = self._process.exitCode  # before reading: what it said before it ended is still in the pipe
        messages = self._process.receive()
        if any(_isForeign(message) for message in messages):
            self._end("The engine and the module are of different versions: install the extension again.", "internal")
            return
        for message in messages:
            self._take(message)
        if exitCode is not None:
            self._buryProcess(exitCode)

    def _take(self, message: dict[str, Any]) -> None:
        request = self._pending.get(message.get("id"))
        if request is None:
            return
        if message.get("event") == "progress":
            request.progress = (int(message["done"]), int(message["total"]))
        else:
            request.answer = message
            del self._pending[request.id]

    def _buryProcess(self, exitCode: int) -> None:
        words = self._process.lastWords()
        logging.error("The engine stopped unexpectedly: exit code %d. %s", exitCode, words)
        self._end(
            f"The engine stopped unexpectedly{likelyCause(exitCode, words)}; nothing was changed. Please try again."
        )

    def close(self) -> None:
        """End the process; questions on their way count as withdrawn."""
        self._letGo({"event": "cancelled"})

    def _end(self, message: str, kind: str = "stopped") -> None:
        self._letGo({"event": "error", "kind": kind, "message": message})

    def _letGo(self, answer: dict[str, Any]) -> None:
        """Let go of the process, and give what was asked of it this answer."""
        process, self._process = self._process, None
        if process is not None:
            process.close()
        pending, self._pending = self._pending, {}
        for request in pending.values():
            request.answer = answer


def likelyCause(exitCode: int, lastWords: str) -> str:
    """Why a process that nobody ended has ended, as a clause to be put behind "stopped unexpectedly"; empty if unknown.

    Args:
        exitCode: negative for a signal, as Python's subprocess gives it; 128 + signal through a shell.
        lastWords: the last line it wrote for developers.
    """
    isKilled = exitCode in _KILLED
    return ", probably because memory ran out" if isKilled or "memory" in lastWords.lower() else ""


def _isForeign(message: dict[str, Any]) -> bool:
    return message.get("event") == "hello" and message.get("protocol") != PROTOCOL
