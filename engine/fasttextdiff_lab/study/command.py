"""`study`: trains and evaluates a grid of systems. Knows arguments only."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fasttextdiff.cli.app import Verbose, checked
from fasttextdiff.cli.common import say
from fasttextdiff.errors import Cancelled, FastTextDiffError


def study(
    definition: Annotated[Path, typer.Argument(metavar="STUDY", help="YAML file, see fasttextdiff_lab/configs/study.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for all results; the same folder resumes.")],
    workers: Annotated[
        int, typer.Option(min=1, callback=checked, help="Processes on this machine; 1 for comparable times.")
    ] = 1,
    scheduler: Annotated[str | None, typer.Option(help="Address of a Dask scheduler, instead of --workers.")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try cells again that failed earlier.")] = False,
    verbose: Verbose = False,
) -> None:
    """Train and evaluate systems under equal conditions; rerun the same command to resume.

    Exit code 0: all cells are done, 1: some failed; the report has their reasons.
    """
    from fasttextdiff_lab.study.definition import read_study
    from fasttextdiff_lab.study.runner import run_study

    wanted = read_study(definition)
    try:
        content = run_study(wanted, output, say, workers=workers, scheduler=scheduler, retry_failed=retry_failed)
    except KeyboardInterrupt:
        raise Cancelled("stopped: finished cells are kept; rerun the same command to resume") from None
    failed = content["cells"]["failed"]
    if failed:
        raise FastTextDiffError(f"{len(failed)} of {content['cells']['all']} cells failed: see report.html")
