"""Losses for segmentation, presence, denoising and text states. Knows tensors only."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from fasttextdiff.model.fusion import foreground_logit

HALF_INVENTED = 0.01
"""Share of the image; a false mask of this area costs half as much as a missed finding."""
CONTRASTIVE_TEMPERATURE = 0.1
"""Divides the cosine similarities of :func:`contrastive_loss`."""


def segmentation_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Binary cross-entropy plus -ln(Dice) on probabilities (after paper section 3.4), mean over pairs.

    The published code computes Dice on raw logits, by mistake. The logarithm (Wong et al. 2018, equation 2) is needed
    for small findings: the slope of 1 - Dice vanishes with the probability, so a lesion of 1 % of the image stays at
    the base rate, where cross-entropy is satisfied too.

    With an empty truth, Dice is not informative and is replaced by m / (m + 1 % of the image), where m is the area of
    the mask. This weighs a missed and a false finding alike; with cross-entropy only, a small false mask costs almost
    nothing.

    Args:
        logits: (N, 1 or 2, h, w), upsampled bilinearly to the truth's grid.
        truth: (N, H, W), 0 or 1.
    """
    odds = functional.interpolate(
        foreground_logit(logits.float())[:, None], truth.shape[1:], mode="bilinear", align_corners=False
    )[:, 0]
    cross_entropy = functional.binary_cross_entropy_with_logits(odds, truth)
    probability = odds.sigmoid()
    overlap = (probability * truth).sum((1, 2))
    dice = (2 * overlap + 1) / (probability.sum((1, 2)) + truth.sum((1, 2)) + 1)
    area = probability.mean((1, 2))
    there = truth.amax((1, 2)) > 0
    return cross_entropy + torch.where(there, -dice.log(), area / (area + HALF_INVENTED)).mean()


def presence_loss(presence: Tensor, truth: Tensor) -> Tensor:
    """Cross-entropy of the presence: (N,) logits against (N, H, W) truth."""
    there = (truth.amax((1, 2)) > 0).float()
    return functional.binary_cross_entropy_with_logits(presence.float(), there)


def denoising_loss(predicted: Tensor, noise: Tensor) -> Tensor:
    """Mean squared error of the predicted noise, (N, >= 3, H, W) against (N, 3, H, W) (Ho et al. 2020, equation 14)."""
    return functional.mse_loss(predicted[:, :3].float(), noise)


def foreground_dice(logits: Tensor, truth: Tensor) -> Tensor:
    """Mean Dice of thresholded masks over pairs whose truth is not empty; for the progress line."""
    with torch.no_grad():
        size = truth.shape[1:]
        odds = functional.interpolate(foreground_logit(logits.float())[:, None], size, mode="bilinear")[:, 0]
        mask = (odds > 0).float()
        there = truth.amax((1, 2)) > 0
        dice = 2 * (mask * truth).sum((1, 2)) / (mask.sum((1, 2)) + truth.sum((1, 2))).clamp_min(1)
        return dice[there].mean()


def contrastive_loss(states: Tensor, meaning: Tensor) -> Tensor:
    """Supervised contrastive loss (Khosla et al. 2020, equation 2): pulls equal meanings together, pushes others apart.

    Args:
        states: (N, D).
        meaning: (N,) integers; a row with a unique meaning serves only as a negative, -1 is ignored.
    """
    part = meaning >= 0
    unit, meaning = functional.normalize(states[part].float(), dim=1), meaning[part]
    own = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    cosines = (unit @ unit.T / CONTRASTIVE_TEMPERATURE).masked_fill(own, -torch.inf)
    same = (meaning[:, None] == meaning[None]) & ~own
    likelihood = cosines.log_softmax(dim=1).masked_fill(~same, 0).sum(1) / same.sum(1).clamp_min(1)
    return -likelihood.sum() / same.any(1).sum().clamp_min(1)
