"""The three steps of a case, which can overlap with other cases: read, segment, write.

Knows the engine; knows nothing about processes or schedulers.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from fasttextdiff.batch.folder import BatchFolder, Run
from fasttextdiff.batch.nameless import without_names
from fasttextdiff.batch.page import case_page
from fasttextdiff.batch.plan import Case
from fasttextdiff.image.volume import Volume
from fasttextdiff.io.atomic import whole_files
from fasttextdiff.io.write import DICOM_LABEL_MAP, DICOM_SEG, write_segmentation
from fasttextdiff.render.contact_sheet import write_preview
from fasttextdiff.result import FindingResult, SegmentationResult, entropy
from fasttextdiff.segmenter import Segmenter
from fasttextdiff.teaching.in_use import load_adapters
from fasttextdiff.version import DISCLAIMER

PICTURE, PAGE = ".png", ".html"
FORMATS: tuple[str, ...] = (".seg.nrrd", ".nii.gz", DICOM_SEG, DICOM_LABEL_MAP, PICTURE, PAGE)
"""Output formats: segmentations for Slicer and others, DICOM SEG, a picture, and a page that also has the numbers."""


def load_segmenter(run: Run, threads: int | None = None) -> Segmenter:
    """Load the batch's model, and its learned findings."""
    segmenter = Segmenter(run.model or None, run.device, run.dtype, runtime=run.runtime, threads=threads)
    segmenter.use(load_adapters(run.adapters))
    return segmenter


def request_of(case: Case) -> dict[str, Any]:
    """The findings and options of a case, as recorded."""
    options = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(case.options).items()}
    options["nan_as_air"] = options["nan_as_air"] or None  # as in records from before this option existed
    return {"series_uid": case.series_uid, "images": case.images, "findings": list(case.findings), **options}


def read_case(case: Case) -> Volume:
    """Read the case's image. Its path, which may name a patient, is not written to any output."""
    volume = case.read()
    notes = tuple(without_names(note, case) for note in volume.source.notes)
    return replace(volume, source=replace(volume.source, path=case.name, notes=notes))


def segment_case(segmenter: Segmenter, volume: Volume, case: Case, run: Run) -> SegmentationResult:
    """Segment the case; the result is dated with the start of the run."""
    segmenter.check_findings(case.findings)
    o = case.options
    result = segmenter.segment(
        volume,
        case.findings,
        slices=o.slices,
        plane=o.plane,
        samples=o.samples,
        seed=o.seed,
        threshold=o.threshold,
        window=o.window,
        slice_by_slice=o.slice_by_slice,
        try_anyway=o.try_anyway,
    )
    return replace(result, provenance=replace(result.provenance, created=run.started))


def write_case(result: SegmentationResult, case: Case, run: Run, folder: BatchFolder) -> None:
    """Write the outputs, then the record."""
    record = {
        "case": case.name,
        "request": request_of(case),
        "findings": [_summary(found, result.volume) for found in result.findings],
        "notes": list(result.volume.source.notes),
        "provenance": asdict(result.provenance),
        "use": DISCLAIMER,
    }
    place = folder.clean(case.name)
    for suffix in run.formats:
        path = place / (case.name + suffix)
        if suffix == PICTURE:
            write_preview(result, path)
        elif suffix == PAGE:
            with whole_files(path) as (temporary,):
                temporary.write_text(case_page(result, record), encoding="utf-8", errors="replace", newline="\n")
        else:
            write_segmentation(result, path, fractional=run.fractional and suffix == DICOM_SEG)
    outputs = {path.name: _sha256(path) for path in sorted(place.iterdir())}
    folder.finish(case.name, {**record, "outputs": outputs})


def _summary(found: FindingResult, volume: Volume) -> dict[str, Any]:
    """The numbers of one finding; NaN becomes None for JSON. Uncertainty is the mean entropy in bits within the mask.

    Means are rounded to three digits, because the sixth depends on the number of threads.
    """
    voxels = int(np.count_nonzero(found.mask))
    presence = float(np.max(found.presence, where=np.isfinite(found.presence), initial=-1))
    spread = None if found.disagreement is None or not voxels else float(found.disagreement[found.mask].mean())
    bits = float(entropy(found.probability[found.mask]).mean()) if voxels else None
    return {
        "finding": found.finding,
        "voxels": voxels,
        "ml": None if volume.is_planar else round(voxels * volume.voxel_ml, 6),
        "presence": None if presence < 0 else round(presence, 4),
        "uncertainty": None if bits is None else round(bits, 3),
        "disagreement": None if spread is None else round(spread, 3),
        "window": found.window,
        "untaught": found.untaught,
        "adapter": found.adapter,
        "warnings": list(found.warnings),
    }


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
