"""The output folder of a batch: the request, the finished and the failed cases; correct however the run ended.

A case is done when its record and all outputs that it lists are in place. The record is written last, once the outputs
are on the disk, and renamed, so every case of an interrupted run is either complete or started again.

Knows files; knows nothing about images or models.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from fasttextdiff.errors import FastTextDiffError, UsageError
from fasttextdiff.io.atomic import check_writable, to_disk, whole_files
from fasttextdiff.io.json_files import parse_json

RUN, RECORD, LOG = "batch.json", "case.json", "failed.log"
_WAIT = 0.05
"""Seconds between two tries to get a lock."""
_OPEN_ELSEWHERE = {errno.EACCES, errno.EPERM, errno.EBUSY, errno.ETXTBSY}


@dataclass(frozen=True)
class Run:
    """Settings shared by all cases of a batch; stored once, and the same in every run that resumes it.

    Attributes:
        model: folder or hub id as given; empty for the bundled one.
        weights_sha256: hash of that model's weights.
        formats: output formats, e.g. (".seg.nrrd", ".png").
        device: as given, e.g. "auto".
        dtype: as given.
        fractional: whether DICOM SEG holds probabilities.
        started: ISO 8601 time in UTC, written into every output.
        runtime: as given; "torch" in batches from before there was a choice.
        adapters: files of learned findings, absolute.
        adapter_hashes: their hashes, so that a batch is not resumed with other ones.
    """

    model: str
    weights_sha256: str
    formats: tuple[str, ...]
    device: str
    dtype: str
    fractional: bool
    started: str
    runtime: str = "torch"
    adapters: tuple[str, ...] = ()
    adapter_hashes: tuple[str, ...] = ()


class BatchFolder:
    """The outputs of a batch: one folder per case, with `case.json` if it is done or `failed.log` if it failed.

    Args:
        path: created if missing.

    Raises:
        UsageError: it cannot be created or written to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with system_errors(path):
            path.mkdir(parents=True, exist_ok=True)

    def begin(self, run: Run) -> Run:
        """Store the settings of a new batch, or resume the stored one; shards that start together get the same.

        Returns:
            The stored run: `run` with the time of its first start.

        Raises:
            UsageError: the folder holds a batch with other settings, or other files.
        """
        place = self.path / RUN
        with self.alone():
            check_writable(place)  # creates a file: a network drive then shows what others have written
            if not place.is_file():
                if any(not child.name.startswith(".") for child in self.path.iterdir()):
                    raise UsageError(
                        f"{self.path} is not empty and is not a batch's output: choose another output folder"
                    )
                _write_json(place, asdict(run))
            stored = _read_run(place)
        differing = [
            name for name, value in asdict(stored).items() if name != "started" and value != getattr(run, name)
        ]
        if differing:
            before, now = (_said(getattr(one, differing[0])) for one in (stored, run))
            raise UsageError(
                f"{self.path} holds a batch with {differing[0].replace('_', ' ')} {before}, not {now}: choose "
                "another output folder, or the same options to resume it"
            )
        return stored

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other shards out while files that they share are read and written; wait for them first."""
        with (self.path / ".lock-shared").open("a+", encoding="utf-8") as file:
            while not _lock(file.fileno()):
                time.sleep(_WAIT)
            yield

    @contextmanager
    def locked(self, shard: tuple[int, int]) -> Iterator[None]:
        """Lock the shard against a second run; the system releases the lock when the process ends.

        Raises:
            UsageError: the shard is already running.
        """
        number, count = shard
        with system_errors(self.path):
            file = (self.path / f".lock-{number}-of-{count}").open("a+", encoding="utf-8")
        with file:
            if not _lock(file.fileno()):
                raise UsageError(f"a batch is running on {self.path} (shard {number}/{count}): wait for it to end")
            yield

    def case_folder(self, name: str) -> Path:
        """Folder of a case's outputs."""
        return self.path / name

    def record(self, name: str, request: Mapping[str, Any]) -> dict[str, Any] | None:
        """The record of a case that is done, or None.

        Raises:
            UsageError: the case was done with another request; its outputs are not overwritten.
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
                "another output folder, or delete this one to run the case again"
            )
        return content if self._has_outputs(name, content) else None

    def _has_outputs(self, name: str, record: Mapping[str, Any]) -> bool:
        """Whether no output is missing or empty, as after a power cut or a copy that was interrupted."""
        folder = self.case_folder(name)
        try:
            return all((folder / output).stat().st_size for output in record.get("outputs", ()))
        except OSError:
            return False

    def failure(self, name: str) -> str | None:
        """The first line of a failed case's log, or None."""
        try:
            return (self.case_folder(name) / LOG).read_text(encoding="utf-8").partition("\n")[0]
        except OSError:
            return None

    def clean(self, name: str) -> Path:
        """Create an empty folder for a case; remove what an interrupted run left there."""
        folder = self.case_folder(name)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def discard(self, name: str) -> None:
        """Remove the files of an unfinished case; no worker may be working on it."""
        folder = self.case_folder(name)
        if not (folder / RECORD).exists() and not (folder / LOG).exists():
            shutil.rmtree(folder, ignore_errors=True)

    def finish(self, name: str, record: Mapping[str, Any]) -> None:
        """Mark a case as done; its outputs must be in place.

        Raises:
            OSError: they cannot be written to the disk.
        """
        to_disk(self.case_folder(name))
        _write_json(self.case_folder(name) / RECORD, record)

    def fail(self, name: str, message: str, details: str) -> None:
        """Mark a case as failed; only the log stays in its folder."""
        log = self.clean(name) / LOG
        with whole_files(log) as (temporary,):
            temporary.write_text(f"{message}\n\n{details}", encoding="utf-8", errors="replace")


