"""Runs the unfinished cases of a plan and records the results.

Knows the plan, the output folder and the outcomes of workers; knows nothing about processes or models.
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
    model: str | None,
    formats: Sequence[str],
    device: str,
    dtype: str,
    fractional: bool,
    started: str,
    runtime: str = "auto",
    adapters: Sequence[str] = (),
) -> Run:
    """The settings of a batch, checked before it starts.

    Raises:
        UsageError: a format, device, dtype, runtime or model is unknown, or two adapters have a word in common.
        ModelError: an adapter is damaged or was learned on another model.
    """
    from fasttextdiff.model.places import weights_hash
    from fasttextdiff.model.runtimes import check_choice

    endings = tuple(name if name.startswith(".") else f".{name}" for name in dict.fromkeys(formats))
    if unknown := [ending for ending in endings if ending not in FORMATS]:
        raise UsageError(f"'{unknown[0]}' is not a format: use {', '.join(FORMATS)}")
    check_choice(device, dtype, runtime)
    name = str(Path(model).resolve()) if model and Path(model).is_dir() else model or ""
    weights, files = weights_hash(model), tuple(str(Path(file).resolve()) for file in adapters)
    hashes = _adapter_hashes(files, weights, model or "the bundled model")
    return Run(name, weights, endings, device, dtype, fractional, started, runtime, files, hashes)


def _adapter_hashes(files: Sequence[str], weights: str, model: str) -> tuple[str, ...]:
    """Hashes of adapters that fit the model, and of the words that they answer."""
    if not files:
        return ()
    from fasttextdiff.teaching.answers import Adapters
    from fasttextdiff.teaching.in_use import load_adapters

    fitting = Adapters.for_model(load_adapters(files), weights, model).all
    return tuple(adapter.sha256_with_words() for adapter in fitting)


class Workers(Protocol):
    """Runs cases: on processes of this machine or on a cluster."""

    def outcomes(self, cases: Sequence[Case]) -> Iterator[Started | Outcome]:
        """Run all cases, and report each when it starts and ends; closing the iterator stops the run."""


def shard_of(cases: Sequence[Case], shard: tuple[int, int]) -> list[Case]:
    """Every N-th case from the K-th on, for a shard (K, N) with K from 1."""
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
    """Run the cases that are not done yet.

    Args:
        plan: all cases of the batch.
        folder: locked by the caller.
        run: as stored in the folder.
        workers: run the cases.
        shard: (K, N), the part of the plan to run.
        retry_failed: whether to try cases again that failed in an earlier run.
        listener: receives every case, and the counts at the start and after each case.

    Returns:
        The counts; cases are left if the workers were stopped.

    Raises:
        UsageError: a case was done with other findings or options.
        FastTextDiffError: no more cases can be written, e.g. on a full disk; rerun to resume.
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
    for event in workers.outcomes(todo):
        if begun is None:  # a cluster may report the end of a case before its start
            begun = time.monotonic() - (event.timing.total if isinstance(event, Outcome) else 0.0)
        if isinstance(event, Started):
            listener.started(event.name)
            continue
        _require_not_fatal(event, tally)
        tally = replace(_counted(tally, event), seconds=time.monotonic() - begun)
        if event.message:
            folder.fail(event.name, event.message, event.details)
            listener.ended(event, None)
        else:
            add_timing(timings, event)
            listener.ended(event, folder.record(event.name, request_of(left[event.name])))
        listener.progressed(tally)
    return tally


def _require_not_fatal(outcome: Outcome, tally: Tally) -> None:
    if outcome.fatal:
        raise FastTextDiffError(
            f"{outcome.message}; {tally.ended} of {tally.total} cases are done or failed: free some space, then "
            "rerun the same command to resume"
        )


def _counted(tally: Tally, outcome: Outcome) -> Tally:
    return replace(tally, failed=tally.failed + 1) if outcome.message else replace(tally, done=tally.done + 1)


def add_timing(path: Path, outcome: Outcome) -> None:
    """Append a case's timing to a CSV file; not part of the records, which are the same in every run."""
    numbers = astuple(outcome.timing)[:-1]
    with path.open("a", encoding="utf-8", newline="") as file:
        csv.writer(file).writerow([outcome.name, *(f"{number:.3f}" for number in numbers), outcome.timing.worker])


def read_timings(folder: Path) -> dict[str, Timing]:
    """The timing of each case, from all shards; lines truncated by a crash are ignored."""
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
    """The share of the workers' time spent in the model; the rest was reading, writing and waiting.

    Returns:
        `model_s`: seconds in the model; `workers_s`: seconds from the first start to the last end of a case, summed
        over worker processes; `model_share`: their ratio, None without cases.
    """
    of_worker: dict[str, list[Timing]] = {}
    for timing in timings:
        of_worker.setdefault(timing.worker, []).append(timing)
    spans = [max(t.begun + t.total for t in ts) - min(t.begun for t in ts) for ts in of_worker.values()]
    model, workers = sum(t.inference for ts in of_worker.values() for t in ts), sum(spans)
    share = round(model / workers, 4) if workers else None
    return {"model_s": round(model, 3), "workers_s": round(workers, 3), "model_share": share}


def summary_rows(plan: Plan, folder: BatchFolder) -> list[dict[str, Any]]:
    """One row per finding of each case, from all shards; a case that is not done has one row."""
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
    """Failed cases, with the reason."""
    logged = [(case.name, folder.failure(case.name)) for case in plan.cases]
    return [(name, reason) for name, reason in logged if reason is not None]


def write_summary(plan: Plan, folder: BatchFolder, run: Run) -> list[dict[str, Any]]:
    """Write `summary.csv` (one row per finding of each case) and `summary.json` (also skipped files and settings).

    Of shards that end together, the last to write has seen the cases of all.

    Returns:
        The rows.
    """
    with folder.alone():
        rows = summary_rows(plan, folder)
        content = {
            "run": asdict(run),
            "time": time_in_model(read_timings(folder.path).values()),
            "cases": rows,
            "skipped": [{"series_uid": s.series_uid, "reason": s.reason} for s in plan.skipped],
            "use": DISCLAIMER,
        }
        _write_summary(folder.path, rows, content)
    return rows


def _write_summary(folder: Path, rows: Sequence[Mapping[str, Any]], content: Mapping[str, Any]) -> None:
    with whole_files(folder / "summary.csv", folder / "summary.json") as (csv_file, json_file):
        with csv_file.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, SUMMARY_COLUMNS, restval="")
            writer.writeheader()
            writer.writerows(rows)
        json_file.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_names(plan: Plan, folder: BatchFolder) -> None:
    """Write `names.local.csv`: the file or series of each case, and what was skipped. It may name patients."""
    path = folder.path / "names.local.csv"
    with (
        whole_files(path) as (temporary,),
        # file names that are not valid in the system's encoding keep their bytes
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(["case", "path", "series_uid", "skipped_because"])
        writer.writerows([case.name, case.path, case.series_uid, ""] for case in plan.cases)
        writer.writerows(["", skipped.path, skipped.series_uid, skipped.reason] for skipped in plan.skipped)
