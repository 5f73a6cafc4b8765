"""The events of a running batch, and their listeners: nobody, a terminal, or another process.

Knows cases and counts; knows nothing about files, workers or models. Standard output as JSON lines is `JsonLines`.
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
    """A worker has begun to read a case; sent again when a failed case is tried again."""

    name: str


@dataclass(frozen=True)
class Timing:
    """What a case took.

    Attributes:
        read: seconds of reading.
        inference: seconds in the model.
        write: seconds of writing.
        wait: seconds in between, while other cases held what it needed next.
        begun: when, in seconds since 1970.
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
        """Seconds from first to last."""
        return self.read + self.inference + self.write + self.wait


@dataclass(frozen=True)
class Outcome:
    """What came of a case.

    Attributes:
        name: of the case.
        message: why it failed; empty if it is done.
        details: the traceback.
        hopeless: whether the next case would fail in the same way, e.g. on a full disk.
        timing: what it took.
    """

    name: str
    message: str = ""
    details: str = ""
    hopeless: bool = False
    timing: Timing = Timing()


@dataclass(frozen=True)
class Tally:
    """How a run stands.

    Attributes:
        total: cases of this shard.
        earlier: done in earlier runs.
        done: in this one.
        failed: for good, in this run or an earlier one.
        failed_earlier: the part of `failed` that is from an earlier run.
        seconds: since the first case of this run was begun.
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
        """Cases of this run that end in an hour; None while there are none."""
        here = self.done + self.failed - self.failed_earlier
        return 3600 * here / self.seconds if here and self.seconds else None

    @property
    def seconds_left(self) -> float | None:
        """At the rate so far; None while it is not known."""
        rate = self.per_hour
        return None if rate is None else 3600 * (self.total - self.ended) / rate


class Listener:
    """Hears of a batch; this one keeps silent. Used as a context, that a run's end of any kind closes."""

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: object) -> None:
        """The run is over, with an error or without one."""

    def looked(self, done: int, total: int) -> None:
        """So many files of the input have been looked at."""

    def planned(self, plan: Plan, states: Mapping[str, str]) -> None:
        """The cases are known. A case that `states` names is "done" or has "failed" in an earlier run."""

    def started(self, name: str) -> None:
        """A worker has begun a case."""

    def ended(self, outcome: Outcome, record: Mapping[str, Any] | None) -> None:
        """A case is done, with its record, or has failed for good."""

    def progressed(self, tally: Tally) -> None:
        """The count at first and after every case."""

    def finished(self, tally: Tally, plan: Plan, folder: Path, failures: Sequence[tuple[str, str]]) -> None:
        """The summary is written. `failures` are the names of failed cases with the reasons."""


class JsonLines(Listener):
    """Sends another process, as one JSON object a line, what `contract.batch` lists. Paths in it may name patients.

    Args:
        send: writes one object as a line; raises OSError when nobody reads any more.
        gone: called when that happened; nothing is sent afterwards.
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
        """Send the number of files, at every hundredth part."""
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
        """Send that a case has begun."""
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
        """Send the count and the pace."""
        pace = _rounded(tally.per_hour), _rounded(tally.seconds_left)
        self._send(contract.BatchProgress(*_counts(tally), *pace))

    def finished(self, tally: Tally, plan: Plan, folder: Path, failures: Sequence[tuple[str, str]]) -> None:
        """Send how it ended, and where the summary is."""
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
