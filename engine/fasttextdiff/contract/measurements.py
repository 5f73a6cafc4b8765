"""Measurements of a segment: their names and units, as a table and as CSV. Knows nothing about how they are taken."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class SegmentMeasurements:
    """What was measured of one segment; null where it does not apply or is not known.

    Attributes:
        name: the segment's name.
        voxels: number of its voxels.
        volume_ml: millilitres; null for a picture.
        area_mm2: square millimetres, of a picture whose pixel size is known.
        longest_mm: longest diameter within one slice, of all its parts on all slices.
        perpendicular_mm: longest diameter at right angles to it, on the same slice.
        slice_number: the slice of these two, from 1.
        plane: the plane of this slice: "axial", "coronal" or "sagittal"; empty for a picture.
        mean: mean intensity, in Hounsfield units for a CT.
        sd: standard deviation of the intensity (n - 1).
        p5: 5th percentile of the intensity; also 25th, 50th, 75th and 95th.
        p25: 25th percentile.
        p50: median.
        p75: 75th percentile.
        p95: 95th percentile.
        unit: "HU" for a CT; empty for other intensities.
        parts: number of parts that touch nowhere by a face, as Slicer's Islands counts them.
        lung_percent: share of the segmented lungs that it takes up; null without a lung, and for a lung.
        lungs: names of the segments that count as lungs.
    """

    name: str
    voxels: int
    volume_ml: float | None = None
    area_mm2: float | None = None
    longest_mm: float | None = None
    perpendicular_mm: float | None = None
    slice_number: int | None = None
    plane: str = ""
    mean: float | None = None
    sd: float | None = None
    p5: float | None = None
    p25: float | None = None
    p50: float | None = None
    p75: float | None = None
    p95: float | None = None
    unit: str = ""
    parts: int = 0
    lung_percent: float | None = None
    lungs: str = ""


COLUMNS: tuple[tuple[str, str, int], ...] = (
    ("name", "segment", 0),
    ("volume_ml", "volume (ml)", 3),
    ("area_mm2", "area (mm2)", 1),
    ("longest_mm", "longest diameter (mm)", 1),
    ("perpendicular_mm", "perpendicular (mm)", 1),
    ("slice_number", "slice (from 1)", 0),
    ("plane", "plane", 0),
    ("mean", "mean", 1),
    ("sd", "SD", 1),
    ("p5", "5 %", 1),
    ("p25", "25 %", 1),
    ("p50", "median", 1),
    ("p75", "75 %", 1),
    ("p95", "95 %", 1),
    ("unit", "unit", 0),
    ("voxels", "voxels", 0),
    ("parts", "parts", 0),
    ("lung_percent", "share of lungs (%)", 1),
    ("lungs", "lungs", 0),
)
"""Field, heading and decimal places of each column."""


def table_rows(measured: Sequence[SegmentMeasurements]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows as text, without the columns that are empty in all rows."""
    cells = [[_text(getattr(each, field), places) for field, _, places in COLUMNS] for each in measured]
    used = [n for n in range(len(COLUMNS)) if n == 0 or any(row[n] for row in cells)]
    return [COLUMNS[n][1] for n in used], [[row[n] for n in used] for row in cells]


def csv_text(measured: Sequence[SegmentMeasurements], image: str) -> str:
    """All columns as CSV (RFC 4180), one line per segment, with the name of the image in the first column."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)
    writer.writerow(["image", *(heading for _, heading, _ in COLUMNS)])
    for each in measured:
        writer.writerow([image, *(_text(getattr(each, field), places) for field, _, places in COLUMNS)])
    return stream.getvalue()


def _text(value: object, places: int) -> str:
    """A value with fixed decimal places; empty if there is none."""
    if value is None:
        return ""
    return f"{value:.{places}f}" if isinstance(value, float) else str(value)
