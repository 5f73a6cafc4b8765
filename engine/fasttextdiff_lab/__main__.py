"""`python -m fasttextdiff_lab`: train the bundled model by its recipe, take its state out of a run, measure it.

Knows the command line; everything else is done elsewhere.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fasttextdiff.training.config import TrainingConfig

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__, pretty_exceptions_enable=False)
Config = Annotated[Path, typer.Argument(help="YAML file, see fasttextdiff_lab/configs.")]
Output = Annotated[Path | None, typer.Option(help="Folder of the run, in place of the configured one.")]


@app.command()
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


@app.command()
def snapshot(config: Config, folder: Path, output: Output = None) -> None:
    """Write the model of a run's last checkpoint (EMA weights) to a folder."""
    from fasttextdiff_lab.recipe import taught_by_atlases
    from fasttextdiff_lab.snapshot import save_snapshot

    run = _configured(config, output)
    assert run.data is not None
    typer.echo(f"wrote {folder}: {save_snapshot(run, taught_by_atlases(run.data), folder)} steps")


@app.command()
def measure(
    data: Annotated[Path, typer.Argument(help="Folder of the research data.")],
    model: Annotated[Path | None, typer.Option(help="Model folder; the bundled one if none.")] = None,
    every: Annotated[int, typer.Option(min=1, help="Only every N-th image.")] = 1,
    report: Annotated[Path | None, typer.Option("--json", help="File for every answer and the table.")] = None,
) -> None:
    """Validation figures on the wider data, each with n and 95 % interval."""
    from fasttextdiff.model.pipeline import FastTextDiffPipeline
    from fasttextdiff.segmenter import Segmenter
    from fasttextdiff_lab import measure as m

    segmenter = Segmenter(FastTextDiffPipeline.from_pretrained(model))
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
        "sick X-rays answered at all": 1 - m.share_empty(sick, there=True),
        "AUROC of presence, sick against healthy X-rays": m.presence_auroc(sick, healthy),
    }
    for line in lines:
        typer.echo(line)
    for name, value in figures.items():
        typer.echo(f"{name}: {value:.3f}")
    if report is not None:
        answers = [asdict(answer) for answer in (*xrays, *sick, *atlas)]
        content = {"figures": figures, "lines": [asdict(line) for line in lines], "answers": answers}
        report.write_text(json.dumps(content, indent=1), encoding="utf-8")


def _configured(config: Path, output: Path | None) -> TrainingConfig:
    """The run of a configuration, in another folder if one is given."""
    from fasttextdiff.training.config import read_config

    run = read_config(config)
    return replace(run, output=output.resolve()) if output else run


if __name__ == "__main__":
    app()
