"""Converts the networks of a model to OpenVINO; needs PyTorch.

Knows the two phases and the text encoder; knows nothing about folders.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fasttextdiff.environment import load_openvino
from fasttextdiff.errors import ModelError, one_line
from fasttextdiff.model.denoiser import seeded_noise
from fasttextdiff.model.feature_cache import LARGEST
from fasttextdiff.model.fusion import foreground_logit
from fasttextdiff.model.openvino.package import DECODE, ENCODE, TEXT
from fasttextdiff.model.pipeline import FastTextDiffPipeline


class _Encode(nn.Module):
    """Phase one for one image: (1, 3, H, W) and noise to one float16 map (1, width, h_k, w_k) per scale."""

    def __init__(self, pipeline: FastTextDiffPipeline) -> None:
        super().__init__()
        self.denoiser, self.fusion = pipeline.denoiser, pipeline.fusion

    def forward(self, image: Tensor, noise: Tensor) -> tuple[Tensor, ...]:
        maps = self.fusion.project(self.denoiser(image, noise))
        return tuple(m.clamp(-LARGEST, LARGEST).half() for m in maps)


class _Decode(nn.Module):
    """Phase two for one image and F findings: token states and maps to log-odds (F, h, w) and presence (F,).

    `size` is an array (H, W) of which only the shape counts, because a converted network knows no numbers but shapes.
    """

    def __init__(self, pipeline: FastTextDiffPipeline) -> None:
        super().__init__()
        self.fusion, self.patch = pipeline.fusion, pipeline.denoiser.plan.patch_size

    def forward(self, states: Tensor, mask: Tensor, size: Tensor, *maps: Tensor) -> tuple[Tensor, Tensor]:
        grid = size.shape[0] // self.patch, size.shape[1] // self.patch
        logits, presence = self.fusion.answer([m.float() for m in maps], states, mask, grid)
        odds = foreground_logit(logits)
        return odds, odds.sigmoid().amax((1, 2)) if presence is None else presence.sigmoid()


class _Text(nn.Module):
    """Token numbers (1, L) to token states (1, L, D)."""

    def __init__(self, pipeline: FastTextDiffPipeline) -> None:
        super().__init__()
        self.model = pipeline.text_encoder.model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        states: Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return states


def converted(pipeline: FastTextDiffPipeline) -> Iterator[tuple[str, Any]]:
    """The networks of a model on the CPU in float32, by name, as `openvino.Model` of any image size and text length.

    Raises:
        ModelError: a network cannot be converted.
    """
    openvino = load_openvino()
    image, noise, text, maps = _examples(pipeline)
    size = torch.zeros(image.shape[2:], dtype=torch.uint8)
    work: dict[str, tuple[nn.Module, tuple[Tensor, ...]]] = {
        ENCODE: (_Encode(pipeline), (image, noise)),
        DECODE: (_Decode(pipeline), (text.states, text.mask, size, *maps)),
        TEXT: (_Text(pipeline), tuple(pipeline.text_encoder.tokenize(["left lung"]).values())),
    }
    for name, (network, example) in work.items():
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # tracing warns of every Python number that it keeps
            try:
                yield name, openvino.convert_model(network.eval(), example_input=example)
            except Exception as error:  # the converter raises its own and torch's errors
                raise ModelError(f"the {name} network cannot be converted to OpenVINO: {one_line(error)}") from error


@torch.no_grad()
def _examples(pipeline: FastTextDiffPipeline) -> tuple[Tensor, Tensor, Any, list[Tensor]]:
    """Inputs for tracing: an image that is not square, so that rows and columns cannot be mixed up."""
    step = pipeline.denoiser.multiple
    shape = (1, 3, 2 * step, 3 * step)
    image, noise = seeded_noise(shape, 1).tanh(), seeded_noise(shape, 2)
    maps = [m.half() for m in pipeline.maps(image, noise)]
    return image, noise, pipeline.text_encoder.encode(["left lung", "heart"]), maps


@torch.no_grad()
def reference_answer(
    pipeline: FastTextDiffPipeline, image: NDArray[np.float32], finding: str, seed: int
) -> tuple[NDArray[np.float32], float]:
    """Log-odds (h, w) and presence of a finding in torch, for comparison on other computers.

    Args:
        pipeline: the model, on the CPU in float32.
        image: (1, 3, H, W) in [-1, 1].
        finding: the text.
        seed: of the noise.
    """
    noise = seeded_noise(image.shape, seed)
    maps = [m.half() for m in pipeline.maps(torch.from_numpy(image), noise)]
    text = pipeline.text_encoder.encode([finding])
    size = torch.zeros(image.shape[2:], dtype=torch.uint8)
    odds, presence = _Decode(pipeline)(text.states, text.mask, size, *maps)
    return odds[0].numpy(), float(presence)
