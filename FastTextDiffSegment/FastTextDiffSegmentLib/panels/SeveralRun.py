"""Runs over several images or a whole sequence: asks, starts, and says in one line what came of it. Knows no widget."""

from collections.abc import Sequence
from typing import Any

from slicer.i18n import tr as _

from FastTextDiffSegmentLib.Parameters import chosenThreshold
from FastTextDiffSegmentLib.Requests import SegmentationRequest
from FastTextDiffSegmentLib.Several import (
    ImageResult,
    KeptImage,
    SequenceResult,
    segmentationOf,
    sequenceSteps,
    severalSteps,
    writeImages,
)

from .PanelContext import PanelContext
from .ResultControl import chosenMasking
from .ResultSection import ResultSection
from .RunControl import RunControl


class SeveralRun:
    """Starts runs and writes their results.

    Args:
        context: what all sections use.
        run: the user's runs.
        results: shows the results.
    """

    def __init__(self, context: PanelContext, run: RunControl, results: ResultSection):
        self._context, self._run, self._results = context, run, results

    def startImages(self, requests: Sequence[SegmentationRequest]) -> None:
        """Segment images one after the other; all must be possible."""
        logic, parameters = self._context.logic, self._context.parameters
        masking = chosenMasking(parameters)
        if self._results.mayWriteAll(self._targets(requests)):
            self._run.start(
                lambda report: severalSteps(logic, requests, report, chosenThreshold(parameters), masking),
                lambda kept: self._writeImages(requests, kept),
                self._context.showError,
            )

    def _targets(self, requests: Sequence[SegmentationRequest]) -> list[tuple[Any, SegmentationRequest]]:
        return [(segmentationOf(self._context.logic, request.volumeNode), request) for request in requests]

    def _writeImages(self, requests: Sequence[SegmentationRequest], kept: Sequence[KeptImage]) -> None:
        if self._results.mayStillWriteAll(self._targets(requests)):
            masking = chosenMasking(self._context.parameters)
            self._showImages(writeImages(self._context.logic, requests, kept, masking))
        else:
            self._context.message.show(_("Nothing was written."))

    def startItems(self, request: SegmentationRequest) -> None:
        """Segment all items of the sequence that the image belongs to."""
        logic = self._context.logic
        if self._results.mayWriteAll([(None, request)]):
            self._run.start(
                lambda report: sequenceSteps(logic, request, report, chosenThreshold(self._context.parameters)),
                self._showItems,
                self._context.showError,
            )

    def _showImages(self, results: Sequence[ImageResult]) -> None:
        found = sum(each.found for result in results for each in result.written)
        total = sum(len(result.written) for result in results)
        message = _("{images} images: {found} of {total} findings segmented")
        self._show(results[0].segmentationNode, message.format(images=len(results), found=found, total=total))

    def _showItems(self, result: SequenceResult) -> None:
        counts = [_("{finding} on {count} items").format(finding=name, count=n) for name, n in result.found.items()]
        if result.missing:
            numbers = ", ".join(str(number + 1) for number in result.missing)
            counts.append(_("without an image, so left out: item {numbers}").format(numbers=numbers))
        self._show(result.segmentationNode, ". ".join(counts))

    def _show(self, segmentationNode: Any, message: str) -> None:
        self._results.forget()
        self._context.parameters.outputSegmentation = segmentationNode
        self._context.message.show(message)
        self._results.updateTable()
