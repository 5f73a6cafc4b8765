"""What adapters answer instead of the model: log-odds of one view, for their words only.

Knows adapters and the head; knows nothing about volumes, files or the library.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from fasttextdiff.contract.findings import shortened
from fasttextdiff.errors import UsageError
from fasttextdiff.image.preprocessing import Fit
from fasttextdiff.image.volume import Modality
from fasttextdiff.model.info import ModelInfo
from fasttextdiff.model.pipeline import FastTextDiffPipeline
from fasttextdiff.teaching.adapter import Adapter
from fasttextdiff.teaching.grids import from_input, grey_input
from fasttextdiff.teaching.wording import answering

PRESENT_OVER = 5
"""Side in pixels of the head's grid over which log-odds are averaged for the presence: a speck is not a finding."""


@dataclass(frozen=True)
class Adapters:
    """The adapters in use; one word means one thing.

    Attributes:
        all: the adapters.

    Raises:
        UsageError: two of them have a word in common.
    """

    all: tuple[Adapter, ...] = ()

    def __post_init__(self) -> None:
        """Refuse two meanings of one word."""
        for n, adapter in enumerate(self.all):
            for other in self.all[:n]:
                for word in adapter.card.words:
                    if other.card.covers(word):
                        raise UsageError(f"two adapters are for '{shortened(word)}': use one of them")

    @classmethod
    def for_model(cls, adapters: Iterable[Adapter], weights_sha256: str, name: str) -> Adapters:
        """Adapters for a model.

        Args:
            adapters: the adapters.
            weights_sha256: hash of the model's weights.
            name: of the model, for messages.

        Raises:
            ModelError: one was learned on another model.
            UsageError: two have a word in common.
        """
        chosen = tuple(adapters)
        for adapter in chosen:
            adapter.require_base(weights_sha256, name)
        return cls(chosen)


def adapter_of(
    finding: str, adapters: Sequence[Adapter], info: ModelInfo, modality: Modality
) -> tuple[Adapter | None, str]:
    """The adapter that answers a finding, and which of its words it is; see :func:`answering`."""
    found = answering(finding, [adapter.card for adapter in adapters], info, modality)
    if found is None:
        return None, ""
    card, word = found
    return next(adapter for adapter in adapters if adapter.card is card), word


def adapted(
    adapter: Adapter, pipeline: FastTextDiffPipeline, pixels: NDArray[np.float32], maps: Sequence[Any], fit: Fit
) -> tuple[NDArray[np.float32], float]:
    """An adapter's answer for one view.

    Args:
        adapter: for this model.
        pipeline: the model; only read.
        pixels: (h, w) or (h, w, 3) in [0, 1].
        maps: from the runtime.
        fit: fit of the view into the model's input.

    Returns:
        Log-odds (h, w), and the presence: the highest probability, averaged over a few pixels.
    """
    patch = pipeline.denoiser.plan.patch_size
    size = fit.padded[0] // patch, fit.padded[1] // patch
    text = pipeline.text_encoder.encode([adapter.card.text])
    with torch.inference_mode():
        odds = adapter.odds(pipeline.fusion, maps, grey_input(pixels, fit), text, size)[None, None]
        around = functional.avg_pool2d(odds, PRESENT_OVER, 1, PRESENT_OVER // 2, count_include_pad=False)
        return from_input(odds, fit), float(around.sigmoid().max())
