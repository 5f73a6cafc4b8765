"""The state of a batch: from the events of its process, or from its output folder if another process runs it.

Knows the engine's events and files (docs/batch.md); knows nothing about Slicer, windows or processes.
"""

import csv
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from FastTextDiffSegmentLib.contract.batch import (
    DONE,
    FAILED,
    NAMES_FILE,
    REQUEST_FILE,
    WAITING,
    BatchEnd,
    BatchError,
    BatchOptions,
    BatchProgress,
    CaseDone,
    CaseFailed,
    CaseStarted,
    Looking,
    Planned,
    command_line,
    event_of,
)
from FastTextDiffSegmentLib.contract.fields import from_fields
from FastTextDiffSegmentLib.engine.Jobs import Steps

RUNNING, SKIPPED = "running", "skipped"
"""States in addition to the contract's."""
_AT_ONCE = 100
"""Cases read in one step: about a millisecond on a local disk."""
_CLUSTER = ("scheduler", "tls_ca_file", "tls_cert", "tls_key")
"""Options of runs on other machines; Slicer runs batches on this machine only."""


@dataclass
class BatchCase:
    """One image of a batch.

    Attributes:
        name: name of the case; empty for a skipped file.
        path: the file, or the folder with the files of the series. May contain a patient's name.
        seriesUid: DICOM Series Instance UID; empty if there is none.
        state: one of the contract's states, or of the two above.
        reason: why it failed or was skipped.
    """

    name: str
    path: str
    seriesUid: str = ""
    state: str = WAITING
    reason: str = ""


@dataclass
class BatchState:
    """What is known about a batch.

    Attributes:
        cases: the cases by name, in the order of the plan.
        skipped: files and series that are not cases.
        perHour: cases finished per hour; None while it is not known.
        secondsLeft: seconds left at that rate; None while it is not known.
        looked: (files looked at, number of files) while cases are being listed; else None.
        ended: how it ended: "complete" or "stopped"; empty while it runs.
        error: why it could not start or continue, in one line; empty if nothing is wrong.
    """

    cases: dict[str, BatchCase] = field(default_factory=dict)
    skipped: list[BatchCase] = field(default_factory=list)
    perHour: float | None = None
    secondsLeft: float | None = None
    looked: tuple[int, int] | None = None
    ended: str = ""
    error: str = ""

    def take(self, content: Mapping[str, Any]) -> None:
        """Update the state from one line of the process's output.

        Raises:
            ContractError: it is not an event of a batch.
        """
        event = event_of(content)
        if isinstance(event, (CaseStarted, CaseDone, CaseFailed)):
            self._case(event)
        elif isinstance(event, Looking):
            self.looked = event.done, event.total
        elif isinstance(event, Planned):
            self._plan(event)
        elif isinstance(event, BatchProgress):
            self.perHour, self.secondsLeft = event.per_hour, event.seconds_left
        elif isinstance(event, BatchEnd):
            self.ended = event.state
        elif isinstance(event, BatchError):
            self.error = event.message

    def _case(self, event: CaseStarted | CaseDone | CaseFailed) -> None:
        if event.case in self.cases:
            case = self.cases[event.case]
            case.state = {CaseStarted: RUNNING, CaseDone: DONE, CaseFailed: FAILED}[type(event)]
            case.reason = event.message if isinstance(event, CaseFailed) else ""

    def _plan(self, event: Planned) -> None:
        known, self.looked = self.cases, None
        self.cases = {each.case: BatchCase(each.case, each.path, each.series_uid, each.state) for each in event.cases}
        for name, case in self.cases.items():
            if case.state == FAILED and name in known:
                case.reason = known[name].reason
        self.skipped = [BatchCase("", each.path, each.series_uid, SKIPPED, each.reason) for each in event.skipped]

    def stopped(self) -> None:
        """The process has ended: unfinished cases start over next time."""
        for case in self.cases.values():
            if case.state == RUNNING:
                case.state = WAITING
        self.perHour = self.secondsLeft = self.looked = None

    def count(self, state: str) -> int:
        """Number of cases in a state."""
        return Counter(case.state for case in self.cases.values())[state]


# --- the output folder -----------------------------------------------------------------------------------------------


def folderSteps(folder: Path, state: BatchState, isWorkedOn: bool) -> Steps:
    """Update the state from an output folder, a few cases at a time; does nothing if there is no batch in it."""
    if not state.cases:
        yield from _readNames(folder, state)
    for number, case in enumerate(list(state.cases.values()), start=1):
        if case.state != DONE:
            case.state, case.reason = _stateOf(folder / case.name, RUNNING if isWorkedOn else WAITING)
        if number % _AT_ONCE == 0:
            yield


def _readNames(folder: Path, state: BatchState) -> Steps:
    try:
        with (folder / NAMES_FILE).open(encoding="utf-8", newline="") as file:
            for number, row in enumerate(csv.DictReader(file), start=1):
                case = BatchCase(row["case"], row["path"], row["series_uid"])
                if case.name:
                    state.cases[case.name] = case
                else:
                    case.state, case.reason = SKIPPED, row["skipped_because"]
                    state.skipped.append(case)
                if number % _AT_ONCE == 0:
                    yield
    except (OSError, ValueError, KeyError):
        return


def _stateOf(case: Path, started: str) -> tuple[str, str]:
    """(state, reason); a case with a record is done, one with only a folder was started."""
    if (case / "case.json").is_file():
        return DONE, ""
    try:
        return FAILED, (case / "failed.log").read_text(encoding="utf-8").partition("\n")[0]
    except OSError:
        return (started if case.is_dir() else WAITING), ""


def isInUse(folder: Path) -> bool:
    """Whether a process is using an output folder, in any of its shards."""
    return any(_isLocked(lock) for lock in folder.glob(".lock-*-of-*"))


def _isLocked(path: Path) -> bool:
    try:
        with path.open("r+b") as file:
            return not _canLock(file.fileno())
    except PermissionError:
        return True
    except OSError:
        return False


def _canLock(descriptor: int) -> bool:
    """Whether nobody else holds the lock; closing the file releases it."""
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def storedRequest(folder: Path) -> dict[str, Any] | None:
    """The options of the batch in an output folder; None if there is no batch."""
    try:
        content = json.loads((folder / REQUEST_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def arguments(request: Mapping[str, Any]) -> Iterator[str]:
    """The command line of a request, after `batch`. Option names are those of the request in an output folder.

    Raises:
        ContractError: it has an option that this version does not know.
    """
    here = {name: value for name, value in request.items() if name not in _CLUSTER}
    return command_line(from_fields(BatchOptions, here))
