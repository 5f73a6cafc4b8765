"""Cases on a Dask cluster: every worker loads the model once, and a lost worker's cases are run again by others.

Knows Dask; the outputs go to a folder that all workers share, and are those of a local run.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fasttextdiff.batch.events import Outcome
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
        except (OSError, TimeoutError, ValueError, TypeError) as error:  # a TypeError where certificates lack
            raise UsageError(
                f"there is no Dask scheduler at {scheduler}, or it does not trust us: {one_line(error)}"
            ) from error

    def outcomes(self, cases: Sequence[Case]) -> Iterator[Outcome]:
        """As of any workers. A case whose worker is lost goes to another one; Dask gives it up after four losses."""
        from dask.distributed import as_completed

        resources = {GPU: 1} if self.run.device.startswith("cuda") else {}
        futures = [
            self.client.submit(
                run_case,
                case,
                self.run,
                str(self.folder),
                key=f"fasttextdiff-{case.name}",
                pure=False,
                retries=0,
                resources=resources,
            )
            for case in cases
        ]
        by_key = {future.key: case for future, case in zip(futures, cases, strict=True)}
        self.stop.then(lambda: self.client.cancel(futures, force=True))  # completes them, so that the loop goes on
        try:
            for future in as_completed(futures):
                if self.stop.is_set():
                    return
                if future.status == "finished":
                    yield future.result()
                else:
                    yield failure(by_key[future.key], future.exception())
        finally:
            self.client.cancel(futures, force=True)
            self.client.close()


def _security(scheduler: str, certificates: Certificates) -> Any:
    """What Dask wants to know about certificates; None leaves it to its configuration."""
    if not any(certificates):
        return None
    if not all(certificates) or not scheduler.startswith("tls://"):
        raise UsageError(
            "--tls-ca-file, --tls-cert and --tls-key go together, with a --scheduler that begins with tls://"
        )
    for file in certificates:
        if not Path(str(file)).is_file():
            raise UsageError(f"{file}: no such file")
    from dask.distributed import Security

    authority, certificate, key = certificates
    return Security(tls_ca_file=authority, tls_client_cert=certificate, tls_client_key=key, require_encryption=True)


def run_case(case: Case, run: Run, folder: str) -> Outcome:
    """One case from file to record, on whatever worker this is; tried as often as a local one."""
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
