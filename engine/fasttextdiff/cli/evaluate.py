"""`evaluate` and `evaluate-control`: measure a model on labelled data."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fasttextdiff.cli.app import (
    DeviceOption,
    DtypeOption,
    ModelOption,
    RuntimeOption,
    ThresholdOption,
    Verbose,
    app,
    checked,
    command,
)
from fasttextdiff.cli.common import check_numbers, load_segmenter, progress_bar, say, write_json
from fasttextdiff.errors import UsageError
from fasttextdiff.render.tables import show_table

if TYPE_CHECKING:
    from fasttextdiff.segmenter import Segmenter


@command(app, no_args_is_help=True)
def evaluate(
    dataset: Annotated[
        Path, typer.Argument(metavar="DATASET_DIR", help="Folder in LViT's layout, or with targets.csv.")
    ],
    split: Annotated[str, typer.Option(help="Name of the split, e.g. val.")] = "val",
    model: ModelOption = None,
    text: Annotated[str, typer.Option(help="true, none, shuffled, flipped, typos or paraphrase.")] = "true",
    protocol: Annotated[str, typer.Option(help="native or published (256 px, dilated masks).")] = "native",
    threshold: ThresholdOption = None,
    json_output: Annotated[Path | None, typer.Option("--json", help="Write all numbers to this file.")] = None,
    masks: Annotated[Path | None, typer.Option(help="Folder for the predicted masks, as PNG.")] = None,
    every: Annotated[int, typer.Option(min=1, help="Score only every N-th target.")] = 1,
    report: Annotated[
        Path | None,
        typer.Option(help="New folder for a report with all texts, both protocols, intervals and calibration."),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(min=2, callback=checked, help="Noise samples for the report's disagreement; 8 if not given."),
    ] = None,
    pictures: Annotated[bool, typer.Option(help="Show the worst and best cases in the report.")] = True,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    runtime: RuntimeOption = "auto",
    verbose: Verbose = False,
) -> None:
    """Score a model on a labelled folder: Dice and IoU, as the mean over images and over all pixels."""
    from fasttextdiff.evaluation import metrics
    from fasttextdiff.evaluation.datasets import load_targets
    from fasttextdiff.evaluation.texts import choose_texts
    from fasttextdiff.io.overwriting import require_apart

    if report is not None:
        if text != "true" or protocol != "native" or json_output or masks:
            raise UsageError(
                "--report measures all texts and both protocols and writes report.json: leave out --text, --protocol, "
                "--json and --masks"
            )
        options = {"every": every, "samples": samples or 8, "threshold": threshold, "pictures": pictures}
        _make_report(lambda: load_segmenter(model, device, dtype, runtime), report, dataset, split, **options)
        return
    if samples is not None or not pictures:
        raise UsageError("--samples and --no-pictures apply only to a report: add --report DIR")
    if protocol not in metrics.PROTOCOLS:
        raise UsageError(f"'{protocol}' is not a protocol: use {' or '.join(metrics.PROTOCOLS)}")
    targets = load_targets(dataset, split)
    check_numbers(json_output)
    if masks is not None:
        data = [file for target in targets for file in (target.image, target.mask)]
        require_apart({metrics.mask_path(masks, target) for target in targets}, data, "the data")
    texts = choose_texts([t.text for t in targets], text)[::every]
    targets = targets[::every]
    segmenter = load_segmenter(model, device, dtype, runtime)
    keep = None if masks is None else lambda target, mask: metrics.save_mask(masks, target, mask)
    scores = []
    with progress_bar("evaluating", "images") as progress:
        for done in metrics.evaluate(
            segmenter, targets, texts=texts, protocol=protocol, threshold=threshold, keep=keep
        ):
            scores.append(done)
            progress(len(scores), len(targets))
    info = segmenter.info
    numbers = metrics.report(
        scores,
        dataset=dataset.resolve().name,
        split=split,
        model=f"{info.name} {info.weights_sha256}",
        text=text,
        protocol=protocol,
        threshold=info.threshold if threshold is None else threshold,
    )
    if json_output:  # first, so that nothing is lost if the terminal is gone
        write_json(json_output, numbers)
    _show_scores(numbers, metrics.by_text(scores, targets))


@command(app, name="evaluate-control", no_args_is_help=True)
def evaluate_control(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET_DIR", help="Chest X-rays with masks of all lesions.")],
    split: Annotated[str, typer.Option(help="Name of the split, e.g. val.")] = "val",
    model: ModelOption = None,
    threshold: ThresholdOption = None,
    every: Annotated[int, typer.Option(min=1, help="Score only every N-th image.")] = 1,
    json_output: Annotated[Path | None, typer.Option("--json", help="Write all numbers to this file.")] = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    runtime: RuntimeOption = "auto",
    verbose: Verbose = False,
) -> None:
    """Measure whether words steer a model.

    It asks for lesions of each side in held-out wordings, also where a side has none.
    """
    from dataclasses import asdict

    from fasttextdiff.evaluation.datasets import load_targets
    from fasttextdiff.evaluation.side_control import ask_sides, summary

    check_numbers(json_output)
    targets = load_targets(dataset, split)[::every]
    segmenter = load_segmenter(model, device, dtype, runtime)
    answers = []
    with progress_bar("asking", "sides") as progress:
        for answer in ask_sides(segmenter, targets, threshold):
            answers.append(answer)
            progress(len(answers), 2 * len(targets))
    numbers = summary(answers)
    title = f"{dataset.resolve().name} {split}, control prompts, {len(targets)} images"
    if json_output:
        about = segmenter.info
        run = {"dataset": dataset.resolve().name, "split": split, "model": f"{about.name} {about.weights_sha256}"}
        write_json(json_output, {**run, **numbers, "answers": [asdict(a) for a in answers]})
    show_table(title, ("", ""), [(name, f"{value:.4g}") for name, value in numbers.items()])


def _make_report(load: Callable[[], Segmenter], folder: Path, dataset: Path, split: str, **options: Any) -> None:
    import shlex

    from fasttextdiff.evaluation.report import ReportRequest, make_report

    command = shlex.join(["fasttextdiff", *sys.argv[1:]])
    make_report(load, ReportRequest(dataset, split, command, **options), folder, progress_bar)
    say(f"wrote {folder / 'report.html'}, with report.md and report.json")


def _show_scores(report: dict[str, Any], texts: dict[str, dict[str, float]]) -> None:
    i, p = report["protocol_i"], report["protocol_p"]
    title = f"{report['dataset']} {report['split']}, text {report['text']}, {report['protocol']}, n = {report['n']}"
    rows = [
        ("mean of images (I)", f"{i['dice']:.4f}", f"{i['iou']:.4f}"),
        ("all pixels (P)", f"{p['dice']:.4f}", f"{p['iou']:.4f}"),
        *((f"{text} (I, n = {s['n']:.0f})", f"{s['dice']:.4f}", f"{s['iou']:.4f}") for text, s in texts.items()),
    ]
    show_table(title, ("", "Dice", "IoU"), rows)
