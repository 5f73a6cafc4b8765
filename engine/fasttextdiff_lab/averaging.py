"""Averages the weights of a model and of the model trained further from it. Knows weights; knows nothing about data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from fasttextdiff.cli.common import say
from fasttextdiff.errors import UsageError
from fasttextdiff.model.pipeline import FastTextDiffPipeline


def average(
    before: Annotated[Path, typer.Argument(help="Folder of a model.")],
    after: Annotated[Path, typer.Argument(help="Folder of the model trained further from it.")],
    folder: Annotated[Path, typer.Argument(help="Model folder to write.")],
    share: Annotated[float, typer.Option(min=0, max=1, help="Share of the second model.")] = 0.5,
) -> None:
    """Write the mean of two models' weights; everything else is the first one's."""
    averaged(before, after, share).save_pretrained(folder, dtype=torch.float16)
    say(f"wrote {folder}")


@torch.no_grad()
def averaged(before: Path, after: Path, share: float) -> FastTextDiffPipeline:
    """The first model with the mean of both models' weights (Wortsman et al. 2022, equation 1).

    Args:
        before: folder of a model.
        after: folder of the model trained further from it.
        share: weight of the second model, 0 to 1.

    Raises:
        UsageError: the models have other parts or sizes.
        ModelError: a folder cannot be used.
    """
    result, other = (FastTextDiffPipeline.from_pretrained(folder) for folder in (before, after))
    theirs = dict(other.named_parameters())
    for name, parameter in result.named_parameters():
        if name not in theirs or theirs[name].shape != parameter.shape:
            raise UsageError(f"{after} was not trained further from {before}: it has another '{name}'")
        parameter.copy_(parameter.lerp(theirs[name], share).bfloat16())  # as after training, so that files compress
    return result
