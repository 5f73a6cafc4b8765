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
from .ScopeSection import ScopeSection
from .SetupSection import SetupSection
from .SeveralRun import SeveralRun


class RunSection:
    """Starts the user's runs.

    Args:
        context: what all sections use.
        setup: the engine's set-up.
        requests: makes requests.
        run: the user's runs.
        preview: the live preview, dropped when a run starts.
        results: writes the results.
        scope: what is segmented.
    """

    def __init__(
        self,
        context: PanelContext,
        setup: SetupSection,
        requests: PanelRequests,
        run: RunControl,
        preview: PreviewSection,
        results: ResultSection,
        scope: ScopeSection,
    ):
        self._context, self._setup, self._requests = context, setup, requests
        self._run, self._preview, self._results, self._scope = run, preview, results, scope
        self._several = SeveralRun(context, run, results)
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
        """Segment the slices and the region that the user chose; by default all slices."""
        reason = self._requests.whyNotScope()
        if reason:
            self._context.message.show(reason)
        elif self._scope.images.hasAllItems:
            self._prepare()
            self._several.startItems(self._requests.forScope())
        elif len(self._requests.forImages()) > 1:
            self._prepare()
            self._several.startImages(self._requests.forImages())
        else:
            self._start(self._requests.forScope())

    def _prepare(self) -> None:
        self._context.message.show("")
        self._preview.drop()

    def _start(self, request: SegmentationRequest) -> None:
        if not self._results.mayWrite(request):
            return
        chosen = self._context.parameters.outputSegmentation
        self._prepare()
        self._run.start(
            lambda report: self._context.logic.segmentationSteps(request, report),
            lambda output: self._results.write(output, request, chosen),
            self._context.showError,
        )

    def update(self) -> None:
        """Update buttons, hint and progress bar."""
        ui, isRunning = self._context.ui, self._run.isRunning
        noRun, noVolume, noSlice = self._requests.whyNot(), self._requests.whyNotScope(), self._requests.whyNoSlice()
        self._buttons.show(
            {
                ui.segmentSliceButton: noSlice,
                ui.segmentVolumeButton: noVolume,
                ui.cancelButton: "" if isRunning else _("No run is under way."),
            }
        )
        self._context.message.hint("" if isRunning else noSlice or self._preview.whyNone())
        self._run.idle(not noRun, _("Not ready") if noRun else self._setup.stage)
        if not isRunning:
            problem = "" if noRun else noVolume
            self._scope.update([] if noVolume else self._requests.forImages(), problem)
