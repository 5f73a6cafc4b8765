"""The near end of an engine on another machine: to 3D Slicer it is a worker, and it passes jobs on through ssh.

Pipes only: `ssh HOST PYTHON -m fasttextdiff far-worker`, no port, no server. ssh asks for nothing (BatchMode). DICOM
headers, file names and learned findings stay on this computer. Knows nothing about models.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NoReturn

from fasttextdiff.contract import messages
from fasttextdiff.contract.fields import ContractError, to_fields
from fasttextdiff.contract.hosts import host_problem
from fasttextdiff.errors import FastTextDiffError, UsageError, one_line
from fasttextdiff.worker.parcels import UnreadableFile, array_files, receive_parcel, send_parcel
from fasttextdiff.worker.server import Channel, kind_and_message

PATIENCE = 60.0
"""Seconds until the other machine must have answered once."""
_OPTIONS = (
    *("-T", "-oBatchMode=yes", "-oConnectTimeout=15"),
    *("-oServerAliveInterval=15", "-oServerAliveCountMax=2"),
)
_HERE = ("list_series", "save_dicom_seg")
"""Jobs about DICOM files, which are done on this computer and need no model."""
_NOT_THERE = (
    *("add_examples", "learn", "list_learned", "import_learned", "export_learned"),
    *("rename_learned", "switch_learned", "roll_back_learned", "remove_learned"),
)
_ADVICE = (
    (r"permission denied|password|publickey", "it asks for a password: set up a key with 'ssh-copy-id {host}'"),
    (r"host key verification", "its key is not known: connect once in a terminal with 'ssh {host}'"),
    (r"could not resolve|not known|no route|refused|timed? ?out", "it cannot be reached: check name and network"),
    (r"no module named|not found|no such file", "the engine is not installed there: install fasttextdiff for {python}"),
)


def command_of(host: str, python: str) -> list[str]:
    """The command that starts the far end.

    Raises:
        UsageError: the host's name is not one.
    """
    problem = host_problem(host)
    if problem:
        raise UsageError(problem)
    home = "~/" if python.startswith("~/") else ""  # quoted, it would not be the home folder
    quoted = home + shlex.quote(python.removeprefix(home))
    return ["ssh", *_OPTIONS, host, f"{quoted} -m fasttextdiff far-worker"]


def environment_before_slicer(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment that Slicer was started with: with Slicer's own libraries, the system's ssh may not start.

    Args:
        environment: of a process that Slicer started; Slicer's launcher keeps the earlier one under other names.
    """
    kept = "APPLAUNCHER_0_"
    before = {name.removeprefix(kept): value for name, value in environment.items() if name.startswith(kept)}
    return before or dict(environment)


