"""The command line: reads arguments, calls the engine, prints one line for an error.

Everything heavy is imported inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, cast

import typer

from fasttextdiff.errors import Cancelled, FastTextDiffError, UsageError
from fasttextdiff.model.allocator import keep_freed_memory
from fasttextdiff.paths import as_name, as_path
from fasttextdiff.render.tables import show_table as _table
from fasttextdiff.utf8_mode import require_utf8

if TYPE_CHECKING:
    from fasttextdiff.batch.events import Listener
    from fasttextdiff.batch.stopping import Stop
    from fasttextdiff.benchmarks.measuring import Figure
    from fasttextdiff.image.volume import Volume
    from fasttextdiff.result import SegmentationResult
    from fasttextdiff.segmenter import Segmenter
    from fasttextdiff.training.progress import TrainingProgress

# click's own base of wrong options; newer releases of typer bring a copy of click, older ones import it
CommandLineError: Any = typer.BadParameter.__mro__[2]

app = typer.Typer(
    name="fasttextdiff",
    help="Segment medical images from a typed finding.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _command(name: str | None = None, **settings: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A command whose paths are taken as everywhere else: the shell does not see the `~` of `--output=~/out`."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        @wraps(function)
        def command(**arguments: Any) -> None:
            function(**{key: as_path(value) if isinstance(value, Path) else value for key, value in arguments.items()})

        return cast(Callable[..., None], app.command(name, **settings)(command))

    return register


_state = {"verbose": False}


def _set_verbose(value: bool) -> None:
    _state["verbose"] = _state["verbose"] or value


Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", callback=_set_verbose, help="Show the traceback of an error.", is_eager=True)
]
ModelOption = Annotated[
    str | None,
    typer.Option("--model", "-m", help="Model folder or hub id; the bundled compact model if not given."),
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
NanAsAirOption = Annotated[
    bool, typer.Option("--nan-as-air", help="Take voxels that are NaN as air around the patient.")
]
DtypeOption = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")]


def _checked(context: typer.Context, option: typer.CallbackParam, value: Any) -> Any:
    """Refuse a value as soon as it is read, before anything else is looked at."""
    from fasttextdiff.option_rules import check_options

    if value is not None:
        check_options(**{str(option.name): value})
    return value


ThresholdOption = Annotated[
    float | None,
    typer.Option(
        callback=_checked, help="Probability above which a voxel belongs to the mask; the model's own if not given."
    ),
]
SamplesOption = Annotated[int, typer.Option(min=1, callback=_checked, help="Noise samples to average.")]
SeedOption = Annotated[int, typer.Option(min=0, callback=_checked, help="Seed of the noise.")]
PlaneOption = Annotated[str, typer.Option(callback=_checked, help="acquisition, axial, coronal or sagittal.")]


def _show_version(is_asked: bool) -> None:
    if is_asked:
        from fasttextdiff.version import __version__

        typer.echo(f"fasttextdiff {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    verbose: Verbose = False,
    # eager: else the missing command is complained of first
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


@_command(no_args_is_help=True)
def segment(
    image: Annotated[
        Path, typer.Argument(metavar="INPUT", help="DICOM folder or file, NIfTI, NRRD, MHA, PNG, JPEG, TIFF.")
    ],
    finding: Annotated[list[str], typer.Option("--finding", "-f", help="What to look for; repeat for several.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Result: .seg.nrrd (3D Slicer), .nii.gz, .dcm (DICOM SEG).")
    ],
    preview: Annotated[Path | None, typer.Option(help="PNG picture of the result.")] = None,
    uncertainty: Annotated[
        Path | None,
        typer.Option(help="Map of how unsure the model is (entropy, bits), .nii.gz or .nrrd."),
    ] = None,
    fractional: Annotated[bool, typer.Option("--fractional", help="Probabilities instead of masks, in .dcm.")] = False,
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
        str | None, typer.Option(help="ct, mr, xray, histology or other, instead of the guess.")
    ] = None,
    series: Annotated[str | None, typer.Option(help="Series Instance UID, where a folder holds several.")] = None,
    nan_as_air: NanAsAirOption = False,
    model: ModelOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    verbose: Verbose = False,
) -> None:
    """Segment an image from typed findings, and write the masks on its own grid.

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

    options = {"slices": _pair(slices, ":", int, "--slices"), "window": _pair(window, ",", float, "--window")}
    check_options(**options)
    finding = [_text(text) for text in finding]
    for text in finding:
        require_words(text)
    outputs = _check_outputs(image, output, fractional, preview, uncertainty)
    volume = _read(image, modality, series, nan_as_air)
    check_segmentation_source(volume, output)
    check_not_source(outputs, volume)
    segmenter = _load(model, device, dtype)
    segmenter.check_findings(finding)
    with _progress("segmenting") as progress:
        result = segmenter.segment(
            volume, finding, plane=plane, samples=samples, seed=seed, threshold=threshold, progress=progress, **options
        )
    _write_extras(result, preview, uncertainty)
    written = write_segmentation(result, output, fractional=fractional)
    _show_result(result)
    for note in segmentation_notes(result, output):
        _note(note)
    _say(f"wrote {', '.join(str(p) for p in [*written, *filter(None, (preview, uncertainty))])}")
    _say(DISCLAIMER)


