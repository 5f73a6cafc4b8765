"""What runs a model's networks: the interface that the segmenter uses. Knows arrays; loads no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.image.preprocessing import Fit
from fasttextdiff.model.feature_cache import Maps
from fasttextdiff.model.settings import ModelSettings


class EncodedFindings(NamedTuple):
    """Token states of F findings.

    Attributes:
        states: (F, L, D) float32, zero where `mask` is False.
        mask: (F, L) bool, True for real tokens, including [CLS] and [SEP].
    """

    states: NDArray[np.float32]
    mask: NDArray[np.bool_]

    def of(self, numbers: Sequence[int]) -> EncodedFindings:
        """Some of the findings, without the padding needed only by others."""
        mask = self.mask[list(numbers)]
        length = int(mask.sum(1).max())
        return EncodedFindings(self.states[list(numbers), :length], mask[:, :length])


class Runtime(Protocol):
    """A model on a device.

    Attributes:
        name: "torch" or "openvino".
        device: name of the device, e.g. "cpu", "cuda:0".
        dtype: name of the computing dtype, e.g. "float32".
        batch: images that are encoded together.
        notes: for the user, one line each.
    """

    name: str
    device: str
    dtype: str
    batch: int
    notes: tuple[str, ...]

    @property
    def version(self) -> str:
        """Name and version of the library, e.g. "torch 2.13.0"."""

    @property
    def settings(self) -> ModelSettings:
        """Settings of the model."""

    def check(self, finding: str) -> None:
        """Refuse a text that the model cannot read; see :func:`fasttextdiff.model.tokens.require_readable`."""

    def text(self, findings: Sequence[str]) -> EncodedFindings:
        """Token states of findings.

        Raises:
            DeviceMemoryError: the device's memory is too small.
        """

    def maps(self, pixels: Sequence[NDArray[np.float32]], fit: Fit, seed: int) -> list[Maps]:
        """Maps of each image for the fusion head.

        Args:
            pixels: images (h, w) or (h, w, 3) in [0, 1], all of size `fit.source`.
            fit: how they are fitted into the model's input.
            seed: seed of the noise, the same for all images.

        Raises:
            DeviceMemoryError: the device's memory is too small for one image.
        """

    def answers(
        self, maps: Sequence[Maps], fit: Fit, text: EncodedFindings
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Log-odds (B, F, h, w) on the image's grid, and presence (B, F), of B images and F findings.

        Args:
            maps: from :meth:`maps`.
            fit: fit of all images.
            text: from :meth:`text`.

        Raises:
            DeviceMemoryError: the device's memory is too small for one pair.
        """

    def interruptible(self, go_on: Callable[[], bool]) -> AbstractContextManager[None]:
        """A context in which :meth:`maps` raises Cancelled soon after `go_on` returns False."""

    def release(self) -> None:
        """Give memory that is no longer used back to the device."""


def batched(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Consecutive groups of at most `size` items."""
    yield from (items[start : start + size] for start in range(0, len(items), size))
