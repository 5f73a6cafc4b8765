"""Runs `fasttextdiff batch` in its own process, and compares its outputs. Knows no images."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import subprocess
import sys
import time

LOOSE = ("timings-", "summary.", ".lock-", "failed.log", "request.local")
"""What may differ between runs: seconds, locks, addresses in a library's messages, and the path of the output."""
PATIENCE = 1200
"""Seconds after which a process counts as hanging, even on a busy machine."""
DATE = {"SOURCE_DATE_EPOCH": "1700000000"}


def batch(source, output, *options, **more):
    command = [sys.executable, "-m", "fasttextdiff", "batch", source, "-o", output, *options]
    return subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, **DATE}, start_new_session=True, **more,
    )  # fmt: skip


FINDINGS = ("-f", "left lung", "-f", "opacity in the right lung", "--format", ".seg.nrrd", "--format", ".nii.gz",
            "--format", ".png", "--format", ".html", "--dtype", "float32")  # fmt: skip
"""In float32, in which the number of threads changes no digit that is written."""


def content(output):
    """The hashes of all relevant files, by name."""
    return {
        str(path.relative_to(output)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(output.rglob("*"))
        if path.is_file() and not path.name.startswith(LOOSE)
    }


def table(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def events(lines):
    return [json.loads(line) for line in lines]


def wait_for(process, what):
    """Read the process's lines up to an event."""
    for line in process.stdout:
        if what.items() <= json.loads(line).items():
            return
    raise AssertionError(f"never heard of {what}")


def ends(group):
    """Whether all processes of a group end soon."""
    for _ in range(200):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False
