"""The laboratory's command line: train the bundled model, export it from a run, measure and compare it.

Knows arguments and tables; other modules do the work.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import numpy as np
import typer

from fasttextdiff.cli.app import (
    DeviceOption,
    DtypeOption,
    ModelOption,
    RuntimeOption,
    Verbose,
    checked,
    command,
    new_app,
)
from fasttextdiff.cli.common import check_numbers, load_segmenter, read_image, say, write_json
from fasttextdiff.cli.run import run as run_app
from fasttextdiff.cli.train import check_encoder_folder, pretraining_bar
from fasttextdiff.errors import FastTextDiffError, UsageError
from fasttextdiff.paths import as_name
from fasttextdiff.render.tables import show_table
from fasttextdiff_lab.study.command import study
from fasttextdiff_lab.weights_commands import average, finish, fit_kinds, precision

if TYPE_CHECKING:
    from fasttextdiff.training.config import TrainingConfig
    from fasttextdiff_lab.benchmarks.measuring import Figure

app = new_app("fasttextdiff-lab", "Make, measure and compare the bundled model.")
for _each in (study, average, precision, finish, fit_kinds):
    command(app, name=_each.__name__.replace("_", "-"), no_args_is_help=True)(_each)
Config = Annotated[Path, typer.Argument(help="YAML file, see fasttextdiff_lab/configs.")]
Output = Annotated[Path | None, typer.Option(help="Folder of the run, instead of the configured one.")]


@command(app)
def train(config: Config, output: Output = None) -> None:
    """Train, or resume from the last checkpoint. Ctrl-C saves a checkpoint and stops."""
    from fasttextdiff.model.allocator import keep_freed_memory
    from fasttextdiff.model.pipeline import quiet_libraries
    from fasttextdiff.training.progress import TrainingProgress
    from fasttextdiff_lab.recipe import train_recipe

    run = _configured(config, output)
    quiet_libraries()
    keep_freed_memory()
    with TrainingProgress(run.name, run.total_steps, run.output) as progress:
        train_recipe(run, progress.report, progress.stopped, progress.note)


@command(app)
def snapshot(
    config: Config, folder: Annotated[Path, typer.Argument(help="Model folder to write.")], output: Output = None
) -> None:
    """Write the model of a run's last checkpoint (EMA weights) to a folder."""
    from fasttextdiff_lab.snapshot import save_snapshot

    say(f"wrote {folder}: {save_snapshot(_configured(config, output), folder)} steps")


@command(app)
def measure(
    data: Annotated[Path, typer.Argument(help="Folder of the research data.")],
    model: Annotated[Path | None, typer.Option(help="Model folder; the bundled model if not given.")] = None,
    every: Annotated[int, typer.Option(min=1, help="Only every N-th image.")] = 1,
    report: Annotated[Path | None, typer.Option("--json", help="Write all answers and the table to this file.")] = None,
) -> None:
    """Validate on the wider data; every figure with n and 95 % interval."""
    from fasttextdiff.segmenter import Segmenter
    from fasttextdiff_lab import measure as m
    from fasttextdiff_lab.wordings import shares_right

    segmenter = Segmenter(model)
    xrays = list(m.ask_xrays(segmenter, data / "xray_atlas", every))
    sick = list(m.ask_infections(segmenter, data / "qata_cov19_v2_2", 10 * every))
    atlas = list(m.ask_atlas(segmenter, data / "ct_mr_atlas", every))
    lines = m.table([*xrays, *sick, *atlas])
    mean, count = m.structure_mean(atlas)
    healthy = [answer for answer in xrays if answer.group.startswith("normal/infection")]
    figures = {
        "mean Dice of structures with at least 3 validation masks": mean,
        "number of these structures": count,
        "absent structures of the CT and MR atlas kept empty": m.share_empty(atlas),
        "abnormal X-rays with a mask": 1 - m.share_empty(sick, there=True),
        "AUROC of presence, abnormal against normal X-rays": m.presence_auroc(sick, healthy),
    }
    for line in lines:
        say(str(line))
    for name, value in figures.items():
        say(f"{name}: {value:.3f}")
    passed, refused = shares_right(segmenter.info.taught)
    say(f"wordings: {passed:.1%} of the taught ones pass, {refused:.1%} of the others are refused")
    if report is not None:
        answers = [asdict(answer) for answer in (*xrays, *sick, *atlas)]
        content = {"figures": figures, "lines": [asdict(line) for line in lines], "answers": answers}
        report.write_text(json.dumps(content, indent=1), encoding="utf-8")


