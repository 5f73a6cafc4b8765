"""Batches of augmented images, prompts and masks, one per step; equal seed and step give equal batches.

Knows how groups are mixed; knows nothing about networks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from fasttextdiff.errors import FastTextDiffError, UsageError
from fasttextdiff.image.preprocessing import to_model_range
from fasttextdiff.training.augment import augment
from fasttextdiff.training.config import TrainingConfig
from fasttextdiff.training.own_prompts import own_prompts
from fasttextdiff.training.prompts import Prompt, steered_prompt, whole_prompt
from fasttextdiff.training.samples import Item, Sample
from fasttextdiff.training.slips import with_slips

MISTYPED = 0.08
"""Share of prompts with typos, so that the model tolerates those that `model.spelling` does not correct."""
MOST_DRAWS = 50
"""Images tried for one place in a batch; if none can be read, training stops."""


@dataclass(frozen=True)
class Batch:
    """The data of one step; prompt p of image b is row `2 b + p` of texts and masks.

    Attributes:
        images: (B, 3, S, S) in [-1, 1].
        noise: (B, 3, S, S), standard normal.
        texts: F B findings, all of an image together.
        masks: (F B, S, S) float32, 0 or 1.
        names: file names of the images.
        skipped: why other drawn images are missing, one line each.
        weight: weight of this process's mean loss in the mean over all processes; 1 if all have the same number of
            images.
    """

    images: Tensor
    noise: Tensor
    texts: list[str]
    masks: Tensor
    names: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    weight: float = 1.0


ViewMaker = Callable[[Sample, int, int, Generator], "tuple[Sample, tuple[Prompt, ...]]"]
"""Makes a random square view of a sample, of a given size in pixels, with a given number of prompts."""


def standard_view(sample: Sample, size: int, count: int, rng: Generator) -> tuple[Sample, tuple[Prompt, ...]]:
    """An augmented sample with prompts: texts as written for the user's own data, generated for research data."""
    view = augment(sample, size, rng)
    pairs = [_pair(view, rng) for _ in range(-(-count // 2))]
    return view, tuple(prompt for pair in pairs for prompt in pair)[:count]


def _pair(view: Sample, rng: Generator) -> tuple[Prompt, Prompt]:
    return own_prompts(view, rng) if view.findings else (whole_prompt(view, rng), steered_prompt(view, rng))


@dataclass(frozen=True)
class Share:
    """The part of every batch that a process takes: image `index` and every `count`-th after it."""

    index: int = 0
    count: int = 1


@dataclass(frozen=True)
class View:
    """One augmented image of a batch with its prompts, their texts with typos, and noise (3, S, S).

    `skipped` as in :class:`Batch`.
    """

    sample: Sample
    prompts: tuple[Prompt, ...]
    texts: list[str]
    noise: NDArray[np.float32]
    skipped: list[str]


class StepBatches(Dataset[Batch]):
    """Item `step` is the batch of that step, or a process's share of it.

    Every image has its own random generator, so that it does not depend on the process or on other images.
    """

    def __init__(
        self,
        samples: Mapping[str, Sequence[Item]],
        config: TrainingConfig,
        share: Share | None = None,
        make_view: ViewMaker = standard_view,
    ) -> None:
        self.samples, self.config, self.share, self.make_view = samples, config, share or Share(), make_view
        self.groups = [name for name in config.mixture if samples.get(name)]
        if not self.groups or not set(config.mixture) <= set(samples):
            mixed, known = ", ".join(config.mixture), ", ".join(name for name in samples if samples[name])
            raise UsageError(f"the mixture lists {mixed or 'no groups'}, but there are samples of {known or 'none'}")
        smallest = min(stage.batch for stage in config.stages)
        if smallest < self.share.count:
            raise UsageError(f"a batch of {smallest} images cannot be shared by {self.share.count} processes")
        weights = np.array([config.mixture[name] for name in self.groups])
        self.shares = weights / weights.sum()

    def __len__(self) -> int:
        return self.config.total_steps

    def __getitem__(self, step: int) -> Batch:
        """Draw images of all groups, augment them and make prompts for each."""
        seed, stage = self.config.seed, self.config.stage_at(step)
        groups = allotted(self.shares, stage.batch, np.random.default_rng((seed, step)))
        places = range(stage.batch)[self.share.index :: self.share.count]
        views = [
            self._view(self.groups[groups[place]], stage.size, np.random.default_rng((seed, step, 1 + place)))
            for place in places
        ]
        prompts = [prompt for view in views for prompt in view.prompts]
        return Batch(
            images=as_images([view.sample.image for view in views]),
            noise=torch.from_numpy(np.stack([view.noise for view in views])),
            texts=[text for view in views for text in view.texts],
            masks=torch.from_numpy(np.stack([prompt.mask for prompt in prompts]).astype(np.float32)),
            names=tuple(view.sample.name for view in views),
            skipped=tuple(line for view in views for line in view.skipped),
            weight=len(places) * self.share.count / stage.batch,
        )

    def _view(self, group: str, size: int, rng: Generator) -> View:
        """A random view of a random readable image."""
        pool, skipped = self.samples[group], []
        for _ in range(MOST_DRAWS):
            try:
                sample = pool[int(rng.integers(len(pool)))].load()
            except FastTextDiffError as error:
                skipped.append(str(error))
                continue
            view, prompts = self.make_view(sample, size, self.config.prompts, rng)
            noise = rng.standard_normal((3, size, size), dtype=np.float32)
            return View(view, prompts, [_typed(prompt.text, rng) for prompt in prompts], noise, skipped)
        raise FastTextDiffError(
            f"{MOST_DRAWS} images of '{group}' in a row cannot be read, the last one: {skipped[-1]}"
        )


def _typed(text: str, rng: Generator) -> str:
    """The text, sometimes with typos."""
    return with_slips(text, rng) if rng.random() < MISTYPED else text


def as_images(pictures: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Pictures (S, S) or (S, S, 3) as model input (B, 3, S, S) in [-1, 1]."""
    colour = [picture if picture.ndim == 3 else np.stack([picture] * 3, axis=-1) for picture in pictures]
    return torch.from_numpy(to_model_range(np.stack(colour).astype(np.float32) / np.float32(255), "rgb"))


def allotted(shares: NDArray[np.float64], count: int, rng: np.random.Generator) -> list[int]:
    """`count` group numbers in the given shares, as exactly as whole numbers allow; the remainder is drawn."""
    exact = shares * count
    whole = np.floor(exact).astype(int)
    rest = count - int(whole.sum())
    fraction = exact - whole
    if rest:
        extra = rng.choice(len(shares), size=rest, replace=False, p=fraction / fraction.sum())
        whole[extra] += 1
    return [group for group, n in enumerate(whole) for _ in range(n)]
