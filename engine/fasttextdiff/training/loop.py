"""The training loop: resumable, seeded, with averaged weights.

Knows optimisation; batches, losses and the model are made elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from fasttextdiff.pipeline import FastTextDiffPipeline
from fasttextdiff.text_encoder import TextStates
from fasttextdiff.training.batches import PROMPTS_PER_IMAGE, Batch, StepBatches
from fasttextdiff.training.checkpoints import load_checkpoint, save_checkpoint
from fasttextdiff.training.compact import starting_model
from fasttextdiff.training.config import TrainingConfig
from fasttextdiff.training.losses import denoising_loss, foreground_dice, presence_loss, segmentation_loss
from fasttextdiff.training.negatives import with_negatives
from fasttextdiff.training.samples import load_samples

CHECKPOINT = "checkpoint.pt"
FINAL_SHARE = 0.02
"""The learning rate at the end, as a share of the peak."""

Report = Callable[[int, dict[str, float]], None]


def train(config: TrainingConfig, report: Report, stop: Callable[[], bool] = lambda: False) -> Path:
    """Train, or go on from the checkpoint in the output folder.

    Args:
        config: the run.
        report: called after every step with the number of steps done and the step's losses.
        stop: asked after every step; True saves a checkpoint and ends the run early.

    Returns:
        the folder of the finished model, or of the run if it was stopped.
    """
    from accelerate import Accelerator
    from diffusers.training_utils import EMAModel

    accelerator = Accelerator(mixed_precision="bf16", cpu=not torch.cuda.is_available())
    config.output.mkdir(parents=True, exist_ok=True)
    pipeline = starting_model(config).to(accelerator.device).train()
    for part in (pipeline.denoiser, pipeline.fusion):  # a fifth of the time less on a CPU
        part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(_parameter_groups(pipeline, config), betas=(0.9, 0.98))
    average = EMAModel(pipeline.parameters(), decay=config.ema, use_ema_warmup=True, power=0.75)
    parts = ("model", pipeline), ("optimizer", optimizer), ("average", average)
    peaks = [group["peak"] for group in optimizer.param_groups]
    first = load_checkpoint(config.output / CHECKPOINT, *parts)
    for group, peak in zip(optimizer.param_groups, peaks, strict=True):
        group["peak"] = peak  # the configuration, not the checkpoint, sets the rate
    average.to(accelerator.device)
    pipeline, optimizer = accelerator.prepare(pipeline, optimizer)
    loader = DataLoader(
        StepBatches(with_negatives(load_samples(config.data), config.seed), config),
        batch_size=None,
        sampler=range(first, config.total_steps),
        num_workers=1,
        prefetch_factor=4,
        worker_init_fn=_one_thread,
    )
    model = accelerator.unwrap_model(pipeline)
    for step, batch in enumerate(loader, start=first):
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * learning_rate_factor(step, config)
        with accelerator.autocast():
            losses = training_losses(model, batch, config, accelerator.device)
        accelerator.backward(losses["loss"])
        accelerator.clip_grad_norm_(pipeline.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average.step(model.parameters())
        report(step + 1, {name: value.item() for name, value in losses.items()})
        stopping = stop()
        if stopping or (step + 1) % config.checkpoint_every == 0 or step + 1 == config.total_steps:
            save_checkpoint(config.output / CHECKPOINT, {"step": step + 1, **_states(model, optimizer, average)})
        if stopping:
            return config.output
    return _save_averaged(config.output / "model", model, average)


def training_losses(
    pipeline: FastTextDiffPipeline, batch: Batch, config: TrainingConfig, device: torch.device
) -> dict[str, Tensor]:
    """Forward pass and all losses of one batch; `loss` is the weighted sum, `dice` is only to look at."""
    images, noise, truth = (t.to(device) for t in (batch.images, batch.noise, batch.masks))
    features, denoising = image_features(pipeline, images, noise)
    tokens = pipeline.text_encoder.tokenize(batch.texts)
    states, mask = pipeline.text_encoder(**{name: ids.to(device) for name, ids in tokens.items()})
    shared = [f.repeat_interleave(PROMPTS_PER_IMAGE, dim=0) for f in features]
    output = pipeline.decode(shared, TextStates(states, mask), (images.shape[2], images.shape[3]))
    segmentation = segmentation_loss(output.logits, truth)
    losses = {"segmentation": segmentation}
    total = segmentation
    if denoising is not None:
        losses["denoising"] = denoising
        total = total + config.denoising_weight * denoising
    if output.presence is not None:
        losses["presence"] = presence_loss(output.presence, truth)
        total = total + config.presence_weight * losses["presence"]
    return {"loss": total, "dice": foreground_dice(output.logits.detach(), truth), **losses}


def image_features(pipeline: FastTextDiffPipeline, images: Tensor, noise: Tensor) -> tuple[list[Tensor], Tensor | None]:
    """The denoiser's features, and its own loss; a frozen one has none and runs only as far as its last feature."""
    denoiser = pipeline.denoiser
    if not next(denoiser.parameters()).requires_grad:
        return denoiser(images, noise), None
    features, predicted = denoiser.denoise(images, noise)
    return features, denoising_loss(predicted, noise.repeat_interleave(len(denoiser.plan.timesteps), dim=0))


def learning_rate_factor(step: int, config: TrainingConfig) -> float:
    """Warm-up, plateau and linear cool-down: with a plateau a run can be shortened or prolonged while it goes on."""
    remaining = (config.total_steps - step) / max(1.0, config.cooldown * config.total_steps)
    return min(1.0, (step + 1) / max(1, config.warmup), max(FINAL_SHARE, remaining))


def _parameter_groups(pipeline: FastTextDiffPipeline, config: TrainingConfig) -> list[dict[str, Any]]:
    """Text encoder and the rest, each with and without weight decay (none for biases and norms)."""
    groups: dict[tuple[bool, bool], list[Tensor]] = {}
    for name, parameter in pipeline.named_parameters():
        if not parameter.requires_grad:  # a frozen denoiser
            continue
        groups.setdefault((name.startswith("text_encoder"), parameter.ndim > 1), []).append(parameter)
    rates = {True: config.text_learning_rate, False: config.learning_rate}
    return [
        {"params": p, "lr": rates[text], "peak": rates[text], "weight_decay": config.weight_decay if decay else 0.0}
        for (text, decay), p in groups.items()
    ]


def _states(model: Any, optimizer: Any, average: Any) -> dict[str, Any]:
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "average": average.state_dict()}


def _save_averaged(folder: Path, model: FastTextDiffPipeline, average: Any) -> Path:
    average.store(model.parameters())
    average.copy_to(model.parameters())
    model.save_pretrained(folder, dtype=torch.float16)
    average.restore(model.parameters())
    return folder


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)