@command(app, name="measure-volume", no_args_is_help=True)
def measure_volume(
    image: Annotated[Path, typer.Argument(help="Volume: DICOM folder, NIfTI, NRRD, MHA.")],
    finding: Annotated[list[str], typer.Option("--finding", "-f", help="What to look for; repeat for several.")],
    truth: Annotated[
        list[str] | None, typer.Option(metavar="FINDING=FILE[:LABELS]", help="Mask, also on another grid.")
    ] = None,
    modality: Annotated[str | None, typer.Option(help="ct or mr; guessed if not given.")] = None,
    model: ModelOption = None,
    json_output: Annotated[Path | None, typer.Option("--json", help="Write all figures to this file.")] = None,
) -> None:
    """How findings hold together across slices, with consistency and without."""
    from fasttextdiff_lab import volumes

    check_numbers(json_output)
    volume = read_image(image, modality, None)
    truths = dict(volumes.read_truth(text, volume) for text in truth or ())
    held = list(volumes.measure_volume(load_segmenter(model, "auto", "auto"), volume, finding, truths))
    names = tuple(asdict(held[0]))
    rows = [tuple("" if value is None else _figure(value) for value in asdict(one).values()) for one in held]
    show_table(f"{image}: {volume.shape[volume.slice_axis]} slices", names, rows)
    if json_output:
        write_json(json_output, {"image": str(image), "held": [asdict(one) for one in held]})


def _figure(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _configured(config: Path, output: Path | None) -> TrainingConfig:
    """The run of a configuration, with another output folder if one is given."""
    from fasttextdiff.training.config import read_config

    run = read_config(config)
    return replace(run, output=output.resolve()) if output else run


@command(app, name="stroke-study", no_args_is_help=True)
def stroke_study(
    data: Annotated[Path, typer.Argument(help="Folder of the research data.")],
    report: Annotated[Path, typer.Option("--report", help="Folder for strokes.json and strokes.md; resumes there.")],
    images: Annotated[int, typer.Option(min=1, max=100_000, help="Images of each task.")] = 30,
    model: ModelOption = None,
) -> None:
    """Dice after simulated strokes on validation data, compared with a baseline without a model."""
    from fasttextdiff_lab import stroke_study as study
    from fasttextdiff_lab.teaching_tasks import LEFT_OUT, STROKE_STRUCTURES, stroke_cases

    segmenter = load_segmenter(model, "cpu", "float32", "torch")
    report.mkdir(parents=True, exist_ok=True)
    found = study.resumed(report / "strokes.json", segmenter, stroke_cases(data, images))
    table, info = study.rows(found), segmenter.info
    names = {name.replace("_", " "): modality for name, modality in {**STROKE_STRUCTURES, **LEFT_OUT}.items()}
    untaught = [name for name, modality in names.items() if info.untaught(name, modality)]
    command_line = f"fasttextdiff-lab stroke-study DATA --report REPORT --images {images}"
    _write_page(report / "strokes.md", study.page(table, command_line, info.name, untaught))


@command(app, name="teach-study", no_args_is_help=True)
def teach_study(
    data: Annotated[Path, typer.Argument(help="Folder of the research data.")],
    samples: Annotated[Path, typer.Argument(help="Folder of the sample volumes.")],
    report: Annotated[Path, typer.Option("--report", help="Folder for learning.json and learning.md; resumes there.")],
    task: Annotated[list[str] | None, typer.Option(help="Only these tasks.")] = None,
    method: Annotated[list[str] | None, typer.Option(help="Only these methods.")] = None,
    slices: Annotated[str, typer.Option(help="Numbers of examples.")] = "1,3,5,10,20,100",
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="Draws of the examples.")] = 5,
    model: ModelOption = None,
) -> None:
    """Dice after learning untaught findings from a few slices, compared with other ways to learn."""
    from fasttextdiff_lab import teaching_study as study
    from fasttextdiff_lab.teaching_tasks import pools

    segmenter = load_segmenter(model, "cpu", "float32", "torch")
    report.mkdir(parents=True, exist_ok=True)
    cells, info, untaught = study.TeachingStudy(segmenter, report / "learning.json"), segmenter.info, []
    methods, counts = study.methods_here(method or study.METHODS, say), [int(count) for count in slices.split(",")]
    for pool in pools(data, samples):
        if not info.untaught(pool.finding, pool.modality):
            say(f"{pool.task} is left out: the model was taught it")
            continue
        untaught.append(pool.task)
        if not task or pool.task in task:
            for cell in cells.run(pool, methods, counts, seeds):
                say(f"{cell.task}, {cell.method}, {cell.slices} slices, seed {cell.seed}: {np.mean(cell.dice):.3f}")
    measured = [cell for cell in cells.cells if cell.task in untaught]
    command_line = "fasttextdiff-lab teach-study DATA SAMPLES --report REPORT"
    _write_page(report / "learning.md", study.page(measured, command_line, info.name))


