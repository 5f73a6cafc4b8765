"""Builds an untrained compact model from a training configuration. Knows sizes; knows nothing about data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler, UNet2DModel
from torch import nn

from fasttextdiff.errors import FastTextDiffError, ModelError, UsageError, one_line
from fasttextdiff.image.preprocessing import ImageSettings, Preprocessing
from fasttextdiff.image.volume import Modality
from fasttextdiff.model.denoiser import FeatureDenoiser
from fasttextdiff.model.fusion import FusionHead
from fasttextdiff.model.info import ModelInfo
from fasttextdiff.model.pipeline import FastTextDiffPipeline, load_component
from fasttextdiff.model.settings import FeaturePlan
from fasttextdiff.model.taught import Taught, joined
from fasttextdiff.model.text_encoder import TextEncoder
from fasttextdiff.training.config import CompactModelConfig, TrainingConfig
from fasttextdiff.training.prompts import TAUGHT
from fasttextdiff.training.samples import CT_LUNG_WINDOW
from fasttextdiff.training.tokenizer import learned_tokenizer


def starting_model(config: TrainingConfig, taught: Taught) -> FastTextDiffPipeline:
    """The initial model of a training: new, with the weights of `start`, or with pre-trained parts.

    Args:
        config: the run.
        taught: findings of the training data by modality; added to those of the start.

    Raises:
        FastTextDiffError: a folder cannot be used, or its text encoder or denoiser does not fit the model.
    """
    if config.start is not None:
        pipeline = FastTextDiffPipeline.from_pretrained(config.start)
        licence = config.licence or pipeline.info.licence
        known = joined(pipeline.info.taught, TAUGHT if config.data is not None else {})
        pipeline.info = replace(pipeline.info, name=config.name, licence=licence, taught=known)
        pipeline.preprocessing = compact_preprocessing()
    else:
        folder = (config.text_encoder or config.output) / "tokenizer"
        pipeline = build_compact(config, learned_tokenizer(folder, config.text, config.model.vocabulary))
    pipeline.info = replace(pipeline.info, taught=joined(pipeline.info.taught, taught))
    if config.text_encoder is not None:
        encoder = TextEncoder.from_pretrained(config.text_encoder / "text_encoder", config.text_encoder / "tokenizer")
        if encoder.dim != pipeline.text_encoder.dim:
            raise FastTextDiffError(
                f"the text encoder in {config.text_encoder} has {encoder.dim} channels, "
                f"the model takes {pipeline.text_encoder.dim}"
            )
        pipeline.text_encoder = encoder
    if config.denoiser is not None:
        pipeline.denoiser = _pretrained_denoiser(config.denoiser, pipeline.denoiser)
    if config.timesteps is not None:
        pipeline.denoiser = _read_at(config.timesteps, pipeline.denoiser)
    for name in config.frozen:
        _part(pipeline, name).requires_grad_(False)
    return pipeline


def _part(pipeline: FastTextDiffPipeline, name: str) -> nn.Module:
    """The module with a dotted name.

    Raises:
        UsageError: the model has no such part.
    """
    try:
        return pipeline.get_submodule(name)
    except AttributeError as error:
        raise UsageError(
            f"the model has no part '{name}' that could be frozen; it has text_encoder, denoiser, fusion"
        ) from error


def read_denoiser(folder: Path) -> tuple[UNet2DModel, DDPMScheduler]:
    """Network and noise schedule of a model folder, or of an output folder of `pretrain-denoiser`.

    Raises:
        UsageError: the folder has no denoiser.
        ModelError: its weights are incomplete or damaged.
    """
    for part in ("unet", "scheduler"):
        if not (folder / part).is_dir():
            raise UsageError(f"{folder} has no denoiser: the folder '{part}' is missing")
    try:
        unet = load_component(UNet2DModel, folder / "unet", torch.float32)
        return unet, DDPMScheduler.from_pretrained(folder / "scheduler")
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise ModelError(f"the denoiser in {folder} cannot be used: {one_line(error)}") from error


def _pretrained_denoiser(folder: Path, old: FeatureDenoiser) -> FeatureDenoiser:
    """The denoiser of a folder, read at the same timesteps and blocks as the old one.

    Raises:
        FastTextDiffError: its sizes differ.
    """
    unet, scheduler = read_denoiser(folder)
    sizes = [
        f"{net.config.in_channels} channels of input and {tuple(net.config.block_out_channels)} in its levels of "
        f"{net.config.layers_per_block} blocks"
        for net in (unet, old.unet)
    ]
    if sizes[0] != sizes[1]:
        raise FastTextDiffError(f"the denoiser in {folder} has {sizes[0]}, the model takes {sizes[1]}")
    return FeatureDenoiser(unet, scheduler, old.plan)


def _read_at(timesteps: tuple[int, ...], old: FeatureDenoiser) -> FeatureDenoiser:
    """The denoiser, read at other timesteps.

    Raises:
        FastTextDiffError: they are not in its schedule, or their number differs, which does not fit the fusion head.
    """
    before = old.plan.timesteps
    if len(timesteps) != len(before):
        raise FastTextDiffError(f"the model is read at {len(before)} timesteps, the configuration gives {timesteps}")
    try:
        return FeatureDenoiser(old.unet, old.scheduler, replace(old.plan, timesteps=timesteps))
    except ValueError as error:
        raise FastTextDiffError(f"the configured timesteps cannot be used: {error}") from error


def build_compact(config: TrainingConfig, tokenizer: Any) -> FastTextDiffPipeline:
    """An untrained model; the same seed gives the same weights."""
    torch.manual_seed(config.seed)
    model = config.model
    denoiser = build_denoiser(model)
    fusion = build_head(model, denoiser, model.text_dim, presence=True)
    text = TextEncoder(build_modernbert(model, tokenizer), tokenizer)
    info = ModelInfo(name=config.name, licence=config.licence, taught={} if config.data is None else TAUGHT)
    return FastTextDiffPipeline(text, denoiser, fusion, compact_preprocessing(), info)


def build_head(model: CompactModelConfig, denoiser: FeatureDenoiser, text_dim: int, *, presence: bool) -> FusionHead:
    """An untrained head with the sizes of the model, for a denoiser and texts of `text_dim` channels."""
    return FusionHead(
        feature_channels=list(denoiser.feature_channels()),
        text_dim=text_dim,
        width=model.fusion_width,
        heads=model.fusion_heads,
        head_dim=32,
        decoder_channels=(model.decoder_channels[0], model.decoder_channels[1]),
        out_channels=1,
        norm_groups=16,
        positional=True,
        presence=presence,
    )


def compact_preprocessing() -> Preprocessing:
    """Preprocessing of the compact model, in training and in use."""
    return Preprocessing(
        {
            Modality.XRAY: ImageSettings(size=208),
            Modality.CT: ImageSettings(size=256, window=CT_LUNG_WINDOW, crop_to_body=True),
            Modality.HISTOLOGY: ImageSettings(size=256, tiled=True, enlarge_to=512),
            Modality.MR: ImageSettings(size=256),
            Modality.OTHER: ImageSettings(size=256),
        }
    )


def build_denoiser(model: CompactModelConfig) -> FeatureDenoiser:
    """An untrained denoiser with the sizes and feature plan of the model."""
    levels = len(model.channels)
    unet = UNet2DModel(
        in_channels=3 * model.patch_size**2,
        out_channels=3 * model.patch_size**2,
        block_out_channels=model.channels,
        layers_per_block=model.layers_per_block,
        down_block_types=("DownBlock2D",) * (levels - 1) + ("AttnDownBlock2D",),
        up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * (levels - 1),
        norm_num_groups=16,
        attention_head_dim=32,
    )
    plan = FeaturePlan(tuple(model.timesteps), tuple(model.blocks), model.patch_size)
    return FeatureDenoiser(unet, DDPMScheduler(num_train_timesteps=1000), plan)


def build_modernbert(model: CompactModelConfig, tokenizer: Any) -> Any:
    """An untrained `transformers.ModernBertModel` for a tokenizer."""
    from transformers import ModernBertConfig, ModernBertModel

    config = ModernBertConfig(
        vocab_size=len(tokenizer),
        hidden_size=model.text_dim,
        intermediate_size=model.text_dim * 3 // 2,
        num_hidden_layers=model.text_layers,
        num_attention_heads=model.text_heads,
        max_position_embeddings=512,
        pad_token_id=tokenizer.pad_token_id,
        cls_token_id=tokenizer.cls_token_id,
        sep_token_id=tokenizer.sep_token_id,
        bos_token_id=tokenizer.cls_token_id,
        eos_token_id=tokenizer.sep_token_id,
        attn_implementation="sdpa",
    )
    return ModernBertModel(config)
