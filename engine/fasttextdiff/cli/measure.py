"""`measure`: measures the segments of one image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fasttextdiff.cli.app import NanAsAirOption, Verbose, app, command
from fasttextdiff.cli.common import note, read_image, say
from fasttextdiff.errors import UsageError
from fasttextdiff.render.tables import show_table

if TYPE_CHECKING:
    from fasttextdiff.image.volume import Volume


@command(app, no_args_is_help=True)
def measure(
    image: Annotated[Path, typer.Argument(metavar="INPUT", help="The image, as for segment.")],
    segmentation: Annotated[
        Path, typer.Argument(metavar="SEGMENTATION", help="Its segments: .seg.nrrd, .nii.gz or .dcm, also edited ones.")
    ],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Table to write, .csv.")] = None,
    report: Annotated[
        Path | None, typer.Option(help="DICOM SR to write, .dcm; SEGMENTATION must be a DICOM SEG.")
    ] = None,
    modality: Annotated[
        str | None, typer.Option(help="ct, mr, xray, histology or other; guessed if not given.")
    ] = None,
    series: Annotated[str | None, typer.Option(help="Series Instance UID, for a folder with several series.")] = None,
    nan_as_air: NanAsAirOption = False,
    verbose: Verbose = False,
) -> None:
    """Measure segments: volume or area, diameters, intensities, parts, share of the lungs.

    Diameters are the longest one within a slice and the longest at right angles to it. Segments that are coded or named
    as a lung are the lungs. Research use only.
    """
    from fasttextdiff.contract.measurements import table_rows
    from fasttextdiff.io.measurement_files import write_measurements
    from fasttextdiff.io.read_segmentation import read_segmentation
    from fasttextdiff.io.write_dicom_sr import check_report_source
    from fasttextdiff.segments.measuring import measure_segments, measuring_notes

    _check_outputs(image, segmentation, output, report)
    volume = read_image(image, modality, series, nan_as_air)
    _check_not_source(volume, output, report)
    if report is not None:
        check_report_source(volume, segmentation)
    measured = measure_segments(volume, read_segmentation(segmentation, volume))
    for line in measuring_notes(volume):
        note(line)
    headings, rows = table_rows(measured)
    written = write_measurements(volume, measured, output, report, segmentation)
    turned = list(zip(headings, *rows, strict=True))  # a terminal is too narrow for one line per segment
    show_table(image.name, turned[0], turned[1:])
    if written:
        say(f"wrote {', '.join(map(str, written))}")


def _check_outputs(image: Path, segmentation: Path, output: Path | None, report: Path | None) -> None:
    """Check early that the outputs can be written."""
    from fasttextdiff.io.atomic import check_writable
    from fasttextdiff.io.overwriting import files_of, require_apart
    from fasttextdiff.io.write_dicom_sr import check_new_report

    for path, ending in ((output, ".csv"), (report, ".dcm")):
        if path is not None and path.suffix.lower() != ending:
            raise UsageError(f"cannot write {path.name!r}: its name must end in {ending}")
    if report is not None:
        check_new_report(report)
    outputs = [path for path in (output, report) if path is not None]
    for path in outputs:
        check_writable(path)
    require_apart(outputs, [*files_of(image), segmentation])


def _check_not_source(volume: Volume, *outputs: Path | None) -> None:
    from fasttextdiff.io.write import check_not_source

    check_not_source([path for path in outputs if path is not None], volume)
