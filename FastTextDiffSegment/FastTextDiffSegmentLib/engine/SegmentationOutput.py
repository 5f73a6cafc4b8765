"""What the engine found: probabilities in mapped files, and the masks they give at a threshold.

Knows arrays only; knows nothing about Slicer's scene.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from FastTextDiffSegmentLib.contract.segments import THRESHOLD_TAG, is_there

from .WorkFolder import remove


@dataclass(frozen=True)
class FindingOutput:
    """One finding on the slices asked for.

    Attributes:
        finding: the text as typed.
        name: segment name, at most 64 characters.
        color: (red, green, blue), 0 to 255.
        terminology: Slicer's terminology entry.
        tags: segment tags, escaped.
        probability: (n, j, i) float32, mapped from a file, read-only.
        engineMask: (n, j, i) uint8, at the threshold the engine was asked for.
        presence: probability, slice by slice, that the finding is there at all; NaN where not asked.
        presenceThreshold: slices below it are empty.
        threshold: the engine's.
        disagreement: (n, j, i) float32 or None, standard deviation over noise samples.
        warnings: one line each.
    """

    finding: str
    name: str
    color: tuple[int, int, int]
    terminology: str
    tags: Mapping[str, str]
    probability: np.ndarray
    engineMask: np.ndarray
    presence: np.ndarray
    presenceThreshold: float
    threshold: float
    disagreement: np.ndarray | None = None
    warnings: tuple[str, ...] = ()

    def mask(self, threshold: float | None = None) -> np.ndarray:
        """(n, j, i) uint8 at a threshold; the engine's own mask at its own threshold, to the bit."""
        if threshold is None or threshold == self.threshold:
            return self.engineMask
        return ((self.probability > np.float32(threshold)) & self._isThere[:, None, None]).astype(np.uint8)

    def tagsAt(self, threshold: float | None = None) -> dict[str, str]:
        """Tags that say which threshold made the mask."""
        if threshold is None or threshold == self.threshold:
            return dict(self.tags)
        return {**self.tags, THRESHOLD_TAG: f"{threshold:g}"}

    @property
    def _isThere(self) -> np.ndarray:
        return is_there(self.presence, self.presenceThreshold)

    @property
    def highestPresence(self) -> float:
        """The highest presence of all slices; 0 where none was asked."""
        return float(np.nanmax(self.presence)) if np.isfinite(self.presence).any() else 0.0


@dataclass
class SegmentationOutput:
    """All findings of one question.

    Attributes:
        findings: in the order asked.
        sliceRange: (first, end) along the array's first axis.
        window: (level, width) the model saw the image in, None for colour.
        seconds: the engine's own time.
        notes: one line each.
        volume: the engine's view of the volume.
    """

    findings: tuple[FindingOutput, ...]
    sliceRange: tuple[int, int]
    window: tuple[float, float] | None
    seconds: float
    notes: tuple[str, ...]
    volume: Any
    _folder: Path

    @classmethod
    def fromAnswer(cls, answer: Mapping[str, Any], volume: Any, folder: Path) -> "SegmentationOutput":
        """Map the arrays that the protocol's `segment` names."""
        window = answer.get("window")
        return cls(
            findings=tuple(_finding(found) for found in answer["findings"]),
            sliceRange=(int(answer["slices"][0]), int(answer["slices"][1])),
            window=None if window is None else (float(window[0]), float(window[1])),
            seconds=float(answer["seconds"]),
            notes=tuple(answer.get("notes", ())),
            volume=volume,
            _folder=folder,
        )

    def release(self) -> None:
        """Let go of the arrays and remove their files; nothing may be read afterwards."""
        self.findings = ()
        remove(self._folder)


def _finding(found: Mapping[str, Any]) -> FindingOutput:
    spread = found.get("disagreement")
    return FindingOutput(
        finding=found["finding"],
        name=found["name"],
        color=tuple(found["color"]),
        terminology=found["terminology"],
        tags=dict(found["tags"]),
        probability=_mapped(found["probability"]),
        engineMask=_mapped(found["mask"]),
        presence=_presence(found["presence"]),
        presenceThreshold=float(found["presenceThreshold"]),
        threshold=float(found["threshold"]),
        disagreement=None if spread is None else _mapped(spread),
        warnings=tuple(found.get("warnings", ())),
    )


def _presence(values: Sequence[float | None]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float32)


def _mapped(array: Mapping[str, Any]) -> np.ndarray:
    return np.memmap(array["file"], dtype=array["dtype"], mode="r", shape=tuple(array["shape"]))
