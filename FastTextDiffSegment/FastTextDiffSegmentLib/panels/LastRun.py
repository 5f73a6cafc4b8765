"""The engine's last result, kept so that its threshold can change without asking the engine again. Knows no widget."""

from dataclasses import dataclass, field, replace
from typing import Any

from FastTextDiffSegmentLib.engine.SegmentationOutput import SegmentationOutput
from FastTextDiffSegmentLib.Logic import SegmentationRequest, SegmentedFinding


@dataclass
class LastRun:
    """What the engine found, kept so that the threshold can be moved without asking again.

    Attributes:
        output: the engine's.
        request: what was asked.
        segmentation: where it was written.
        written: what came of it.
        threshold: the one last applied.
        mayReplaceEdits: the user's answer to whether the slider may replace edits; None while not asked.
    """

    output: SegmentationOutput
    request: SegmentationRequest
    segmentation: Any = None
    written: list[SegmentedFinding] = field(default_factory=list)
    threshold: float | None = None
    mayReplaceEdits: bool | None = None

    @property
    def isOneSlice(self) -> bool:
        """Whether it is about a single slice."""
        first, end = self.output.sliceRange
        return end - first == 1

    def unanswered(self, request: SegmentationRequest) -> SegmentationRequest:
        """What is left of a request about one slice when the findings are taken away that this run answered."""
        mine, first, end = self.request, *self.output.sliceRange
        isSame = (mine.volumeNode is request.volumeNode) and (mine.modality, mine.samples, mine.seed) == (
            request.modality,
            request.samples,
            request.seed,
        )
        if not isSame or not first <= request.sliceRange[0] < end:
            return request
        return replace(request, findings=tuple(each for each in request.findings if each not in mine.findings))

    def release(self) -> None:
        """Let go of the engine's arrays."""
        self.output.release()
