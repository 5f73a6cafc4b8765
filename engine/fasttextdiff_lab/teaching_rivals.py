"""Other ways to learn from the same slices: the fusion head tuned whole, and a U-Net from scratch (MONAI).

Knows lessons and networks; knows nothing about data sets or reports.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fasttextdiff.model.fusion import foreground_logit
from fasttextdiff.model.torch_runtime import TorchRuntime
from fasttextdiff.teaching.decoder import batch_of
from fasttextdiff.teaching.examples import Lesson, variants
from fasttextdiff.teaching.grids import from_input, grey_input, to_input
from fasttextdiff.teaching.learning import MOST_VIEWS, VIEWS
from fasttextdiff.training.losses import segmentation_loss

Answer = Callable[[Lesson], NDArray[np.float32]]
"""Probability (h, w) of a lesson."""
HEAD_STEPS, HEAD_RATE = 60, 1e-3
UNET_STEPS, UNET_RATE = 300, 2e-3
BATCH = 2


def has_monai() -> bool:
    """Whether the U-Net can be trained (the extra `lab`)."""
    return importlib.util.find_spec("monai") is not None


def tune_head(runtime: TorchRuntime, lessons: Sequence[Lesson], finding: str, seed: int, *, mirror: bool) -> Answer:
    """Train a copy of the whole fusion head on cached maps."""
    pipeline = runtime.pipeline
    head = copy.deepcopy(pipeline.fusion)
    text = pipeline.text_encoder.encode([finding]).states.clone()
    patch = pipeline.denoiser.plan.patch_size

    def grid(lesson: Lesson) -> tuple[int, int]:
        return lesson.fit.padded[0] // patch, lesson.fit.padded[1] // patch

    def maps(lesson: Lesson) -> list[Tensor]:
        return batch_of(runtime.maps([lesson.pixels], lesson.fit, 0)[0])

    views = _views(lessons, seed, mirror)
    seen = [(maps(view), to_input(view.mask, view.fit)[:, 0], grid(view)) for view in views]
    head.train()
    optimiser = torch.optim.AdamW(head.parameters(), lr=HEAD_RATE, weight_decay=0.01)
    for drawn in _order(len(seen), HEAD_STEPS, seed):
        optimiser.zero_grad()
        for n in drawn:
            features, truth, size = seen[n]
            segmentation_loss(head.answer(features, text, None, size).logits, (truth > 0.5).float()).backward()
        optimiser.step()
    head.eval()

    def answer(lesson: Lesson) -> NDArray[np.float32]:
        with torch.inference_mode():
            logits = head.answer(maps(lesson), text, None, grid(lesson)).logits
            return from_input(foreground_logit(logits).sigmoid()[None], lesson.fit)

    return answer


def train_unet(lessons: Sequence[Lesson], seed: int, *, mirror: bool) -> Answer:
    """Train MONAI's 2D U-Net (16 to 128 channels) from scratch on the same variants."""
    nets = importlib.import_module("monai.networks.nets")

    torch.manual_seed(seed)
    network = nets.UNet(2, 1, 1, channels=(16, 32, 64, 128), strides=(2, 2, 2), num_res_units=2)
    views = _views(lessons, seed, mirror)
    seen = [(_grey(view), (to_input(view.mask, view.fit)[:, 0] > 0.5).float()) for view in views]
    optimiser = torch.optim.AdamW(network.parameters(), lr=UNET_RATE, weight_decay=0.01)
    for drawn in _order(len(seen), UNET_STEPS, seed):
        optimiser.zero_grad()
        for n in drawn:
            segmentation_loss(network(seen[n][0]), seen[n][1]).backward()
        optimiser.step()
    network.eval()

    def answer(lesson: Lesson) -> NDArray[np.float32]:
        with torch.inference_mode():
            return from_input(network(_grey(lesson)).sigmoid(), lesson.fit)

    return answer


def _grey(lesson: Lesson) -> Tensor:
    image = grey_input(lesson.pixels, lesson.fit)
    return (image - image.mean()) / (image.std() + 1e-3)


def _views(lessons: Sequence[Lesson], seed: int, mirror: bool) -> list[Lesson]:
    """As many variants, of the same kinds, as an adapter learns from."""
    rng = np.random.default_rng(seed)
    count = max(1, min(VIEWS, MOST_VIEWS // len(lessons)))
    return [view for lesson in lessons for view in variants(lesson, count, rng, mirror=mirror)]


def _order(count: int, steps: int, seed: int) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [[int(n) for n in rng.integers(count, size=BATCH)] for _ in range(steps)]
