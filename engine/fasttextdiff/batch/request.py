"""A user's request for a batch, as stored with the results, and the run from the request to the summary.

Knows the order of the steps; other modules carry them out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fasttextdiff.batch.cases import find_cases
from fasttextdiff.batch.events import Listener, Tally
from fasttextdiff.batch.plan import CaseOptions, Plan
from fasttextdiff.batch.stopping import Stop
from fasttextdiff.contract.batch import DONE, FAILED, REQUEST_FILE, BatchOptions
from fasttextdiff.contract.fields import to_fields
from fasttextdiff.errors import UsageError
from fasttextdiff.io.atomic import whole_files
from fasttextdiff.option_rules import check_options
from fasttextdiff.paths import as_path

if TYPE_CHECKING:
    from fasttextdiff.batch.folder import BatchFolder, Run
    from fasttextdiff.batch.runner import Workers


@dataclass(frozen=True)
class BatchRequest(BatchOptions):
    """The options of a batch, with methods that find its cases and make its workers."""

    def __post_init__(self) -> None:
        """Expand the paths, and refuse an invalid number of workers."""
        check_options(workers=self.workers)
        object.__setattr__(self, "adapters", tuple(str(as_path(file)) for file in self.adapters))
        for name in ("source", "output"):
            object.__setattr__(self, name, as_path(getattr(self, name)))
        for name in ("tls_ca_file", "tls_cert", "tls_key"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, str(as_path(value)))

    def find(self, listener: Listener, stop: Stop) -> Plan:
        """Find the cases.

        Raises:
            UsageError: as `find_cases`, or an image is in the output folder.
            Cancelled: `stop` was set.
        """
        if self.output.is_file():
            raise UsageError(f"cannot write {self.output}: it is a file; choose another folder")
        if self.source.is_file() and self.output.resolve() in self.source.resolve().parents:
            raise UsageError(f"{self.source} is in the output folder {self.output}: choose another output folder")

        def looked(done: int, total: int) -> bool:
            listener.looked(done, total)
            return not stop.is_set()

        plan = find_cases(
            self.source,
            self.findings,
            CaseOptions(
                plane=self.plane,
                samples=self.samples,
                seed=self.seed,
                threshold=self.threshold,
                nan_as_air=self.nan_as_air,
                slice_by_slice=self.slice_by_slice,
                try_anyway=self.try_anyway,
            ),
            modality=self.modality,
            series=self.series,
            largest_series=self.largest_series,
            progress=looked,
        )
        _require_outside(plan, self.output)
        return plan

    def workers_for(self, run: Run, stop: Stop) -> Workers:
        """The workers for the cases."""
        if self.scheduler is not None:
            from fasttextdiff.batch.cluster import ClusterWorkers

            certificates = (self.tls_ca_file, self.tls_cert, self.tls_key)
            return ClusterWorkers(self.output, run, self.scheduler, stop, certificates)
        from fasttextdiff.batch.processes import LocalWorkers

        return LocalWorkers(self.output, run, self.workers, stop=stop)

    def write(self) -> None:
        """Store the request as `request.local.json` in the output folder. Its paths may name patients."""
        content = to_fields(self)
        content |= {"source": str(self.source.absolute()), "output": str(self.output.absolute())}
        with whole_files(self.output / REQUEST_FILE) as (temporary,):
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _require_outside(plan: Plan, output: Path) -> None:
    """Refuse images in the output folder, because a case's folder is emptied before it is written.

    Raises:
        UsageError: an image is in the output folder.
    """
    place = output.resolve()
    for case in plan.cases:
        for file in case.files or (case.path,):
            if place == file.resolve() or place in file.resolve().parents:
                raise UsageError(f"{file} is an input but is in the output folder: choose another folder")


def show_dry_run(request: BatchRequest, listener: Listener, stop: Stop) -> None:
    """Show what would be done, and write nothing."""
    listener.planned(request.find(listener, stop), {})


def perform(
    request: BatchRequest,
    listener: Listener,
    stop: Stop,
    *,
    shard: tuple[int, int] = (1, 1),
    retry_failed: bool = False,
) -> Tally:
    """Run a batch, or resume it.

    Args:
        request: the request.
        listener: receives all events.
        stop: ends the run early when it is set; finished cases are kept, unfinished ones removed.
        shard: (K, N), the part of the plan to run.
        retry_failed: whether to try cases again that failed in an earlier run.

    Returns:
        The counts at the end; cases are left if the run was stopped.

    Raises:
        UsageError: the request cannot be carried out, or this folder and shard is already running.
        FastTextDiffError: no more cases can be written, e.g. on a full disk; repeat the request to resume.
        Cancelled: `stop` was set before the cases were known.
    """
    from fasttextdiff.batch.folder import BatchFolder, start_time, system_errors
    from fasttextdiff.batch.runner import define_run, failures, run_batch, write_names, write_summary

    plan = request.find(listener, stop)
    run = define_run(
        request.model,
        request.formats,
        request.device,
        request.dtype,
        request.fractional,
        start_time(),
        request.runtime,
        request.adapters,
    )
    folder = BatchFolder(request.output)
    with folder.locked(shard), system_errors(request.output):
        run = folder.begin(run)
        write_names(plan, folder)
        request.write()
        listener.planned(plan, dict(_states(plan, folder)))
        workers = request.workers_for(run, stop)
        tally = run_batch(plan, folder, run, workers, shard=shard, retry_failed=retry_failed, listener=listener)
        write_summary(plan, folder, run)
    listener.finished(tally, plan, request.output, failures(plan, folder))
    return tally


def _states(plan: Plan, folder: BatchFolder) -> Iterator[tuple[str, str]]:
    """Name and state of the cases that ended in earlier runs."""
    from fasttextdiff.batch.work import request_of

    for case in plan.cases:
        if folder.record(case.name, request_of(case)) is not None:
            yield case.name, DONE
        elif folder.failure(case.name) is not None:
            yield case.name, FAILED
