"""Runs a batch: what is left of the plan, by whatever workers, with everything recorded.

Knows the plan, the folder and the workers' outcomes; knows nothing about processes or models.
"""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, replace
from pathlib import Path
from typing import Any, Protocol

from fasttextdiff.batch.events import Listener, Outcome, Started, Tally, Timing
from fasttextdiff.batch.folder import BatchFolder, Run
from fasttextdiff.batch.plan import Case, Plan
from fasttextdiff.batch.work import FORMATS, request_of
from fasttextdiff.errors import FastTextDiffError, UsageError
from fasttextdiff.io.atomic import whole_files
from fasttextdiff.version import DISCLAIMER

SUMMARY_COLUMNS = (
    "case", "state", "finding", "ml", "voxels", "presence", "uncertainty", "disagreement", "read_s", "inference_s",
    "write_s", "wait_s", "warnings",
)  # fmt: skip


def define_run(
    model: str | None, formats: Sequence[str], device: str, dtype: str, fractional: bool, started: str
) -> Run:
    """What a batch is, checked before anything is started.

    Raises:
        UsageError: a format, device or dtype that is not known, or no such model.
    """
    from fasttextdiff.model.devices import choose_device, choose_dtype
    from fasttextdiff.model.pipeline import weights_hash

    endings = tuple(name if name.startswith(".") else f".{name}" for name in dict.fromkeys(formats))
    if unknown := [ending for ending in endings if ending not in FORMATS]:
        raise UsageError(f"'{unknown[0]}' is not a format: use {', '.join(FORMATS)}")
    choose_dtype(dtype, choose_device(device))
    name = str(Path(model).resolve()) if model and Path(model).is_dir() else model or ""
    return Run(name, weights_hash(model), endings, device, dtype, fractional, started)


class Workers(Protocol):
    """Whoever works on cases: processes of this machine, or a cluster."""

    def outcomes(self, cases: Sequence[Case]) -> Iterator[Started | Outcome]:
        """Work on all cases and report each when it begins and ends; closing the iterator stops the work."""


def shard_of(cases: Sequence[Case], shard: tuple[int, int]) -> list[Case]:
    """Every N-th case, beginning with the K-th of (K, N), K from 1."""
    number, count = shard
    return list(cases[number - 1 :: count])


def run_batch(
    plan: Plan,
    folder: BatchFolder,
    run: Run,
    workers: Workers,
    *,
    shard: tuple[int, int] = (1, 1),
    retry_failed: bool = False,
    listener: Listener | None = None,
) -> Tally:
    """Work on what is not done yet.

    Args:
        plan: all cases of the batch.
        folder: locked by the caller.
        run: as stored in the folder.
        workers: who works.
        shard: (K, N), the part of the plan that is this run's.
        retry_failed: whether cases that failed for good in an earlier run are tried again.
        listener: hears of every case, and the count at first and after each.

    Returns:
        the count; cases are left if the workers were stopped.

    Raises:
        UsageError: a case was done with other findings or options.
        FastTextDiffError: no case can be written any more, e.g. on a full disk; rerun to resume.
    """
    listener = listener or Listener()
    cases = shard_of(plan.cases, shard)
    left = {case.name: case for case in cases if folder.record(case.name, request_of(case)) is None}
    todo = [case for case in left.values() if retry_failed or folder.failure(case.name) is None]
    failed = len(left) - len(todo)
    tally = Tally(len(cases), earlier=len(cases) - len(left), done=0, failed=failed, failed_earlier=failed)
    listener.progressed(tally)
    timings = folder.path / f"timings-{shard[0]}-of-{shard[1]}.csv"
    begun: float | None = None
    for told in workers.outcomes(todo):
        if begun is None:  # a cluster may report an end before the beginning
            begun = time.monotonic() - (told.timing.total if isinstance(told, Outcome) else 0.0)
        if isinstance(told, Started):
            listener.started(told.name)
            continue
        _require_hope(told, tally)
        tally = replace(_counted(tally, told), seconds=time.monotonic() - begun)
        if told.message:
            folder.fail(told.name, told.message, told.details)
            listener.ended(told, None)
        else:
            add_timing(timings, told)
            listener.ended(told, folder.record(told.name, request_of(left[told.name])))
        listener.progressed(tally)
    return tally


def _require_hope(outcome: Outcome, tally: Tally) -> None:
    if outcome.hopeless:
        raise FastTextDiffError(
            f"{outcome.message}; {tally.ended} of {tally.total} cases are done or failed: once there is room to write, "
            "rerun the same command to resume"
        )


def _counted(tally: Tally, outcome: Outcome) -> Tally:
    return replace(tally, failed=tally.failed + 1) if outcome.message else replace(tally, done=tally.done + 1)


