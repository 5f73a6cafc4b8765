"""The part of an adapter that computes: a small decoder of one finding next to the model's head.

Knows the head's maps and hidden layers; knows nothing about examples, words or files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from fasttextdiff.model.fusion import FusionHead, HiddenMaps, foreground_logit
from fasttextdiff.model.text_encoder import TextStates

LIMIT = 4.0
"""Bound of the model's own log-odds, so that a decoder can learn to overrule a confident error."""


SURROUNDINGS = (9, 25)
"""Sides in pixels of the model's input over which grey levels are averaged."""


class Seen(NamedTuple):
    """What a decoder reads of one view.

    Attributes:
        layers: (1, C_k, h_k, w_k), at any resolution, each channel standardised over the view.
        own: (H, W), the model's bounded log-odds for the finding's words, on the head's grid.
    """

    layers: list[Tensor]
    own: Tensor


def see(fusion: FusionHead, maps: Sequence[Any], image: Tensor, text: TextStates, size: tuple[int, int]) -> Seen:
    """Run the head up to its hidden layers.

    Args:
        fusion: the head; only read.
        maps: (width, h_k, w_k) or (1, width, h_k, w_k) per scale, from the runtime.
        image: (1, 1, *fit.padded), grey levels of the model's input.
        text: token states of the finding, batch 1.
        size: (H, W) of the head's grid.
    """
    with torch.inference_mode():
        scales, hidden = batch_of(maps), hidden_of(fusion, maps, text, size)
        blurred = [functional.avg_pool2d(image, side, 1, side // 2) for side in SURROUNDINGS]
        levels = [functional.interpolate(level, size, mode="area") for level in (image, *blurred)]
        layers = [_standardised(layer) for layer in (*scales, hidden.first, hidden.second, torch.cat(levels, dim=1))]
        return Seen(layers, foreground_logit(hidden.logits)[0].clamp(-LIMIT, LIMIT))


def hidden_of(fusion: FusionHead, maps: Sequence[Any], text: TextStates, size: tuple[int, int]) -> HiddenMaps:
    """The head's layers for one view, float32 on the CPU, wherever the head is; arguments as for :func:`see`."""
    device = next(fusion.parameters()).device
    scales = [m.to(device) for m in batch_of(maps)]
    return HiddenMaps(*(m.float().cpu() for m in fusion.hidden(scales, text.states.float().to(device), None, size)))


def batch_of(maps: Sequence[Any]) -> list[Tensor]:
    """Maps of one view as (1, width, h_k, w_k) float32 on the CPU."""
    scales = [torch.as_tensor(m).float().cpu() for m in maps]
    return [m if m.ndim == 4 else m[None] for m in scales]


def _standardised(layer: Tensor) -> Tensor:
    """Zero mean and unit variance of each channel over the view, so that another scanner's levels mean the same."""
    mean, deviation = layer.mean((2, 3), keepdim=True), layer.std((2, 3), keepdim=True)
    return (layer - mean) / (deviation + 1e-3)


class FindingDecoder(nn.Module):
    """Two layers on each pixel of the head's grid, added to the model's own log-odds.

    The first layer is linear in its inputs, so each map passes it at its own resolution before it is upsampled.

    Args:
        channels: channels of each layer of :class:`Seen`.
        hidden: channels between the two layers.
    """

    def __init__(self, channels: Sequence[int], hidden: int) -> None:
        super().__init__()
        self.channels = tuple(channels)
        self.mix = nn.Linear(sum(channels), hidden)
        self.out = nn.Linear(hidden, 1)
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, points: Tensor, own: Tensor, dropout: float = 0.0) -> Tensor:
        """Log-odds (N,) of points (N, sum of channels), from the model's own (N,)."""
        mixed = functional.gelu(self.mix(functional.dropout(points, dropout, self.training)))
        answer: Tensor = self.out(functional.dropout(mixed, dropout, self.training))[:, 0] + self.gain * own
        return answer

    @torch.inference_mode()
    def odds(self, seen: Seen) -> Tensor:
        """Log-odds (H, W) on the head's grid."""
        size = (seen.own.shape[0], seen.own.shape[1])
        total = self.mix.bias[:, None, None].expand(-1, *size).clone()
        for layer, weight in zip(seen.layers, self.mix.weight.split(self.channels, dim=1), strict=True):
            mixed = torch.einsum("oc,chw->ohw", weight, layer[0])
            total += functional.interpolate(mixed[None], size, mode="bilinear")[0]
        answer: Tensor = torch.einsum("oc,chw->ohw", self.out.weight, functional.gelu(total))[0]
        return answer + self.out.bias + self.gain * seen.own


def points_of(seen: Seen, index: Tensor) -> Tensor:
    """(N, sum of channels): the decoder's input at pixels of the head's grid, given as flat indices (N,)."""
    height, width = seen.own.shape
    rows, columns = torch.div(index, width, rounding_mode="floor"), index % width
    places = torch.stack([(columns + 0.5) / width, (rows + 0.5) / height], dim=-1) * 2 - 1
    sampled = [functional.grid_sample(m, places[None, None], "bilinear", "border", False) for m in seen.layers]
    return torch.cat([m[0, :, 0].T for m in sampled], dim=1)
