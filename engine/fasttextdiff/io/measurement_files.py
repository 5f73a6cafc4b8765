"""Writes measurements as CSV and as DICOM SR, both or none. Knows nothing about how values are measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fasttextdiff.contract.measurements import SegmentMeasurements, csv_text
from fasttextdiff.image.volume import Volume
from fasttextdiff.io.atomic import whole_files
from fasttextdiff.io.write_dicom_sr import write_report


def write_measurements(
    volume: Volume,
    measured: Sequence[SegmentMeasurements],
    table: Path | None,
    report: Path | None = None,
    segmentation: Path | None = None,
) -> list[Path]:
    """Write the measurements of a volume's segments; files are written completely or not at all.

    Args:
        volume: the image.
        measured: from :func:`fasttextdiff.segments.measuring.measure_segments`.
        table: CSV file; None for none.
        report: DICOM SR; None for none.
        segmentation: the DICOM Segmentation that the report refers to.

    Returns:
        The files written.

    Raises:
        FastTextDiffError: writing failed, or as :func:`fasttextdiff.io.write_dicom_sr.write_report`.
    """
    outputs = [path for path in (table, report) if path is not None]
    with whole_files(*outputs) as temporary:
        files = dict(zip(outputs, temporary, strict=True))
        if table is not None:
            text = csv_text(measured, Path(volume.source.path).name)
            files[table].write_text(text, encoding="utf-8-sig", newline="")
        if report is not None and segmentation is not None:
            write_report(volume, segmentation, measured, files[report])
    return outputs