def add_timing(path: Path, outcome: Outcome) -> None:
    """Keep what a case took, as a line of a CSV file; apart from the records, which are equal from run to run."""
    numbers = astuple(outcome.timing)[:-1]
    with path.open("a", encoding="utf-8", newline="") as file:
        csv.writer(file).writerow([outcome.name, *(f"{number:.3f}" for number in numbers), outcome.timing.worker])


def read_timings(folder: Path) -> dict[str, Timing]:
    """What each case took, of all shards; a line cut short by a crash is left out."""
    timings = {}
    for path in sorted(folder.glob("timings-*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.reader(file):
                try:
                    name, read, inference, write, wait, begun, worker = row
                    numbers = map(float, (read, inference, write, wait, begun))
                    timings[name] = Timing(*numbers, worker=worker)  # type: ignore[misc, arg-type]
                except ValueError:
                    continue
    return timings


def time_in_model(timings: Iterable[Timing]) -> dict[str, float | None]:
    """How much of the workers' time went into the model; the rest it waited for reading and writing.

    Returns:
        `model_s`: seconds in the model; `workers_s`: seconds from the first case begun to the last one ended, summed
        over the worker processes; `model_share`: their quotient, None without any case.
    """
    of_worker: dict[str, list[Timing]] = {}
    for timing in timings:
        of_worker.setdefault(timing.worker, []).append(timing)
    spans = [max(t.begun + t.total for t in ts) - min(t.begun for t in ts) for ts in of_worker.values()]
    model, workers = sum(t.inference for ts in of_worker.values() for t in ts), sum(spans)
    share = round(model / workers, 4) if workers else None
    return {"model_s": round(model, 3), "workers_s": round(workers, 3), "model_share": share}


def summary_rows(plan: Plan, folder: BatchFolder) -> list[dict[str, Any]]:
    """One row a case and finding, of all shards; a case that is not done has one row."""
    timings = read_timings(folder.path)
    rows: list[dict[str, Any]] = []
    for case in plan.cases:
        timing = timings.get(case.name)
        steps = ("read", "inference", "write", "wait") if timing else ()
        taken = {f"{step}_s": round(getattr(timing, step), 3) for step in steps}
        record = folder.record(case.name, request_of(case))
        if record is None:
            failure = folder.failure(case.name)
            state = "waiting" if failure is None else "failed"
            rows.append({"case": case.name, "state": state, "warnings": failure or ""})
            continue
        rows += [_row(case.name, found, record["notes"], taken) for found in record["findings"]]
    return rows


def _row(name: str, found: Mapping[str, Any], notes: Sequence[str], taken: Mapping[str, Any]) -> dict[str, Any]:
    shared = {key: found[key] for key in ("finding", "ml", "voxels", "presence", "uncertainty", "disagreement")}
    return {"case": name, "state": "done", **shared, **taken, "warnings": "; ".join([*found["warnings"], *notes])}


def failures(plan: Plan, folder: BatchFolder) -> list[tuple[str, str]]:
    """Cases that failed for good, with the reason."""
    told = [(case.name, folder.failure(case.name)) for case in plan.cases]
    return [(name, reason) for name, reason in told if reason is not None]


def write_summary(plan: Plan, folder: BatchFolder, run: Run) -> list[dict[str, Any]]:
    """Write `summary.csv` (one row a case and finding) and `summary.json` (with what was skipped, and the run).

    Returns:
        the rows.
    """
    rows = summary_rows(plan, folder)
    content = {
        "run": asdict(run),
        "time": time_in_model(read_timings(folder.path).values()),
        "cases": rows,
        "skipped": [{"series_uid": s.series_uid, "reason": s.reason} for s in plan.skipped],
        "use": DISCLAIMER,
    }
    table, everything = folder.path / "summary.csv", folder.path / "summary.json"
    with whole_files(table, everything) as (csv_file, json_file):
        with csv_file.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, SUMMARY_COLUMNS, restval="")
            writer.writeheader()
            writer.writerows(rows)
        json_file.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return rows


def write_names(plan: Plan, folder: BatchFolder) -> None:
    """Write `names.local.csv`: which case is which file or series, and what was skipped; may name patients."""
    path = folder.path / "names.local.csv"
    with (
        whole_files(path) as (temporary,),
        # names that are no text in the system's encoding keep their bytes
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(["case", "path", "series_uid", "skipped_because"])
        writer.writerows([case.name, case.path, case.series_uid, ""] for case in plan.cases)
        writer.writerows(["", skipped.path, skipped.series_uid, skipped.reason] for skipped in plan.skipped)
