"""Any file is read or refused in one line: no crash, no other error, within 4 GiB and 20 seconds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import damaged_files
import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
SCRIPT = Path(damaged_files.__file__)


def outcomes(files: list[Path]) -> dict[str, str]:
    """The outcome of each file, by name; if the process crashes, a new one continues after that file."""
    found: dict[str, str] = {}
    left = list(files)
    while left:
        done = subprocess.run(
            [sys.executable, str(SCRIPT), *map(str, left)], capture_output=True, text=True, check=False
        )
        ended = 0
        lines = [line for line in done.stdout.splitlines() if line.startswith(("begin /", "end /"))]
        assert lines, done.stderr
        for line in lines:  # libraries print lines too
            word, name, *outcome = line.split(" ", 2)
            found[Path(name).name] = outcome[0] if outcome else f"died: {done.returncode} {done.stderr[-500:]}"
            ended += word == "end"
        left = left[ended + (done.returncode != 0) :]
    return found


def faults(found: dict[str, str]) -> dict[str, str]:
    return {name: outcome for name, outcome in found.items() if outcome not in ("read", "refused")}


@pytest.mark.parametrize("numbers", [range(60), pytest.param(range(60, 1060), marks=pytest.mark.slow)], ids=str)
def test_damaged_files_are_read_or_refused(tmp_path, numbers):
    sources = damaged_files.intact_files(tmp_path / "intact")
    found = outcomes(damaged_files.damaged_files(tmp_path / "damaged", sources, numbers))
    assert len(found) == len(numbers)
    assert not faults(found)
    assert {"read", "refused"} == set(found.values())


def test_intact_files_are_read(tmp_path):
    found = outcomes(damaged_files.intact_files(tmp_path / "intact"))
    assert set(found.values()) == {"read"}


@pytest.mark.slow
def test_decompression_bombs_are_refused(tmp_path):
    found = outcomes(damaged_files.bombs(tmp_path / "bombs"))
    assert set(found.values()) == {"refused"}
