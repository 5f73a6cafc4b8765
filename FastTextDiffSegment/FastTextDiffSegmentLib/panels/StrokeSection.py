"""Corrects the shown slice by strokes: the outline follows each of them, and the user accepts or discards the result.

Owns the row of stroke buttons; knows nothing about examples, or how a slice is corrected.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import slicer
from slicer.i18n import tr as _

from FastTextDiffSegmentLib.contract.messages import USAGE
from FastTextDiffSegmentLib.Correction import CorrectionRequest
from FastTextDiffSegmentLib.engine.EngineClient import EngineError
from FastTextDiffSegmentLib.engine.Jobs import Job
from FastTextDiffSegmentLib.engine.SegmentationOutput import SegmentationOutput
from FastTextDiffSegmentLib.engine.TeachingSession import Stroke
from FastTextDiffSegmentLib.scene.Geometry import SceneError, sliceShape
from FastTextDiffSegmentLib.scene.PreviewSegmentation import PreviewSegmentation
from FastTextDiffSegmentLib.scene.SegmentOutputs import segmentOutputs
from FastTextDiffSegmentLib.scene.StrokeLayer import ABSENT, PRESENT, StrokeLayer

from .ButtonReasons import ButtonReasons
from .PanelContext import PanelContext
from .StrokePaint import StrokePaint
from .Timers import singleShot

_PAUSE = 60
"""Milliseconds after the last change of the layer: Paint may change it several times for one stroke."""


class StrokeSection:
    """One slice of one finding at a time.

    Args:
        context: what all sections use.
        whyNot: why the shown slice cannot be corrected now, in one line; empty if it can.
        newRequest: the request for the shown slice, without strokes.
        mayReplace: asks before edits of the slice are replaced.
        onActive: called with whether strokes are being drawn.
        onChanged: called when what can be done has changed.
        onWritten: called when a result was written.
    """

    def __init__(
        self,
        context: PanelContext,
        whyNot: Callable[[], str],
        newRequest: Callable[[], CorrectionRequest],
        mayReplace: Callable[[CorrectionRequest], bool],
        onActive: Callable[[bool], None],
        onChanged: Callable[[], None],
        onWritten: Callable[[], None],
    ):
        self._context, self._whyNot, self._newRequest = context, whyNot, newRequest
        self._mayReplace, self._onActive = mayReplace, onActive
        self._onChanged, self._onWritten = onChanged, onWritten
        self._timer = singleShot(context.guarded(self._take))
        self._layer = StrokeLayer(lambda: self._timer.start(_PAUSE))
        self._paint, self._outline, self._buttons = StrokePaint(), PreviewSegmentation(), ButtonReasons()
        self._request: CorrectionRequest | None = None
        self._chosen: Any = None
        self._asked: CorrectionRequest | None = None
        self._strokes: list[Stroke] = []
        self._answered: Sequence[Stroke] = ()
        self._job: Job | None = None
        self._output: SegmentationOutput | None = None
        ui, guarded = context.ui, context.guarded
        ui.plusButton.connect("clicked()", guarded(lambda: self.draw(True)))
        ui.minusButton.connect("clicked()", guarded(lambda: self.draw(False)))
        ui.undoStrokeButton.connect("clicked()", guarded(self.undo))
        ui.acceptStrokesButton.connect("clicked()", guarded(self.accept))
        ui.discardStrokesButton.connect("clicked()", guarded(self.discard))

    @property
    def isActive(self) -> bool:
        """Whether a slice is being corrected."""
        return self._request is not None

    def draw(self, present: bool) -> None:
        """Let the user paint strokes for (True) or against the finding, on the slice shown at the first call."""
        ui = self._context.ui
        if not self.isActive and not self._begin():
            ui.plusButton.checked = ui.minusButton.checked = False
            return
        layer = self._layer
        self._paint.activate(layer.node, layer.volumeNode, PRESENT if present else ABSENT)
        ui.plusButton.checked, ui.minusButton.checked = present, not present

    def _begin(self) -> bool:
        reason = self._whyNot()
        if reason:
            self._context.message.show(reason)
            return False
        request = self._newRequest()
        if not self._mayReplace(request):
            return False
        self._layer.start(request.volumeNode, request.sliceIndex)
        self._request, self._chosen = request, self._context.parameters.outputSegmentation
        self._context.message.show("")
        self._onActive(True)
        self._ask()
        return True

    def _take(self) -> None:
        """Take what was painted as a stroke."""
        if self._layer.node is None:
            self.discard()
            return
        if self._layer.isElsewhere():
            text = _("Strokes correct slice {number} only: accept or discard them before you draw on another slice.")
            self._context.message.show(text.format(number=self._request.sliceIndex + 1))
            self._layer.show(self._strokes)
            return
        self._strokes += self._layer.painted()
        self._layer.show(self._strokes)  # what was erased comes back: strokes are taken back by Undo
        self._ask()

    def _ask(self) -> None:
        if self._job is None:
            request = self._asked = self._withStrokes()
            steps = self._context.logic.correcting.steps(request)
            ended = self._ended
            self._job = self._context.runner.start(
                Job(steps, lambda output: ended(output), lambda error: ended(None, error), lambda: ended(None))
            )
        self.update()

    def _withStrokes(self) -> CorrectionRequest:
        return replace(self._request, strokes=tuple(self._strokes))

    def _ended(self, output: SegmentationOutput | None, error: Exception | None = None) -> None:
        self._job = None
        if output is not None and self._asked is None:  # of strokes that were discarded in the meantime
            output.release()
            output = None
        if not self.isActive:
            return
        if output is not None:
            self._show(output)
        elif error is not None:
            self._onError(error)
        if self.isActive and (self._asked is None or not _areSame(self._asked.strokes, self._strokes)):
            self._ask()  # more was painted or undone in the meantime
        self.update()

    def _show(self, output: SegmentationOutput) -> None:
        self._release()
        self._output, self._answered = output, self._asked.strokes
        outputs = segmentOutputs(output, self._request.volumeNode, self._request.threshold)
        self._outline.show(self._request.volumeNode, outputs)
        warnings = [warning for each in outputs for warning in each.warnings]
        self._context.message.show(". ".join(warnings))

    def _onError(self, error: Exception) -> None:
        """A stroke that the engine refuses is taken back; after any other error, nothing stays."""
        fine = [stroke for stroke in self._strokes if any(stroke is each for each in self._answered)]
        if isinstance(error, EngineError) and error.kind == USAGE and len(fine) < len(self._strokes):
            self._strokes = fine
            self._asked = self._withStrokes()
            self._layer.show(self._strokes)
        else:
            self.discard()
        self._context.showError(error)

    def undo(self) -> None:
        """Take the last stroke back."""
        if self._strokes:
            self._strokes.pop()
            self._layer.show(self._strokes)
            self._ask()

    def accept(self) -> None:
        """Write the corrected slice into the segment of the finding."""
        reason = self._whyNoAccept()
        if reason:
            self._context.message.show(reason)
            return
        parameters, logic, request = self._context.parameters, self._context.logic, self._asked
        if self._chosen is not None and not slicer.mrmlScene.IsNodePresent(self._chosen):
            raise SceneError(_("The segmentation was removed in the meantime: discard the strokes."))
        segmentation = self._chosen or logic.newSegmentation(request.volumeNode)
        parameters.outputSegmentation = segmentation
        logic.correcting.write(self._output, request, segmentation)
        self.discard()
        self._onWritten()

    def discard(self) -> None:
        """Drop the strokes; the scene is as it was before."""
        if not self.isActive:
            return
        self._request, self._asked, self._strokes, self._answered = None, None, [], ()
        self._timer.stop()
        if self._job is not None:
            self._job.cancel()
        self._paint.deactivate()
        self._layer.stop()
        self._outline.drop()
        self._release()
        self._context.ui.plusButton.checked = self._context.ui.minusButton.checked = False
        self._onActive(False)
        self.update()

    def close(self) -> None:
        """Leave nothing behind."""
        self.discard()
        self._paint.close()

    def _release(self) -> None:
        if self._output is not None:
            self._output.release()
            self._output = None

    def _whyNoAccept(self) -> str:
        if not self._strokes:  # the model's own answer is what Segment is for, and may be a guess
            return _("Draw a stroke first.")
        isCurrent = self._job is None and self._output is not None and _areSame(self._answered, self._strokes)
        return "" if isCurrent else _("The last stroke is being computed.")

    def update(self) -> None:
        """Update the buttons and the line below them."""
        ui, active = self._context.ui, self.isActive
        if active and (
            not slicer.mrmlScene.IsNodePresent(self._request.volumeNode)
            or self._context.parameters.inputVolume is not self._request.volumeNode
        ):
            self.discard()
            return
        idle = "" if active else _("Draw a stroke first.")
        reason = "" if active else self._whyNot()
        self._buttons.show(
            {
                ui.plusButton: reason,
                ui.minusButton: reason,
                ui.undoStrokeButton: idle or ("" if self._strokes else _("There is no stroke to undo.")),
                ui.acceptStrokesButton: self._whyNoAccept(),
                ui.discardStrokesButton: idle,
            }
        )
        ui.strokesLabel.text = self._stateText() if active else _("Correct the shown slice with a few strokes:")
        self._onChanged()

    def _stateText(self) -> str:
        text = _("{finding}, slice {number} of {total}: {count} strokes")
        total = sliceShape(self._request.volumeNode)[0]
        number, count = self._request.sliceIndex + 1, len(self._strokes)
        return text.format(finding=self._request.finding, number=number, total=total, count=count)


def _areSame(some: Sequence[Stroke], others: Sequence[Stroke]) -> bool:
    """Whether these are the same strokes, and not only as many."""
    return len(some) == len(others) and all(one is other for one, other in zip(some, others, strict=True))
