"""What a training run is made of, read from one YAML file.

Knows names and ranges; builds nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from fasttextdiff.errors import FastTextDiffError, UsageError

PATHS = {"data", "text", "output", "start", "text_encoder", "denoiser"}
"""Fields that are paths, relative to the YAML file."""


@dataclass(frozen=True)
class Stage:
    """Part of a run at one image size.

    Attributes:
        steps: optimiser steps.
        size: side of the square training images, in pixels.
        batch: images a step; every image comes with two prompts.
    """

    steps: int
    size: int
    batch: int


@dataclass(frozen=True)
class CompactModelConfig:
    """Sizes of a compact model.

    Attributes:
        vocabulary: tokens of the tokenizer.
        text_dim: channels of the text encoder.
        text_layers: its layers.
        text_heads: its attention heads.
        channels: of the denoiser's levels, finest first.
        layers_per_block: residual blocks a level.
        patch_size: see FeaturePlan.
        timesteps: see FeaturePlan.
        blocks: see FeaturePlan.
        fusion_width: channels of the fusion head.
        fusion_heads: its attention heads, of 32 channels each.
        decoder_channels: see FusionHead.
    """

    vocabulary: int = 8192
    text_dim: int = 256
    text_layers: int = 4
    text_heads: int = 4
    channels: tuple[int, ...] = (48, 96, 144, 192)
    layers_per_block: int = 1
    patch_size: int = 2
    timesteps: tuple[int, ...] = (50,)
    blocks: tuple[int, ...] = (0, 2, 4, 7)
    fusion_width: int = 64
    fusion_heads: int = 2
    decoder_channels: tuple[int, ...] = (48, 32)


@dataclass(frozen=True)
class TrainingConfig:
    """One training run; paths are relative to the YAML file.

    Attributes:
        name: of the model.
        licence: SPDX identifier of the weights.
        data: folder of the research data sets.
        text: folder of text for the tokenizer.
        output: folder for checkpoints and the finished model.
        start: model folder whose weights and tokenizer are trained further, whatever `model` says; None starts anew.
        text_encoder: folder made by `pretrain-text` or `distil-text`, whose text encoder and tokenizer are used; None
            for the start's.
        denoiser: folder made by `pretrain-denoiser`, whose denoiser is used; None for the start's.
        train_denoiser: whether the denoiser is trained jointly; False leaves it as it is, as published.
        stages: run one after another.
        mixture: images of each data group in every batch, as shares of the batch.
        model: sizes.
        seed: of initial weights, data order, augmentation and noise.
        learning_rate: peak, AdamW.
        text_learning_rate: peak for the text encoder.
        weight_decay: decoupled.
        warmup: steps of linear warm-up.
        cooldown: share of all steps over which the rate falls linearly to 2 % at the end; constant in between.
        denoising_weight: of the noise-prediction loss (Ho et al. 2020, equation 14), if the denoiser is trained.
        presence_weight: of the presence loss.
        ema: decay of the averaged weights that are saved.
        checkpoint_every: steps between checkpoints.
    """

    name: str
    licence: str
    data: Path
    text: Path
    output: Path
    stages: tuple[Stage, ...]
    mixture: dict[str, float]
    start: Path | None = None
    text_encoder: Path | None = None
    denoiser: Path | None = None
    train_denoiser: bool = True
    model: CompactModelConfig = field(default_factory=CompactModelConfig)
    seed: int = 0
    learning_rate: float = 8e-4
    text_learning_rate: float = 4e-4
    weight_decay: float = 0.02
    warmup: int = 200
    cooldown: float = 0.3
    denoising_weight: float = 0.2
    presence_weight: float = 0.1
    ema: float = 0.998
    checkpoint_every: int = 100

    @property
    def total_steps(self) -> int:
        """Steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    def stage_at(self, step: int) -> Stage:
        """The stage that a step (counted from 0) belongs to."""
        for stage in self.stages:
            if step < stage.steps:
                return stage
            step -= stage.steps
        return self.stages[-1]


def read_config(path: Path) -> TrainingConfig:
    """Read and check a YAML file.

    Raises:
        UsageError: there is no such file.
        FastTextDiffError: it is not valid YAML, lacks a field, or has one that does not exist.
    """
    import yaml

    if not path.is_file():
        raise UsageError(f"there is no training configuration {path}")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        values["stages"] = tuple(_build(Stage, stage) for stage in values["stages"])
        values["model"] = _build(CompactModelConfig, values.get("model", {}))
        for name in PATHS & set(values):
            values[name] = (path.parent / values[name]).resolve()
        return _build(TrainingConfig, values)
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())  # YAML's own message has several lines
        raise FastTextDiffError(f"the training configuration {path} cannot be used: {reason}") from error


def _build(kind: Any, values: dict[str, Any]) -> Any:
    unknown = set(values) - {f.name for f in fields(kind)}
    if unknown:
        raise ValueError(f"unknown fields {sorted(unknown)}")
    return kind(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})
