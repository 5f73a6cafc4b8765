"""The training loop: resumable, seeded, with EMA weights.

Knows optimisation; other modules make batches, losses and the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.utils.data import DataLoader

from fasttextdiff.errors import FastTextDiffError, one_line
from fasttextdiff.model.fusion import FusionOutput
from fasttextdiff.model.pipeline import FastTextDiffPipeline
from fasttextdiff.model.text_encoder import TextStates
from fasttextdiff.training.batches import Batch, Share, StepBatches, ViewMaker, standard_view
from fasttextdiff.training.checkpoints import load_checkpoint, save_checkpoint
from fasttextdiff.training.compact import starting_model
from fasttextdiff.training.config import TrainingConfig
from fasttextdiff.training.groups import TrainingData, load_groups
from fasttextdiff.training.losses import denoising_loss, foreground_dice, presence_loss, segmentation_loss
from fasttextdiff.training.optimizer import make_optimizer
from fasttextdiff.training.precision import training_precision
from fasttextdiff.training.presence import refit
from fasttextdiff.training.progress import log_line
from fasttextdiff.training.sole_run import sole_run
from fasttextdiff.training.temperature import calibrate

CHECKPOINT = "checkpoint.pt"
FINAL_SHARE = 0.02
"""Final learning rate as a share of the peak."""
NAMED = 16
"""Maximum number of file names in an error."""

Report = Callable[[int, dict[str, float]], None]
Note = Callable[[str], None]


def train(
    config: TrainingConfig,
    report: Report,
    stop: Callable[[], bool] = lambda: False,
    note: Note = lambda _: None,
    *,
    load: Callable[[TrainingConfig, Note], TrainingData] = load_groups,
    make_view: ViewMaker = standard_view,
) -> Path:
    """Train, or resume from the checkpoint in the output folder.

    Under `accelerate launch` or `torchrun`, every process calls this; they share each batch and end with equal weights.

    Args:
        config: the run.
        report: called by the first process after every step, with the number of steps done, the losses and the learning
            rates.
        stop: called after every step; True on any process saves a checkpoint and ends the run early.
        note: called with one line for every file that is skipped.
        load: loads the groups of training images of the mixture.
        make_view: augments an image and makes its prompts.

    Returns:
        The folder of the finished model, or of the run if it was stopped.

    Raises:
        UsageError: the configuration refers to something missing, or has fewer images per batch than processes; another
            process trains in the folder.
        FastTextDiffError: data, model or checkpoint cannot be used; the loss is not finite; the disk is full.
    """
    from accelerate import Accelerator

    accelerator = Accelerator(mixed_precision=training_precision(), cpu=not torch.cuda.is_available())
    config.output.mkdir(parents=True, exist_ok=True)
    with sole_run(config.output) if accelerator.is_main_process else nullcontext():
        return _train(config, accelerator, report, stop, note, load, make_view)


def _train(
    config: TrainingConfig,
    accelerator: Any,
    report: Report,
    stop: Callable[[], bool],
    note: Note,
    load: Callable[[TrainingConfig, Note], TrainingData],
    make_view: ViewMaker,
) -> Path:
    with accelerator.main_process_first():  # it trains the tokenizer and prepares slices for the others
        data = load(config, note)
        pipeline = starting_model(config, data.taught)
    _require_readable(pipeline, data)
    run = _Run(config, accelerator, pipeline)
    first = run.restore()
    if first == 0 and data.labelled and accelerator.is_main_process:
        log_line(config.output, {"labels": config.labels, "images": data.labelled})
    skipped: dict[str, None] = {}
    for step, batch in enumerate(_loader(config, data, make_view, accelerator, first), start=first):
        for line in dict.fromkeys(line for line in batch.skipped if line not in skipped):
            skipped[line] = None
            note(f"skipped: {line}")
        numbers = run.step(step, batch)
        if accelerator.is_main_process:
            report(step + 1, numbers)
        stopping = run.any_process(stop())
        if stopping or (step + 1) % config.checkpoint_every == 0 or step + 1 == config.total_steps:
            run.save(step + 1)
        if stopping:
            return config.output
    if skipped:
        note(f"{len(skipped)} files could not be read in training and were skipped")
    return run.finish(StepBatches(data.groups, config, make_view=make_view))


def _require_readable(pipeline: FastTextDiffPipeline, data: TrainingData) -> None:
    """Refuse texts of the user's data that the text encoder cannot read."""
    for text in data.texts:
        pipeline.text_encoder.check(text)


def _loader(
    config: TrainingConfig, data: TrainingData, make_view: ViewMaker, accelerator: Any, first: int
) -> DataLoader[Batch]:
    share = Share(accelerator.process_index, accelerator.num_processes)
    return _loaded(StepBatches(data.groups, config, share, make_view), range(first, config.total_steps))


