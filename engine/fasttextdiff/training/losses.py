"""Losses of segmentation, presence and denoising. Knows tensors only."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from fasttextdiff.fusion import foreground_logit


def segmentation_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Binary cross-entropy plus Dice; Dice only where there is something to find, on probabilities (paper section 3.4).

    The published code takes Dice of raw logits, which is a slip.

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
    there = (truth.amax((1, 2)) > 0).float()
    return cross_entropy + ((1 - dice) * there).sum() / there.sum().clamp_min(1)


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
