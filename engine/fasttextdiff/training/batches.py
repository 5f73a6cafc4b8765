"""Batches of augmented images, prompts and masks, one a step, the same for the same seed and step.

Knows how groups are mixed; knows nothing about networks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from fasttextdiff.errors import UsageError
from fasttextdiff.preprocessing import to_model_range
from fasttextdiff.training.augment import augment
from fasttextdiff.training.config import TrainingConfig
from fasttextdiff.training.prompts import steered_prompt, whole_prompt
from fasttextdiff.training.samples import Sample

PROMPTS_PER_IMAGE = 2


@dataclass(frozen=True)
class Batch:
    """One step's data; prompt p of image b is row `2 b + p` of texts and masks.

    Attributes:
        images: (B, 3, S, S) in [-1, 1].
        noise: (B, 3, S, S), standard normal.
        texts: 2 B findings.
        masks: (2 B, S, S) float32, 0 or 1.
    """

    images: Tensor
    noise: Tensor
    texts: list[str]
    masks: Tensor


class StepBatches(Dataset[Batch]):
    """Item `step` is that step's batch."""

    def __init__(self, samples: Mapping[str, Sequence[Sample]], config: TrainingConfig) -> None:
        self.samples, self.config = samples, config
        self.groups = [name for name in config.mixture if samples.get(name)]
        if not self.groups or not set(config.mixture) <= set(samples):
            mixed, known = ", ".join(config.mixture), ", ".join(name for name in samples if samples[name])
            raise UsageError(f"the mixture names {mixed or 'no groups'}, but there are samples of {known or 'none'}")
        weights = np.array([config.mixture[name] for name in self.groups])
        self.shares = weights / weights.sum()

    def __len__(self) -> int:
        return self.config.total_steps

    def __getitem__(self, step: int) -> Batch:
        """Draw images of all groups, augment them and word two prompts for each."""
        rng = np.random.default_rng((self.config.seed, step))
        stage = self.config.stage_at(step)
        views, prompts = [], []
        for group in _allot(self.shares, stage.batch, rng):
            pool = self.samples[self.groups[group]]
            view = augment(pool[int(rng.integers(len(pool)))], stage.size, rng)
            views.append(view.image if view.image.ndim == 3 else np.stack([view.image] * 3, axis=-1))
            prompts += [whole_prompt(view, rng), steered_prompt(view, rng)]
        images = to_model_range(np.stack(views).astype(np.float32) / np.float32(255), "rgb")
        noise = torch.from_numpy(rng.standard_normal(images.shape, dtype=np.float32))
        masks = torch.from_numpy(np.stack([p.mask for p in prompts]).astype(np.float32))
        return Batch(images, noise, [p.text for p in prompts], masks)


def _allot(shares: NDArray[np.float64], count: int, rng: np.random.Generator) -> list[int]:
    """`count` group numbers with the shares kept as exactly as whole numbers allow; the remainder is drawn."""
    exact = shares * count
    whole = np.floor(exact).astype(int)
    rest = count - int(whole.sum())
    fraction = exact - whole
    if rest:
        extra = rng.choice(len(shares), size=rest, replace=False, p=fraction / fraction.sum())
        whole[extra] += 1
    return [group for group, n in enumerate(whole) for _ in range(n)]