@_command(no_args_is_help=True)
def batch(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="Folder tree, job table (.csv, .json), or DICOMDIR.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for all results; the same one goes on.")],
    finding: Annotated[
        list[str] | None, typer.Option("--finding", "-f", help="What to look for; job tables may say it by row.")
    ] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", help=".seg.nrrd (if not given), .nii.gz, .dcm (DICOM SEG), .png, .html."),
    ] = None,
    fractional: Annotated[bool, typer.Option("--fractional", help="DICOM SEG with probabilities.")] = False,
    modality: Annotated[str | None, typer.Option(help="Only ct, mr, xray, histology or other.")] = None,
    series: Annotated[str | None, typer.Option(metavar="REGEX", help="Only series whose description fits.")] = None,
    largest_series: Annotated[bool, typer.Option("--largest-series", help="Of a study, the one with most slices.")] = (
        False
    ),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done and what not, and why.")] = False,
    workers: Annotated[
        int, typer.Option(min=1, callback=_checked, help="Processes on this machine, one model each.")
    ] = 1,
    shard: Annotated[str, typer.Option(metavar="K/N", help="Only every N-th case from the K-th on.")] = "1/1",
    scheduler: Annotated[str | None, typer.Option(help="Address of a Dask scheduler, instead of --workers.")] = None,
    tls_ca_file: Annotated[str | None, typer.Option(help="Of a tls:// scheduler: who signed all certificates.")] = None,
    tls_cert: Annotated[str | None, typer.Option(help="Of a tls:// scheduler: our certificate, PEM.")] = None,
    tls_key: Annotated[str | None, typer.Option(help="Of a tls:// scheduler: the key to our certificate, PEM.")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try again what failed earlier.")] = False,
    samples: SamplesOption = 1,
    seed: SeedOption = 0,
    threshold: ThresholdOption = None,
    plane: PlaneOption = "acquisition",
    nan_as_air: NanAsAirOption = False,
    model: ModelOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    json_lines: Annotated[
        bool, typer.Option("--json", help="For another program: one JSON object a line on standard output.")
    ] = False,
    until_eof: Annotated[
        bool,
        typer.Option("--until-eof", help="Stop early when standard input is closed; exit code 130, the same goes on."),
    ] = False,
    verbose: Verbose = False,
) -> None:
    """Segment many studies unattended; an interrupted batch goes on with the same command.

    Names of outputs come from series UIDs or hashes; which is which stands in names.local.csv alone.
    Exit code 0: all is done, 1: some cases failed, 2: wrong use, 130: stopped early.
    """
    from fasttextdiff.batch.request import BatchRequest, perform, show_dry_run
    from fasttextdiff.batch.stopping import Stop

    part = _pair(shard, "/", int, "--shard")
    if part is None or not 1 <= part[0] <= part[1]:
        raise UsageError(f"--shard takes K/N with K from 1 to N, not '{shard}'")
    texts = tuple(_text(text) for text in finding or ())
    request = BatchRequest(
        source, output, texts, tuple(formats or [".seg.nrrd"]), fractional, modality, series,
        largest_series, plane, samples, seed, threshold, model, device, dtype, workers, scheduler,
        tls_ca_file, tls_cert, tls_key, nan_as_air,
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
            raise Cancelled("stopped: what is done is kept, and the same command goes on") from None
    if tally.ended < tally.total:
        raise Cancelled(
            f"stopped: {tally.total - tally.ended} of {tally.total} cases are left; the same command goes on"
        )
    if tally.failed:
        raise FastTextDiffError(f"{tally.failed} of {tally.total} cases failed: see their failed.log; --retry-failed")


@_command(no_args_is_help=True)
def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file; see fasttextdiff/configs.")],
    labels: Annotated[
        int | None, typer.Option(min=1, help="Use only so many labelled images of each group, a seeded choice.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only look at your data, and say what is wrong with it.")
    ] = False,
    verbose: Verbose = False,
) -> None:
    """Train a compact model, or go on from the last checkpoint. Ctrl-C saves a checkpoint and stops.

    Your own data are looked at first. With several GPUs: accelerate launch -m fasttextdiff train CONFIG.
    """
    from dataclasses import replace

    from fasttextdiff.io.overwriting import require_own_folder
    from fasttextdiff.model.pipeline import quiet_libraries
    from fasttextdiff.training.config import read_config
    from fasttextdiff.training.progress import TrainingProgress, is_first_process

    run = read_config(config)
    if labels is not None:
        run = replace(run, labels=labels)
    read = [*run.datasets.values(), run.data, run.text, run.start, run.text_encoder, run.denoiser]
    require_own_folder(run.output, read, ["model"])
    if check and not run.datasets:
        raise UsageError(f"there is nothing to check: {config} names no datasets of your own")
    quiet_libraries()
    _check_training_data(run.datasets)
    if check:
        return
    with TrainingProgress(run.name, run.total_steps, run.output, shown=is_first_process()) as progress:
        from fasttextdiff.training.loop import train as train_model

        folder = train_model(run, progress.report, progress.stopped, progress.note)
    if progress.stopped():
        raise Cancelled(f"stopped after step {progress.step}; the same command goes on from {folder}")
    if is_first_process():
        _say(f"wrote {folder}")


