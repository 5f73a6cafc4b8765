"""Writes results into the scene, changes their threshold and undoes them. Asks before the user's work is replaced.

Knows the logic and the scene; knows no widget.
"""

from collections.abc import Callable, Sequence
from typing import Any

import slicer
from slicer.i18n import tr as _

from FastTextDiffSegmentLib.engine.SegmentationOutput import SegmentationOutput
from FastTextDiffSegmentLib.Logic import FastTextDiffSegmentLogic, SegmentationRequest, SegmentedFinding
from FastTextDiffSegmentLib.Parameters import FastTextDiffSegmentParameters, chosenThreshold
from FastTextDiffSegmentLib.scene.EditorMasking import Masking
from FastTextDiffSegmentLib.scene.Geometry import SceneError
from FastTextDiffSegmentLib.scene.SegmentOutputs import isOutdated
from FastTextDiffSegmentLib.scene.SegmentWriter import geometryMatches

from .LastRun import LastRun


class ResultControl:
    """The last result: writing it, changing its threshold, undoing it.

    Args:
        logic: does the work.
        ask: asks the user a yes/no question.
        onChanged: called when segments have changed.

    Attributes:
        lastRun: the last result, whatever is chosen now; None if there is none.
    """

    def __init__(self, logic: FastTextDiffSegmentLogic, ask: Callable[[str], bool], onChanged: Callable[[], None]):
        self._logic, self._ask, self._onChanged = logic, ask, onChanged
        self.lastRun: LastRun | None = None
        self._agreed: set[tuple[Any, str]] = set()

    def forget(self) -> None:
        """Forget the last result; its segments stay."""
        if self.lastRun is not None:
            self.lastRun.release()
            self.lastRun = None

    def chosenRun(self, parameters: FastTextDiffSegmentParameters) -> LastRun | None:
        """The last result if its image and its segmentation are chosen, else None: what is not shown stays as it is."""
        run = self.lastRun
        isChosen = run is not None and (
            run.request.volumeNode is parameters.inputVolume and run.segmentation is parameters.outputSegmentation
        )
        return run if isChosen else None

    def forgetOutdated(self) -> bool:
        """Forget the last result if its image is no longer what was segmented; whether it was."""
        run = self.lastRun
        if run is None or not isOutdated(run.output, run.request.volumeNode):
            return False
        self.forget()
        return True

    def mayReplaceAll(self, targets: Sequence[tuple[Any, SegmentationRequest]]) -> bool:
        """Ask once before slices that the user edited are segmented again in any of these segmentations."""
        self._agreed = set()
        question = _("You edited {names} on these slices. Segment again and replace your edits? Undo restores them.")
        return self._mayReplace(targets, question)

    def mayStillReplaceAll(self, targets: Sequence[tuple[Any, SegmentationRequest]]) -> bool:
        """Ask before results are written, if the user edited more since :meth:`mayReplaceAll`, e.g. during the run."""
        question = _("You edited {names} in the meantime. Replace your edits with the result? Undo restores them.")
        return self._mayReplace(targets, question)

    def _mayReplace(self, targets: Sequence[tuple[Any, SegmentationRequest]], question: str) -> bool:
        edited = {(node, name) for node, request in targets for name in self._logic.editedFindings(node, request)}
        asked = sorted(name for _node, name in edited - self._agreed)
        self._agreed |= edited
        return not asked or self._ask(question.format(names=", ".join(asked)))

    def write(
        self,
        output: SegmentationOutput,
        request: SegmentationRequest,
        chosen: Any,
        parameters: FastTextDiffSegmentParameters,
    ) -> str:
        """Write a result.

        Args:
            output: the result.
            request: the request that it answers.
            chosen: the segmentation that was chosen when the run was started; None for a new one.
            parameters: the panel's state.

        Returns:
            The outcome, in one line.

        Raises:
            SceneError: the scene does not allow it; nothing was written.
        """
        self.forget()
        run = LastRun(output, request)
        try:
            segmentation = self._segmentationFor(request, chosen, parameters)
            if segmentation is None or not self.mayStillReplaceAll([(segmentation, request)]):
                run.release()
                return _("Nothing was written.")
            self._write(run, segmentation, parameters)
        except Exception:
            run.release()
            raise
        self.lastRun = run
        self._onChanged()
        text = _summary(run.written, output.notes)
        if segmentation is parameters.outputSegmentation:
            return text
        return _("Written to {name}: {outcome}").format(name=segmentation.GetName(), outcome=text)

    def _segmentationFor(
        self, request: SegmentationRequest, chosen: Any, parameters: FastTextDiffSegmentParameters
    ) -> Any:
        """The chosen segmentation, a new one, or None if the user does not want it on another image's grid."""
        if chosen is not None and not slicer.mrmlScene.IsNodePresent(chosen):
            raise SceneError(_("The segmentation was removed in the meantime; nothing was written."))
        segmentation = chosen or self._logic.newSegmentation(request.volumeNode)
        if chosen is None and parameters.outputSegmentation is None:
            parameters.outputSegmentation = segmentation
        question = _(
            "{name} belongs to another image. Resample the new segments to its grid? "
            "If you choose No, nothing is written."
        )
        isFitting = geometryMatches(segmentation, request.volumeNode)
        return segmentation if isFitting or self._ask(question.format(name=segmentation.GetName())) else None

    def _write(self, run: LastRun, segmentation: Any, parameters: FastTextDiffSegmentParameters) -> None:
        run.segmentation, run.threshold = segmentation, chosenThreshold(parameters)
        run.written = self._logic.write(
            run.output,
            run.request,
            segmentation,
            chosenMasking(parameters),
            run.threshold,
            resample=not geometryMatches(segmentation, run.request.volumeNode),
        )

    def applyThreshold(self, parameters: FastTextDiffSegmentParameters) -> None:
        """Apply the slider's threshold to the last result; one undo reverts both."""
        run = self.chosenRun(parameters)
        if run is None or run.threshold == chosenThreshold(parameters):
            return
        if slicer.mrmlScene.IsNodePresent(run.segmentation) and self._mayMoveEdited(run):
            self._write(run, run.segmentation, parameters)
            self._onChanged()

    def _mayMoveEdited(self, run: LastRun) -> bool:
        """Ask, once, before the slider changes a segment that was edited."""
        edited = self._logic.editedFindings(run.segmentation, run.request)
        if edited and run.mayReplaceEdits is None:
            question = _("You edited {names}. Replace your edits with the model's output at the new threshold?")
            run.mayReplaceEdits = self._ask(question.format(names=", ".join(edited)))
        return not edited or bool(run.mayReplaceEdits)

    def undo(self) -> str | None:
        """Undo the last step; its text, or None if there is nothing to undo."""
        return self._moved(self._logic.undo())

    def redo(self) -> str | None:
        """Make the last undone step again; its text, or None if there is nothing to redo."""
        return self._moved(self._logic.redo())

    def _moved(self, text: str | None) -> str | None:
        if text is not None:
            self.forget()  # the threshold slider must not write an older result over the step
            self._onChanged()
        return text


def chosenMasking(parameters: FastTextDiffSegmentParameters) -> Masking:
    """The Segment Editor's settings, if the user wants them applied."""
    if not parameters.editorMasking:
        return Masking()
    return Masking(slicer.mrmlScene.GetSingletonNode("SegmentEditor", "vtkMRMLSegmentEditorNode"))


def notFound(finding: str, presence: float) -> str:
    """A finding that is not found, with the probability that it is there at all."""
    return _("{finding} (presence {presence:.0%})").format(finding=finding, presence=presence)


def _summary(written: list[SegmentedFinding], notes: tuple[str, ...]) -> str:
    """The outcome of a run, in one line."""
    missing = [notFound(found.finding, found.presence) for found in written if found.isAsked and not found.found]
    count = sum(found.found for found in written)
    parts = [_("{count} of {total} findings segmented").format(count=count, total=len(written))]
    if missing:
        parts.append(_("not found: {names}").format(names=", ".join(missing)))
    warnings = dict.fromkeys(warning for found in written for warning in found.warnings)
    return ". ".join([*parts, *warnings, *notes])
