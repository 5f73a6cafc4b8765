"""The engine as a child process of 3D Slicer: JSON lines in and out, arrays in files, one job at a time.

Knows threads and the stream; messages are in `contract.messages`, jobs in `worker.jobs`. Imports only the standard
library until the first request, so that it starts even if packages are missing, and can report which.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, NoReturn

from fasttextdiff.contract import messages
from fasttextdiff.contract.answers import Done, Environment, Package
from fasttextdiff.contract.fields import ContractError
from fasttextdiff.contract.requests import JOBS, Cancel, CheckEnvironment, Request
from fasttextdiff.errors import (
    Cancelled,
    DeviceMemoryError,
    FastTextDiffError,
    MissingPackagesError,
    ModelError,
    UsageError,
    is_lack_of_memory,
    one_line,
)
from fasttextdiff.io.json_files import parse_json
from fasttextdiff.model.allocator import keep_freed_memory
from fasttextdiff.version import __version__

if TYPE_CHECKING:
    from fasttextdiff.environment import Package as FoundPackage
    from fasttextdiff.worker.jobs import Jobs


class Channel:
    """The stream to the parent process, which nothing else in this process can write to.

    Created by :meth:`take_over_stdout`. Thread-safe.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()

    @classmethod
    def take_over_stdout(cls) -> Channel:
        """Reserve standard output for the protocol, and redirect prints of libraries to standard error."""
        descriptor = os.dup(1)
        try:
            os.dup2(2, 1)
        except OSError:  # a windowed program without standard error
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
        if sys.platform == "win32":
            import msvcrt

            msvcrt.setmode(descriptor, os.O_BINARY)  # or every line would end in "\r\n"
        return cls(descriptor)

    def send(self, number: int | None, event: Any) -> None:
        """Write an event or an answer as one line; exit the process if the parent no longer reads."""
        try:
            self.write(messages.event_fields(number, event))
        except OSError:
            os._exit(0)

    def write(self, message: dict[str, Any]) -> None:
        """Write one line.

        Raises:
            OSError: the parent no longer reads.
        """
        data = json.dumps(message, allow_nan=False).encode("utf-8") + b"\n"
        with self._lock:
            while data:
                data = data[os.write(self._descriptor, data) :]


