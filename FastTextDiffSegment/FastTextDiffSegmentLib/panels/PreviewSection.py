"""The live preview: an outline on the shown slice while the user types, which the user keeps or discards.

Owns the row with the Keep and Discard buttons; of runs it knows only whether one is in progress.
"""

from collections.abc import Callable, Sequence

import slicer
from slicer.i18n import tr as _

from FastTextDiffSegmentLib.engine.SegmentationOutput import SegmentationOutput
from FastTextDiffSegmentLib.Logic import SegmentationRequest
from FastTextDiffSegmentLib.Parameters import chosenThreshold
from FastTextDiffSegmentLib.scene.PreviewSegmentation import PreviewSegmentation
from FastTextDiffSegmentLib.scene.SegmentOutputs import isOutdated
from FastTextDiffSegmentLib.scene.SegmentWriter import SegmentOutput

from .ImageSection import ImageSection
from .LivePreview import TYPING_PAUSE, LivePreview
from .PanelContext import PanelContext
from .PanelRequests import PanelRequests
from .ResultControl import notFound
from .ResultSection import ResultSection
from .SetupSection import SetupSection
from .Timers import singleShot


class PreviewSection:
    """Shows, keeps and drops the preview.

    Args:
        context: what all sections use.
        setup: the engine's set-up.
        image: the image.
        requests: makes requests.
        results: writes what is kept.
        onChanged: called when a preview is shown or dropped.

    Attributes:
        live: keeps the preview up to date.
        outline: the preview in the scene.
    """

    def __init__(
        self,
        context: PanelContext,
        setup: SetupSection,
        image: ImageSection,
        requests: PanelRequests,
        results: ResultSection,
        onChanged: Callable[[], None],
    ):
        self._context, self._setup, self._image = context, setup, image
        self._requests, self._results, self._onChanged = requests, results, onChanged
        self.outline = PreviewSegmentation()
        self._rests = False
        self.live = LivePreview(
            context.logic.segmentationSteps,
            context.runner,
            singleShot(lambda: self.live.ask()),
            self._wanted,
            self._show,
            context.showError,
        )
        context.ui.keepButton.connect("clicked()", context.guarded(self.keep))
        context.ui.dropButton.connect("clicked()", context.guarded(self.drop))

    @property
    def isShown(self) -> bool:
        """Whether a preview is shown."""
        return self.live.output is not None

    def schedule(self, pause: int = TYPING_PAUSE) -> None:
        """Update the preview after a pause in milliseconds; every call restarts the pause."""
        self.live.schedule(pause)

    def renew(self) -> None:
        """The content of the image has changed: show no outline of the former one."""
        self.live.renew(lambda output, request: isOutdated(output, request.volumeNode))

    def rest(self, rests: bool) -> None:
        """Show no preview while something else is outlined on the slice."""
        if rests != self._rests:
            self._rests = rests
            if rests:
                self.drop()
            else:
                self.schedule()

    def keep(self) -> None:
        """Write the preview into the segmentation."""
        request = self.live.request
        if request is None or not self._results.mayWrite(request):
            return
        output = self.live.take()
        self.outline.drop()
        self._results.write(output, request, self._context.parameters.outputSegmentation)

    def drop(self) -> None:
        """Drop the preview, and cancel a running request."""
        self.live.drop()

    def close(self) -> None:
        """Remove the preview from the scene."""
        self.outline.drop()

    def redraw(self) -> None:
        """Draw the outline at the threshold of the slider."""
        self._show(self.live.output, self.live.request)

    def update(self) -> None:
        """Show the Keep and Discard buttons while a preview is shown."""
        ui = self._context.ui
        for widget in (ui.previewLabel, ui.keepButton, ui.dropButton):
            widget.visible = self.isShown

    def whyNone(self) -> str:
        """Why no preview is shown although the user wants one; empty if there is another reason or none."""
        if not self._context.parameters.livePreview or (self._setup.isLicenceAccepted and self._setup.mayAsk):
            return ""
        if self._setup.isLicenceAccepted:
            text = _("The live preview needs your consent to send images to {host}. You are asked when you segment.")
            return text.format(host=self._setup.host)
        return _(
            "The live preview starts once you accept the licence of the model in Set-up above or when you segment."
        )

    def _wanted(self) -> SegmentationRequest | None:
        """The request to preview now; None for nothing."""
        parameters = self._context.parameters
        if self._rests or parameters is None or not parameters.livePreview or not self._context.isEntered:
            return None
        if self._requests.whyNoSlice() or not (self._setup.isLicenceAccepted and self._setup.mayAsk):
            return None
        request, run = self._requests.forShownSlice(), self._results.lastRun
        if run is not None:
            request = run.unanswered(request)  # what it answered is already shown as segments
        return request if request.findings else None

    def _show(self, output: SegmentationOutput | None, request: SegmentationRequest | None) -> None:
        if output is None or not slicer.mrmlScene.IsNodePresent(request.volumeNode):
            self.outline.drop()
            self._context.message.show("")
        else:
            outputs = self._context.logic.segmentOutputs(output, request, chosenThreshold(self._context.parameters))
            self.outline.show(request.volumeNode, outputs)
            self._image.learn(request.volumeNode, output)
            self._context.message.show(_missingText(outputs))
        self._onChanged()


def _missingText(outputs: Sequence[SegmentOutput]) -> str:
    """Which findings have no outline, and why; empty if all have one."""
    missing = ", ".join(notFound(one.finding, one.presence) for one in outputs if one.isAsked and not one.mask.any())
    untaught = ", ".join(each.finding for each in outputs if not each.isAsked)
    return ". ".join(
        text.format(names=names)
        for names, text in ((missing, _("Not found on this slice: {names}")), (untaught, _("Not taught: {names}")))
        if names
    )
