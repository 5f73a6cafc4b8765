"""The engine's output: probabilities in mapped files, and the masks at a threshold.

Knows arrays only; knows nothing about Slicer's scene.
"""

from collections.abc import Hashable
from pathlib import Path

import numpy as np

from FastTextDiffSegmentLib.contract.answers import ArrayFile, FoundFinding, Segmented, VolumeOpened
from FastTextDiffSegmentLib.contract.segments import THRESHOLD_TAG, is_there

from .WorkFolder import remove


class SegmentationOutput:
    """All findings of one request, and the files that hold their arrays.

    Args:
        answer: the engine's answer.
        volume: what the engine reported about the volume.
        folder: the folder of the files.

    Attributes:
        findings: in the order of the request.
        sliceRange: (first, end) of the slices of the plane, along the arrays' first axis.
        window: (level, width) of the model's view; None for colour.
        notes: one line each.
        volume: as given.
        review: slices to review, the most doubtful first.
        content: identifies the content of the image that was segmented; None until it is known.
    """

    content: Hashable = None

    def __init__(self, answer: Segmented, volume: VolumeOpened, folder: Path):
        self.findings: tuple[FoundFinding, ...] = answer.findings
        self.sliceRange, self.window, self.notes = answer.slices, answer.window, answer.notes
        self.volume, self._folder = volume, folder
        self.review = answer.review

    def release(self) -> None:
        """Remove the files of the arrays; they must not be read afterwards."""
        self.findings = ()
        remove(self._folder)


def probabilityOf(found: FoundFinding) -> np.ndarray:
    """The probability (n, rows, columns) float32, mapped from its file, read-only."""
    return _mapped(found.probability)


def maskOf(found: FoundFinding, threshold: float | None = None) -> np.ndarray:
    """The mask (n, rows, columns) uint8 at a threshold; at the engine's threshold exactly the engine's own mask."""
    if threshold is None or threshold == found.threshold:
        return _mapped(found.mask)
    isThere = is_there(_presence(found), found.presence_threshold)
    return ((probabilityOf(found) > np.float32(threshold)) & isThere[:, None, None]).astype(np.uint8)


def tagsOf(found: FoundFinding, threshold: float | None = None) -> dict[str, str]:
    """The finding's tags, with the threshold of the mask."""
    if threshold is None or threshold == found.threshold:
        return dict(found.tags)
    return {**found.tags, THRESHOLD_TAG: f"{threshold:g}"}


def isAsked(found: FoundFinding) -> bool:
    """Whether the model was asked for a finding; it is not for what it was not taught."""
    return any(value is not None for value in found.presence)


def highestPresence(found: FoundFinding) -> float:
    """The highest presence of all slices; 0 if there is none."""
    return max((value for value in found.presence if value is not None), default=0.0)


def _presence(found: FoundFinding) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in found.presence], np.float32)


def _mapped(array: ArrayFile) -> np.ndarray:
    return np.memmap(array.file, dtype=array.dtype, mode="r", shape=array.shape)
