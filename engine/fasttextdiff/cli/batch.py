"""`batch`: segments many images unattended."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fasttextdiff.cli.app import (
    AdapterOption,
    DeviceOption,
    DtypeOption,
    ModelOption,
    NanAsAirOption,
    PlaneOption,
    RuntimeOption,
    SamplesOption,
    SeedOption,
    SliceBySliceOption,
    ThresholdOption,
    TryAnywayOption,
    Verbose,
    app,
    checked,
    command,
)
from fasttextdiff.cli.common import pair, utf8_text
from fasttextdiff.errors import Cancelled, FastTextDiffError, UsageError

if TYPE_CHECKING:
    from fasttextdiff.batch.events import Listener
    from fasttextdiff.batch.stopping import Stop


@command(app, no_args_is_help=True)
def batch(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="Folder tree, job table (.csv, .json), or DICOMDIR.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for all results; rerun with the same folder to resume.")
    ],
    finding: Annotated[
        list[str] | None, typer.Option("--finding", "-f", help="What to look for; job tables may set it per row.")
    ] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", help=".seg.nrrd (default), .nii.gz, .dcm (DICOM SEG), .labelmap.dcm, .png or .html."),
    ] = None,
    fractional: Annotated[bool, typer.Option("--fractional", help="DICOM SEG with probabilities.")] = False,
    modality: Annotated[str | None, typer.Option(help="Only ct, mr, xray, histology or other.")] = None,
    series: Annotated[str | None, typer.Option(metavar="REGEX", help="Only series with matching name or UID.")] = None,
    largest_series: Annotated[bool, typer.Option("--largest-series", help="Only each study's largest series.")] = (
        False
    ),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be segmented and skipped.")] = False,
    workers: Annotated[
        int, typer.Option(min=1, callback=checked, help="Processes on this machine, one model each.")
    ] = 1,
    shard: Annotated[str, typer.Option(metavar="K/N", help="Only every N-th case from the K-th on.")] = "1/1",
    scheduler: Annotated[str | None, typer.Option(help="Address of a Dask scheduler, instead of --workers.")] = None,
    tls_ca_file: Annotated[str | None, typer.Option(help="For a tls:// scheduler: CA certificate, PEM.")] = None,
    tls_cert: Annotated[str | None, typer.Option(help="For a tls:// scheduler: our certificate, PEM.")] = None,
    tls_key: Annotated[str | None, typer.Option(help="For a tls:// scheduler: our private key, PEM.")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try cases again that failed earlier.")] = False,
    samples: SamplesOption = 1,
    seed: SeedOption = 0,
    threshold: ThresholdOption = None,
    plane: PlaneOption = "acquisition",
    slice_by_slice: SliceBySliceOption = False,
    try_anyway: TryAnywayOption = False,
    nan_as_air: NanAsAirOption = False,
    model: ModelOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    runtime: RuntimeOption = "auto",
    adapters: AdapterOption = None,
    json_lines: Annotated[
        bool, typer.Option("--json", help="For other programs: one JSON object per line on standard output.")
    ] = False,
    until_eof: Annotated[
        bool,
        typer.Option("--until-eof", help="Stop when standard input is closed, with exit code 130; rerun to resume."),
    ] = False,
    verbose: Verbose = False,
) -> None:
    """Segment many studies unattended; rerun the same command to resume an interrupted batch.

    Outputs are named by series UIDs or hashes; only names.local.csv has the mapping to files.
    Exit code 0: all done, 1: some cases failed, 2: wrong use, 130: stopped early.
    """
    from fasttextdiff.batch.request import BatchRequest, perform, show_dry_run
    from fasttextdiff.batch.stopping import Stop

    part = pair(shard, "/", int, "--shard")
    if part is None or not 1 <= part[0] <= part[1]:
        raise UsageError(f"--shard must be K/N with K from 1 to N, not '{shard}'")
    texts = tuple(utf8_text(text) for text in finding or ())
    request = BatchRequest(
        source, output, texts, tuple(formats or [".seg.nrrd"]), fractional, modality, series,
        largest_series, plane, samples, seed, threshold, model, device, dtype, workers, scheduler,
        tls_ca_file, tls_cert, tls_key, nan_as_air, slice_by_slice, try_anyway, runtime,
        tuple(adapters or ()),
    )  # fmt: skip
    stop = Stop()
    if until_eof:
        stop.at_end_of(0)
    with _batch_listener(stop, json_lines=json_lines, shows_plan=dry_run) as listener:
        try:
            if dry_run:
                show_dry_run(request, listener, stop)
                return
            tally = perform(request, listener, stop, shard=part, retry_failed=retry_failed)
        except KeyboardInterrupt:
            raise Cancelled("stopped: finished cases are kept; rerun the same command to resume") from None
    if tally.ended < tally.total:
        raise Cancelled(
            f"stopped: {tally.total - tally.ended} of {tally.total} cases are left; rerun the same command to resume"
        )
    if tally.failed:
        raise FastTextDiffError(
            f"{tally.failed} of {tally.total} cases failed: see their failed.log, or use --retry-failed"
        )


def _batch_listener(stop: Stop, *, json_lines: bool, shows_plan: bool) -> Listener:
    """The listener of a batch. For JSON lines, nothing else may write to standard output."""
    if not json_lines:
        from fasttextdiff.batch.listing import Terminal

        return Terminal(shows_plan=shows_plan)
    from fasttextdiff.batch.events import JsonLines
    from fasttextdiff.worker.server import Channel

    return JsonLines(Channel.take_over_stdout().write, stop.set)
