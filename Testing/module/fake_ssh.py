"""An `ssh` that runs the far end on this computer, and keeps what was sent to it."""

import os
import shlex
import sys
from pathlib import Path

HOST = "doctor@gpu"
TROUBLE = {
    "password": "doctor@gpu: Permission denied (publickey,password).",
    "key": "Host key verification failed.",
    "absent": "bash: python3: command not found",
}
SSH = """#!{python}
import os, shlex, subprocess, sys, time
folder = {folder!r}
trouble = open(folder + "/trouble").read()
host, command = sys.argv[-2:]
if host != {host!r}:
    sys.exit(f"ssh: Could not resolve hostname {{host}}: Name or service not known")
if trouble in {lines!r}:
    sys.exit({lines!r}[trouble])
if trouble == "hang":
    time.sleep(600)
far = subprocess.Popen(shlex.split(command), stdin=subprocess.PIPE)
sent = b""
with open(folder + "/sent", "ab") as log:
    while data := os.read(0, 1 << 16):
        sent = sent[-99:] + data
        log.write(data)
        log.flush()
        if trouble == "break" and b'"op": "segment"' in sent:
            far.kill()
            os._exit(255)
        far.stdin.write(data)
        far.stdin.flush()
far.stdin.close()
far.wait()
"""


class FakeSsh:
    """First in PATH, with a `python3` that has the engine.

    Args:
        folder: an empty folder.
        monkeypatch: pytest's.
    """

    def __init__(self, folder, monkeypatch):
        self._folder = Path(folder)
        programs = self._folder / "bin"
        programs.mkdir()
        self._write(programs / "ssh", SSH.format(python=sys.executable, folder=str(folder), host=HOST, lines=TROUBLE))
        self._write(programs / "python3", f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
        self.trouble = ""
        (self._folder / "sent").touch()
        monkeypatch.setenv("PATH", os.pathsep.join([str(programs), os.environ["PATH"]]))

    @staticmethod
    def _write(file, text):
        file.write_text(text)
        file.chmod(0o700)

    @property
    def trouble(self):
        """What goes wrong in connections that start from now on."""
        return (self._folder / "trouble").read_text()

    @trouble.setter
    def trouble(self, value):
        (self._folder / "trouble").write_text(value)

    @property
    def sent(self):
        """All bytes that were sent."""
        return (self._folder / "sent").read_bytes()

    def hasSent(self, operation):
        """Whether a request was sent."""
        return f'"op": "{operation}"'.encode() in self.sent
