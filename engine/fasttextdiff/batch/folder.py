"""The output folder of a batch: what was asked, what is done, what failed; true however the run ended.

A case is done when its record is in place. The record is written last and renamed, so whatever ends a run, every case
is either whole or begun anew. Knows files; knows nothing about images or models.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from fasttextdiff.errors import FastTextDiffError, UsageError
from fasttextdiff.io.atomic import whole_files
from fasttextdiff.io.json_files import parse_json

RUN, RECORD, LOG = "batch.json", "case.json", "failed.log"


@dataclass(frozen=True)
class Run:
    """What all cases of a batch have in common; stored once, and the same in every run that resumes it.

    Attributes:
        model: folder or hub id as given; empty for the bundled one.
        weights_sha256: of that model.
        formats: of the outputs, e.g. (".seg.nrrd", ".png").
        device: as given, e.g. "auto".
        dtype: as given.
        fractional: whether DICOM SEG holds probabilities.
        started: ISO 8601 time in UTC; the time in every output.
    """

    model: str
    weights_sha256: str
    formats: tuple[str, ...]
    device: str
    dtype: str
    fractional: bool
    started: str


class BatchFolder:
    """One batch's outputs: a folder a case, with `case.json` when it is done and `failed.log` when it failed.

    Args:
        path: made if needed.

    Raises:
        UsageError: it cannot be made or written to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with told_of(path):
            path.mkdir(parents=True, exist_ok=True)

    def begin(self, run: Run) -> Run:
        """Store what the batch is, or resume what is stored.

        Returns:
            the stored run: `run` with the time of its first start.

        Raises:
            UsageError: the folder holds a batch that differs, or something else.
        """
        place = self.path / RUN
        if place.is_file():
            stored = _read_run(place)
            differing = [
                name for name, value in asdict(stored).items() if name != "started" and value != getattr(run, name)
            ]
            if differing:
                raise UsageError(
                    f"{self.path} holds a batch with another {differing[0]} ({getattr(stored, differing[0])}): choose "
                    "another output folder, or the same options to resume it"
                )
            return stored
        if any(not child.name.startswith(".") for child in self.path.iterdir()):
            raise UsageError(f"{self.path} is not empty and holds no batch: choose another output folder")
        _write_json(place, asdict(run))
        return run

    @contextmanager
    def locked(self, shard: tuple[int, int]) -> Iterator[None]:
        """Keep a second run of the same shard out; the lock goes with the process, however it ends.

        Raises:
            UsageError: such a run is on.
        """
        number, count = shard
        with told_of(self.path):
            file = (self.path / f".lock-{number}-of-{count}").open("a+", encoding="utf-8")
        with file:
            if not _lock(file.fileno()):
                raise UsageError(f"a batch is running on {self.path} (shard {number}/{count}): wait for it to end")
            yield

    def case_folder(self, name: str) -> Path:
        """Where a case's outputs are."""
        return self.path / name

    def record(self, name: str, request: Mapping[str, Any]) -> dict[str, Any] | None:
        """The record of a case that is done, or None.

        Raises:
            UsageError: something else was asked about the case when it was done; what is there is not thrown away.
        """
        try:
            content = parse_json((self.case_folder(name) / RECORD).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if not isinstance(content, dict) or not isinstance(content.get("request"), dict):
            return None
        stored = content["request"]
        differing = [key for key, value in request.items() if stored.get(key) != value]
        if differing:
            raise UsageError(
                f"{self.case_folder(name)} was done with other {differing[0]} ({stored.get(differing[0])}): choose "
                "another output folder, or delete this one to have the case done again"
            )
        return content

    def failure(self, name: str) -> str | None:
        """The first line of a failed case's log, or None."""
        try:
            return (self.case_folder(name) / LOG).read_text(encoding="utf-8").partition("\n")[0]
        except OSError:
            return None

    def clean(self, name: str) -> Path:
        """An empty folder for a case; what an interrupted run left there is gone."""
        folder = self.case_folder(name)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def discard(self, name: str) -> None:
        """Take away what a case has left that is neither done nor failed; nobody may be at work on it."""
        folder = self.case_folder(name)
        if not (folder / RECORD).exists() and not (folder / LOG).exists():
            shutil.rmtree(folder, ignore_errors=True)

    def finish(self, name: str, record: Mapping[str, Any]) -> None:
        """The case is done: its outputs are in place."""
        _write_json(self.case_folder(name) / RECORD, record)

    def fail(self, name: str, message: str, details: str) -> None:
        """The case failed: nothing but the log stays in its folder."""
        log = self.clean(name) / LOG
        with whole_files(log) as (temporary,):
            temporary.write_text(f"{message}\n\n{details}", encoding="utf-8", errors="replace")


@contextmanager
def told_of(folder: Path) -> Iterator[None]:
    """Say in one line what the system refused within an output folder, and what to do.

    Raises:
        UsageError: it may not be written to.
        FastTextDiffError: there is no room.
    """
    try:
        yield
    except (OSError, FastTextDiffError) as error:
        cause = error.__cause__ if isinstance(error, FastTextDiffError) else error
        if not isinstance(cause, OSError):
            raise
        reason = (cause.strerror or str(cause)).lower()
        if cause.errno in (errno.ENOSPC, errno.EDQUOT):
            raise FastTextDiffError(
                f"cannot write {folder}: {reason}; make room there, then rerun the same command to resume"
            ) from error
        raise UsageError(f"cannot write {folder}: {reason}; choose another folder") from error


def start_time() -> str:
    """Now, or the time in SOURCE_DATE_EPOCH (reproducible-builds.org), for outputs that are to be equal to the bit."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if epoch is not None and not epoch.isdigit():
        raise UsageError(f"SOURCE_DATE_EPOCH must be seconds since 1970, not '{epoch}'")
    moment = datetime.now(timezone.utc) if epoch is None else datetime.fromtimestamp(int(epoch), timezone.utc)
    return moment.isoformat(timespec="seconds")


def _read_run(place: Path) -> Run:
    try:
        values = parse_json(place.read_text(encoding="utf-8"))
        return Run(**{**values, "formats": tuple(values["formats"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise FastTextDiffError(f"{place} cannot be read as the definition of a batch: {error}") from error


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    with whole_files(path) as (temporary,):
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())  # the name must not reach the disk before the content


def _lock(descriptor: int) -> bool:
    """Whether the file could be locked; released by the system with the process."""
    try:
        import fcntl
    except ImportError:
        return _lock_on_windows(descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _lock_on_windows(descriptor: int) -> bool:
    import msvcrt

    windows: Any = msvcrt
    try:
        windows.locking(descriptor, windows.LK_NBLCK, 1)
    except OSError:
        return False
    return True
