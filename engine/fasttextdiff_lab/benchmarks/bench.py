"""What a benchmark runs on: a model, an image and settings. Knows the segmenter and the references."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from fasttextdiff.image.slices import PreparedImage
from fasttextdiff.image.volume import Volume
from fasttextdiff.model.pipeline import FastTextDiffPipeline
from fasttextdiff.segmenter import Segmenter
from fasttextdiff_lab.benchmarks.measuring import Figure
from fasttextdiff_lab.benchmarks.references import plain_segmenter

FINDING = "consolidation in the left lung"


@dataclass
class Bench:
    """A model on a device, and the settings of a benchmark.

    Attributes:
        segmenter: the model with all optimisations, on the runtime that is measured.
        pipeline: the same model in torch, for references and for what only torch can do.
        volume: a real image, or a phantom.
        repeats: repeats of each figure.
        full_size: whether to also measure the published network at full size: minutes on a CPU, 6 GB.
        slices: slices of the volume suite.
    """

    segmenter: Segmenter
    pipeline: FastTextDiffPipeline
    volume: Volume
    repeats: int = 5
    full_size: bool = False
    slices: int = 16
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def device(self) -> str:
        """Device, dtype and runtime, as in figures."""
        return f"{self.segmenter.device} {self.segmenter.dtype_name}, {self.segmenter.runtime.name}"

    @property
    def torch_device(self) -> str:
        """The device for work that only torch can do."""
        return self.segmenter.device if self.segmenter.runtime.name == "torch" else "cpu"

    @property
    def model(self) -> str:
        """Name of the model."""
        return self.segmenter.info.name

    def slow(self) -> Segmenter:
        """The same weights in float32 without our optimisations."""
        return plain_segmenter(self.pipeline, self.torch_device)

    def figure(self, suite: str, name: str, seconds: float, unit: str = "ms", **more: Any) -> Figure:
        """A figure of this model on this device; converts seconds to the unit."""
        scale = {"ms": 1e3, "s": 1.0}[unit]
        if more.get("reference_median") is not None:
            more["reference_median"] *= scale
        return Figure(
            suite, name, more.pop("model", self.model), more.pop("device", self.device), seconds * scale, unit, **more
        )

    def new_finding(self) -> str:
        """A text that is not in any cache."""
        return f"{FINDING} {next(self._numbers)}"

    def middle(self) -> PreparedImage:
        """The prepared middle slice of the volume."""
        described = self.segmenter.prepare(self.volume)
        index = described.display.n_slices // 2
        return described.with_request(slices=(index, index + 1), samples=1, seed=0)