def _check_training_data(datasets: Mapping[str, Path]) -> None:
    """Look at one's own data, show what was found, and refuse what cannot be trained on."""
    from fasttextdiff.training.data_checks import check_datasets, require_usable
    from fasttextdiff.training.progress import is_first_process

    if is_first_process():
        with _progress("checking", "images") as progress:
            reports = check_datasets(datasets, progress)
        for report in reports:
            title = f"{report.name}: {report.rows} rows, {report.images} images in {report.path}"
            rows = [
                ("error" if p.kind.stops else "warning", str(len(p.names)), p.kind.what, ", ".join(p.names[:3]))
                for p in report.problems
            ]
            _table(title, ("", "n", "what", "first"), rows or [("ok", "", "nothing is wrong", "")])
        require_usable(reports)


@_command(name="pretrain-text", no_args_is_help=True)
def pretrain_text(
    text: Annotated[Path, typer.Argument(metavar="TEXT_DIR", help="Folder of .txt and .csv files, at any depth.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Gets text_encoder, tokenizer and checkpoints.")],
    start: Annotated[
        Path | None, typer.Option(help="Model folder whose text encoder and tokenizer are trained further.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, callback=_checked, help="Optimiser steps of 32 texts.")] = 2000,
    vocabulary: Annotated[int, typer.Option(min=300, callback=_checked, help="Tokens of a new tokenizer.")] = 5500,
    seed: Annotated[int, typer.Option(min=0, callback=_checked, help="Of weights, order and hidden words.")] = 0,
    verbose: Verbose = False,
) -> None:
    """Teach a compact text encoder language from any text, by predicting hidden words. Ctrl-C saves and stops."""
    from fasttextdiff.io.overwriting import require_own_folder
    from fasttextdiff.training.config import CompactModelConfig

    require_own_folder(output, [text, start], ["text_encoder"])
    if start is not None:
        _check_encoder_folder(start)
    with _pretraining("pretrain-text", steps, output) as progress:
        from fasttextdiff.training import pretrain_text as pretraining
        from fasttextdiff.training.pretraining import Schedule

        model = CompactModelConfig(vocabulary=vocabulary)
        run = pretraining.TextPretraining(text, output, start, model, Schedule(steps, 6e-4), seed=seed)
        pretraining.pretrain_text(run, progress.report, progress.stopped)


@_command(name="distil-text", no_args_is_help=True)
def distil_text(
    text: Annotated[Path, typer.Argument(metavar="TEXT_DIR", help="Folder of .txt and .csv files, at any depth.")],
    teacher: Annotated[
        str, typer.Option(help="BERT or ModernBERT to learn from: folder or hub id, with weights as safetensors.")
    ],
    start: Annotated[Path, typer.Option(help="Folder of pretrain-text, or model, whose text encoder learns.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Gets text_encoder, tokenizer and checkpoints.")],
    steps: Annotated[
        int, typer.Option(min=1, callback=_checked, help="Optimiser steps of 16 texts and 8 families of prompts.")
    ] = 2000,
    seed: Annotated[int, typer.Option(min=0, callback=_checked, help="Of order and prompts.")] = 0,
    verbose: Verbose = False,
) -> None:
    """Teach a compact text encoder what a pretrained one knows of every word, and to keep left from right, no from yes.

    Ctrl-C saves and stops.
    """
    from fasttextdiff.io.overwriting import require_own_folder

    require_own_folder(output, [text, start, teacher], ["text_encoder"])
    _check_encoder_folder(start)
    with _pretraining("distil-text", steps, output) as progress:
        from fasttextdiff.training import distil_text as distillation
        from fasttextdiff.training.pretraining import Schedule

        run = distillation.TextDistillation(text, as_name(teacher), start, output, Schedule(steps, 4e-4), seed=seed)
        distillation.distil_text(run, progress.report, progress.stopped)


@_command(name="pretrain-denoiser", no_args_is_help=True)
def pretrain_denoiser(
    images: Annotated[
        Path, typer.Argument(metavar="IMAGES", help="Folder of PNG, JPEG, TIFF, NIfTI, NRRD or MHA, at any depth.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Gets unet, scheduler and checkpoints.")],
    start: Annotated[Path | None, typer.Option(help="Model folder whose denoiser is trained further.")] = None,
    steps: Annotated[int, typer.Option(min=1, callback=_checked, help="Optimiser steps.")] = 5000,
    size: Annotated[int, typer.Option(min=16, callback=_checked, help="Pixels of the side of a training image.")] = 128,
    batch: Annotated[int, typer.Option(min=1, callback=_checked, help="Images a step.")] = 16,
    seed: Annotated[int, typer.Option(min=0, callback=_checked, help="Of weights, order, views and noise.")] = 0,
    verbose: Verbose = False,
) -> None:
    """Teach a denoiser what images look like, from any images without labels. Ctrl-C saves and stops.

    The folder serves as `denoiser:` of a training configuration.
    """
    from fasttextdiff.io.overwriting import require_own_folder

    require_own_folder(output, [images, start], ["unet", "scheduler"])
    with _pretraining("pretrain-denoiser", steps, output) as progress:
        from fasttextdiff.training import pretrain_denoiser as pretraining
        from fasttextdiff.training.pretraining import Schedule

        schedule = Schedule(steps, 4e-4)
        run = pretraining.DenoiserPretraining(
            images, output, start, schedule=schedule, size=size, batch=batch, seed=seed
        )
        pretraining.pretrain_denoiser(run, progress.report, progress.stopped, _note)


def _check_encoder_folder(folder: Path) -> None:
    if not (folder / "text_encoder").is_dir():
        raise UsageError(f"{folder} is not a model folder: it has no text_encoder")


@contextmanager
def _pretraining(name: str, steps: int, output: Path) -> Iterator[TrainingProgress]:
    """A progress bar around a run, and what came of it."""
    from fasttextdiff.training.progress import TrainingProgress

    with TrainingProgress(name, steps, output) as progress:
        from fasttextdiff.model.pipeline import quiet_libraries

        quiet_libraries()
        yield progress
    if progress.stopped() and progress.step < steps:
        raise Cancelled(f"stopped after step {progress.step}; the same command goes on from {output}")
    _say(f"wrote {output}")


@_command(no_args_is_help=True)
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
    every: Annotated[int, typer.Option(min=1, help="Score only every so manieth target.")] = 1,
    report: Annotated[
        Path | None,
        typer.Option(help="New folder for a page on every text, both protocols, intervals and calibration."),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(
            min=2, callback=_checked, help="Noise samples whose disagreement the report judges; 8 if not given."
        ),
    ] = None,
    pictures: Annotated[bool, typer.Option(help="Show the worst and best cases in the report.")] = True,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    verbose: Verbose = False,
) -> None:
    """Score a model on a labelled folder: Dice and IoU, as the mean of images and over all pixels."""
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
        _make_report(lambda: _load(model, device, dtype), report, dataset, split, **options)
        return
    if samples is not None or not pictures:
        raise UsageError("--samples and --no-pictures are about a report: add --report DIR")
    if protocol not in metrics.PROTOCOLS:
        raise UsageError(f"'{protocol}' is not a protocol: use {' or '.join(metrics.PROTOCOLS)}")
    targets = load_targets(dataset, split)
    _check_numbers(json_output)
    if masks is not None:
        data = [file for target in targets for file in (target.image, target.mask)]
        require_apart({metrics.mask_path(masks, target) for target in targets}, data, "the data")
    texts = choose_texts([t.text for t in targets], text)[::every]
    targets = targets[::every]
    segmenter = _load(model, device, dtype)
    keep = None if masks is None else lambda target, mask: metrics.save_mask(masks, target, mask)
    scores = []
    with _progress("evaluating", "images") as progress:
        for done in metrics.evaluate(
            segmenter, targets, texts=texts, protocol=protocol, threshold=threshold, keep=keep
        ):
            scores.append(done)
            progress(len(scores), len(targets))
    info = segmenter.pipeline.info
    numbers = metrics.report(
        scores,
        dataset=dataset.resolve().name,
        split=split,
        model=f"{info.name} {info.weights_sha256}",
        text=text,
        protocol=protocol,
        threshold=info.threshold if threshold is None else threshold,
    )
    if json_output:  # first: a terminal that is gone, or a full one, is to lose nothing
        _write_json(json_output, numbers)
    _show_scores(numbers, metrics.by_text(scores, targets))


@_command(name="evaluate-control", no_args_is_help=True)
def evaluate_control(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET_DIR", help="Chest X-rays with masks of all lesions.")],
    split: Annotated[str, typer.Option(help="Name of the split, e.g. val.")] = "val",
    model: ModelOption = None,
    threshold: ThresholdOption = None,
    every: Annotated[int, typer.Option(min=1, help="Ask of only every so manieth image.")] = 1,
    json_output: Annotated[Path | None, typer.Option("--json", help="Write all numbers to this file.")] = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    verbose: Verbose = False,
) -> None:
    """Score whether words steer a model: either side, in wordings never trained on, and sides without lesions."""
    from dataclasses import asdict

    from fasttextdiff.evaluation.datasets import load_targets
    from fasttextdiff.evaluation.side_control import ask_sides, summary

    _check_numbers(json_output)
    targets = load_targets(dataset, split)[::every]
    segmenter = _load(model, device, dtype)
    answers = []
    with _progress("asking", "sides") as progress:
        for answer in ask_sides(segmenter, targets, threshold):
            answers.append(answer)
            progress(len(answers), 2 * len(targets))
    numbers = summary(answers)
    title = f"{dataset.resolve().name} {split}, control prompts, {len(targets)} images"
    if json_output:
        about = segmenter.pipeline.info
        run = {"dataset": dataset.resolve().name, "split": split, "model": f"{about.name} {about.weights_sha256}"}
        _write_json(json_output, {**run, **numbers, "answers": [asdict(a) for a in answers]})
    _table(title, ("", ""), [(name, f"{value:.4g}") for name, value in numbers.items()])


@_command(name="verify-golden", no_args_is_help=True)
def verify_golden(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder with cases.json and the stored arrays.")],
    verbose: Verbose = False,
) -> None:
    """Prove that the classes are the published networks: compare them with stored outputs, without any weights."""
    from fasttextdiff.golden import verify_golden as verify

    checks = verify(folder)
    rows = [(c.name, f"{c.error:.2e}", f"{c.tolerance:.0e}", "ok" if c.passed else "FAILED") for c in checks]
    _table("Golden outputs", ("array", "max abs error", "allowed", ""), rows)
    failed = sum(not c.passed for c in checks)
    _say(f"{len(checks) - failed} of {len(checks)} agree")
    if failed:
        raise FastTextDiffError(f"{failed} of {len(checks)} stored arrays are not reproduced")


@_command()
def benchmark(
    suite: Annotated[
        list[str] | None, typer.Option(help="interactive, volume, text, memory or training; all if not given.")
    ] = None,
    image: Annotated[Path | None, typer.Option(help="Image to measure on; a made-up chest CT if not given.")] = None,
    full_size: Annotated[
        bool, typer.Option("--full-size", help="Also the published network at full size: minutes on a CPU, 8 GB.")
    ] = False,
    repeats: Annotated[int, typer.Option(min=1, callback=_checked, help="Each figure is the median of so many.")] = 7,
    slices: Annotated[int, typer.Option(min=1, max=1000, help="Slices of the volume suite.")] = 16,
    json_output: Annotated[Path | None, typer.Option("--json", help="Write all figures to this file.")] = None,
    model: ModelOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    verbose: Verbose = False,
) -> None:
    """Measure speed and memory, every figure beside what it is compared with."""
    from fasttextdiff.benchmarks.inputs import chest_phantom
    from fasttextdiff.benchmarks.measuring import as_json
    from fasttextdiff.benchmarks.suites import SUITES, Bench

    chosen = suite or list(SUITES)
    if unknown := [name for name in chosen if name not in SUITES]:
        raise UsageError(f"'{unknown[0]}' is not a suite: use {', '.join(SUITES)}")
    _check_numbers(json_output)
    volume = chest_phantom(3) if image is None else _read(image, None, None)
    bench = Bench(_load(model, device, dtype), volume, repeats, full_size, slices)
    figures = []
    for name in chosen:
        for figure in SUITES[name](bench):
            _say(f"{figure.name}: {figure.median:.4g} {figure.unit}")
            figures.append(figure)
    about = as_json(figures)
    _show_figures(figures, about["machine"])
    if json_output:
        _write_json(json_output, about)


@_command(no_args_is_help=True)
def convert(
    denoiser: Annotated[Path, typer.Option(help="256x256_diffusion_uncond.pt of guided-diffusion.")],
    head: Annotated[Path, typer.Option(help="model_best.pth of the published head.")],
    text_encoder: Annotated[str, typer.Option(help="ModernBERT folder or hub id.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Model folder to make.")],
    verbose: Verbose = False,
) -> None:
    """Make a model folder from the files that the published work uses."""
    from fasttextdiff.model.convert import convert as convert_files

    _say(f"wrote {convert_files(denoiser, head, text_encoder, output)}")


@_command()
def info(model: ModelOption = None, verbose: Verbose = False) -> None:
    """Show a model, what it was taught, and the libraries and devices in use."""
    import platform

    import diffusers
    import torch
    import transformers

    from fasttextdiff.model.info import BUNDLED_MODEL
    from fasttextdiff.model.pipeline import FastTextDiffPipeline, quiet_libraries
    from fasttextdiff.model.text_encoder import attention_implementation
    from fasttextdiff.segmenter import choose_device, choose_dtype
    from fasttextdiff.version import __version__

    quiet_libraries()
    pipeline = FastTextDiffPipeline.from_pretrained(model)
    about = pipeline.info
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    device = choose_device("auto")
    rows = [
        ("model", f"{about.name} (weights {about.weights_sha256})"),
        ("folder", str(model or BUNDLED_MODEL)),
        ("licence", about.licence or "unknown"),
        ("parameters", f"{pipeline.n_parameters:,}"),
        ("timesteps", ", ".join(map(str, pipeline.denoiser.plan.timesteps))),
        ("threshold", f"{about.threshold:g}, presence {about.presence_threshold:g}"),
        *((f"taught on {kind}", ", ".join(terms)) for kind, terms in about.taught.items()),
        ("fasttextdiff", __version__),
        ("python, torch", f"{platform.python_version()}, {torch.__version__}"),
        ("transformers, diffusers", f"{transformers.__version__}, {diffusers.__version__}"),
        ("GPU", gpu),
        ("text attention", attention_implementation(device, choose_dtype("auto", device))),
    ]
    _table("fasttextdiff", ("", ""), rows)


@_command()
def worker() -> None:
    """Serve 3D Slicer: requests and answers as JSON lines over standard input and output."""
    from fasttextdiff.worker.server import main as serve

    serve()


def main() -> NoReturn:
    """Run the command line; an error is one line and a non-zero exit code (1 failed, 2 wrong use, 130 cancelled)."""
    require_utf8()
    signal.signal(signal.SIGTERM, _terminate)
    keep_freed_memory()
    _speak_any_encoding()
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()  # a full disk is to be told here, not while Python ends
        if code == Cancelled.exit_code:  # newer releases of typer turn Ctrl-C into this exit code, without a word
            raise KeyboardInterrupt
        sys.exit(code if isinstance(code, int) else 0)
    except CommandLineError as error:
        _fail(error, error.format_message(), error.exit_code)
    except FastTextDiffError as error:
        _fail(error, str(error), error.exit_code)
    except (KeyboardInterrupt, typer.Abort) as error:
        _fail(error, "stopped; nothing was written", Cancelled.exit_code)
    except MemoryError as error:
        _fail(error, "there is not enough memory: try fewer slices (--slices) or close other programs", 1)
    except OSError as error:  # the system refused, e.g. a standard output that is full: no defect of ours
        reason = (error.strerror or str(error)).lower()
        _fail(error, f"cannot use {error.filename or 'the standard output'}: {reason}", 1)
    except Exception as error:
        _fail(error, f"internal error, {type(error).__name__}: {error}; run with -v and report it", 1)


def _terminate(*_: object) -> NoReturn:
    """SIGTERM stops like Ctrl-C, so that no temporary file stays."""
    raise KeyboardInterrupt


def _fail(error: BaseException, message: str, code: int) -> NoReturn:
    if _state["verbose"]:
        import traceback

        traceback.print_exception(error)
    with suppress(OSError):  # a full standard error cannot be told of
        typer.echo(f"error: {' '.join(message.split())}", err=True)
    try:
        sys.stdout.flush()
    except OSError:  # nor may Python try again while it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _speak_any_encoding() -> None:
    """Take words in UTF-8 and print what the terminal cannot show as escapes, in the C locale too."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _text(argument: str) -> str:
    """An argument as the UTF-8 that it was typed in; Python keeps bytes that the locale does not know as surrogates.

    Raises:
        UsageError: it is no UTF-8.
    """
    try:
        return argument.encode("utf-8", "surrogateescape").decode("utf-8")
    except UnicodeError:
        raise UsageError("a finding is not in UTF-8: set the terminal to UTF-8 and type it again") from None


def _check_outputs(
    image: Path, output: Path, fractional: bool, preview: Path | None, uncertainty: Path | None
) -> list[Path]:
    """Find out about impossible outputs before time is spent; all files that will be written."""
    from fasttextdiff.io.atomic import check_writable
    from fasttextdiff.io.overwriting import files_of, require_apart, require_own_record
    from fasttextdiff.io.write import check_segmentation_path, check_uncertainty_path, segmentation_files

    check_segmentation_path(output, fractional)
    if preview is not None and preview.suffix.lower() != ".png":
        raise UsageError(f"a preview is a .png file, not {preview.name}")
    if uncertainty is not None:
        check_uncertainty_path(uncertainty)
    outputs = [*segmentation_files(output), *filter(None, (preview, uncertainty))]
    for path in outputs:
        check_writable(path)
    require_apart(outputs, files_of(image))
    for record in segmentation_files(output)[1:]:
        require_own_record(record)
    return outputs


def _check_numbers(output: Path | None) -> None:
    """Find out about an impossible file of numbers before time is spent; it may replace earlier numbers alone."""
    from fasttextdiff.io.atomic import check_writable
    from fasttextdiff.io.overwriting import require_own_record

    if output is not None:
        check_writable(output)
        require_own_record(output)


def _pair(text: str | None, separator: str, kind: Callable[[str], Any], option: str) -> tuple[Any, Any] | None:
    if text is None:
        return None
    try:
        first, second = (kind(part) for part in text.split(separator))
    except ValueError:
        raise UsageError(f"{option} takes two numbers with '{separator}' between them, not '{text}'") from None
    return first, second


def _read(path: Path, modality: str | None, series: str | None, nan_as_air: bool = False) -> Volume:
    from fasttextdiff.image.volume import Modality
    from fasttextdiff.io.read import read_volume

    if modality is not None and modality not in [m.value for m in Modality]:
        raise UsageError(f"'{modality}' is not a modality: use {', '.join(m.value for m in Modality)}")
    volume = read_volume(
        path, modality=None if modality is None else Modality(modality), series_uid=series, nan_as_air=nan_as_air
    )
    for note in volume.source.notes:
        _note(note)
    return volume


def _load(model: str | None, device: str, dtype: str) -> Segmenter:
    from fasttextdiff.segmenter import Segmenter, choose_device, choose_dtype

    choose_dtype(dtype, choose_device(device))  # before a model is loaded for nothing
    from fasttextdiff.model.pipeline import FastTextDiffPipeline, quiet_libraries

    quiet_libraries()
    return Segmenter(FastTextDiffPipeline.from_pretrained(model), device, dtype)


def _batch_listener(stop: Stop, *, json_lines: bool, shows_plan: bool) -> Listener:
    """Whoever is to hear of a batch. For another program, standard output is kept from everybody else."""
    if not json_lines:
        from fasttextdiff.batch.listing import Terminal

        return Terminal(shows_plan=shows_plan)
    from fasttextdiff.batch.events import JsonLines
    from fasttextdiff.worker.server import Channel

    return JsonLines(Channel.take_over_stdout().write, stop.set)


def _write_extras(result: SegmentationResult, preview: Path | None, uncertainty: Path | None) -> None:
    from fasttextdiff.io.write import write_uncertainty
    from fasttextdiff.render.contact_sheet import write_preview

    if uncertainty is not None:
        write_uncertainty(result, uncertainty)
    if preview is not None:
        write_preview(result, preview)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    from fasttextdiff.io.atomic import whole_files

    with whole_files(path) as (temporary,):
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    _say(f"wrote {path}")


def _show_result(result: SegmentationResult) -> None:
    import numpy as np

    volume = result.volume
    unit = "pixels" if volume.is_planar else "ml"
    rows = []
    for found in result.findings:
        voxels = int(found.mask.sum())
        amount = f"{voxels:,}" if volume.is_planar else f"{voxels * volume.voxel_ml:.1f}"
        there = f"{float(np.nanmax(found.presence)):.2f}"
        rows.append((found.finding, amount if voxels else "not found", there))
        for warning in found.warnings:
            _note(warning)
    _table(result.provenance.model, ("finding", unit, "presence"), rows)


def _make_report(load: Callable[[], Segmenter], folder: Path, dataset: Path, split: str, **options: Any) -> None:
    import shlex

    from fasttextdiff.evaluation.report import ReportRequest, make_report

    command = shlex.join(["fasttextdiff", *sys.argv[1:]])
    make_report(load, ReportRequest(dataset, split, command, **options), folder, _progress)
    _say(f"wrote {folder / 'report.html'}, with report.md and report.json beside it")


def _show_scores(report: dict[str, Any], texts: dict[str, dict[str, float]]) -> None:
    i, p = report["protocol_i"], report["protocol_p"]
    title = f"{report['dataset']} {report['split']}, text {report['text']}, {report['protocol']}, n = {report['n']}"
    rows = [
        ("mean of images (I)", f"{i['dice']:.4f}", f"{i['iou']:.4f}"),
        ("all pixels (P)", f"{p['dice']:.4f}", f"{p['iou']:.4f}"),
        *((f"{text} (I, n = {s['n']:.0f})", f"{s['dice']:.4f}", f"{s['iou']:.4f}") for text, s in texts.items()),
    ]
    _table(title, ("", "Dice", "IoU"), rows)


def _show_figures(figures: Sequence[Figure], machine: dict[str, Any]) -> None:
    rows = []
    for f in figures:
        there = f.reference_median is not None
        compared = (f.reference, f"{f.reference_median:.4g}", f"{f.ratio:.2f}") if there else ("", "", "")
        dice = "" if f.dice_to_reference is None else f"{f.dice_to_reference:.4f}"
        rows.append((f.name, f.model, f.device, f"{f.median:.4g} {f.unit}", *compared, dice))
    title = f"{machine['cpu']}, {machine['threads']} threads, GPU: {machine.get('gpu', 'none')}"
    _table(title, ("", "model", "device", "median", "beside", "", "ratio", "Dice"), rows)


@contextmanager
def _progress(what: str, unit: str = "slices") -> Iterator[Callable[[int, int], bool]]:
    """A progress bar on a terminal, nothing elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)

        def advance(done: int, total: int) -> bool:
            bar.update(task, completed=done, total=total)
            return True

        yield advance


def _say(line: str) -> None:
    typer.echo(line)


def _note(line: str) -> None:
    typer.echo(f"note: {line}", err=True)
