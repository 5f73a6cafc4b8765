"""The engine's process: starts it, exchanges JSON lines with it, and stops it. Does not know what the lines mean.

No thread reads the pipe: Slicer's event loop holds Python's lock, so a thread would starve. Instead the pipe is polled,
which never blocks.
"""

import contextlib
import json
import logging
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_CHUNK = 1 << 16
_NO_WINDOW = getattr(subprocess, "CREATE_NO_WINDOW", 0)


class EngineProcess:
    """One child process.

    Args:
        command: program and arguments.
        environment: all its environment variables.
        folder: its working directory; its log is `engine.log` in it.

    Raises:
        OSError: it could not be started.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: Path):
        self._partial = b""
        self.logPath = folder / "engine.log"
        with self.logPath.open("ab") as log:
            self._process = subprocess.Popen(
                list(command),
                env=dict(environment),
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
                creationflags=_NO_WINDOW,
            )

    @property
    def exitCode(self) -> int | None:
        """The exit code, or None while it runs."""
        return self._process.poll()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def send(self, message: Mapping[str, Any]) -> None:
        """Write one line; does nothing if the process has ended, which :attr:`exitCode` shows."""
        with contextlib.suppress(OSError):
            self._process.stdin.write(json.dumps(message).encode("utf-8") + b"\n")

    def receive(self) -> list[dict[str, Any]]:
        """Complete lines that have arrived; never waits."""
        pipe = self._process.stdout.fileno()
        while _hasData(pipe):
            data = os.read(pipe, _CHUNK)
            if not data:
                break
            self._partial += data
        *lines, self._partial = self._partial.split(b"\n")
        return [message for line in lines if (message := _parsed(line)) is not None]

    def lastLogLine(self) -> str:
        """The last line of the process's log, or an empty text."""
        with contextlib.suppress(OSError):
            lines = self.logPath.read_text(encoding="utf-8", errors="replace").splitlines()
            return next((line.strip() for line in reversed(lines) if line.strip()), "")
        return ""

    def endInput(self) -> None:
        """Close the process's input, which makes it end; does not wait for that."""
        with contextlib.suppress(OSError):
            self._process.stdin.close()

    def close(self, patience: float = 2.0) -> None:
        """End the process by closing its input; after `patience` seconds it is killed."""
        self.endInput()
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        logging.warning("Unreadable line from the engine: %r", line[:200])
        return None
    return message if isinstance(message, dict) else None


if os.name == "nt":
    import _winapi
    import msvcrt

    def _hasData(pipe: int) -> bool:
        try:
            return _winapi.PeekNamedPipe(msvcrt.get_osfhandle(pipe), 0)[0] > 0
        except OSError:  # the other end is closed
            return False

else:
    import select

    def _hasData(pipe: int) -> bool:
        poll = select.poll()  # `select` itself refuses descriptors above 1023, which a large program has
        poll.register(pipe, select.POLLIN | select.POLLHUP)
        return bool(poll.poll(0))
