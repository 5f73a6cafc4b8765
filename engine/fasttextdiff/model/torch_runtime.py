"""Runs the networks with PyTorch, in batches that fit the device: images to maps, maps and words to results.

Knows tensors, devices and memory; knows nothing about volumes, the cache or files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fasttextdiff.errors import DeviceMemoryError
from fasttextdiff.image.preprocessing import Fit, fitted
from fasttextdiff.model.denoiser import interruptible, seeded_noise
from fasttextdiff.model.devices import BATCH_IMAGES, BATCH_PAIRS, choose_device, choose_dtype
from fasttextdiff.model.feature_cache import LARGEST, Maps
from fasttextdiff.model.fusion import foreground_logit
from fasttextdiff.model.pipeline import FastTextDiffPipeline
from fasttextdiff.model.runtime import EncodedFindings, batched
from fasttextdiff.model.settings import ModelSettings
from fasttextdiff.model.text_encoder import TextStates


class TorchRuntime:
    """A model on a device; see :class:`fasttextdiff.model.runtime.Runtime`.

    Args:
        pipeline: the model; it is moved to the device.
        device: "auto" (a CUDA GPU if there is one), "cpu", "cuda", "cuda:1", "mps".
        dtype: "auto" (bfloat16 on GPUs that have it, float16 on others, float32 on the CPU), or a name.

    Attributes:
        name: "torch".
        pipeline: the model.
        device: name of the device.
        dtype: name of the computing dtype.
        batch: batch size of the denoiser in images; reduced if the device had too little memory.
        pairs: batch size of the fusion head in pairs of image and finding; reduced likewise.

    Raises:
        UsageError: the device is not available, or the dtype is unknown.
        DeviceMemoryError: the device's memory is too small for the model.
    """

    name = "torch"
    notes: tuple[str, ...] = ()

    def __init__(self, pipeline: FastTextDiffPipeline, device: str = "auto", dtype: str = "auto") -> None:
        self._device = choose_device(device)
        self._dtype = choose_dtype(dtype, self._device)
        self.device, self.dtype = str(self._device), str(self._dtype).removeprefix("torch.")
        try:
            self.pipeline = self._in_fast_layout(pipeline.to(self._device).eval())
        except torch.OutOfMemoryError:
            raise self._too_little_memory("the model") from None
        self.batch = BATCH_IMAGES[self._device.type]
        self.pairs = BATCH_PAIRS[self._device.type]

    @property
    def version(self) -> str:
        """As for any runtime."""
        return f"torch {torch.__version__}"

    @property
    def settings(self) -> ModelSettings:
        """The settings of the model."""
        return self.pipeline.settings

    @staticmethod
    def _in_fast_layout(pipeline: FastTextDiffPipeline) -> FastTextDiffPipeline:
        """Set channels-last memory format for the convolutional networks."""
        for part in (pipeline.denoiser, pipeline.fusion):
            part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return pipeline

    @contextmanager
    def _computing(self) -> Iterator[None]:
        """A context without gradients, in the runtime's dtype."""
        kind, dtype = self._device.type, self._dtype
        with torch.inference_mode(), torch.autocast(kind, dtype, enabled=dtype != torch.float32):
            yield

    def check(self, finding: str) -> None:
        """As for any runtime."""
        self.pipeline.text_encoder.check(finding)

    def text(self, findings: Sequence[str]) -> EncodedFindings:
        """As for any runtime."""
        try:
            with self._computing():
                states, mask = self.pipeline.text_encoder.encode(findings)
                assert mask is not None
        except torch.OutOfMemoryError:
            raise self._too_little_memory("the text encoder") from None
        return EncodedFindings(states.float().cpu().numpy(), mask.cpu().numpy())

    def maps(self, pixels: Sequence[NDArray[np.float32]], fit: Fit, seed: int) -> list[Maps]:
        """As for any runtime; fewer images at a time if the device's memory is too small."""
        return self._halving(lambda part: self._maps_at_once(part, fit, seed), pixels)

    def _maps_at_once(self, pixels: Sequence[NDArray[np.float32]], fit: Fit, seed: int) -> list[Maps]:
        images = torch.from_numpy(fitted(np.stack(pixels), fit, self.settings.preprocessing.channel_order))
        noise = seeded_noise((1, *images.shape[1:]), seed, self._device)
        with self._computing():
            maps = self.pipeline.maps(images.to(self._device), noise)
            # copied one by one, because a view of a batch would keep the whole batch in memory
            return [self._kept([m[n] for m in maps]) for n in range(len(pixels))]

    @staticmethod
    def _kept(maps: Sequence[Tensor]) -> Maps:
        """Maps as the cache holds them."""
        return [m.clamp(-LARGEST, LARGEST).to("cpu", torch.float16).numpy() for m in maps]

    def answers(
        self, maps: Sequence[Maps], fit: Fit, text: EncodedFindings
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """As for any runtime; runs `pairs` pairs of image and finding at a time, fewer if the memory is too small."""
        images, findings = len(maps), len(text.states)
        if images * findings <= self.pairs:
            try:
                return self._answers_at_once(maps, fit, text)
            except torch.OutOfMemoryError:
                if images * findings == 1:
                    raise self._too_little_memory("one slice") from None
            self.release()
            self.pairs = images * findings // 2
        if images > 1:
            parts = [self.answers(maps[n], fit, text) for n in _halves(images)]
            axis = 0
        else:
            parts = [self.answers(maps, fit, text.of(range(findings)[n])) for n in _halves(findings)]
            axis = 1
        odds, presence = zip(*parts, strict=True)
        return np.concatenate(odds, axis), np.concatenate(presence, axis)

    def _answers_at_once(
        self, maps: Sequence[Maps], fit: Fit, text: EncodedFindings
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        images = len(maps)
        # decided here and not on the GPU, whose queue would have to run empty for the answer
        mask = None if text.mask.all() else self._repeated(text.mask, images)
        words = TextStates(self._repeated(text.states, images), mask)
        scales = [self._together(scale) for scale in zip(*maps, strict=True)]
        with self._computing():
            output = self.pipeline.answer(scales, words, fit.padded)
            logits = foreground_logit(output.logits.float()).cpu().unflatten(0, (images, -1))
            odds = fit.inverse(logits.numpy())
            if output.presence is None:
                return odds, logits.sigmoid().amax((2, 3)).numpy()
            return odds, output.presence.float().sigmoid().cpu().unflatten(0, (images, -1)).numpy()

    def _repeated(self, values: NDArray[Any], times: int) -> Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(values)).to(self._device)
        return tensor.repeat(times, *[1] * (tensor.ndim - 1))

    def _together(self, maps: Sequence[NDArray[np.float16]]) -> Tensor:
        """Maps of one scale as (B, width, h, w) float32 on the device, channels last in memory."""
        joined = torch.cat([torch.from_numpy(m)[None] for m in maps]).to(self._device)
        return joined.float().contiguous(memory_format=torch.channels_last)

    def interruptible(self, go_on: Callable[[], bool]) -> AbstractContextManager[None]:
        """As for any runtime; asks before each convolution."""
        return interruptible(self.pipeline.denoiser, go_on)

    def release(self) -> None:
        """As for any runtime."""
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _halving(self, work: Callable[[Any], list[Any]], items: Sequence[Any]) -> list[Any]:
        """Run a batch; if it does not fit the GPU's memory, halve it, also for later batches."""
        try:
            return work(items)
        except torch.OutOfMemoryError:
            if len(items) == 1:
                raise self._too_little_memory("one slice") from None
        self.release()
        self.batch = max(1, len(items) // 2)
        return [answer for half in batched(items, self.batch) for answer in self._halving(work, half)]

    def _too_little_memory(self, what: str) -> DeviceMemoryError:
        return DeviceMemoryError(f"{self.device} has too little memory for {what}: use --device cpu")


def _halves(count: int) -> tuple[slice, slice]:
    return slice(0, count // 2), slice(count // 2, count)
