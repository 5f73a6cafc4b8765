"""Runs the networks with PyTorch, in batches that fit the device: images to maps, maps and words to results.

Knows tensors, devices and memory; knows nothing about volumes, the cache or files.
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
        device: the device.
        dtype: the computing dtype.
        batch: batch size of the denoiser in images; reduced if the device had too little memory.
        pairs: batch size of the fusion head in pairs of image and finding; reduced likewise.

    Raises:
        UsageError: the device is not available, or the dtype is unknown.
    """

    def __init__(self, pipeline: FastTextDiffPipeline, device: str = "auto", dtype: str = "auto") -> None:
        self.device = choose_device(device)
        self.dtype = choose_dtype(dtype, self.device)
        self.pipeline = self._in_fast_layout(pipeline.to(self.device).eval())
        self.batch = BATCH_IMAGES[self.device.type]
        self.pairs = BATCH_PAIRS[self.device.type]

    @staticmethod
    def _in_fast_layout(pipeline: FastTextDiffPipeline) -> FastTextDiffPipeline:
        """Set channels-last memory format for the convolutional networks."""
        for part in (pipeline.denoiser, pipeline.fusion):
            part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return pipeline

    @contextmanager
    def computing(self) -> Iterator[None]:
        """A context without gradients, in the runtime's dtype."""
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
        """Maps of each image for the fusion head, (1, width, h, w) per scale, rounded as in the cache.

        Args:
            pixels: images (h, w) or (h, w, 3) in [0, 1], all of size `fit.source`.
            fit: how they are fitted into the model's input.
            seed: seed of the noise, the same for all images.

        Raises:
            DeviceMemoryError: the device's memory is too small for one image.
        """
        return self._halving(lambda part: self._maps_at_once(part, fit, seed), pixels)

    def _maps_at_once(self, pixels: Sequence[NDArray[np.float32]], fit: Fit, seed: int) -> list[list[Tensor]]:
        images = fit.forward(to_model_range(np.stack(pixels), self.pipeline.preprocessing.channel_order))
        noise = seeded_noise((1, *images.shape[1:]), seed, self.device)
        with self.computing():
            maps = self.pipeline.maps(images.to(self.device), noise)
            # rounded one by one, because a view of a batch would keep the whole batch in memory
            return [self._kept([m[n : n + 1] for m in maps]) for n in range(len(pixels))]

    @staticmethod
    def _kept(maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps as the cache would hold them."""
        return rounded(maps)

    def answers(self, maps: Sequence[Tensor], fit: Fit, text: TextStates) -> tuple[Tensor, Tensor]:
        """Log-odds (B, F, h, w) on the image's grid and presence (B, F), on the CPU.

        Runs `pairs` pairs of image and finding at a time; reduces `pairs` if the device's memory is too small.

        Args:
            maps: (B, width, h_k, w_k) of B images, float32, on the CPU.
            fit: fit of all images.
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
        """Run a batch; if it does not fit the GPU's memory, halve it, also for later batches."""
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
    """Consecutive groups of at most `size` items."""
    yield from (items[start : start + size] for start in range(0, len(items), size))


def _halves(count: int) -> tuple[slice, slice]:
    return slice(0, count // 2), slice(count // 2, count)