@contextmanager
def system_errors(folder: Path) -> Iterator[None]:
    """Turn errors of the operating system in an output folder into one line that says what to do.

    Raises:
        UsageError: the folder cannot be written to.
        FastTextDiffError: the disk is full, or one file cannot be replaced.
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
                f"cannot write {folder}: {reason}; free some space, then rerun the same command to resume"
            ) from error
        if cause.errno in _OPEN_ELSEWHERE and (file := _existing_file(cause, folder)):
            raise FastTextDiffError(
                f"cannot write {file}: {reason}; if another program has it open, close it, then rerun the same command "
                "to resume"
            ) from error
        raise UsageError(f"cannot write {folder}: {reason}; choose another folder") from error


def _existing_file(error: OSError, folder: Path) -> Path | None:
    """The file below the folder that cannot be written or replaced, e.g. a table open in a spreadsheet on Windows."""
    paths = [Path(os.fsdecode(name)) for name in (error.filename, error.filename2) if isinstance(name, (str, bytes))]
    below = [path for path in paths if folder in path.parents and not path.name.startswith(".")]
    return next((path for path in below if path.is_file()), None)


def start_time() -> str:
    """Now, or the time in SOURCE_DATE_EPOCH (reproducible-builds.org), for bit-identical outputs."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if epoch is not None and not epoch.isdigit():
        raise UsageError(f"SOURCE_DATE_EPOCH must be seconds since 1970, not '{epoch}'")
    moment = datetime.now(timezone.utc) if epoch is None else datetime.fromtimestamp(int(epoch), timezone.utc)
    return moment.isoformat(timespec="seconds")


def _said(value: Any) -> str:
    """A setting of a batch in a message."""
    return (", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)) or "none"


def _read_run(place: Path) -> Run:
    try:
        values = parse_json(place.read_text(encoding="utf-8"))
        lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        return Run(**{**values, **lists})
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise FastTextDiffError(f"{place} is not a valid definition of a batch: {error}") from error


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    with whole_files(path) as (temporary,):
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())  # the content must reach the disk before the name


def _lock(descriptor: int) -> bool:
    """Lock the file; False if it is locked already. The system releases the lock when the process ends."""
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
