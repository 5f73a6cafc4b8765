"""Cases on a Dask cluster: every worker loads the model once, and a lost worker's cases are run again by others.

Knows Dask; the outputs go to a folder that all workers share, and are those of a local run.
"""

from __future__ import annotations

import functools
import uuid
from collections.abc import Iterator, Sequence
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
"""Name of the resource that a worker with a GPU is started with: `dask worker ... --resources GPU=1`."""


Certificates = tuple[str | None, str | None, str | None]


class ClusterWorkers:
    """Runs cases on the workers of a Dask scheduler.

    Args:
        folder: of the outputs; all workers see it under the same path.
        run: what all cases have in common.
        scheduler: address, e.g. "tcp://host:8786" or "tls://host:8786".
        stop: ends the work early; a case that a worker is at is finished there all the same.
        certificates: of the authority, our own, and its key, as PEM files, for `tls://`; without any, what Dask's own
            configuration says.

    Raises:
        UsageError: Dask is not installed, there is no scheduler, or it does not trust the certificates.
    """

    def __init__(self, folder: Path, run: Run, scheduler: str, stop: Stop, certificates: Certificates) -> None:
        try:
            from dask.distributed import Client
        except ImportError:
            raise UsageError("--scheduler needs Dask: pip install 'fasttextdiff[cluster]'") from None
        self.folder, self.run, self.stop = folder.resolve(), run, stop
        try:
            self.client: Any = Client(scheduler, timeout=20, security=_security(scheduler, certificates))
        except (OSError, TimeoutError, ValueError) as error:
            raise UsageError(
                f"there is no Dask scheduler at {scheduler}, or it does not trust us: {one_line(error)}"
            ) from error

    def outcomes(self, cases: Sequence[Case]) -> Iterator[Started | Outcome]:
        """As of any workers. A case whose worker is lost goes to another one; Dask gives it up after four losses.

        Raises:
            FastTextDiffError: the scheduler is gone.
        """
        batch = f"fasttextdiff-{uuid.uuid4().hex}"  # Dask knows a task by its name, and may be at other batches
        told: SimpleQueue[Any] = SimpleQueue()
        self.client.subscribe_topic(batch, lambda event: told.put(Started(event[1])))
        self.stop.then(lambda: told.put(None))
        futures = {self._submit(case, batch): case for case in cases}
        for future in futures:
            future.add_done_callback(told.put)
        try:
            while futures and (one := told.get()) is not None:
                if isinstance(one, Started):
                    yield one
                else:
                    yield self._outcome(futures.pop(one), one)
        finally:
            self.client.cancel(list(futures), force=True)
            self.client.close()

    def _outcome(self, case: Case, future: Any) -> Outcome:
        if future.status == "finished":
            told: Outcome = future.result()
            return told
        if future.status == "error":
            return failure(case, future.exception())
        raise FastTextDiffError("the Dask scheduler is gone; start one and rerun the same command to resume")

    def _submit(self, case: Case, batch: str) -> Any:
        return self.client.submit(
            run_case,
            case,
            self.run,
            str(self.folder),
            batch,
            key=f"{batch}-{case.name}",
            pure=False,
            retries=0,
            resources={GPU: 1} if self.run.device.startswith("cuda") else {},
        )


def _security(scheduler: str, certificates: Certificates) -> Any:
    """What Dask wants to know about certificates; None leaves it to its configuration."""
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
    """One case from file to record, on whatever worker this is; tried as often as a local one. `topic` hears of it."""
    from dask.distributed import get_worker

    get_worker().log_event(topic, case.name)
    outputs = BatchFolder(Path(folder))
    try:
        segmenter = _segmenter(run)
    except FastTextDiffError as error:
        return failure(case, error)
    for _ in range(ATTEMPTS):
        outcome = in_three_steps(case, run, segmenter, outputs)
        if not outcome.message or outcome.hopeless:
            break
    return outcome


@functools.cache
def _segmenter(run: Run) -> Any:
    """This process's model."""
    return load_segmenter(run)
