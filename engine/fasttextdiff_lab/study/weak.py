"""Learns from images and texts without masks: zones named in the text, prompts that must agree, healthy images.

Knows tensors and zones; knows nothing about files or grids.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from fasttextdiff.evaluation.texts import paraphrased
from fasttextdiff.model.fusion import foreground_logit
from fasttextdiff_lab.study.images import HEALTHY_TEXT, StudyBatch
from fasttextdiff_lab.study.systems.system import System
from fasttextdiff_lab.study.training import on_device
from fasttextdiff_lab.study.zones import known

FINDING = "Pulmonary infection."
"""What a system is asked for where the text would tell it the answer."""
SHARPNESS = 5.0
"""Of the pooling: towards 0 the mean over a zone, towards infinity its maximum."""
OUTSIDE = -1e4
"""Stands for minus infinity, whose gradient is not a number in an empty zone."""
EMPTY_WEIGHT = 1.0
AGREEMENT_WEIGHT = 0.5
NEIGHBOURS = (1, 2, 4)
"""Distances in pixels."""
ALIKE = 0.1
"""Difference of grey levels (of a range of 2) up to which neighbours are alike."""
EDGE_WEIGHT = 2.0
LEAST_SHARE = 0.03
"""Part of a zone that a lesion there covers at least: pooling alone would be content with one pixel."""
SIZE_WEIGHT = 0.5


def weak_loss(system: System, batch: StudyBatch, device: torch.device) -> Tensor:
    """The loss of a batch of which only the texts are known.

    Zones are bags of pixels (multiple-instance learning): a zone that the text names has a lesion somewhere, a zone
    that it does not name has none anywhere. A system that reads texts is asked for :data:`FINDING` here. It would paint
    the zones that it reads otherwise, and need no image. Its answers to the text, or to a paraphrase, must agree with
    that answer.

    Args:
        system: in training.
        batch: its masks are not used.
        device: of the system.
    """
    images, noise = batch.images.to(device), batch.noise.to(device)
    blind = on_device(system.words([FINDING] * len(images)), device)
    logits, own = system.learn(images, blind, noise)
    odds = _full_size(logits, images)
    there = torch.tensor(
        [known(text, HEALTHY_TEXT, names) for text, names in zip(batch.texts, batch.zone_names, strict=True)],
        device=device,
    )
    loss = zone_loss(odds, batch.zones.to(device), there) + EDGE_WEIGHT * edge_loss(odds, images)
    if system.encoder is not None:
        texts = [paraphrased(text, n) if n % 2 else text for n, text in enumerate(batch.texts)]
        other = system(images, on_device(system.words(texts), device), noise)
        loss = loss + AGREEMENT_WEIGHT * agreement(odds, _full_size(other, images))
    return loss if own is None else loss + own


def _full_size(logits: Tensor, images: Tensor) -> Tensor:
    """Log-odds (B, S, S) on the grid of the images."""
    odds = foreground_logit(logits.float())[:, None]
    return functional.interpolate(odds, images.shape[2:], mode="bilinear", align_corners=False)[:, 0]


def zone_loss(odds: Tensor, zones: Tensor, there: Tensor) -> Tensor:
    """Bags of pixels against what the text says about them.

    Args:
        odds: (B, H, W) log-odds of the finding.
        zones: (B, Z, H, W), 0 or 1.
        there: (B, Z), 1 the finding is in the zone, 0 it is not, NaN unknown.

    Returns:
        Cross-entropy of the pooled bags; plus, in empty zones, that of every pixel; plus a hinge on the area in the
        others. 0 if nothing is known.
    """
    pooled, share = pool(odds, zones), _mean(odds.sigmoid(), zones)
    known_zone, wanted = ~there.isnan(), there.nan_to_num()
    filled = known_zone & (wanted > 0.5) & (zones.sum((2, 3)) > 0)
    empty = known_zone & (wanted < 0.5)
    bags = functional.binary_cross_entropy_with_logits(pooled, wanted, reduction="none")
    everywhere = _mean(functional.softplus(odds), zones)
    size = functional.relu(LEAST_SHARE - share) / LEAST_SHARE
    return _over(bags, filled | empty) + EMPTY_WEIGHT * _over(everywhere, empty) + SIZE_WEIGHT * _over(size, filled)


def pool(odds: Tensor, zones: Tensor) -> Tensor:
    """Log-odds (B, Z) of bags: log-mean-exp of the pixels' (Pinheiro and Collobert 2015, section 3.2).

    Args:
        odds: (B, H, W).
        zones: (B, Z, H, W), 0 or 1.
    """
    inside = torch.where(zones > 0, SHARPNESS * odds[:, None], OUTSIDE)
    count = zones.sum((2, 3)).clamp_min(1)
    pooled = (inside.flatten(2).logsumexp(2) - count.log()) / SHARPNESS
    return torch.where(zones.sum((2, 3)) > 0, pooled, 0.0)


def edge_loss(odds: Tensor, images: Tensor) -> Tensor:
    """Neighbours of equal grey must have equal answers, so that borders follow the picture (after Tian et al. 2021).

    Bags alone do not say where in a zone the finding is: a network sees beyond a pixel, and could mark its neighbours.

    Args:
        odds: (B, H, W).
        images: (B, 3, H, W) in [-1, 1].
    """
    grey, probability = images.mean(1), odds.sigmoid()
    losses = []
    for axis in (1, 2):
        for step in NEIGHBOURS:
            length = grey.shape[axis] - step
            one, other = (grey.narrow(axis, start, length) for start in (0, step))
            mine, theirs = (probability.narrow(axis, start, length) for start in (0, step))
            alike = torch.exp(-((one - other) ** 2) / (2 * ALIKE**2))
            losses.append((alike * (mine - theirs) ** 2).mean())
    return torch.stack(losses).mean()


def agreement(one: Tensor, other: Tensor) -> Tensor:
    """Mean squared difference of two answers' probabilities, (B, H, W) log-odds each."""
    return functional.mse_loss(one.sigmoid(), other.sigmoid())


def _mean(values: Tensor, zones: Tensor) -> Tensor:
    """The mean (B, Z) of values (B, H, W) in each zone."""
    return (values[:, None] * zones).sum((2, 3)) / zones.sum((2, 3)).clamp_min(1)


def _over(values: Tensor, chosen: Tensor) -> Tensor:
    """The mean of the chosen values; 0 without any."""
    return (values * chosen).sum() / chosen.sum().clamp_min(1)
