"""The threshold slider: acts on the preview if one is shown, otherwise on the last result. Knows no other widget."""

from FastTextDiffSegmentLib.Parameters import THRESHOLDS, chosenThreshold

from .PanelContext import PanelContext
from .PreviewSection import PreviewSection
from .ResultSection import ResultSection
from .Timers import singleShot

_PAUSE = 250
"""Milliseconds without movement before the threshold is applied to a whole volume."""


class ThresholdSlider:
    """A single slice is updated at once, a volume after a pause.

    Args:
        context: what all sections use.
        preview: the live preview.
        results: has the last result.
    """

    def __init__(self, context: PanelContext, preview: PreviewSection, results: ResultSection):
        self._context, self._preview, self._results = context, preview, results
        self._timer = singleShot(context.guarded(self._apply))
        context.ui.thresholdSlider.connect("valueChanged(double)", context.guarded(self._onMoved))

    def follow(self, threshold: float) -> None:
        """Show the threshold of another model, unless the user has chosen one."""
        parameters, (lowest, highest) = self._context.parameters, THRESHOLDS
        threshold = min(max(threshold, lowest), highest)
        if parameters.modelThreshold == threshold:
            return
        isChosen = chosenThreshold(parameters) is not None
        parameters.modelThreshold = threshold
        if not isChosen:
            parameters.threshold = threshold

    def _onMoved(self, value: float) -> None:
        self._context.parameters.threshold = value  # this slot may be called before that of the parameter node
        run = self._results.lastRun
        if self._preview.isShown:
            self._preview.redraw()
        elif run is not None and run.isOneSlice:
            self._apply()
        elif run is not None:
            self._timer.start(_PAUSE)

    def _apply(self) -> None:
        if self._context.parameters is not None:
            self._results.control.applyThreshold(self._context.parameters)