@command(app, name="proposal-study", no_args_is_help=True)
def proposal_study(
    samples: Annotated[Path, typer.Argument(help="Folder of the sample volumes.")],
    report: Annotated[Path, typer.Option("--report", help="Folder for proposals.md and proposals.json.")],
    model: ModelOption = None,
    only: Annotated[list[str] | None, typer.Option(help="Name of a volume; may be repeated. All by default.")] = None,
) -> None:
    """Dice after correcting the proposed slices, against other choices."""
    from fasttextdiff_lab import proposal_study as study

    segmenter = load_segmenter(model, "cpu", "float32", "torch")
    found: list[study.Gain] = []
    for answer in study.answers(segmenter, samples, only or ()):
        found += study.compare(*answer)
    report.mkdir(parents=True, exist_ok=True)
    write_json(report / "proposals.json", {"gains": [asdict(gain) for gain in found]})
    command = "fasttextdiff-lab proposal-study SAMPLES --report REPORT"
    _write_page(report / "proposals.md", study.page(found, command))


@command(app, name="review-study", no_args_is_help=True)
def review_study(
    samples: Annotated[Path, typer.Argument(help="Folder of the sample volumes.")],
    report: Annotated[Path, typer.Option("--report", help="Folder for review.md and review.json.")],
    model: ModelOption = None,
) -> None:
    """Error found by looking at slices in the order of the review list, against scrolling."""
    from fasttextdiff_lab import review_study as study

    segmenter = load_segmenter(model, "auto", "auto")
    found = [one for volume in study.measured(segmenter, samples) for one in volume]
    report.mkdir(parents=True, exist_ok=True)
    write_json(report / "review.json", {"looked": [asdict(one) for one in found]})
    command_line = "fasttextdiff-lab review-study SAMPLES --report REPORT"
    _write_page(report / "review.md", study.page(found, command_line, segmenter.info.name))


def _write_page(path: Path, text: str) -> None:
    """Write a report, and print it."""
    path.write_text(text, encoding="utf-8")
    say(text)


@command(app, name="distil-text", no_args_is_help=True)
def distil_text(
    text: Annotated[Path, typer.Argument(metavar="TEXT_DIR", help="Folder of .txt and .csv files, at any depth.")],
    teacher: Annotated[
        str, typer.Option(help="Teacher: a BERT or ModernBERT with safetensors weights, folder or hub id.")
    ],
    start: Annotated[Path, typer.Option(help="Folder of pretrain-text, or model, with the student.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for text_encoder, tokenizer and checkpoints.")],
    steps: Annotated[
        int, typer.Option(min=1, callback=checked, help="Optimiser steps of 16 texts and 8 families of prompts.")
    ] = 2000,
    seed: Annotated[int, typer.Option(min=0, callback=checked, help="Seed of order and prompts.")] = 0,
    verbose: Verbose = False,
) -> None:
    """Distil a pretrained text encoder into a compact one, token by token, keeping sides and negations apart.

    Ctrl-C saves and stops.
    """
    from fasttextdiff.io.overwriting import require_own_folder

    require_own_folder(output, [text, start, teacher], ["text_encoder"])
    check_encoder_folder(start)
    with pretraining_bar("distil-text", steps, output) as progress:
        from fasttextdiff.training.pretraining import Schedule
        from fasttextdiff_lab import distil_text as distillation

        run = distillation.TextDistillation(text, as_name(teacher), start, output, Schedule(steps, 4e-4), seed=seed)
        distillation.distil_text(run, progress.report, progress.stopped)