class NearEnd:
    """One connection.

    Args:
        channel: to Slicer.
        host: the other machine.
        python: its Python.
        patience: seconds until it must have answered once.
    """

    def __init__(self, channel: Channel, host: str, python: str, patience: float = PATIENCE) -> None:
        self._channel, self._host, self._python, self._patience = channel, host, python, patience
        # in Slicer's folder for exchanged arrays, which Slicer removes even if this process is killed
        self._folder = tempfile.TemporaryDirectory(prefix="near-", dir=Path.cwd())
        self._open: dict[int, tuple[str | None, bool]] = {}  # requests: output folder, whether a library was left out
        self._to_send: SimpleQueue[dict[str, Any]] = SimpleQueue()
        self._last_line = ""
        self._greeted = threading.Event()
        self._ssh = subprocess.Popen(
            command_of(host, python),
            env=environment_before_slicer(os.environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self) -> NoReturn:
        """Serve Slicer until it closes its pipe, or the other machine is gone."""
        for work in (self._read, self._send, self._watch):
            threading.Thread(target=work, daemon=True).start()
        listening = threading.Thread(target=self._listen, daemon=True)
        listening.start()
        with suppress(OSError):
            while (message := self._receive()) is not None:
                self._answer(message)
        self._end_ssh()
        listening.join(2)  # ssh's last line may arrive after the end of its output
        self._fail(self._why())

    def _end_ssh(self) -> None:
        self._ssh.terminate()
        try:
            self._ssh.wait(5)
        except subprocess.TimeoutExpired:
            self._ssh.kill()

    # --- Slicer's side -----------------------------------------------------------------------------------------------

    def _read(self) -> None:
        for line in sys.stdin.buffer:
            if line.strip():
                self._take(json.loads(line))
        self._end_ssh()
        self._folder.cleanup()
        os._exit(0)

    def _take(self, message: dict[str, Any]) -> None:
        number, op = message["id"], message.get("op")
        try:
            if op in _NOT_THERE or message.get("candidate") is not None:
                raise UsageError(f"findings are learned and kept only on this computer, not on {self._host}")
            if op in _HERE:
                self._do_here(number, message)
                return
            left_out = self._strip(message)
        except Exception as error:
            self._channel.send(number, messages.Error(*kind_and_message(error)))
            return
        self._open[number] = (message.get("output"), left_out)
        self._to_send.put(message)

    def _do_here(self, number: int, message: dict[str, Any]) -> None:
        """Jobs about DICOM files: in this thread, because nothing else is done in the meantime."""
        from fasttextdiff.worker.dicom import list_series, save_dicom_seg

        request: Any = messages.request_of(message)
        work = list_series(request) if request.op == "list_series" else save_dicom_seg(request, lambda done, all_: True)
        self._channel.send(number, work)

    def _strip(self, message: dict[str, Any]) -> bool:
        """Take out what must not leave or would mean nothing there; whether a library was left out."""
        if message.get("op") == "open_volume":
            message["path"], message["dicom_modality"] = told_of_file(message)
            message["name"] = "the volume"  # names in the scene may name the patient
        elif message.get("op") == "measure":
            for segment in message["segments"]:
                segment["tags"] = {}  # of no use there
        elif message.get("op") == "check_findings":
            message["learned"] = []
        library = message.get("library")
        if library is None:
            return False
        message["library"] = None
        return any(Path(library).glob("*"))

    # --- the other machine's side ------------------------------------------------------------------------------------

    def _send(self) -> None:
        assert self._ssh.stdin is not None
        while True:
            message = self._to_send.get()
            try:
                send_parcel(self._ssh.stdin, message)
            except UnreadableFile as error:  # e.g. the scene was closed before its image was sent
                self._open.pop(message["id"], None)
                self._channel.send(message["id"], messages.Error(*kind_and_message(error)))
            except OSError:  # it is gone, or half a message was sent; the reading thread notices the end
                self._ssh.terminate()
                return

    def _receive(self) -> dict[str, Any] | None:
        assert self._ssh.stdout is not None
        return receive_parcel(self._ssh.stdout, Path(tempfile.mkdtemp(dir=self._folder.name)))

    def _answer(self, message: dict[str, Any]) -> None:
        if not self._greeted.is_set():
            try:
                messages.require_hello(message)
            except ContractError as error:
                self._fail(f"{self._host}: {error}: install the same version there")
            self._greeted.set()
            return
        number = message.get("id")
        if message.get("event") != "progress" and isinstance(number, int):
            output, left_out = self._open.pop(number, (None, False))
            _place(message, output)
            if left_out and isinstance(message.get("notes"), list):
                message["notes"].append("findings learned on this computer were not used")
        self._channel.write(message)

    def _listen(self) -> None:
        """Keep ssh's last line, which says why it failed; the rest is the log of the other engine."""
        assert self._ssh.stderr is not None
        for line in self._ssh.stderr:
            text = line.decode("utf-8", "replace").strip()
            self._last_line = text or self._last_line
            print(text, file=sys.stderr, flush=True)

    def _watch(self) -> None:
        if not self._greeted.wait(self._patience):
            self._ssh.kill()
            self._last_line = f"no answer within {self._patience:.0f} s"

    def _why(self) -> str:
        """Why the connection ended: before the greeting what ssh said last, afterwards that it broke off."""
        if self._greeted.is_set():
            return f"{self._host}: the connection broke off; try again"
        found = next((text for words, text in _ADVICE if re.search(words, self._last_line, re.I)), "")
        reason = found.format(host=self._host, python=self._python) or self._last_line or "ssh ended without a word"
        return f"{self._host}: {reason}"

    def _fail(self, reason: str) -> NoReturn:
        """Answer every open request with the reason, and end."""
        text = " ".join(reason.split())
        for number in list(self._open):
            self._channel.send(number, messages.Error(messages.LOST, text))
        print(text, file=sys.stderr, flush=True)
        self._folder.cleanup()
        os._exit(1)


def told_of_file(message: dict[str, Any]) -> tuple[str | None, str | None]:
    """What the other machine learns about the file of an image, so that it sees the same kind of image.

    Args:
        message: a request to open a volume.

    Returns:
        A stand-in for the path, and DICOM Modality (0008,0060).

    Raises:
        UsageError: the sides of a projection X-ray are in its DICOM header, which does not leave.
    """
    given = message.get("path")
    if given is None:
        return None, message.get("dicom_modality")
    from fasttextdiff.io.read import described_source, kind_of_image

    path = Path(given)
    described = described_source(path)
    if described is None:
        import numpy as np

        slices = np.broadcast_to(np.uint8(0), message["voxels"]["shape"])
        _, is_planar = kind_of_image(slices, path, message.get("dicom_modality"))
        return ("picture.png" if is_planar else None), message.get("dicom_modality")
    if not described.is_placed:
        raise UsageError(
            "the sides of a projection X-ray are in its DICOM header, which stays here: choose this computer's engine"
        )
    modality = None if described.modality is None else described.modality.value.upper()
    return None, message.get("dicom_modality") or modality


def _place(message: dict[str, Any], output: str | None) -> None:
    """Move the arrays of an answer into the folder that Slicer gave."""
    for each in array_files(message):
        received = Path(each["file"])
        if output is not None:
            placed = Path(output) / received.name
            placed.write_bytes(received.read_bytes())
            each["file"] = str(placed)
        received.unlink()


def main(arguments: list[str]) -> NoReturn:
    """Serve Slicer; arguments are the host, its Python and, for tests, the patience in seconds."""
    host, python, *patience = arguments
    channel = Channel.take_over_stdout()
    from fasttextdiff.version import __version__

    channel.send(None, messages.Hello(messages.PROTOCOL, __version__))
    try:
        near = NearEnd(channel, host, python, *map(float, patience))
    except (OSError, FastTextDiffError) as error:
        _refuse_all(channel, f"ssh cannot be started: {one_line(error)}")
    near.run()


def _refuse_all(channel: Channel, reason: str) -> NoReturn:
    for line in sys.stdin.buffer:
        number = json.loads(line).get("id")
        channel.write({"id": number, "event": "error", **to_fields(messages.Error(messages.LOST, reason))})
    os._exit(1)