def _loaded(batches: StepBatches, steps: range) -> DataLoader[Batch]:
    """Batches of some steps, prepared in the background during earlier steps."""
    return DataLoader(
        batches, batch_size=None, sampler=steps, num_workers=1, prefetch_factor=4, worker_init_fn=_one_thread
    )


class _Losses(nn.Module):
    """A model with its losses as one forward pass.

    Data-parallel training must call `forward`, or gradients are not averaged.
    """

    def __init__(self, pipeline: FastTextDiffPipeline, config: TrainingConfig) -> None:
        super().__init__()
        self.pipeline, self.config = pipeline, config

    def forward(self, batch: Batch, device: torch.device) -> dict[str, Tensor]:
        return training_losses(self.pipeline, batch, self.config, device)


class _Run:
    """Model, optimiser and EMA weights of a run, in one process or one of several."""

    def __init__(self, config: TrainingConfig, accelerator: Any, pipeline: FastTextDiffPipeline) -> None:
        from diffusers.training_utils import EMAModel

        self.config, self.accelerator = config, accelerator
        self.pipeline = pipeline.to(accelerator.device).train()
        for part in (pipeline.denoiser, pipeline.fusion):  # 20 % faster on a CPU
            part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.losses, self.optimizer = accelerator.prepare(
            _Losses(self.pipeline, config), make_optimizer(pipeline, config)
        )
        self.average = EMAModel(pipeline.parameters(), decay=config.ema, use_ema_warmup=True, power=0.75, foreach=True)
        self.choices = {"seed": config.seed, "labels": config.labels}

    def restore(self) -> int:
        """Resume from the checkpoint, if there is one; return the number of steps done."""
        peaks = [group["peak"] for group in self.optimizer.param_groups]
        path = self.config.output / CHECKPOINT
        first = load_checkpoint(path, *self._parts().items(), choices=self.choices)
        for group, peak in zip(self.optimizer.param_groups, peaks, strict=True):
            group["peak"] = peak  # the configuration, not the checkpoint, sets the rate
        self.average.to(self.accelerator.device)
        return first

    def _parts(self) -> dict[str, Any]:
        return {"model": self.pipeline, "optimizer": self.optimizer, "average": self.average}

    def step(self, step: int, batch: Batch) -> dict[str, float]:
        """Run one optimiser step (from 0); return its losses, averaged over processes, and its learning rates.

        Raises:
            FastTextDiffError: the loss or its gradient is not finite; nothing was changed.
        """
        factor = learning_rate_factor(step, self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        _seed(self.config.seed, step, self.accelerator.process_index)
        losses = self.losses(batch, self.accelerator.device)
        numbers = self._means(losses)
        self._require_finite(numbers["loss"], step, batch)
        self.accelerator.backward(losses["loss"] * batch.weight)
        norm = self.accelerator.clip_grad_norm_(self.pipeline.parameters(), 1.0)
        self._require_finite(float(norm), step, batch)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.step(self.pipeline.parameters())
        rates = {"learning_rate": self.config.learning_rate, "text_learning_rate": self.config.text_learning_rate}
        return {**numbers, **{name: rate * factor for name, rate in rates.items()}}

    def _means(self, losses: Mapping[str, Tensor]) -> dict[str, float]:
        """Means over processes. Processes without a finding have no Dice and do not count; any other NaN stays."""
        values = torch.stack([value.detach().float() for value in losses.values()])
        gathered = self.accelerator.gather(values[None])
        means = dict(zip(losses, gathered.mean(0).tolist(), strict=True))
        means["dice"] = float(gathered[:, list(losses).index("dice")].nanmean())
        return means

    def _require_finite(self, value: float, step: int, batch: Batch) -> None:
        if np.isfinite(value):
            return
        names = sorted(set(self._of_all_processes(batch.names)))
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        raise FastTextDiffError(
            f"in step {step + 1} the loss or its gradient is not a finite number, with the images "
            f"{', '.join(names[:NAMED])}{more}; the last checkpoint is kept: check these, or lower the learning rates"
        )

    def _of_all_processes(self, values: Sequence[str]) -> list[str]:
        from accelerate.utils import gather_object

        return list(gather_object(list(values)))

    def any_process(self, flag: bool) -> bool:
        """Whether the flag is set on any process; all must stop together, or the others would wait forever."""
        if self.accelerator.num_processes == 1:
            return flag
        flags = torch.tensor([float(flag)], device=self.accelerator.device)
        return bool(self.accelerator.gather(flags).max() > 0)

    def save(self, step: int) -> None:
        """Write the checkpoint from the first process; all have the same state."""
        if self.accelerator.is_main_process:
            states = {name: part.state_dict() for name, part in self._parts().items()}
            save_checkpoint(self.config.output / CHECKPOINT, {"step": step, "choices": self.choices, **states})

    def finish(self, batches: StepBatches) -> Path:
        """Write the finished model with EMA weights, rounded where trained, and calibrated if configured.

        Args:
            batches: batches of the run; those after its last step are used for presence and calibration.

        Raises:
            FastTextDiffError: it cannot be written; the checkpoint is kept.
        """
        folder = self.config.output / "model"
        if self.accelerator.is_main_process:
            try:
                self._save_averaged(folder, batches)
            except (OSError, RuntimeError, SafetensorError) as error:
                raise FastTextDiffError(
                    f"the model cannot be written to {folder}: {one_line(error)}; the checkpoint is kept: "
                    "free some space and rerun the same command"
                ) from error
        self.accelerator.wait_for_everyone()
        self.accelerator.end_training()
        return folder

    def _save_averaged(self, folder: Path, batches: StepBatches) -> None:
        parameters = list(self.pipeline.parameters())
        self.average.store(parameters)
        self.average.copy_to(parameters)
        _round(parameter for parameter in parameters if parameter in self.optimizer.state)
        self.pipeline.eval()
        if self.config.presence_batches:
            self._refit_presence(batches)
        if self.config.calibration_batches:
            self._calibrate(batches)
        self.pipeline.train()
        self.pipeline.save_pretrained(folder, dtype=torch.float16)
        self.average.restore(parameters)

    @torch.no_grad()
    def _calibrate(self, batches: StepBatches) -> None:
        """Fit the temperature on batches that training would draw next."""
        pairs = ((output.logits, truth) for output, truth in self._answers(batches, self.config.calibration_batches))
        found = calibrate(self.pipeline.fusion, pairs, self.config.seed)
        log_line(self.config.output, {"temperature": round(found, 4)})

    @torch.no_grad()
    def _refit_presence(self, batches: StepBatches) -> None:
        """Refit only the presence output, on batches that training would draw next."""
        answers = self._answers(batches, self.config.presence_batches)
        before, after = refit(self.pipeline.fusion, answers, self.config.seed)
        log_line(self.config.output, {"presence_before": round(before, 4), "presence_after": round(after, 4)})

    def _answers(self, batches: StepBatches, count: int) -> Iterator[tuple[FusionOutput, Tensor]]:
        """Outputs of the model on batches after the last step, with the truth."""
        first = self.config.total_steps
        for batch in _loaded(batches, range(first, first + count)):
            yield predict(self.pipeline, batch, self.accelerator.device)[0], batch.masks


def _seed(seed: int, step: int, process: int) -> None:
    """Seed dropout by step, so that a resumed run needs no generator state."""
    torch.manual_seed(int(np.random.SeedSequence((seed, step, process)).generate_state(1)[0]))


def training_losses(
    pipeline: FastTextDiffPipeline, batch: Batch, config: TrainingConfig, device: torch.device
) -> dict[str, Tensor]:
    """Forward pass and all losses of one batch; `loss` is the weighted sum, `dice` is only for display."""
    output, denoising = predict(pipeline, batch, device)
    truth = batch.masks.to(device)
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


def predict(pipeline: FastTextDiffPipeline, batch: Batch, device: torch.device) -> tuple[FusionOutput, Tensor | None]:
    """Output for every (image, prompt) pair, and the denoiser's loss if it is trained."""
    images, noise = batch.images.to(device), batch.noise.to(device)
    features, denoising = image_features(pipeline, images, noise)
    tokens = pipeline.text_encoder.tokenize(batch.texts)
    states, mask = pipeline.text_encoder(**{name: ids.to(device) for name, ids in tokens.items()})
    return pipeline.decode(features, TextStates(states, mask), (images.shape[2], images.shape[3])), denoising


def image_features(pipeline: FastTextDiffPipeline, images: Tensor, noise: Tensor) -> tuple[list[Tensor], Tensor | None]:
    """The denoiser's features and loss; a frozen one has no loss and stops after its last feature."""
    denoiser = pipeline.denoiser
    trained = [parameter.requires_grad for parameter in denoiser.parameters()]
    if not any(trained):
        return denoiser(images, noise), None
    if not all(trained):
        images.requires_grad_()  # torch crashes in the backward pass of a group norm if its input has no gradient
    features, predicted = denoiser.denoise(images, noise)
    return features, denoising_loss(predicted, noise.repeat_interleave(len(denoiser.plan.timesteps), dim=0))


def learning_rate_factor(step: int, config: TrainingConfig) -> float:
    """Warm-up, plateau and linear cool-down; the plateau allows a run to be shortened or extended."""
    remaining = (config.total_steps - step) / max(1.0, config.cooldown * config.total_steps)
    return min(1.0, (step + 1) / max(1, config.warmup), max(FINAL_SHARE, remaining))


@torch.no_grad()
def _round(trained: Iterable[Tensor]) -> None:
    """Keep the 8 significant bits used by autocast in training, so that saved weights compress better."""
    for parameter in trained:
        parameter.copy_(parameter.bfloat16())


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)