@command(app, name="verify-golden", no_args_is_help=True)
def verify_golden(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder with cases.json and the stored arrays.")],
    verbose: Verbose = False,
) -> None:
    """Verify that the classes are the published networks: compare with stored outputs, without any weights."""
    from fasttextdiff_lab.golden import verify_golden as verify

    checks = verify(folder)
    rows = [(c.name, f"{c.error:.2e}", f"{c.tolerance:.0e}", "ok" if c.passed else "FAILED") for c in checks]
    show_table("Golden outputs", ("array", "max abs error", "allowed", ""), rows)
    failed = sum(not c.passed for c in checks)
    say(f"{len(checks) - failed} of {len(checks)} agree")
    if failed:
        raise FastTextDiffError(f"{failed} of {len(checks)} stored arrays are not reproduced")


@command(app)
def benchmark(
    suite: Annotated[
        list[str] | None,
        typer.Option(help="interactive, busy, volume, text, strokes, memory, training or limit; all if not given."),
    ] = None,
    image: Annotated[Path | None, typer.Option(help="Image to measure on; a phantom chest CT if not given.")] = None,
    full_size: Annotated[
        bool,
        typer.Option("--full-size", help="Also the published network at full size: minutes on a CPU, 8 GB."),
    ] = False,
    repeats: Annotated[int, typer.Option(min=1, callback=checked, help="Repeats; each figure is their median.")] = 7,
    slices: Annotated[int, typer.Option(min=1, max=1000, help="Slices of the volume suite.")] = 16,
    json_output: Annotated[Path | None, typer.Option("--json", help="Write all figures to this file.")] = None,
    model: ModelOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    runtime: RuntimeOption = "auto",
    verbose: Verbose = False,
) -> None:
    """Measure speed and memory, each figure with its reference."""
    from fasttextdiff.model.pipeline import FastTextDiffPipeline
    from fasttextdiff_lab.benchmarks.bench import Bench
    from fasttextdiff_lab.benchmarks.inputs import chest_phantom
    from fasttextdiff_lab.benchmarks.measuring import as_json
    from fasttextdiff_lab.benchmarks.suites import SUITES

    chosen = suite or list(SUITES)
    if unknown := [name for name in chosen if name not in SUITES]:
        raise UsageError(f"'{unknown[0]}' is not a suite: use {', '.join(SUITES)}")
    check_numbers(json_output)
    volume = chest_phantom(3) if image is None else read_image(image, None, None)
    pipeline = FastTextDiffPipeline.from_pretrained(model)
    bench = Bench(load_segmenter(model, device, dtype, runtime), pipeline, volume, repeats, full_size, slices)
    figures = []
    for name in chosen:
        for figure in SUITES[name](bench):
            say(f"{figure.name}: {figure.median:.4g} {figure.unit}")
            figures.append(figure)
    about = as_json(figures)
    _show_figures(figures, about["machine"])
    if json_output:
        write_json(json_output, about)


def _show_figures(figures: Sequence[Figure], machine: dict[str, Any]) -> None:
    rows = []
    for f in figures:
        there = f.reference_median is not None
        compared = (f.reference, f"{f.reference_median:.4g}", f"{f.ratio:.2f}") if there else ("", "", "")
        dice = "" if f.dice_to_reference is None else f"{f.dice_to_reference:.4f}"
        rows.append((f.name, f.model, f.device, f"{f.median:.4g} {f.unit}", *compared, dice))
    title = f"{machine['cpu']}, {machine['threads']} threads, GPU: {machine.get('gpu', 'none')}"
    show_table(title, ("", "model", "device", "median", "reference", "", "ratio", "Dice"), rows)


def main() -> NoReturn:
    """Run the command line; errors as for `fasttextdiff`."""
    run_app(app)
