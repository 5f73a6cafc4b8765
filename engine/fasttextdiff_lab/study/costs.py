"""What a system costs: parameters, multiply-adds, milliseconds, memory. Knows networks only as modules."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from fasttextdiff.model.denoiser import seeded_noise
from fasttextdiff_lab.peak_memory import resident_peak
from fasttextdiff_lab.study.systems.system import System
from fasttextdiff_lab.study.training import on_device


def parameters(system: nn.Module) -> dict[str, int]:
    """Number of all and of the trained parameters."""
    counts = [(one.numel(), one.requires_grad) for one in system.parameters()]
    return {"parameters": sum(n for n, _ in counts), "trained_parameters": sum(n for n, trained in counts if trained)}


def multiply_adds(system: System, size: int, text: str) -> dict[str, int]:
    """Multiply-adds of matrix products and convolutions for one picture, and of these, those of its text.

    A product of attention counts as two matrix products. Element-wise work is not counted, as usual.
    """
    device = next(system.parameters()).device
    image = torch.zeros(1, 3, size, size, device=device)
    if system.encoder is not None:
        system.encoder.clear_cache()
    with torch.no_grad(), _countable(), FlopCounterMode(display=False) as counter:
        words = on_device(system.words([text]), device)
        of_text = counter.get_total_flops()
        system(image, words, torch.zeros_like(image))
    return {"multiply_adds": counter.get_total_flops() // 2, "multiply_adds_text": of_text // 2}


@contextmanager
def _countable() -> Iterator[None]:
    """No fused kernels, which the counter does not see into."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


class Clock:
    """Times the inference of single pictures.

    Args:
        system: in evaluation mode.
        size: side of a picture in pixels.
    """

    def __init__(self, system: System, size: int) -> None:
        self.system = system
        self.device = next(system.parameters()).device
        self.noise = seeded_noise((1, 3, size, size), 0, self.device)
        self.text_s: list[float] = []
        self.image_s: list[float] = []

    @torch.inference_mode()
    def logits(self, image: torch.Tensor, text: str) -> torch.Tensor:
        """The logits (1, C, h, w) of a picture (1, 3, S, S) and a text; the text is encoded every time."""
        if self.system.encoder is not None:
            self.system.encoder.clear_cache()
        start = self._now()
        words = on_device(self.system.words([text]), self.device)
        middle = self._now()
        logits: torch.Tensor = self.system(image.to(self.device), words, self.noise)
        self.image_s.append(self._now() - middle)
        self.text_s.append(middle - start)
        return logits

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def medians(self) -> dict[str, float]:
        """Milliseconds with the text encoded each time, and with its states kept."""
        both = [text + image for text, image in zip(self.text_s, self.image_s, strict=True)]
        return {"inference_ms": 1e3 * statistics.median(both), "cached_ms": 1e3 * statistics.median(self.image_s)}


class PeakMemory:
    """The highest memory of this process from now on, also if it ran other cells before."""

    def __init__(self) -> None:
        with suppress(OSError):  # Linux only, and not everywhere allowed
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()

    def megabytes(self) -> dict[str, float]:
        """Of the process, and of the GPU if there is one."""
        found = {"memory_mb": resident_peak() / 1e6}
        return (
            {**found, "gpu_memory_mb": torch.cuda.max_memory_allocated() / 1e6} if torch.cuda.is_available() else found
        )
