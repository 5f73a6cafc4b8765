"""Losses of segmentation, presence, denoising and of what texts mean. Knows tensors only."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from fasttextdiff.model.fusion import foreground_logit

HALF_INVENTED = 0.01
"""Share of the image; a false mask of this area costs half of what a missed finding does."""


def segmentation_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Binary cross-entropy plus Dice on probabilities (paper section 3.4), mean of the pairs.

    The published code takes Dice of raw logits, which is a slip. Where nothing is to be found Dice says nothing;
    m / (m + 1 % of the image) of the mask's area m replaces it, which weighs a whole missed or invented finding
    alike. Cross-entropy alone leaves a small false mask nearly for free.

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
    return cross_entropy + torch.where(there, 1 - dice, area / (area + HALF_INVENTED)).mean()


def presence_loss(presence: Tensor, truth: Tensor) -> Tensor:
    """Cross-entropy of "the finding is in the image": (N,) logits against (N, H, W) truth."""
    there = (truth.amax((1, 2)) > 0).float()
    return functional.binary_cross_entropy_with_logits(presence.float(), there)


def denoising_loss(predicted: Tensor, noise: Tensor) -> Tensor:
    """Mean squared error of the predicted noise, (N, >= 3, H, W) against (N, 3, H, W) (Ho et al. 2020, equation 14)."""
    return functional.mse_loss(predicted[:, :3].float(), noise)


def foreground_dice(logits: Tensor, truth: Tensor) -> Tensor:
    """Mean Dice of the thresholded masks over the pairs whose truth is not empty; for the progress line."""
    with torch.no_grad():
        size = truth.shape[1:]
        odds = functional.interpolate(foreground_logit(logits.float())[:, None], size, mode="bilinear")[:, 0]
        mask = (odds > 0).float()
        there = truth.amax((1, 2)) > 0
        dice = 2 * (mask * truth).sum((1, 2)) / (mask.sum((1, 2)) + truth.sum((1, 2))).clamp_min(1)
        return dice[there].mean()


def contrastive_loss(states: Tensor, meaning: Tensor, temperature: float = 0.1) -> Tensor:
    """Supervised contrastive loss (Khosla et al. 2020, equation 2): equal meanings together, all others apart.

    Args:
        states: (N, D).
        meaning: (N,) integers; rows with no other of the same meaning only serve as negatives, -1 takes no part at all.
        temperature: of the cosines.
    """
    part = meaning >= 0
    unit, meaning = functional.normalize(states[part].float(), dim=1), meaning[part]
    own = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    cosines = (unit @ unit.T / temperature).masked_fill(own, -torch.inf)
    same = (meaning[:, None] == meaning[None]) & ~own
    likelihood = cosines.log_softmax(dim=1).masked_fill(~same, 0).sum(1) / same.sum(1).clamp_min(1)
    return -likelihood.sum() / same.any(1).sum().clamp_min(1)
