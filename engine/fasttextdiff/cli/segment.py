"""`segment`: segments one image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    command,
)
from fasttextdiff.cli.common import load_segmenter, note, pair, progress_bar, read_image, say, utf8_text
from fasttextdiff.errors import UsageError
from fasttextdiff.render.tables import show_table

if TYPE_CHECKING:
    from fasttextdiff.result import SegmentationResult


@command(app, no_args_is_help=True)
def segment(
    image: Annotated[
        Path, typer.Argument(metavar="INPUT", help="DICOM folder or file, NIfTI, NRRD, MHA, PNG, JPEG, TIFF.")
    ],
    finding: Annotated[list[str], typer.Option("--finding", "-f", help="What to look for; repeat for several.")],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="Result: .seg.nrrd (3D Slicer), .nii.gz, .dcm or .labelmap.dcm (DICOM SEG)."
        ),
    ],
    preview: Annotated[Path | None, typer.Option(help="PNG picture of the result.")] = None,
    uncertainty: Annotated[
        Path | None,
        typer.Option(help="Uncertainty map (entropy in bits), .nii.gz or .nrrd."),
    ] = None,
    fractional: Annotated[bool, typer.Option("--fractional", help="Probabilities instead of masks in .dcm.")] = False,
    samples: SamplesOption = 1,
    seed: SeedOption = 0,
    slices: Annotated[
        str | None, typer.Option(metavar="A:B", help="Slices A to B-1, from 0; all if not given.")
    ] = None,
    plane: PlaneOption = "acquisition",
    window: Annotated[
        str | None,
        typer.Option(metavar="LEVEL,WIDTH", help="Window instead of the one the model was trained with."),
    ] = None,
    threshold: ThresholdOption = None,
    modality: Annotated[
        str | None, typer.Option(help="ct, mr, xray, histology or other; guessed if not given.")
    ] = None,
    series: Annotated[str | None, typer.Option(help="Series Instance UID, for a folder with several series.")] = None,
    slice_by_slice: SliceBySliceOption = False,
    try_anyway: TryAnywayOption = False,
    nan_as_air: NanAsAirOption = False,
    model: ModelOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    runtime: RuntimeOption = "auto",
    adapter: AdapterOption = None,
    verbose: Verbose = False,
) -> None:
    """Segment an image from typed findings, and write the masks on its grid.

    Sides are the patient's: "left lung" is on the right of a radiological picture.
    """
    from fasttextdiff.io.write import (
        check_not_source,
        check_segmentation_source,
        segmentation_notes,
        write_segmentation,
    )
    from fasttextdiff.model.info import require_words
    from fasttextdiff.option_rules import check_options
    from fasttextdiff.version import DISCLAIMER

    options: dict[str, Any] = {
        "slices": pair(slices, ":", int, "--slices"),
        "window": pair(window, ",", float, "--window"),
    }
    check_options(**options)
    options |= {"slice_by_slice": slice_by_slice, "try_anyway": try_anyway}
    options |= {"plane": plane, "samples": samples, "seed": seed, "threshold": threshold}
    finding = [utf8_text(text) for text in finding]
    for text in finding:
        require_words(text)
    outputs = _check_outputs(image, output, fractional, preview, uncertainty)
    volume = read_image(image, modality, series, nan_as_air)
    check_segmentation_source(volume, output)
    check_not_source(outputs, volume)
    segmenter = load_segmenter(model, device, dtype, runtime, adapter or ())
    segmenter.check_findings(finding)
    with progress_bar("segmenting") as progress:
        result = segmenter.segment(volume, finding, progress=progress, **options)
    for line in result.volume.source.notes:
        if line not in volume.source.notes:
            note(line)
    _write_extras(result, preview, uncertainty)
    written = write_segmentation(result, output, fractional=fractional)
    _show_result(result)
    for line in segmentation_notes(result, output):
        note(line)
    say(f"wrote {', '.join(str(p) for p in [*written, *filter(None, (preview, uncertainty))])}")
    say(DISCLAIMER)


def _check_outputs(
    image: Path, output: Path, fractional: bool, preview: Path | None, uncertainty: Path | None
) -> list[Path]:
    """Check early that the outputs can be written; returns all files that will be written."""
    from fasttextdiff.io.atomic import check_writable
    from fasttextdiff.io.overwriting import files_of, require_apart, require_own_record
    from fasttextdiff.io.write import check_segmentation_path, check_uncertainty_path, segmentation_files

    check_segmentation_path(output, fractional)
    if preview is not None and preview.suffix.lower() != ".png":
        raise UsageError(f"a preview must be a .png file, not {preview.name}")
    if uncertainty is not None:
        check_uncertainty_path(uncertainty)
    outputs = [*segmentation_files(output), *filter(None, (preview, uncertainty))]
    for path in outputs:
        check_writable(path)
    require_apart(outputs, files_of(image))
    for record in segmentation_files(output)[1:]:
        require_own_record(record)
    return outputs


def _write_extras(result: SegmentationResult, preview: Path | None, uncertainty: Path | None) -> None:
    from fasttextdiff.io.write import write_uncertainty
    from fasttextdiff.render.contact_sheet import write_preview

    if uncertainty is not None:
        write_uncertainty(result, uncertainty)
    if preview is not None:
        write_preview(result, preview)


def _show_result(result: SegmentationResult) -> None:
    from fasttextdiff.segments.tags import presence_text

    volume = result.volume
    unit = "pixels" if volume.is_planar else "ml"
    rows = []
    for found in result.findings:
        voxels = int(found.mask.sum())
        amount = f"{voxels:,}" if volume.is_planar else f"{voxels * volume.voxel_ml:.1f}"
        if found.adapter:
            note(f"learned here: {found.adapter}")
        rows.append((found.finding, amount if voxels else found.absence, presence_text(found.presence)))
        for warning in found.warnings:
            note(warning)
    show_table(result.provenance.model, ("finding", unit, "presence"), rows)
