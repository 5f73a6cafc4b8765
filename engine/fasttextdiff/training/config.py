"""The settings of a training run, read from one YAML file.

Knows names and ranges; builds nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, cast

from fasttextdiff.errors import FastTextDiffError, UsageError
from fasttextdiff.model.info import BUNDLED_MODEL
from fasttextdiff.option_rules import check_training
from fasttextdiff.paths import as_path

PATHS = {"data", "text", "output", "start", "text_encoder", "denoiser"}
"""Fields that are paths, relative to the YAML file; `~` is the home folder."""
BUNDLED = "bundled"
"""Value of `start` for the bundled model."""


@dataclass(frozen=True)
class Stage:
    """Part of a run at one image size.

    Attributes:
        steps: optimiser steps.
        size: side of the square training images, in pixels.
        batch: images per step.
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
        text_layers: layers of the text encoder.
        text_heads: attention heads of the text encoder.
        channels: channels of the denoiser's levels, finest first.
        layers_per_block: residual blocks per level.
        patch_size: see FeaturePlan.
        timesteps: see FeaturePlan.
        blocks: see FeaturePlan.
        fusion_width: channels of the fusion head.
        fusion_heads: attention heads of the fusion head, with 32 channels each.
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
        name: name of the model.
        output: folder for checkpoints and the finished model.
        stages: stages, run one after another.
        licence: SPDX identifier of the weights; empty for that of the start.
        datasets: the user's own data by name: a folder in LViT's layout or with `train/targets.csv`, or a table of
            volumes (CSV with the columns image, mask, text). Each is a group of the mixture.
        data: folder of the research data sets, whose groups are listed in `training/samples.py`; None without them.
        mixture: share of each group in every batch; if empty, all datasets equally.
        labels: number of labelled images to use of each group, chosen by the seed; None for all.
        start: model folder whose weights and tokenizer to train further, regardless of `model`, or "bundled"; None for
            a new model.
        text_encoder: output folder of `pretrain-text` or `distil-text` with the text encoder and tokenizer to use; None
            for those of the start.
        denoiser: output folder of `pretrain-denoiser` with the denoiser to use; None for that of the start.
        timesteps: timesteps at which features are read; None for those of the start or of `model`.
        frozen: parts that are not trained, by module name, e.g. `model.text_encoder` or `denoiser.unet.mid_block`. In
            the published work, the denoiser is frozen.
        text: folder of text for the tokenizer, required without `start` and `model.text_encoder`.
        model: sizes.
        seed: seed of initial weights, data order, augmentation and noise.
        optimizer: "adamw", or "muon" for the matrices of layers, with AdamW for other parameters.
        learning_rate: peak learning rate.
        text_learning_rate: peak learning rate of the text encoder.
        weight_decay: decoupled weight decay.
        warmup: steps of linear warm-up.
        cooldown: share of all steps over which the rate falls linearly to 2 % at the end; constant in between.
        denoising_weight: weight of the noise-prediction loss (Ho et al. 2020, equation 14), if the denoiser is trained.
        presence_weight: weight of the presence loss.
        prompts: prompts of every image; the denoiser runs once for all. With four, a step of the bundled model takes
            1.36 times as long as with two.
        ema: decay of the EMA weights that are saved.
        presence_batches: batches after the last step on which only the presence output is refitted, for models that
            have one; 0 for none. Masks above the threshold do not change.
        calibration_batches: batches after the last step for the temperature of the finished model's probabilities; 0
            leaves them overconfident, which Dice rewards in training.
        checkpoint_every: steps between checkpoints.
    """

    name: str
    output: Path
    stages: tuple[Stage, ...]
    licence: str = ""
    datasets: dict[str, Path] = field(default_factory=dict)
    data: Path | None = None
    mixture: dict[str, float] = field(default_factory=dict)
    labels: int | None = None
    start: Path | None = None
    text_encoder: Path | None = None
    text: Path | None = None
    denoiser: Path | None = None
    timesteps: tuple[int, ...] | None = None
    frozen: tuple[str, ...] = ()
    model: CompactModelConfig = field(default_factory=CompactModelConfig)
    seed: int = 0
    optimizer: str = "adamw"
    learning_rate: float = 8e-4
    text_learning_rate: float = 4e-4
    weight_decay: float = 0.02
    warmup: int = 200
    cooldown: float = 0.3
    denoising_weight: float = 0.2
    presence_weight: float = 0.1
    prompts: int = 2
    ema: float = 0.998
    presence_batches: int = 0
    calibration_batches: int = 0
    checkpoint_every: int = 100

    def __post_init__(self) -> None:
        """Refuse a run without data, or without a start or text."""
        if not self.datasets and self.data is None:
            raise ValueError("there is nothing to train on: list your data under 'datasets'")
        if self.start is None and self.text_encoder is None and self.text is None:
            raise ValueError("give 'start: bundled' or another model to start from, or a folder of 'text'")
        if self.start is None and not self.licence:
            raise ValueError("give the 'licence' of the weights: there is no 'start' to take it from")
        if self.labels is not None and self.labels < 1:
            raise ValueError(f"'labels' must be at least 1, not {self.labels}")
        if not self.mixture:
            object.__setattr__(self, "mixture", dict.fromkeys(self.datasets, 1.0))

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
        UsageError: the file does not exist, or a number in it is out of range.
        FastTextDiffError: it is not valid YAML, lacks a field, or has an unknown field.
    """
    import yaml

    if not path.is_file():
        raise UsageError(f"there is no training configuration {path}")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        values["stages"] = tuple(_build(Stage, stage) for stage in values["stages"])
        values["model"] = _build(CompactModelConfig, values.get("model", {}))
        if values.get("start") == BUNDLED:
            values["start"] = BUNDLED_MODEL
        for name in PATHS & set(values):
            values[name] = (path.parent / as_path(values[name])).resolve()
        own = values.get("datasets", {})
        values["datasets"] = {str(name): (path.parent / as_path(place)).resolve() for name, place in own.items()}
        run = _build(TrainingConfig, values)
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError, OSError, UsageError) as error:
        reason = " ".join(str(error).split())  # YAML's message has several lines
        raise FastTextDiffError(f"the training configuration {path} cannot be used: {reason}") from error
    except RecursionError as error:
        raise FastTextDiffError(f"the training configuration {path} cannot be used: nested too deeply") from error
    check_training(run, str(path))
    return cast(TrainingConfig, run)


def _build(kind: Any, values: dict[str, Any]) -> Any:
    unknown = set(values) - {f.name for f in fields(kind)}
    if unknown:
        raise ValueError(f"unknown fields {sorted(unknown)}")
    kinds = {f.name: f.type for f in fields(kind)}
    return kind(**{name: _value(v, kinds[name]) for name, v in values.items()})


def _value(value: Any, kind: Any) -> Any:
    """Convert lists to tuples, and numbers such as 1e-4, which YAML reads as text."""
    if isinstance(value, list):
        return tuple(value)
    return float(value) if kind == "float" and isinstance(value, str) else value
