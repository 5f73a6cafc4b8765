"""The result of a segmentation: masks and probabilities on the volume's grid, and how they were made.

Knows nothing about models or files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.contract import images
from fasttextdiff.contract.findings import same_key
from fasttextdiff.contract.segments import SLICE_BY_SLICE
from fasttextdiff.image.slices import PreparedImage
from fasttextdiff.image.volume import Volume


@dataclass(frozen=True)
class Provenance:
    """How a segment was made; written into every output (segment tags, DICOM algorithm identification).

    Attributes:
        model: model name from `model_index.json`.
        weights_sha256: hash of all weight files, first 16 hex digits.
        software: "fasttextdiff <version>".
        seed: seed of the diffusion noise.
        samples: number of noise samples averaged.
        timesteps: diffusion timesteps whose features were used.
        plane: "acquisition", "axial", "coronal" or "sagittal".
        slices: (first, last + 1) along the plane's slice axis.
        window: (level, width) applied to the voxels for the first finding, in their units; None if the image's full
            range was used (colour). Each finding has its own, see :meth:`of`.
        threshold: probability above which a pixel belongs to the mask.
        device: e.g. "cpu", "cuda:0".
        dtype: e.g. "float32", "bfloat16".
        created: ISO 8601 time in UTC.
        slice_by_slice: whether slices did not influence each other, as in earlier versions.
        runtime: library that ran the networks, e.g. "openvino 2026.4.1".
        adapter: the adapter that answered for the finding, see :meth:`of`; empty for the model itself.
        kind: kind of image, and the hash of the file that recognised it; None if the modality was given.
    """

    model: str
    weights_sha256: str
    software: str
    seed: int
    samples: int
    timesteps: tuple[int, ...]
    plane: str
    slices: tuple[int, int]
    window: tuple[float, float] | None
    threshold: float
    device: str
    dtype: str
    created: str
    slice_by_slice: bool = True
    runtime: str = "torch"
    adapter: str = ""
    kind: str | None = None

    def of(self, finding: FindingResult) -> Provenance:
        """The provenance of one finding of the run, with its window and its adapter."""
        return replace(self, window=finding.window, adapter=finding.adapter)


@dataclass(frozen=True)
class Learned:
    """A finding that was learned on this computer, in addition to the model's own.

    Attributes:
        source: the adapter, in one line: name, number of slices, date and hash.
        problem: why it does not fit the image, in one line; empty if it does.
        word: its name or synonym that the text is.
    """

    source: str
    problem: str = ""
    word: str = ""


@dataclass(frozen=True)
class FindingResult:
    """The result for one finding, on the grid of the volume.

    Attributes:
        finding: the text as it was read.
        probability: (k, j, i) float32 in [0, 1]; 0 outside the requested slices.
        mask: (k, j, i) bool.
        disagreement: (k, j, i) float32, standard deviation of the probability over noise samples; None for one sample.
        presence: (slices of the plane,) float32, probability for each slice that the finding is there at all; NaN for
            slices outside the request.
        warnings: one line each, e.g. that the model was not trained on this finding.
        typed: the text as typed; empty if the same as `finding`.
        window: (level, width) applied to the voxels, in their units; None if the image's full range was used.
        consistency: what was smoothed and left out, in one line.
        untaught: why the model was not taught it, in one line; empty if it was. The result is empty, or a guess.
        adapter: the adapter that answered, in one line; empty for the model itself.
    """

    finding: str
    probability: NDArray[np.float32]
    mask: NDArray[np.bool_]
    disagreement: NDArray[np.float32] | None
    presence: NDArray[np.float32]
    warnings: tuple[str, ...] = ()
    typed: str = ""
    window: tuple[float, float] | None = None
    consistency: str = SLICE_BY_SLICE
    untaught: str = ""
    adapter: str = ""

    @property
    def absence(self) -> str:
        """What an empty mask means: "not found", or "not taught" if the model was not asked."""
        is_asked = bool(np.isfinite(self.presence).any())
        return "not taught" if self.untaught and not is_asked else "not found"


def on_whole_grid(found: FindingResult, image: PreparedImage) -> FindingResult:
    """Put a result on the grid of the whole volume; slices outside the request are empty."""
    slices = image.slices
    if len(slices) == image.display.n_slices:
        return found

    def embedded(array: NDArray[Any]) -> NDArray[Any]:
        whole = np.zeros(image.display.shape, array.dtype)
        whole[image.requested()] = array
        return whole

    presence = np.full(image.display.n_slices, np.nan, np.float32)
    presence[slices.start : slices.stop] = found.presence
    return replace(
        found,
        probability=embedded(found.probability),
        mask=embedded(found.mask),
        disagreement=None if found.disagreement is None else embedded(found.disagreement),
        presence=presence,
    )


def entropy(probability: NDArray[np.float32]) -> NDArray[np.float32]:
    """Uncertainty of each probability in bits, any shape; see :func:`fasttextdiff.contract.images.entropy`."""
    bits: NDArray[np.float32] = images.entropy(probability, np.log2)
    return bits


def overlapping(masks: Sequence[NDArray[np.bool_]]) -> bool:
    """Whether any voxel belongs to two masks; takes one or more masks of equal shape."""
    seen = np.zeros(masks[0].shape, bool)
    for mask in masks:
        if (seen & mask).any():
            return True
        seen |= mask
    return False


@dataclass(frozen=True)
class SegmentationResult:
    """All findings of one run, in the order they were typed."""

    volume: Volume
    findings: tuple[FindingResult, ...]
    provenance: Provenance

    @property
    def overlapping(self) -> bool:
        """Whether any voxel belongs to two findings."""
        return overlapping([finding.mask for finding in self.findings])

    def of(self, text: str) -> FindingResult:
        """The result for a finding, in any spelling of it.

        Raises:
            KeyError: it was not requested.
        """
        return {same_key(finding.finding): finding for finding in self.findings}[same_key(text)]

    @property
    def probability(self) -> dict[str, NDArray[np.float32]]:
        """Mean probability (k, j, i) by finding."""
        return {f.finding: f.probability for f in self.findings}

    @property
    def mask(self) -> dict[str, NDArray[np.bool_]]:
        """Mask (k, j, i) by finding."""
        return {f.finding: f.mask for f in self.findings}

    @property
    def disagreement(self) -> dict[str, NDArray[np.float32] | None]:
        """Standard deviation over noise samples (k, j, i) by finding; None for one sample."""
        return {f.finding: f.disagreement for f in self.findings}

    @property
    def presence(self) -> dict[str, NDArray[np.float32]]:
        """Probability for each slice that the finding is there at all, by finding."""
        return {f.finding: f.presence for f in self.findings}


@dataclass(frozen=True)
class SliceResults:
    """Results on the requested slices of a volume only.

    Attributes:
        findings: as in a :class:`SegmentationResult`, but the slice axis of the arrays holds only the requested slices:
            (n, j, i) for n slices along k. `presence` has n entries.
        provenance: how they were made; `provenance.slices` gives the slices.
    """

    findings: tuple[FindingResult, ...]
    provenance: Provenance
