"""The events of a batch, and their listeners.

`Listener` ignores them, `JsonLines` sends them to another process. Knows cases and counts; knows nothing about files,
workers or models.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fasttextdiff.batch.plan import Case, Plan
from fasttextdiff.contract import batch as contract
from fasttextdiff.contract.fields import from_fields
from fasttextdiff.errors import FastTextDiffError
from fasttextdiff.version import DISCLAIMER


@dataclass(frozen=True)
class Started:
    """A worker has started to read a case; sent again when a failed case is tried again."""

    name: str


@dataclass(frozen=True)
class Timing:
    """Time spent on a case.

    Attributes:
        read: seconds of reading.
        inference: seconds in the model.
        write: seconds of writing.
        wait: seconds between these steps.
        begun: start time, in seconds since 1970.
        worker: host and process.
    """

    read: float = 0.0
    inference: float = 0.0
    write: float = 0.0
    wait: float = 0.0
    begun: float = 0.0
    worker: str = ""

    @property
    def total(self) -> float:
        """Seconds from start to end."""
        return self.read + self.inference + self.write + self.wait


@dataclass(frozen=True)
class Outcome:
    """The outcome of a case.

    Attributes:
        name: name of the case.
        message: why it failed; empty if it is done.
        details: the traceback.
        fatal: whether the next case would fail in the same way, e.g. on a full disk.
        timing: time spent.
    """

    name: str
    message: str = ""
    details: str = ""
    fatal: bool = False
    timing: Timing = Timing()


@dataclass(frozen=True)
class Tally:
    """Counts of a run.

    Attributes:
        total: cases of this shard.
        earlier: cases done in earlier runs.
        done: cases done in this run.
        failed: cases that finally failed, in this run or an earlier one.
        failed_earlier: those of `failed` that are from an earlier run.
        seconds: time since the first case of this run was started.
    """

    total: int
    earlier: int
    done: int
    failed: int
    failed_earlier: int = 0
    seconds: float = 0.0

    @property
    def ended(self) -> int:
        """Cases that need no more work."""
        return self.earlier + self.done + self.failed

    @property
    def per_hour(self) -> float | None:
        """Cases per hour in this run; None until the first has ended."""
        here = self.done + self.failed - self.failed_earlier
        return 3600 * here / self.seconds if here and self.seconds else None

    @property
    def seconds_left(self) -> float | None:
        """Estimated from the rate so far; None while it is unknown."""
        rate = self.per_hour
        return None if rate is None else 3600 * (self.total - self.ended) / rate


class Listener:
    """Receives the events of a batch; this one ignores them. A context manager, left when the run ends in any way."""

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: object) -> None:
        """The run is over, with or without an error."""

    def looked(self, done: int, total: int) -> None:
        """`done` of `total` files of the input have been read."""

    def planned(self, plan: Plan, states: Mapping[str, str]) -> None:
        """The cases are known. `states` holds "done" or "failed" for cases of earlier runs."""

    def started(self, name: str) -> None:
        """A worker has started a case."""

    def ended(self, outcome: Outcome, record: Mapping[str, Any] | None) -> None:
        """A case is done, with its record, or has finally failed."""

    def progressed(self, tally: Tally) -> None:
        """The counts, at the start and after every case."""

    def finished(self, tally: Tally, plan: Plan, folder: Path, failures: Sequence[tuple[str, str]]) -> None:
        """The summary is written. `failures` holds the names of failed cases with reasons."""


class JsonLines(Listener):
    """Sends the events of `contract.batch` to another process, one JSON object per line. Paths may name patients.

    Args:
        send: writes one object as a line; raises OSError if the other process no longer reads.
        gone: called after such an error; nothing is sent afterwards.
    """

    def __init__(self, send: Callable[[dict[str, Any]], None], gone: Callable[[], None]) -> None:
        self._send_line, self._gone = send, gone
        self._is_heard = True
        self._hundredth = -1

    def _send(self, event: Any) -> None:
        if not self._is_heard:
            return
        try:
            self._send_line(contract.event_fields(event))
        except OSError:
            self._is_heard = False
            self._gone()

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: object) -> None:
        """Send an error that ended the run."""
        if isinstance(error, FastTextDiffError):
            self._send(contract.BatchError(str(error), error.exit_code))
        elif error is not None:
            self._send(contract.BatchError(f"internal error, {type(error).__name__}: {error}", 1))

    def looked(self, done: int, total: int) -> None:
        """Send the number of files at every hundredth part."""
        hundredth = 100 * done // max(total, 1)
        if hundredth != self._hundredth:
            self._hundredth = hundredth
            self._send(contract.Looking(done, total))

    def planned(self, plan: Plan, states: Mapping[str, str]) -> None:
        """Send the plan."""
        cases = [_case(case, states.get(case.name, contract.WAITING)) for case in plan.cases]
        skipped = [contract.SkippedImage(str(s.path), s.series_uid, s.reason) for s in plan.skipped]
        self._send(contract.Planned(tuple(cases), tuple(skipped)))

    def started(self, name: str) -> None:
        """Send the start of a case."""
        self._send(contract.CaseStarted(name))

    def ended(self, outcome: Outcome, record: Mapping[str, Any] | None) -> None:
        """Send the outcome of a case."""
        timing = outcome.timing
        seconds = contract.Seconds(
            *(round(part, 3) for part in (timing.read, timing.inference, timing.write, timing.wait))
        )
        if record is None:
            self._send(contract.CaseFailed(outcome.name, seconds, outcome.message))
            return
        findings = tuple(from_fields(contract.CaseFinding, finding) for finding in record["findings"])
        self._send(contract.CaseDone(outcome.name, seconds, findings, tuple(record["notes"])))

    def progressed(self, tally: Tally) -> None:
        """Send the counts and the rate."""
        pace = _rounded(tally.per_hour), _rounded(tally.seconds_left)
        self._send(contract.BatchProgress(*_counts(tally), *pace))

    def finished(self, tally: Tally, plan: Plan, folder: Path, failures: Sequence[tuple[str, str]]) -> None:
        """Send the final state and the paths of the summary."""
        state = contract.COMPLETE if tally.ended == tally.total else contract.STOPPED
        self._send(
            contract.BatchEnd(
                state,
                *_counts(tally),
                skipped=len(plan.skipped),
                output=str(folder),
                summary_csv=str(folder / "summary.csv"),
                summary_json=str(folder / "summary.json"),
                use=DISCLAIMER,
            )
        )


def _case(case: Case, state: str) -> contract.PlannedCase:
    kind = case.options.modality or case.modality
    return contract.PlannedCase(
        case=case.name,
        state=state,
        path=str(case.path),
        series_uid=case.series_uid,
        modality=kind.value if kind else None,
        images=case.images,
        description=case.description,
        findings=tuple(case.findings),
    )


def _counts(tally: Tally) -> tuple[int, int, int, int]:
    """Total, done, failed and left."""
    return tally.total, tally.earlier + tally.done, tally.failed, tally.total - tally.ended


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 1)
