"""Runs cases on a Dask cluster: every worker loads the model once, and cases of a lost worker are run by others.

Knows Dask. The outputs go to a folder that all workers share and are the same as from a local run.
"""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from fasttextdiff.batch.events import Outcome, Started
from fasttextdiff.batch.folder import BatchFolder, Run
from fasttextdiff.batch.plan import Case
from fasttextdiff.batch.processes import ATTEMPTS, failure, in_three_steps
from fasttextdiff.batch.stopping import Stop
from fasttextdiff.batch.work import load_segmenter
from fasttextdiff.errors import FastTextDiffError, UsageError, one_line

GPU = "GPU"
"""Dask resource of a worker with a GPU: `dask worker ... --resources GPU=1`."""


Certificates = tuple[str | None, str | None, str | None]


class ClusterTasks:
    """Runs named tasks on the workers of a Dask scheduler.

    Args:
        scheduler: address, e.g. "tcp://host:8786" or "tls://host:8786", or a `dask.distributed.LocalCluster`.
        stop: ends the run early; tasks in progress are still finished.
        certificates: PEM files of the authority's certificate, our certificate and its key, for `tls://`; without any,
            Dask's own configuration is used.

    Raises:
        UsageError: Dask is not installed, there is no scheduler, or it rejects the certificates.
    """

    def __init__(self, scheduler: Any, stop: Stop, certificates: Certificates = (None, None, None)) -> None:
        try:
            from dask.distributed import Client
        except ImportError:
            raise UsageError("--scheduler needs Dask: pip install 'fasttextdiff[cluster]'") from None
        self.stop = stop
        try:
            self.client: Any = Client(scheduler, timeout=20, security=_security(str(scheduler), certificates))
        except (OSError, TimeoutError, ValueError) as error:
            raise UsageError(
                f"there is no Dask scheduler at {scheduler}, or it rejects our certificate: {one_line(error)}"
            ) from error

    def results(
        self, work: Callable[..., Any], tasks: Mapping[str, Sequence[Any]], gpu: bool
    ) -> Iterator[Started | tuple[str, Any]]:
        """Run all tasks; report each when it starts, and its value or exception when it ends.

        A task of a lost worker goes to another one; Dask gives it up after some losses.

        Args:
            work: called on a worker with a task's arguments and a topic; it calls :func:`announce` first.
            tasks: arguments by name.
            gpu: whether a task needs a worker with a GPU.

        Raises:
            FastTextDiffError: the scheduler is gone.
        """
        batch = f"fasttextdiff-{uuid.uuid4().hex}"  # Dask identifies tasks by name and may be running other batches
        events: SimpleQueue[Any] = SimpleQueue()
        self.client.subscribe_topic(batch, lambda event: events.put(Started(event[1])))
        self.stop.then(lambda: events.put(None))
        resources = {GPU: 1} if gpu else {}
        futures = {
            self.client.submit(
                work, *arguments, batch, key=f"{batch}-{name}", pure=False, retries=0, resources=resources
            ): name
            for name, arguments in tasks.items()
        }
        for future in futures:
            future.add_done_callback(events.put)
        try:
            while futures and (one := events.get()) is not None:
                yield one if isinstance(one, Started) else (futures.pop(one), _ended(one))
        finally:
            self.client.cancel(list(futures), force=True)
            self.client.close()


def announce(topic: str, name: str) -> None:
    """On a worker: tell the client that a task has started."""
    from dask.distributed import get_worker

    get_worker().log_event(topic, name)


def _ended(future: Any) -> Any:
    """The value of a task, or the exception that ended it."""
    if future.status == "finished":
        return future.result()
    if future.status == "error":
        return future.exception()
    raise FastTextDiffError("the Dask scheduler is gone; start one and rerun the same command to resume")


class ClusterWorkers:
    """Runs cases on the workers of a Dask scheduler.

    Args:
        folder: for the outputs, under the same path on all workers.
        run: settings shared by all cases.
        scheduler: as for :class:`ClusterTasks`.
        stop: as for :class:`ClusterTasks`.
        certificates: as for :class:`ClusterTasks`.

    Raises:
        UsageError: as for :class:`ClusterTasks`.
    """

    def __init__(self, folder: Path, run: Run, scheduler: str, stop: Stop, certificates: Certificates) -> None:
        self.folder, self.run = folder.resolve(), run
        self.tasks = ClusterTasks(scheduler, stop, certificates)

    def outcomes(self, cases: Sequence[Case]) -> Iterator[Started | Outcome]:
        """See `Workers.outcomes`. A case of a lost worker goes to another one; Dask gives it up after four losses.

        Raises:
            FastTextDiffError: the scheduler is gone.
        """
        by_name = {case.name: case for case in cases}
        tasks = {name: (case, self.run, str(self.folder)) for name, case in by_name.items()}
        for event in self.tasks.results(run_case, tasks, self.run.device.startswith("cuda")):
            if isinstance(event, Started):
                yield event
                continue
            name, ended = event
            yield ended if isinstance(ended, Outcome) else failure(by_name[name], ended)


def _security(scheduler: str, certificates: Certificates) -> Any:
    """Certificates for Dask; None leaves them to its configuration."""
    import dask
    from dask.distributed import Security

    if not any(certificates):
        if scheduler.startswith("tls://") and not dask.config.get("distributed.comm.tls.ca-file", None):
            raise UsageError("a tls:// scheduler needs --tls-ca-file, --tls-cert and --tls-key")
        return None
    if not all(certificates) or not scheduler.startswith("tls://"):
        raise UsageError(
            "--tls-ca-file, --tls-cert and --tls-key go together, with a --scheduler that begins with tls://"
        )
    for file in certificates:
        if not Path(str(file)).is_file():
            raise UsageError(f"{file}: no such file")
    authority, certificate, key = certificates
    return Security(tls_ca_file=authority, tls_client_cert=certificate, tls_client_key=key, require_encryption=True)


def run_case(case: Case, run: Run, folder: str, topic: str) -> Outcome:
    """Run one case on a worker of the cluster, with as many tries as locally; the start is published on `topic`."""
    announce(topic, case.name)
    outputs = BatchFolder(Path(folder))
    try:
        segmenter = _segmenter(run)
    except FastTextDiffError as error:
        return failure(case, error)
    for _ in range(ATTEMPTS):
        outcome = in_three_steps(case, run, segmenter, outputs)
        if not outcome.message or outcome.fatal:
            break
    return outcome


@functools.cache
def _segmenter(run: Run) -> Any:
    """This process's model."""
    return load_segmenter(run)
