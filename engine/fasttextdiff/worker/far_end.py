"""The far end of an engine on another machine: passes messages between its pipe and a worker here.

Arrays come and go through the pipe, and are files here only in a private folder that is removed at the end. Nothing
listens on a port. Standard library only; knows nothing about models.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO, Any, NoReturn

from fasttextdiff.worker.parcels import array_files, receive_parcel, send_parcel


class FarEnd:
    """Serves one connection.

    Args:
        worker: a running worker.
        folder: where arrays are kept.
        source: from the near end.
        sink: to the near end.
    """

    def __init__(self, worker: subprocess.Popen[bytes], folder: Path, source: IO[bytes], sink: IO[bytes]) -> None:
        self._worker, self._folder, self._source, self._sink = worker, folder, source, sink
        self._outputs: dict[Any, Path] = {}
        self._volumes: dict[str, Path] = {}

    def run(self) -> None:
        """Serve until either side ends."""
        threading.Thread(target=self._forward, daemon=True).start()
        assert self._worker.stdout is not None
        for line in self._worker.stdout:
            message = json.loads(line)
            send_parcel(self._sink, message)
            if message.get("event") != "progress":
                self._forget(message.get("id"))

    def _forward(self) -> None:
        """Pass requests to the worker; at the end of the pipe the worker ends, and with it everything."""
        while True:
            folder = Path(tempfile.mkdtemp(dir=self._folder))
            message = receive_parcel(self._source, folder)
            if message is None:
                break
            self._place(message, folder)
            assert self._worker.stdin is not None
            self._worker.stdin.write(json.dumps(message).encode() + b"\n")
            self._worker.stdin.flush()
        self._worker.kill()

    def _place(self, message: dict[str, Any], folder: Path) -> None:
        """Give an answer's arrays a folder here, and remember what can be removed when."""
        if "output" in message:
            message["output"] = str(folder)
        if message.get("op") == "open_volume":
            earlier = self._volumes.pop(str(message.get("volume")), None)
            if earlier is not None:  # asked for again, e.g. because it was cancelled
                shutil.rmtree(earlier, ignore_errors=True)
            self._volumes[str(message.get("volume"))] = folder
        elif message.get("op") == "close_volume":
            shutil.rmtree(self._volumes.pop(str(message.get("volume")), folder), ignore_errors=True)
        elif list(array_files(message)) or "output" in message:
            self._outputs[message.get("id")] = folder
        else:
            folder.rmdir()

    def _forget(self, number: Any) -> None:
        folder = self._outputs.pop(number, None)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _stop(*_: object) -> NoReturn:
    """Handle SIGTERM like Ctrl-C, so that no file is left."""
    raise KeyboardInterrupt


def main() -> NoReturn:
    """Serve the near end over standard input and output, whose other end is ssh."""
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    folder = Path(tempfile.mkdtemp(prefix="FastTextDiffSegment-far-"))  # mkdtemp: readable by this user only
    command = [sys.executable, "-m", "fasttextdiff", "worker"]
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    signal.signal(signal.SIGTERM, _stop)
    try:
        FarEnd(worker, folder, source, sink).run()
    except (OSError, KeyboardInterrupt):  # the near end no longer reads, or this process is asked to end
        pass
    finally:
        worker.kill()
        worker.wait()
        shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)  # a thread still reads standard input
