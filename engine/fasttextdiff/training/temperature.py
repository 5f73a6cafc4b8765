"""Temperature scaling (Guo et al. 2017, section 4.2) of a finished model: changes probabilities, but not masks.

Knows log-odds and truths; knows nothing about their origin.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional

from fasttextdiff.model.fusion import FusionHead, foreground_logit

PIXELS = 2000
"""Pixels used of each (image, finding) pair; neighbours carry the same information."""
RANGE = (0.5, 4.0)
"""Accepted temperatures; values beyond them mean too few data."""


def calibrate(head: FusionHead, pairs: Iterable[tuple[Tensor, Tensor]], seed: int) -> float:
    """Divide a head's log-odds by the temperature that predicts the truth best. Masks at 0.5 do not change.

    The temperature is folded into the weights of the last convolution, so inference needs no extra step.

    Args:
        head: changed in place.
        pairs: its logits (N, 1 or 2, h, w) and the truth (N, H, W), 0 or 1, of images as in training.
        seed: seed of the choice of pixels.

    Returns:
        The temperature; above 1 if the model was overconfident.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = [_some_pixels(logits, truth, generator) for logits, truth in pairs]
    odds, truth = (torch.cat(parts) for parts in zip(*drawn, strict=True))
    found = temperature(odds, truth)
    with torch.no_grad():
        for parameter in head.conv3.parameters():
            parameter.div_(found)
    return found


def temperature(odds: Tensor, truth: Tensor) -> float:
    """The T that minimises the cross-entropy of sigmoid(odds / T), both (N,)."""
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        scaled = odds * torch.tensor(-log_temperature).exp()
        return float(functional.binary_cross_entropy_with_logits(scaled, truth))

    bounds = tuple(torch.tensor(RANGE, dtype=torch.float64).log().tolist())
    best = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-3})
    return float(torch.tensor(best.x, dtype=torch.float64).exp())


def _some_pixels(logits: Tensor, truth: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Log-odds and truth of the same random pixels of every pair, on the truth's grid."""
    size = (truth.shape[1], truth.shape[2])
    odds = functional.interpolate(foreground_logit(logits.float())[:, None], size, mode="bilinear")[:, 0]
    chosen = torch.randint(truth[0].numel(), (len(truth), PIXELS), generator=generator)
    picked = [maps.flatten(1).cpu().gather(1, chosen).flatten() for maps in (odds, truth.float())]
    return picked[0], picked[1]
