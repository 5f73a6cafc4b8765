"""Runs: segments the shown slice or all slices, or says why not.

Owns the buttons that start and cancel a run; knows nothing about how a result is written.
"""

from slicer.i18n import tr as _

from FastTextDiffSegmentLib.Logic import SegmentationRequest

from .ButtonReasons import ButtonReasons
from .PanelContext import PanelContext
from .PanelRequests import PanelRequests
from .PreviewSection import PreviewSection
from .ResultSection import ResultSection
from .RunControl import RunControl
from .SetupSection import SetupSection


class RunSection:
    """Starts the user's runs.

    Args:
        context: what all sections use.
        setup: the engine's set-up.
        requests: makes requests.
        run: the user's runs.
        preview: the live preview, dropped when a run starts.
        results: writes the results.
    """

    def __init__(
        self,
        context: PanelContext,
        setup: SetupSection,
        requests: PanelRequests,
        run: RunControl,
        preview: PreviewSection,
        results: ResultSection,
    ):
        self._context, self._setup, self._requests = context, setup, requests
        self._run, self._preview, self._results = run, preview, results
        self._buttons = ButtonReasons()
        ui, guarded = context.ui, context.guarded
        ui.segmentSliceButton.connect("clicked()", guarded(self.segmentSlice))
        ui.segmentVolumeButton.connect("clicked()", guarded(self.segmentVolume))
        ui.cancelButton.connect("clicked()", guarded(run.cancel))

    def segmentSlice(self) -> None:
        """Segment the shown slice."""
        reason = self._requests.whyNoSlice()
        if reason:
            self._context.message.show(reason)
        else:
            self._start(self._requests.forShownSlice())

    def segmentVolume(self) -> None:
        """Segment all slices."""
        self.segmentSlices(None)

    def segmentSlices(self, sliceRange: tuple[int, int] | None) -> None:
        """Segment slices [first, end); all slices for None."""
        reason = self._requests.whyNot()
        if reason:
            self._context.message.show(reason)
        else:
            self._start(self._requests.forSlices(sliceRange))

    def _start(self, request: SegmentationRequest) -> None:
        if not self._results.mayWrite(request):
            return
        self._context.message.show("")
        self._preview.drop()
        self._run.start(
            lambda report: self._context.logic.segmentationSteps(request, report),
            lambda output: self._results.write(output, request),
            self._context.showError,
        )

    def update(self) -> None:
        """Update buttons, hint and progress bar."""
        ui, isRunning = self._context.ui, self._run.isRunning
        noVolume, noSlice = self._requests.whyNot(), self._requests.whyNoSlice()
        self._buttons.show(
            {
                ui.segmentSliceButton: noSlice,
                ui.segmentVolumeButton: noVolume,
                ui.cancelButton: "" if isRunning else _("No run is under way."),
            }
        )
        self._context.message.hint("" if isRunning else noSlice or self._preview.whyNone())
        self._run.idle(not noVolume, _("Not ready") if noVolume else self._setup.stage)
