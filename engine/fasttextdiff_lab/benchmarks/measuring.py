"""Times work and its reference alternately, and describes the machine. Knows nothing about models."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from fasttextdiff.version import __version__

Work = Callable[[], object]
LIBRARIES = ("openvino", "torch", "transformers", "diffusers", "flash-attn", "numpy")


@dataclass(frozen=True)
class Figure:
    """One measured number.

    Attributes:
        suite: interactive, busy, volume, text, strokes, memory, training or limit.
        name: what was measured.
        model: name of the model.
        device: device and dtype, e.g. "cpu float32".
        median: median of the repeats, in `unit`.
        unit: "ms", "s" or "GB".
        reference: description of the reference; empty without one.
        reference_median: in the same unit, with repeats alternating with those of `median`.
        ratio: `reference_median / median`; above 1, ours is faster or smaller.
        dice_to_reference: Dice of the two masks, for trained weights with a mask.
        error_to_reference: relative L2 distance of the two outputs, if they can be compared.
        presence_to_reference: largest difference of presence, for trained weights.
    """

    suite: str
    name: str
    model: str
    device: str
    median: float
    unit: str
    reference: str = ""
    reference_median: float | None = None
    dice_to_reference: float | None = None
    error_to_reference: float | None = None
    presence_to_reference: float | None = None

    @property
    def ratio(self) -> float | None:
        """See the class."""
        return None if self.reference_median is None else self.reference_median / self.median


def medians(*works: Work, repeats: int, warmup: int = 1) -> list[float]:
    """Median seconds of each piece of work.

    They are run alternately, so that other load on the machine affects all of them alike.
    """
    for work in works * warmup:
        work()
    taken: list[list[float]] = [[] for _ in works]
    for _ in range(repeats):
        for work, times in zip(works, taken, strict=True):
            times.append(_seconds(work))
    return [statistics.median(times) for times in taken]


def _seconds(work: Work) -> float:
    _finish_gpu()
    start = time.perf_counter()
    work()
    _finish_gpu()
    return time.perf_counter() - start


def _finish_gpu() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def as_json(figures: Sequence[Figure]) -> dict[str, Any]:
    """Machine, versions and results, as JSON values."""
    return {
        "machine": machine(),
        "versions": versions(),
        "results": [{**asdict(figure), "ratio": figure.ratio} for figure in figures],
    }


def machine() -> dict[str, Any]:
    """The hardware that the figures depend on."""
    about: dict[str, Any] = {
        "system": platform.platform(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }
    if torch.cuda.is_available():
        about |= {
            "gpu": torch.cuda.get_device_name(),
            "tf32_matmul": torch.backends.cuda.matmul.allow_tf32,
            "tf32_convolution": torch.backends.cudnn.allow_tf32,
        }
    return about


def versions() -> dict[str, str]:
    """Versions of Python, this package and the computing libraries."""
    found = {"python": platform.python_version(), "fasttextdiff": __version__}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            found[library] = "not installed"
    return found


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"
