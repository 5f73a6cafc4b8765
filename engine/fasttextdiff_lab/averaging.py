"""Averages the weights of a model and of the model trained further from it. Knows weights; knows nothing about data."""

from __future__ import annotations

from pathlib import Path

import torch

from fasttextdiff.errors import UsageError
from fasttextdiff.model.pipeline import FastTextDiffPipeline


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
