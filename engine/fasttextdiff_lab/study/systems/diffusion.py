"""FastTextDiff and TextDiff: features of a diffusion network, fused with the words of a text.

FastTextDiff (arXiv 2512.00084) is TextDiff (Feng et al., MICCAI 2024) with ModernBERT for Clinical BioBERT; here they
are one pipeline, and the study's encoder is what differs. Knows the engine's networks; knows nothing about data.
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import DDPMScheduler
from torch import Tensor, nn

from fasttextdiff.model.denoiser import FeatureDenoiser
from fasttextdiff.model.fusion import FusionHead
from fasttextdiff.model.published import PUBLISHED_PLANS, PUBLISHED_UNET, build_unet, linear_schedule
from fasttextdiff.model.settings import FeaturePlan
from fasttextdiff.model.text_encoder import TextEncoder, TextStates
from fasttextdiff.training.compact import build_denoiser, build_head, read_denoiser
from fasttextdiff.training.config import CompactModelConfig
from fasttextdiff.training.losses import denoising_loss
from fasttextdiff_lab.study.systems.fusion_blocks import BLOCKS, Sizes, balanced
from fasttextdiff_lab.study.systems.system import System

DENOISING_WEIGHT = 0.2
"""As in the engine's training."""
COMPACT = CompactModelConfig(timesteps=(20,))
"""Sizes of the bundled model."""
SHAPES = ("compact", "paper")


class Diffusion(System):
    """A denoiser, an encoder and a fusion head.

    Args:
        denoiser: gives the features.
        encoder: reads the texts.
        head: fuses them.
        frozen_text: see :class:`System`.
        frozen_denoiser: whether the denoiser is not trained, as published; else it also learns to denoise.
    """

    def __init__(
        self,
        denoiser: FeatureDenoiser,
        encoder: TextEncoder,
        head: FusionHead,
        frozen_text: bool,
        frozen_denoiser: bool,
    ) -> None:
        super().__init__(encoder, frozen_text)
        self.denoiser, self.head, self.frozen_denoiser = denoiser, head, frozen_denoiser
        if frozen_denoiser:
            denoiser.requires_grad_(False)

    def forward(self, images: Tensor, words: TextStates | None, noise: Tensor) -> Tensor:
        """See :class:`System`."""
        return self._logits(self.denoiser(images, noise), words, images)

    def learn(self, images: Tensor, words: TextStates | None, noise: Tensor) -> tuple[Tensor, Tensor | None]:
        """See :class:`System`; the loss of its own is that of the noise."""
        if self.frozen_denoiser:
            with torch.no_grad():
                features = self.denoiser(images, noise)
            return self._logits(features, words, images), None
        features, predicted = self.denoiser.denoise(images, noise)
        repeats = len(self.denoiser.plan.timesteps)
        loss = denoising_loss(predicted, noise.repeat_interleave(repeats, dim=0))
        return self._logits(features, words, images), DENOISING_WEIGHT * loss

    def _logits(self, features: list[Tensor], words: TextStates | None, images: Tensor) -> Tensor:
        assert words is not None  # it has an encoder
        patch = self.denoiser.plan.patch_size
        size = (images.shape[2] // patch, images.shape[3] // patch)
        logits: Tensor = self.head(features, words.states, words.mask, size).logits
        return logits


def fasttextdiff(
    size: int,
    encoder: TextEncoder,
    shape: str = "compact",
    plan: str = "qata",
    denoiser: Path | None = None,
    frozen_denoiser: bool = False,
    frozen_text: bool = True,
    fusion: str = "published",
    tokens: int = 24,
) -> System:
    """Build FastTextDiff, or TextDiff with a BERT-family encoder.

    Args:
        size: of the images in pixels.
        encoder: reads the texts.
        shape: "paper" (denoiser of 552.8 million parameters, head of 9.7 or 10.9) or "compact".
        plan: of the paper shape, "qata" or "monuseg": the decoder blocks that are read.
        denoiser: folder with `unet` and `scheduler` of a trained denoiser (of the study, or a converted model); None
            for random weights.
        frozen_denoiser: as published; needs a trained denoiser.
        frozen_text: as published.
        fusion: "published", or one of `fusion_blocks.BLOCKS` at equal cost.
        tokens: length of a text in tokens at which the costs of fusion blocks are equal.

    Raises:
        ValueError: an option is unknown, or the size does not fit.
        FastTextDiffError: the denoiser cannot be read.
    """
    if shape not in SHAPES:
        raise ValueError(f"the shape must be one of {', '.join(SHAPES)}, not '{shape}'")
    if fusion != "published" and fusion not in BLOCKS:
        raise ValueError(f"the fusion must be 'published' or one of {', '.join(BLOCKS)}, not '{fusion}'")
    if frozen_denoiser and denoiser is None:
        raise ValueError("a frozen denoiser must be a trained one: give its folder as 'denoiser'")
    unet, head = _compact(encoder, denoiser) if shape == "compact" else _paper(encoder, plan, denoiser)
    if size % unet.multiple:
        raise ValueError(f"the image side must be a multiple of {unet.multiple} pixels, not {size}")
    if fusion != "published":
        sizes = Sizes(head.config.width, encoder.dim, head.config.heads, head.config.head_dim)
        head.block = balanced(fusion, sizes, tokens)  # type: ignore[assignment]
    return Diffusion(unet, encoder, head, frozen_text, frozen_denoiser)


def _compact(encoder: TextEncoder, folder: Path | None) -> tuple[FeatureDenoiser, FusionHead]:
    denoiser = build_denoiser(COMPACT)
    if folder is not None:
        denoiser = FeatureDenoiser(*read_denoiser(folder), denoiser.plan)
    return denoiser, build_head(COMPACT, denoiser, encoder.dim, presence=False)


def _paper(encoder: TextEncoder, plan: str, folder: Path | None) -> tuple[FeatureDenoiser, FusionHead]:
    if plan not in PUBLISHED_PLANS:
        raise ValueError(f"the plan must be one of {', '.join(PUBLISHED_PLANS)}, not '{plan}'")
    blocks: FeaturePlan = PUBLISHED_PLANS[plan]
    scheduler: DDPMScheduler = linear_schedule()
    if folder is not None:
        unet, scheduler = read_denoiser(folder)
    else:
        unet = build_unet(PUBLISHED_UNET).to_empty(device=torch.get_default_device())
        unet.apply(_randomise)
    denoiser = FeatureDenoiser(unet, scheduler, blocks)
    return denoiser, FusionHead(feature_channels=list(denoiser.feature_channels()), text_dim=encoder.dim)


def _randomise(module: nn.Module) -> None:
    """Weights of a network that was built without any."""
    reset = getattr(module, "reset_parameters", None)
    if callable(reset):
        reset()
