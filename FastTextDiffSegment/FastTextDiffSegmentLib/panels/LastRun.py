"""The engine's last result, kept so that its threshold can change without asking the engine again. Knows no widget."""

from dataclasses import dataclass, field, replace
from typing import Any

from FastTextDiffSegmentLib.engine.SegmentationOutput import SegmentationOutput
from FastTextDiffSegmentLib.Logic import SegmentationRequest, SegmentedFinding


@dataclass
class LastRun:
    """A result and what was done with it.

    Attributes:
        output: the engine's output.
        request: the request.
        segmentation: the segmentation that it was written to.
        written: the findings as written.
        threshold: the threshold last applied; None for the model's own.
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
        """Whether it covers a single slice."""
        first, end = self.output.sliceRange
        return end - first == 1

    def unanswered(self, request: SegmentationRequest) -> SegmentationRequest:
        """A request for one slice, without the findings that this run has already answered there."""
        mine, first, end = self.request, *self.output.sliceRange
        isSame = (
            (mine.volumeNode is request.volumeNode)
            and mine.region is None
            and (
                (mine.modality, mine.samples, mine.seed, mine.plane)
                == (request.modality, request.samples, request.seed, request.plane)
            )
        )
        if not isSame or not first <= request.sliceRange[0] < end:
            return request
        return replace(request, findings=tuple(each for each in request.findings if each not in mine.findings))

    def release(self) -> None:
        """Release the engine's arrays."""
        self.output.release()
