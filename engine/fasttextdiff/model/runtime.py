"""Runs the networks with PyTorch, in batches that fit the device: images to maps, maps and words to answers.

Knows tensors, devices and memory; knows no volumes, no cache and no files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fasttextdiff.errors import DeviceMemoryError
from fasttextdiff.image.preprocessing import Fit, to_model_range
from fasttextdiff.model.denoiser import seeded_noise
from fasttextdiff.model.devices import BATCH_IMAGES, BATCH_PAIRS, choose_device, choose_dtype
from fasttextdiff.model.feature_cache import rounded
from fasttextdiff.model.fusion import foreground_logit
from fasttextdiff.model.pipeline import FastTextDiffPipeline
from fasttextdiff.model.text_encoder import TextStates


class TorchRuntime:
    """A model on a device.

    Args:
        pipeline: the model; it is moved to the device.
        device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", "mps".
        dtype: "auto" (bfloat16 on GPUs that have it, float16 on others, float32 on the CPU), or a name.

    Attributes:
        pipeline: the model.
        device: where it computes.
        dtype: in which number format.
        batch: images that go through the denoiser at once; fewer once the device had too little memory.
        pairs: the same for pairs of an image and a finding in the fusion head.

    Raises:
        UsageError: the device is not there, or the dtype is unknown.
    """

    def __init__(self, pipeline: FastTextDiffPipeline, device: str = "auto", dtype: str = "auto") -> None:
        self.device = choose_device(device)
        self.dtype = choose_dtype(dtype, self.device)
        self.pipeline = self._in_fast_layout(pipeline.to(self.device).eval())
        self.batch = BATCH_IMAGES[self.device.type]
        self.pairs = BATCH_PAIRS[self.device.type]

    @staticmethod
    def _in_fast_layout(pipeline: FastTextDiffPipeline) -> FastTextDiffPipeline:
        """Channels last in memory, for the networks that convolve."""
        for part in (pipeline.denoiser, pipeline.fusion):
            part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return pipeline

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Without gradients, in the runtime's number format."""
        with torch.inference_mode(), torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            yield

    def text(self, findings: Sequence[str]) -> TextStates:
        """Token states of F findings; call it inside :meth:`computing`.

        Raises:
            DeviceMemoryError: the device's memory is too small.
        """
        try:
            return self.pipeline.text_encoder.encode(findings)
        except torch.OutOfMemoryError:
            raise self._too_little_memory("the text encoder") from None

    def maps(self, pixels: Sequence[NDArray[np.float32]], fit: Fit, seed: int) -> list[list[Tensor]]:
        """What the fusion head needs of each image, (1, width, h, w) a scale, rounded as the cache keeps it.

        Args:
            pixels: images (h, w) or (h, w, 3) in [0, 1], all of `fit.source`.
            fit: how they are fitted into the model's input.
            seed: of the noise, the same for all images.

        Raises:
            DeviceMemoryError: the device's memory is too small for one image.
        """
        return self._halving(lambda part: self._maps_at_once(part, fit, seed), pixels)

    def _maps_at_once(self, pixels: Sequence[NDArray[np.float32]], fit: Fit, seed: int) -> list[list[Tensor]]:
        images = fit.forward(to_model_range(np.stack(pixels), self.pipeline.preprocessing.channel_order))
        noise = seeded_noise((1, *images.shape[1:]), seed, self.device)
        with self.computing():
            maps = self.pipeline.maps(images.to(self.device), noise)
            # rounded one by one: a part of a batch would keep all of it in memory
            return [self._kept([m[n : n + 1] for m in maps]) for n in range(len(pixels))]

    @staticmethod
    def _kept(maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps as the cache holds them, whether it does or not."""
        return rounded(maps)

    def answers(self, maps: Sequence[Tensor], fit: Fit, text: TextStates) -> tuple[Tensor, Tensor]:
        """Log-odds (B, F, h, w) on an image's own grid and presence (B, F), on the CPU.

        As many pairs of an image and a finding at once as the device takes; fewer from then on where it does not.

        Args:
            maps: (B, width, h_k, w_k) of B images, float32, on the CPU.
            fit: of all of them.
            text: F findings.

        Raises:
            DeviceMemoryError: the device's memory is too small for one pair.
        """
        images, findings = len(maps[0]), len(text.states)
        if images * findings <= self.pairs:
            try:
                return self._answers_at_once(maps, fit, text)
            except torch.OutOfMemoryError:
                if images * findings == 1:
                    raise self._too_little_memory("one slice") from None
            torch.cuda.empty_cache()
            self.pairs = images * findings // 2
        if images > 1:
            parts = [self.answers([m[n] for m in maps], fit, text) for n in _halves(images)]
            return torch.cat([odds for odds, _ in parts]), torch.cat([presence for _, presence in parts])
        parts = [self.answers(maps, fit, text.part(n.start, n.stop)) for n in _halves(findings)]
        return torch.cat([odds for odds, _ in parts], dim=1), torch.cat([presence for _, presence in parts], dim=1)

    def _answers_at_once(self, maps: Sequence[Tensor], fit: Fit, text: TextStates) -> tuple[Tensor, Tensor]:
        images = len(maps[0])
        words = TextStates(text.states.repeat(images, 1, 1), text.mask.repeat(images, 1))
        output = self.pipeline.answer([m.to(self.device) for m in maps], words, fit.padded)
        logits = fit.inverse(foreground_logit(output.logits.float())[:, None])[:, 0].cpu().unflatten(0, (images, -1))
        if output.presence is None:
            return logits, logits.sigmoid().amax((2, 3))
        return logits, output.presence.float().sigmoid().cpu().unflatten(0, (images, -1))

    def _halving(self, work: Callable[[Any], list[Any]], items: Sequence[Any]) -> list[Any]:
        """Do work on a batch; one that does not fit the GPU's memory is halved, and later batches stay small."""
        try:
            return work(items)
        except torch.OutOfMemoryError:
            if len(items) == 1:
                raise self._too_little_memory("one slice") from None
        torch.cuda.empty_cache()
        self.batch = max(1, len(items) // 2)
        return [answer for half in batched(items, self.batch) for answer in self._halving(work, half)]

    def _too_little_memory(self, what: str) -> DeviceMemoryError:
        return DeviceMemoryError(f"{self.device} has too little memory for {what}: use --device cpu")


def batched(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Neighbouring items together, at most `size` of them."""
    yield from (items[start : start + size] for start in range(0, len(items), size))


def _halves(count: int) -> tuple[slice, slice]:
    return slice(0, count // 2), slice(count // 2, count)
