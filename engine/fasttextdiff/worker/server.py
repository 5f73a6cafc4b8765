"""The engine as a child process of 3D Slicer: JSON lines in and out, arrays in files, one job after the other.

Knows the protocol (version 1), threads and the stream; what the jobs do is in `worker.jobs`. Imports nothing but
Python's own library until it is asked for something, so that it starts where packages are missing, and can say which.

A request is `{"id": ..., "op": ...}`. Answers carry the id: any number of "progress" events, then exactly one of
"done", "error" and "cancelled".
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
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, NoReturn

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
    from fasttextdiff.environment import Device, Package
    from fasttextdiff.worker.jobs import Jobs

PROTOCOL = 1
JOBS = ("open", "volume", "closeVolume", "segment", "seriesFiles", "saveDicomSeg")
"""Operations that are done in order by the job thread; all others are answered at once."""

Request = dict[str, Any]
Answer = dict[str, Any]


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

    def send(self, message: Answer) -> None:
        """Write one line; without a parent that reads it, the process ends."""
        try:
            self.write(message)
        except OSError:
            os._exit(0)

    def write(self, message: Answer) -> None:
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
        self._queue: SimpleQueue[Request] = SimpleQueue()
        self._cancelled: dict[int, threading.Event] = {}
        self._jobs: Jobs | None = None

    def run(self) -> NoReturn:
        """Serve until standard input ends or "exit" is asked for."""
        self._channel.send(_hello())
        threading.Thread(target=self._read, name="reader", daemon=True).start()
        while True:
            self._look_ahead()
            request = self._queue.get()
            self._answer(request, self._do_job)
            self._cancelled.pop(request["id"])

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
        try:
            request = parse_json(line)
        except ValueError:
            request = None
        if not isinstance(request, dict) or not isinstance(request.get("id"), int):
            self._channel.send(_error(None, "usage", "a request is one line of JSON with an integer 'id' and an 'op'"))
        elif request.get("op") == "exit":
            os._exit(0)
        else:
            self._dispatch(request)

    def _dispatch(self, request: Request) -> None:
        op, number = request.get("op"), request["id"]
        if number in self._cancelled:
            self._channel.send(_error(None, "usage", f"there is a job {number} already"))
        elif op in JOBS:
            self._cancelled[number] = threading.Event()
            self._queue.put(request)
        elif op == "environment":
            # importing torch takes seconds, in which a cancel must not wait
            threading.Thread(target=self._answer, args=(request, _environment), name=op, daemon=True).start()
        else:
            self._answer(request, self._cancel if op == "cancel" else _ask)

    def _answer(self, request: Request, work: Callable[[Request], Answer]) -> None:
        """Send what came of a request; whatever happens, exactly one line."""
        number = request["id"]
        try:
            self._channel.send({"id": number, "event": "done", **work(request)})
            return
        except Cancelled:
            answer = {"id": number, "event": "cancelled"}
        except Exception as error:
            if error.__cause__ or not isinstance(error, FastTextDiffError):
                traceback.print_exc()  # a library's error, or a defect of ours: for the engine's log
            answer = _error(number, *_kind_and_message(error))
        self._channel.send(answer)

    def _cancel(self, request: Request) -> Answer:
        """Ask a job to stop; one that is finished, or was never there, needs no stopping."""
        target = request.get("target")
        if not isinstance(target, int):
            raise UsageError(f"'target' must be the id of a job, got {target!r}")
        job = self._cancelled.get(target)
        if job is not None:
            job.set()
        return {}

    def _do_job(self, request: Request) -> Answer:
        number = request["id"]
        cancelled = self._cancelled[number]

        def progress(done: int, total: int) -> bool:
            self._channel.send({"id": number, "event": "progress", "done": done, "total": total})
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


def _hello() -> Answer:
    version = ".".join(map(str, sys.version_info[:3]))
    return {"event": "hello", "protocol": PROTOCOL, "version": __version__, "python": version, "pid": os.getpid()}


def _ask(request: Request) -> Answer:
    from fasttextdiff.worker.questions import QUESTIONS

    op = request.get("op")
    if not isinstance(op, str) or op not in QUESTIONS:
        known = ", ".join(("environment", *QUESTIONS, *JOBS, "cancel", "exit"))
        raise UsageError(f"there is no operation {op!r}: use {known}")
    return QUESTIONS[op](request)


def _environment(_: Request) -> Answer:
    from fasttextdiff.environment import HIGHDICOM, check_package, check_packages, find_devices

    packages = check_packages()
    return {
        "packages": [_package_fields(package) for package in packages],
        "missing": [str(package.requirement) for package in packages if package.problem],
        "dicomSeg": _package_fields(check_package(HIGHDICOM)),
        "devices": [_device_fields(device) for device in find_devices()],
    }


def _package_fields(package: Package) -> Answer:
    return {
        "name": package.requirement.name,
        "requirement": str(package.requirement),
        "installed": package.installed,
        "problem": package.problem,
    }


def _device_fields(device: Device) -> Answer:
    return {
        "id": device.id,
        "name": device.name,
        "memoryTotal": device.memory_total,
        "memoryFree": device.memory_free,
        "problem": device.problem,
    }


def _error(number: int | None, kind: str, message: str) -> Answer:
    return {"id": number, "event": "error", "kind": kind, "message": " ".join(message.split())}


def _kind_and_message(error: Exception) -> tuple[str, str]:
    """The protocol's kind of an error, and what to tell the user, in one line."""
    for kind_of_error, kind in _KINDS.items():
        if isinstance(error, kind_of_error):
            return kind, str(error)
    if isinstance(error, ImportError):
        return "missing", f"a Python package is damaged or too old ({one_line(error)}): install it again"
    if isinstance(error, MemoryError) or any(words in str(error) for words in _ALLOCATION_FAILED):
        return "memory", "there is not enough memory: try fewer slices, or close other programs"
    if isinstance(error, OSError) and error.filename:
        return "internal", f"{error.filename} cannot be read or written: {error.strerror}"
    return "internal", f"internal error, {type(error).__name__}: {one_line(error)}; please report it with the log"


# The first that fits; every other error of ours is about the image.
_KINDS: dict[type[Exception], str] = {
    UsageError: "usage",
    ModelError: "model",
    MissingPackagesError: "missing",
    DeviceMemoryError: "memory",
    FastTextDiffError: "image",
}
# torch raises a plain RuntimeError where the main memory is too small: on Linux and macOS, and on Windows
_ALLOCATION_FAILED = ("can't allocate memory", "not enough memory")


def main() -> NoReturn:
    """Serve the process that started this one, over standard input and output."""
    # Ctrl-C in the terminal that Slicer was started from reaches its whole process group; Slicer decides what it means
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_freed_memory()
    Worker(Channel.take_over_stdout()).run()
