"""`train`, `pretrain-text` and `pretrain-denoiser`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fasttextdiff.cli.app import Verbose, app, checked, command
from fasttextdiff.cli.common import note, progress_bar, say
from fasttextdiff.errors import Cancelled, UsageError
from fasttextdiff.render.tables import show_table

if TYPE_CHECKING:
    from fasttextdiff.training.progress import TrainingProgress


@command(app, no_args_is_help=True)
def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file; see fasttextdiff/configs.")],
    labels: Annotated[
        int | None, typer.Option(min=1, help="Use only this many labelled images of each group, chosen by the seed.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only check your data, and list the problems.")] = False,
    verbose: Verbose = False,
) -> None:
    """Train a compact model, or resume from the last checkpoint. Ctrl-C saves a checkpoint and stops.

    Your own data are checked first. With several GPUs: accelerate launch -m fasttextdiff train CONFIG.
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
        raise UsageError(f"there is nothing to check: {config} lists no datasets of your own")
    quiet_libraries()
    _check_training_data(run.datasets)
    if check:
        return
    with TrainingProgress(run.name, run.total_steps, run.output, shown=is_first_process()) as progress:
        from fasttextdiff.training.loop import train as train_model

        folder = train_model(run, progress.report, progress.stopped, progress.note)
    if progress.stopped():
        raise Cancelled(f"stopped after step {progress.step}; rerun the same command to resume from {folder}")
    if is_first_process():
        say(f"wrote {folder}")


def _check_training_data(datasets: Mapping[str, Path]) -> None:
    """Check the user's own data, list the problems, and refuse data that cannot be used for training."""
    from fasttextdiff.training.data_checks import check_datasets, require_usable
    from fasttextdiff.training.progress import is_first_process

    if is_first_process():
        with progress_bar("checking", "images") as progress:
            reports = check_datasets(datasets, progress)
        for report in reports:
            title = f"{report.name}: {report.rows} rows, {report.images} images in {report.path}"
            rows = [
                ("error" if p.kind.stops else "warning", str(len(p.names)), p.kind.what, ", ".join(p.names[:3]))
                for p in report.problems
            ]
            show_table(title, ("", "n", "what", "first"), rows or [("ok", "", "nothing is wrong", "")])
        require_usable(reports)


@command(app, name="pretrain-text", no_args_is_help=True)
def pretrain_text(
    text: Annotated[Path, typer.Argument(metavar="TEXT_DIR", help="Folder of .txt and .csv files, at any depth.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for text_encoder, tokenizer and checkpoints.")],
    start: Annotated[
        Path | None, typer.Option(help="Model folder whose text encoder and tokenizer to train further.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, callback=checked, help="Optimiser steps of 32 texts.")] = 2000,
    vocabulary: Annotated[int, typer.Option(min=300, callback=checked, help="Tokens of a new tokenizer.")] = 5500,
    seed: Annotated[int, typer.Option(min=0, callback=checked, help="Seed of weights, order and masked words.")] = 0,
    verbose: Verbose = False,
) -> None:
    """Pre-train a compact text encoder on any text by masked-language modelling. Ctrl-C saves and stops."""
    from fasttextdiff.io.overwriting import require_own_folder
    from fasttextdiff.training.config import CompactModelConfig

    require_own_folder(output, [text, start], ["text_encoder"])
    if start is not None:
        check_encoder_folder(start)
    with pretraining_bar("pretrain-text", steps, output) as progress:
        from fasttextdiff.training import pretrain_text as pretraining
        from fasttextdiff.training.pretraining import Schedule

        model = CompactModelConfig(vocabulary=vocabulary)
        run = pretraining.TextPretraining(text, output, start, model, Schedule(steps, 6e-4), seed=seed)
        pretraining.pretrain_text(run, progress.report, progress.stopped)


@command(app, name="pretrain-denoiser", no_args_is_help=True)
def pretrain_denoiser(
    images: Annotated[
        Path, typer.Argument(metavar="IMAGES", help="Folder of PNG, JPEG, TIFF, NIfTI, NRRD or MHA, at any depth.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for unet, scheduler and checkpoints.")],
    start: Annotated[Path | None, typer.Option(help="Model folder whose denoiser to train further.")] = None,
    steps: Annotated[int, typer.Option(min=1, callback=checked, help="Optimiser steps.")] = 5000,
    size: Annotated[int, typer.Option(min=16, callback=checked, help="Side of a training image in pixels.")] = 128,
    batch: Annotated[int, typer.Option(min=1, callback=checked, help="Images per step.")] = 16,
    seed: Annotated[int, typer.Option(min=0, callback=checked, help="Seed of weights, order, views and noise.")] = 0,
    exclude: Annotated[
        Path | None, typer.Option(help="Text file with the names of pictures to leave out, e.g. those of a test set.")
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Pre-train a denoiser on any images, without labels. Ctrl-C saves and stops.

    Use the output folder as `denoiser:` in a training configuration.
    """
    from fasttextdiff.io.overwriting import require_own_folder

    require_own_folder(output, [images, start], ["unet", "scheduler"])
    with pretraining_bar("pretrain-denoiser", steps, output) as progress:
        from fasttextdiff.training import pretrain_denoiser as pretraining
        from fasttextdiff.training.pictures import left_in, picture_files
        from fasttextdiff.training.pretraining import Schedule

        files = None if exclude is None else tuple(left_in(picture_files(images), exclude))
        run = pretraining.DenoiserPretraining(
            images, output, start, schedule=Schedule(steps, 4e-4), size=size, batch=batch, seed=seed, files=files
        )
        pretraining.pretrain_denoiser(run, progress.report, progress.stopped, note)


def check_encoder_folder(folder: Path) -> None:
    """Refuse a folder without a text encoder.

    Raises:
        UsageError: there is none.
    """
    if not (folder / "text_encoder").is_dir():
        raise UsageError(f"{folder} is not a model folder: it has no text_encoder")


@contextmanager
def pretraining_bar(name: str, steps: int, output: Path) -> Iterator[TrainingProgress]:
    """Show a progress bar during a run, and print the outcome."""
    from fasttextdiff.training.progress import TrainingProgress

    with TrainingProgress(name, steps, output) as progress:
        from fasttextdiff.model.pipeline import quiet_libraries

        quiet_libraries()
        yield progress
    if progress.stopped() and progress.step < steps:
        raise Cancelled(f"stopped after step {progress.step}; rerun the same command to resume from {output}")
    say(f"wrote {output}")
