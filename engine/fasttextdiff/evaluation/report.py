"""Makes a report: measures, then writes numbers, page and pictures to a new folder, completely or not at all.

Knows the order of the steps and the file names; other modules decide what is measured and shown.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from fasttextdiff.errors import UsageError
from fasttextdiff.evaluation.bootstrap import DRAWS
from fasttextdiff.evaluation.caption_baseline import CaptionBaseline, fit_baseline, score_baseline
from fasttextdiff.evaluation.datasets import Target, load_targets
from fasttextdiff.evaluation.metrics import Score, shown
from fasttextdiff.evaluation.report_measure import TargetResult, measure, report_texts
from fasttextdiff.evaluation.report_numbers import report_numbers
from fasttextdiff.evaluation.report_page import PIXEL_CURVES, PRESENCE_CURVE, page_blocks
from fasttextdiff.evaluation.report_pictures import case_picture, reliability_svg
from fasttextdiff.io.atomic import check_new_folder, whole_folder
from fasttextdiff.paths import PathText, as_path
from fasttextdiff.render.blocks import to_html, to_markdown
from fasttextdiff.segmenter import Segmenter
from fasttextdiff.version import __version__

SEED = 0
EXTREMES = 6
"""Number of worst cases shown, and of best cases."""

Track = Callable[[str, str], AbstractContextManager[Callable[[int, int], object]]]
"""`progress(what, unit)` returns a function that is called with (done, total)."""


@dataclass(frozen=True)
class ReportRequest:
    """The settings of a report.

    Attributes:
        dataset: a labelled folder, see :func:`datasets.load_targets`.
        split: its split.
        command: the command line, for the page.
        every: use only every N-th target.
        samples: noise samples for uncertainties, 2 or more.
        threshold: probability above which a pixel belongs to the mask; the model's own if None.
        pictures: whether to show cases as pictures.
    """

    dataset: Path
    split: str
    command: str
    every: int
    samples: int
    threshold: float | None
    pictures: bool


def make_report(load: Callable[[], Segmenter], request: ReportRequest, folder: PathText, progress: Track) -> None:
    """Measure, and write report.json, report.md, report.html and the pictures.

    Args:
        load: returns the model; called after the data set has been found.
        request: what to measure.
        folder: output folder; must be missing or empty.
        progress: shows the progress of each step.

    Raises:
        UsageError: the folder is not empty, or the data set or split does not exist.
        FastTextDiffError: an image or mask cannot be read, or the report cannot be written.
    """
    folder = as_path(folder)
    check_new_folder(folder)
    whole_split = load_targets(request.dataset, request.split)
    texts = {mode: lines[:: request.every] for mode, lines in report_texts(whole_split, SEED).items()}
    targets = whole_split[:: request.every]
    segmenter = load()
    baseline = _caption_baseline(request, targets, progress)
    with progress("evaluating", "masks") as advance:
        measured = measure(
            segmenter, targets, texts, samples=request.samples, threshold=request.threshold, progress=advance
        )
    content = {"run": _run(segmenter, request), **report_numbers(measured, baseline, seed=SEED)}
    with whole_folder(folder) as temporary:
        if request.pictures:
            content["pictures"] = _draw_cases(segmenter, measured.cases, request.threshold, temporary)
        _draw_curves(content, temporary)
        _write_text(temporary / "report.json", json.dumps(content, indent=1) + "\n")
        blocks = page_blocks(content)
        _write_text(temporary / "report.md", to_markdown(blocks))
        _write_text(temporary / "report.html", to_html(blocks))


def _caption_baseline(
    request: ReportRequest, targets: Sequence[Target], progress: Track
) -> tuple[CaptionBaseline, list[Score]] | None:
    """The baseline from the Train split; None if that split is missing or is the one reported."""
    if request.split.lower() == "train":
        return None
    try:
        training = load_targets(request.dataset, "train")
    except UsageError:  # the split does not exist
        return None
    with progress("averaging", "training masks") as advance:
        baseline = fit_baseline(training, advance)
    return baseline, score_baseline(baseline, targets)


def _run(segmenter: Segmenter, request: ReportRequest) -> dict[str, Any]:
    """The run: model, data, settings and device."""
    info = segmenter.info
    return {
        "command": request.command,
        "model": info.name,
        "weights_sha256": info.weights_sha256,
        "licence": info.licence,
        "dataset": request.dataset.resolve().name,
        "split": request.split,
        "every": request.every,
        "threshold": info.threshold if request.threshold is None else request.threshold,
        "presence_threshold": info.presence_threshold,
        "samples": request.samples,
        "seed": SEED,
        "draws": DRAWS,
        "device": segmenter.device,
        "dtype": segmenter.dtype_name,
        "runtime": segmenter.runtime.version,
        "versions": {
            "fasttextdiff": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
        },
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _draw_cases(
    segmenter: Segmenter, cases: Sequence[TargetResult], threshold: float | None, folder: Path
) -> dict[str, list[dict[str, Any]]]:
    """Pictures of the worst and best cases, which are segmented again, so that not all masks must be kept."""
    order = sorted(cases, key=lambda case: case.by_text["true"].dice)
    half = min(EXTREMES, (len(order) + 1) // 2)
    chosen = {"worst": order[:half], "best": order[half:][-half:][::-1]}
    return {
        name: [
            _draw_case(segmenter, case, threshold, folder / f"{name}-{number}.jpg")
            for number, case in enumerate(group, 1)
        ]
        for name, group in chosen.items()
    }


def _draw_case(segmenter: Segmenter, case: TargetResult, threshold: float | None, path: Path) -> dict[str, Any]:
    volume, truth = shown(case.target)
    image, text = segmenter.prepare(volume), case.target.text
    mask = segmenter.decode(image, [text], threshold=threshold, try_anyway=True).findings[0].mask[0]
    case_picture(case.target.load_image(), truth, mask).save(path, "JPEG", quality=85)
    true = case.by_text["true"]
    return {"file": path.name, "image": true.image, "text": true.text, "dice": true.dice}


def _draw_curves(content: dict[str, Any], folder: Path) -> None:
    numbers = content["calibration"]
    pixels = {"all pixels": numbers["pixels"]["bins"], "near the predicted border": numbers["pixels_at_border"]["bins"]}
    _write_text(folder / PIXEL_CURVES, reliability_svg(pixels, "mean probability", "share in the true mask"))
    if content["sides"] is not None:
        presence = {"prompts for one side": content["sides"]["presence"]["bins"]}
        _write_text(folder / PRESENCE_CURVE, reliability_svg(presence, "mean presence", "share with lesions there"))


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")
