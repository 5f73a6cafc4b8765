"""The engine as a child process of 3D Slicer: JSON lines in and out, arrays in files, one job after the other.

Knows threads and the stream; what is said is in `contract.messages`, what the jobs do in `worker.jobs`. Imports only
Python's own library until it is asked for something, so that it starts where packages are missing, and can say which.
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
    one_line,
)
from fasttextdiff.io.json_files import parse_json
from fasttextdiff.model.allocator import keep_freed_memory
from fasttextdiff.version import __version__

if TYPE_CHECKING:
    from fasttextdiff.environment import Package as FoundPackage
    from fasttextdiff.worker.jobs import Jobs


class Channel:
    """The stream to the parent; nothing else in the process can write to it.

    Made by :meth:`take_over_stdout`; any thread may send.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()

    @classmethod
    def take_over_stdout(cls) -> Channel:
        """Keep standard output for the protocol, and let what libraries print there go to standard error."""
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
        """Write an event or an answer as one line; without a parent that reads it, the process ends."""
        try:
            self.write(messages.event_fields(number, event))
        except OSError:
            os._exit(0)

    def write(self, message: dict[str, Any]) -> None:
        """Write one line.

        Raises:
            OSError: nobody reads it.
        """
        data = json.dumps(message, allow_nan=False).encode("utf-8") + b"\n"
        with self._lock:
            while data:
                data = data[os.write(self._descriptor, data) :]


class Worker:
    """Answers requests: simple questions in the reading thread, jobs in the main thread.

    Jobs have one thread for the life of the process, because CUDA libraries keep their plans by thread, and it is the
    main one, because some libraries want to be imported there.
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
            self._cancelled.pop(number)  # before the answer, after which its number may be used again
            self._channel.send(number, event)

    def _look_ahead(self) -> None:
        """Work for nobody in particular, until something is asked for; what goes wrong in it concerns nobody."""
        if self._jobs is None:
            return
        try:
            while self._queue.empty() and self._jobs.look_ahead(self._queue.empty):
                pass
        except Exception:
            traceback.print_exc()

    def _read(self) -> None:
        """Take in requests; the end of the input means that Slicer is gone.

        The process then ends at once, even in the middle of a job: nothing in it is of any use to anybody else.
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
                raise ContractError(f"there is a job {number} already")
            request = messages.request_of(content)
        except ValueError as error:  # no JSON, or a message that the contract does not have
            text = str(error) if isinstance(error, ContractError) else _NO_REQUEST
            self._channel.send(None if number in self._cancelled else number, _error(messages.USAGE, text))
        else:
            self._dispatch(number, request)

    def _dispatch(self, number: int, request: Request) -> None:
        if isinstance(request, JOBS):
            self._cancelled[number] = threading.Event()
            self._queue.put((number, request))
        elif isinstance(request, CheckEnvironment):
            # importing torch takes seconds, in which a cancel must not wait
            threading.Thread(target=self._answer, args=(number, _environment), name=request.op, daemon=True).start()
        elif isinstance(request, Cancel):
            self._answer(number, partial(self._cancel, request))
        else:
            self._answer(number, partial(_ask, request))

    def _answer(self, number: int, work: Callable[[], Any]) -> None:
        """Send what came of a request: exactly one line."""
        self._channel.send(number, self._outcome(work))

    def _outcome(self, work: Callable[[], Any]) -> Any:
        """The answer to a request, or the event that it ends with; whatever happens, one of them."""
        try:
            return work()
        except Cancelled:
            return messages.Cancelled()
        except Exception as error:
            if error.__cause__ or not isinstance(error, FastTextDiffError):
                traceback.print_exc()  # a library's error, or a defect of ours: for the engine's log
            return _error(*_kind_and_message(error))

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
        return self._prepared().do(request, progress)

    def _prepared(self) -> Jobs:
        """The jobs, with everything they need imported."""
        if self._jobs is None:
            from fasttextdiff.environment import require_packages

            require_packages()
            try:
                from fasttextdiff.worker.jobs import Jobs
            except Exception as error:  # packages that are all there, and do not go together
                raise MissingPackagesError(
                    f"the installed Python packages do not work together ({type(error).__name__}: {one_line(error)}): "
                    f"install torch, transformers and diffusers again"
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
    )


def _package(package: FoundPackage) -> Package:
    return Package(package.requirement.name, str(package.requirement), package.problem)


def _error(kind: str, message: str) -> messages.Error:
    return messages.Error(kind, " ".join(message.split()))


def _kind_and_message(error: Exception) -> tuple[str, str]:
    """The protocol's kind of an error, and what to tell the user, in one line."""
    for kind_of_error, kind in _KINDS.items():
        if isinstance(error, kind_of_error):
            return kind, str(error)
    if isinstance(error, ImportError):
        return messages.MISSING, f"a Python package is damaged or too old ({one_line(error)}): install it again"
    if isinstance(error, MemoryError) or any(words in str(error) for words in _ALLOCATION_FAILED):
        return messages.MEMORY, "there is not enough memory: try fewer slices, or close other programs"
    if isinstance(error, OSError) and error.filename:
        return messages.INTERNAL, f"{error.filename} cannot be read or written: {error.strerror}"
    return (
        messages.INTERNAL,
        f"internal error, {type(error).__name__}: {one_line(error)}; please report it with the log",
    )


_NO_REQUEST = "a request is one line of JSON with an integer 'id' and an 'op'"
# The first that fits; every other error of ours is about the image.
_KINDS: dict[type[Exception], str] = {
    UsageError: messages.USAGE,
    ModelError: messages.MODEL,
    MissingPackagesError: messages.MISSING,
    DeviceMemoryError: messages.MEMORY,
    FastTextDiffError: messages.IMAGE,
}
# torch raises a plain RuntimeError where the main memory is too small: on Linux and macOS, and on Windows
_ALLOCATION_FAILED = ("can't allocate memory", "not enough memory")


def main() -> NoReturn:
    """Serve the process that started this one, over standard input and output."""
    # Ctrl-C in the terminal that Slicer was started from reaches its whole process group; Slicer decides what it means
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_freed_memory()
    Worker(Channel.take_over_stdout()).run()
