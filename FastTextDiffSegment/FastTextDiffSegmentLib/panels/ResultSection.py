"""The results: the segments made by this module, the actions on them, and where the model is unsure.

Owns the table of segments and the widgets below it; knows nothing about how the engine is asked.
"""

from collections.abc import Callable, Sequence
from typing import Any

from slicer.i18n import tr as _

from FastTextDiffSegmentLib.engine.SegmentationOutput import SegmentationOutput
from FastTextDiffSegmentLib.Logic import SegmentationRequest
from FastTextDiffSegmentLib.Parameters import remembered

from .ButtonReasons import ButtonReasons
from .Consent import hasConsent
from .ImageSection import ImageSection
from .LastRun import LastRun
from .PanelContext import PanelContext
from .ResultActions import ResultActions
from .ResultControl import ResultControl
from .ResultRows import resultRows
from .ResultTable import ResultTable
from .RunControl import RunControl
from .SaveControl import SaveControl
from .SetupSection import SetupSection
from .UncertaintyLayer import UncertaintyLayer
from .UncertaintySection import UncertaintySection

_STEP_LENGTH = 32
"""Characters of a step on its button."""


class ResultSection:
    """Writes results and shows them.

    Args:
        context: what all sections use.
        setup: the engine's set-up.
        image: the image.
        run: the user's runs.
        onChanged: called when what can be done has changed.

    Attributes:
        control: writes the last result, changes its threshold and undoes it.
        saving: saves the segments.
        uncertainty: the layer that shows where the model is unsure.
    """

    def __init__(
        self,
        context: PanelContext,
        setup: SetupSection,
        image: ImageSection,
        run: RunControl,
        onChanged: Callable[[], None],
    ):
        self._context, self._setup, self._image, self._run = context, setup, image, run
        self._onChanged = onChanged
        self._shown: tuple[Any, Any] = (None, None)
        self._buttons = ButtonReasons()
        self.control = ResultControl(context.logic, context.ask, self.updateTable)
        self._table = ResultTable(context.ui.resultsTable, onChanged)
        self._actions = self._makeActions()
        self.uncertainty = UncertaintyLayer(context.runner, context.message.show, context.showError)
        self._uncertaintySection = UncertaintySection(
            context.ui, self.uncertainty, lambda: context.parameters.sliceView, context.guarded
        )
        context.ui.undoButton.connect("clicked()", context.guarded(self.undo))
        context.ui.redoButton.connect("clicked()", context.guarded(self.redo))
        context.logic.history.onChanged = onChanged
        context.logic.archive.onEdited = lambda segmentation, segmentId: self.updateTable()

    def _makeActions(self) -> ResultActions:
        context = self._context
        self.saving = saving = SaveControl(
            context.logic,
            self._run,
            lambda suggestion, offersDicom: context.dialogs.saveFileName(suggestion, offersDicom),
            lambda: self._setup.dicomSegProblem,
            context.message.show,
            context.showError,
        )
        actions = ResultActions(
            context.ui,
            self._table,
            context.logic.revert,
            saving,
            lambda: context.parameters,
            context.ask,
            self.updateTable,
        )
        actions.connect(context.guarded)
        return actions

    @property
    def lastRun(self) -> LastRun | None:
        """The result that the threshold slider and the uncertainty act on; None if there is none of what is chosen."""
        parameters = self._context.parameters
        return None if parameters is None else self.control.chosenRun(parameters)

    def mayWrite(self, request: SegmentationRequest) -> bool:
        """Ask the user where needed before a result is written, and add the findings to the history."""
        return self.mayWriteAll([(self._context.parameters.outputSegmentation, request)])

    def mayWriteAll(self, targets: Sequence[tuple[Any, SegmentationRequest]]) -> bool:
        """The same for several results; a segmentation that does not exist yet is None."""
        parameters = self._context.parameters
        if not hasConsent(self._context, self._setup) or not self.control.mayReplaceAll(targets):
            return False
        parameters.history = remembered(list(parameters.history), list(targets[0][1].findings))
        return True

    def mayStillWriteAll(self, targets: Sequence[tuple[Any, SegmentationRequest]]) -> bool:
        """Ask again before results are written, if the user edited their segments during the run."""
        return self.control.mayStillReplaceAll(targets)

    def write(self, output: SegmentationOutput, request: SegmentationRequest, chosen: Any) -> None:
        """Write a result, into the segmentation that was chosen for it or a new one, and show the outcome."""
        self._image.learn(request.volumeNode, output)
        self._context.message.show(self.control.write(output, request, chosen, self._context.parameters))
        self._onChanged()

    def undo(self) -> None:
        """Undo the last step, unless a run is under way."""
        self._move(self.control.undo, _("Undone: {step}"))

    def redo(self) -> None:
        """Make the last undone step again, unless a run is under way."""
        self._move(self.control.redo, _("Redone: {step}"))

    def _move(self, move: Callable[[], str | None], message: str) -> None:
        step = None if self._run.isRunning else move()
        if step is not None:
            self._context.message.show(message.format(step=step))
            self._onChanged()

    def forget(self) -> None:
        """Forget the last result; its segments stay."""
        self._uncertaintySection.follow(None)
        self.control.forget()

    def forgetOutdated(self) -> None:
        """The content of the image has changed: the slider must not write a result of the former one."""
        if self.control.forgetOutdated():
            self.updateTable()

    def show(self) -> None:
        """Show the segments of the chosen segmentation, if the segmentation or the image has changed."""
        parameters = self._context.parameters
        if self._shown != (parameters.outputSegmentation, parameters.inputVolume):
            if parameters.outputSegmentation is not None:
                self._context.logic.archive.adopt(parameters.outputSegmentation)
            self.updateTable()

    def updateTable(self) -> None:
        """Update the table of segments. This counts voxels, so call it only when a segment has changed."""
        parameters = self._context.parameters
        if parameters is None:
            return
        self._shown = (parameters.outputSegmentation, parameters.inputVolume)
        self._table.show(resultRows(*self._shown, bool(self._image.known.isPlanar)))
        self._uncertaintySection.follow(self.lastRun)
        self._actions.update()
        self._onChanged()

    def update(self) -> None:
        """Update the buttons."""
        ui, parameters = self._context.ui, self._context.parameters
        busy = _("A run is under way.") if self._run.isRunning else ""
        history = self._context.logic.history
        hasLast = self.lastRun is not None and parameters.sliceView is not None
        reasons = {
            ui.undoButton: busy or ("" if history.canUndo else _("There is nothing to undo.")),
            ui.redoButton: busy or ("" if history.canRedo else _("There is nothing to redo.")),
            ui.leastCertainButton: "" if hasLast else _("There is no last result."),
        }
        self._buttons.show({**reasons, **self._actions.reasons(busy)})
        _showStep(ui.undoButton, _("Undo: {step} (Ctrl+Z outside the text box)"), history.undoText)
        _showStep(ui.redoButton, _("Redo: {step} (Ctrl+Y outside the text box)"), history.redoText)


def _showStep(button: Any, tip: str, step: str) -> None:
    """Name the step on its button, shortened to fit; the tool tip has all of it."""
    verb = tip.partition(":")[0]
    short = step if len(step) <= _STEP_LENGTH else step[: _STEP_LENGTH - 1] + "…"
    button.text = f"{verb}: {short}" if step else verb
    if step and button.enabled:
        button.toolTip = tip.format(step=step)