class Worker:
    """Answers requests: simple ones in the reader thread, jobs in the main thread.

    All jobs run in one thread, because CUDA libraries cache their plans per thread. It is the main thread, because some
    libraries must be imported there.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._queue: SimpleQueue[tuple[int, Request]] = SimpleQueue()
        self._cancelled: dict[int, threading.Event] = {}
        self._jobs: Jobs | None = None

    def run(self) -> NoReturn:
        """Serve until standard input ends."""
        self._channel.send(None, messages.Hello(messages.PROTOCOL, __version__))
        threading.Thread(target=self._read, name="reader", daemon=True).start()
        while True:
            self._look_ahead()
            number, request = self._queue.get()
            event = self._outcome(partial(self._do_job, number, request))
            self._cancelled.pop(number)  # before the answer is sent: afterwards the id may be reused
            self._channel.send(number, event)

    def _look_ahead(self) -> None:
        """Encode slices in advance until a request arrives; errors are only logged."""
        if self._jobs is None:
            return
        try:
            while self._queue.empty() and self._jobs.look_ahead(self._queue.empty):
                pass
        except Exception:
            traceback.print_exc()

    def _read(self) -> None:
        """Read requests until the end of the input, which means that Slicer has exited.

        The process then exits immediately, even during a job: nobody needs its result.
        """
        with suppress(OSError):
            for line in sys.stdin.buffer:
                if line.strip():
                    self._take(line)
        os._exit(0)

    def _take(self, line: bytes) -> None:
        number = None
        try:
            content = parse_json(line)
            number = _number_of(content)
            if number in self._cancelled:
                raise ContractError(f"there is already a job {number}")
            request = messages.request_of(content)
        except ValueError as error:  # not JSON, or not a message of the contract
            text = str(error) if isinstance(error, ContractError) else _NO_REQUEST
            self._channel.send(None if number in self._cancelled else number, _error(messages.USAGE, text))
        else:
            self._dispatch(number, request)

    def _dispatch(self, number: int, request: Request) -> None:
        if isinstance(request, JOBS):
            self._cancelled[number] = threading.Event()
            self._queue.put((number, request))
        elif isinstance(request, CheckEnvironment):
            # importing torch takes seconds; a cancel must not wait for it
            threading.Thread(target=self._answer, args=(number, _environment), name=request.op, daemon=True).start()
        elif isinstance(request, Cancel):
            self._answer(number, partial(self._cancel, request))
        else:
            self._answer(number, partial(_ask, request))

    def _answer(self, number: int, work: Callable[[], Any]) -> None:
        """Send the outcome of a request: exactly one line."""
        self._channel.send(number, self._outcome(work))

    def _outcome(self, work: Callable[[], Any]) -> Any:
        """The answer to a request, or a cancelled or error event."""
        try:
            return work()
        except Cancelled:
            return messages.Cancelled()
        except Exception as error:
            if error.__cause__ or not isinstance(error, FastTextDiffError):
                traceback.print_exc()  # a library's error or a bug: for the engine's log
            return _error(*kind_and_message(error))

    def _cancel(self, request: Cancel) -> Done:
        job = self._cancelled.get(request.target)
        if job is not None:
            job.set()
        return Done()

    def _do_job(self, number: int, request: Request) -> Any:
        cancelled = self._cancelled[number]

        def progress(done: int, total: int) -> bool:
            self._channel.send(number, messages.Progress(done, total))
            return not cancelled.is_set()

        if cancelled.is_set():
            raise Cancelled("cancelled before it began")
        return self._prepared().do(request, progress, lambda: not cancelled.is_set())

    def _prepared(self) -> Jobs:
        """The jobs, imported on first use."""
        if self._jobs is None:
            from fasttextdiff.environment import require_packages

            require_packages()
            try:
                from fasttextdiff.worker.jobs import Jobs
            except Exception as error:  # all packages are there, but their versions are not compatible
                raise MissingPackagesError(
                    f"the installed Python packages do not work together ({type(error).__name__}: {one_line(error)}): "
                    "install them again"
                ) from error
            self._jobs = Jobs()
        return self._jobs


# --- answers ---------------------------------------------------------------------------------------------------------


def _number_of(content: object) -> int:
    number = content.get("id") if isinstance(content, dict) else None
    if not isinstance(number, int) or isinstance(number, bool):
        raise ContractError(_NO_REQUEST)
    return number


def _ask(request: Request) -> Any:
    from fasttextdiff.worker.questions import QUESTIONS

    return QUESTIONS[type(request)](request)


def _environment() -> Environment:
    from fasttextdiff.environment import HIGHDICOM, check_package, check_packages, find_devices

    return Environment(
        packages=tuple(map(_package, check_packages())),
        dicom_seg=_package(check_package(HIGHDICOM)),
        devices=tuple(find_devices()),
        version=__version__,
    )


def _package(package: FoundPackage) -> Package:
    return Package(package.requirement.name, str(package.requirement), package.problem)


def _error(kind: str, message: str) -> messages.Error:
    return messages.Error(kind, " ".join(message.split()))


def kind_and_message(error: Exception) -> tuple[str, str]:
    """The kind of an error in the protocol, and a one-line message for the user."""
    for kind_of_error, kind in _KINDS.items():
        if isinstance(error, kind_of_error):
            return kind, str(error)
    if isinstance(error, ImportError):
        return messages.MISSING, f"a Python package is damaged or too old ({one_line(error)}): install it again"
    if is_lack_of_memory(error):
        return messages.MEMORY, "there is not enough memory: try fewer slices, or close other programs"
    if isinstance(error, OSError) and error.filename:
        return messages.INTERNAL, f"{error.filename} cannot be read or written: {error.strerror}"
    return (
        messages.INTERNAL,
        f"internal error, {type(error).__name__}: {one_line(error)}; please report it with the log",
    )


_NO_REQUEST = "a request must be one line of JSON with an integer 'id' and an 'op'"
# The first match counts; all other errors of ours are about the image.
_KINDS: dict[type[Exception], str] = {
    UsageError: messages.USAGE,
    ModelError: messages.MODEL,
    MissingPackagesError: messages.MISSING,
    DeviceMemoryError: messages.MEMORY,
    FastTextDiffError: messages.IMAGE,
}


def main() -> NoReturn:
    """Serve the parent process over standard input and output."""
    # Ctrl-C in Slicer's terminal reaches its whole process group; leave the decision to Slicer
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_freed_memory()
    Worker(Channel.take_over_stdout()).run()
