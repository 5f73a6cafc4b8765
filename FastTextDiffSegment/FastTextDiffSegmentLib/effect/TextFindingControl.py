"""What the effect "Text finding" does: asks the engine for one finding, and writes it into the selected segment.

Engine, consent, options and writing are the panel's: nothing of them is repeated here. Knows no widgets of its own.
"""

from collections.abc import Callable
from typing import Any

import slicer
from slicer.i18n import tr as _

from FastTextDiffSegmentLib.engine.EngineClient import ProgressCallback
from FastTextDiffSegmentLib.engine.SegmentationOutput import SegmentationOutput, highestPresence
from FastTextDiffSegmentLib.Findings import findingLines, stepText
from FastTextDiffSegmentLib.Logic import SegmentationRequest
from FastTextDiffSegmentLib.panels.Consent import hasConsent
from FastTextDiffSegmentLib.panels.LivePreview import LivePreview
from FastTextDiffSegmentLib.panels.Timers import singleShot
from FastTextDiffSegmentLib.Parameters import chosenThreshold
from FastTextDiffSegmentLib.scene.EditorHistory import isModuleEditor
from FastTextDiffSegmentLib.scene.EditorMasking import Masking
from FastTextDiffSegmentLib.scene.Geometry import SceneError, shownSlice, sliceShape
from FastTextDiffSegmentLib.scene.PreviewSegmentation import PreviewSegmentation
from FastTextDiffSegmentLib.scene.SegmentWriter import Target, geometryMatches


class TextFindingControl:
    """One effect in one Segment Editor.

    Args:
        editorNode: returns the editor's vtkMRMLSegmentEditorNode; None while there is none.
        saveState: stores the segmentation in the editor's own history, before a change.
        wanted: returns the text to preview; empty for no preview.
        onMessage: called with one line: the outcome, an error or the progress.
        onChanged: called when what can be done has changed.
    """

    def __init__(
        self,
        editorNode: Callable[[], Any],
        saveState: Callable[[], None],
        wanted: Callable[[], str],
        onMessage: Callable[[str], None],
        onChanged: Callable[[], None],
    ):
        self._editorNode, self._saveState, self._wanted = editorNode, saveState, wanted
        self._onMessage, self._onChanged = onMessage, onChanged
        self._isRunning = False
        self._lastView: Any = None
        self._outline = PreviewSegmentation()
        self._timer = singleShot(lambda: self._preview.ask())
        self._preview = LivePreview(
            lambda request: self.panel.logic.segmentationSteps(request),
            _Runner(lambda: self.panel.logic.runner),
            self._timer,
            self._toPreview,
            self._show,
            lambda error: self._onMessage(str(error)),
        )

    @property
    def panel(self) -> Any:
        """The module's panel, made if it was not shown yet; looked up each time, because it may be reloaded."""
        return slicer.modules.fasttextdiffsegment.widgetRepresentation().self()

    @property
    def isRunning(self) -> bool:
        """Whether a run of this effect is under way."""
        return self._isRunning

    def start(self) -> None:
        """Start the engine if it is not running, so that the first result is fast."""
        if not self.panel.logic.session.isOpen:
            self.panel.setupSection.check()

    def stop(self) -> None:
        """Cancel a run of this effect, and drop the preview."""
        self.cancel()
        self._preview.drop()
        self._outline.drop()

    def cancel(self) -> None:
        """Cancel a run of this effect."""
        if self._isRunning:
            self.panel.run.cancel()

    def schedulePreview(self, usedView: Any = None) -> None:
        """Update the preview after a pause; the slice of a view that the user has just used is meant from now on."""
        self._lastView = usedView or self._lastView
        self._preview.schedule()

    def terms(self) -> list[str]:
        """Findings that the model was taught."""
        return self.panel.setupSection.terms(None)

    # --- what can be done -----------------------------------------------------------------------------------------

    def whyNot(self, text: str) -> str:
        """Why a finding cannot be applied now, in one line; empty if it can."""
        node, panel = self._editorNode(), self.panel
        if panel.setupSection.whyNotReady:
            return panel.setupSection.whyNotReady
        if node is None or node.GetSegmentationNode() is None:
            return _("Choose a segmentation in the Segment Editor.")
        if node.GetSourceVolumeNode() is None:
            return _("Choose a source volume in the Segment Editor.")
        if self._segment(node.GetSegmentationNode(), node.GetSelectedSegmentID()) is None:
            return _("Select a segment, or add one.")
        if panel.run.isRunning:
            return _("A run is under way; wait for it or cancel it.")
        isValid, reason = self._request(text, None).isValid()
        return reason if not isValid else self._whyNotFitting(node)

    @staticmethod
    def _whyNotFitting(node: Any) -> str:
        try:
            if geometryMatches(node.GetSegmentationNode(), node.GetSourceVolumeNode()):
                return ""
        except SceneError as error:
            return str(error)
        return _("The segmentation is on another grid than the source volume: choose the volume it was made on.")

    def whyNoSlice(self, text: str) -> str:
        """Why a finding cannot be applied to a slice now, in one line; empty if it can."""
        return self.whyNot(text) or (
            "" if self._shownRange() else _("No slice view shows a slice of the source volume as it was acquired.")
        )

    @staticmethod
    def _segment(segmentationNode: Any, segmentId: str | None) -> Any:
        return segmentationNode.GetSegmentation().GetSegment(segmentId) if segmentId else None

    def _shownRange(self) -> tuple[int, int] | None:
        """The slice in the first shown view that shows one as it was acquired; the view used last comes first."""
        volume, chosen = self._editorNode().GetSourceVolumeNode(), self.panel.logic.getParameterNode().sliceView
        views = [self._lastView, chosen, *slicer.util.getNodesByClass("vtkMRMLSliceNode")]
        for view in views:
            if view is None or not slicer.mrmlScene.IsNodePresent(view) or not view.IsMappedInLayout():
                continue
            k = shownSlice(volume, view).index
            if k is not None:
                return k, k + 1
        return None

    def _request(self, text: str, sliceRange: tuple[int, int] | None) -> SegmentationRequest:
        """The request for a finding; options are those of the panel, the kind of image only for the same image."""
        volume, chosen = self._editorNode().GetSourceVolumeNode(), self.panel.logic.getParameterNode()
        isSame = chosen.inputVolume is volume
        return SegmentationRequest(
            volumeNode=volume,
            findings=tuple(findingLines(text)[:1]),
            sliceRange=sliceRange,
            modality=(chosen.modality or None) if isSame else None,
            samples=chosen.samples,
            seed=chosen.seed,
            sliceBySlice=chosen.sliceBySlice,
            tryAnyway=chosen.tryAnyway,
        )

    # --- apply ----------------------------------------------------------------------------------------------------

    def applyToSlice(self, text: str, replaces: bool) -> None:
        """Apply a finding to the shown slice; see :meth:`apply`."""
        reason = self.whyNoSlice(text)
        if reason:
            self._onMessage(reason)
        else:
            self.apply(text, self._shownRange(), replaces)

    def apply(self, text: str, sliceRange: tuple[int, int] | None, replaces: bool) -> None:
        """Segment a finding and write it into the segment that is selected now.

        Args:
            text: the finding.
            sliceRange: (first, end) of the slices; all if None.
            replaces: whether what the segment has on these slices is replaced; otherwise the finding is added.
        """
        reason = self.whyNot(text)
        if reason or not hasConsent(self.panel.context, self.panel.setupSection):
            self._onMessage(reason or self._whyNoConsent())
            return
        node, request = self._editorNode(), self._request(text, sliceRange)
        segmentation, target = node.GetSegmentationNode(), Target(node.GetSelectedSegmentID(), not replaces)
        self._preview.drop()
        self._isRunning = True
        self.panel.run.start(
            lambda report: self._steps(request, report),
            lambda output: self._write(output, request, segmentation, target),
            self._fail,
            self._cancelled,
        )
        host, step = self.panel.setupSection.host, _stepOf(request)
        text = _("Segmenting {step} on {host}...") if host else _("Segmenting {step}...")
        self._onMessage(text.format(step=step, host=host))
        self._onChanged()

    def _whyNoConsent(self) -> str:
        setup = self.panel.setupSection
        if not setup.isLicenceAccepted:
            return _("Accept the licence of the weights in the panel FastTextDiff Segment first.")
        return _("Nothing was sent to {host}, and nothing was changed.").format(host=setup.host)

    def _steps(self, request: SegmentationRequest, report: ProgressCallback) -> Any:
        def both(done: int, total: int) -> None:
            report(done, total)
            self._onMessage(_("{done} of {total} slices").format(done=done, total=total))

        return (yield from self.panel.logic.segmentationSteps(request, both))

    def _write(
        self, output: SegmentationOutput, request: SegmentationRequest, segmentation: Any, target: Target
    ) -> None:
        self._isRunning = False
        try:
            self._onMessage(self._written(output, request, segmentation, target))
        except SceneError as error:
            self._onMessage(str(error))
        finally:
            output.release()
            self._onChanged()

    def _written(
        self, output: SegmentationOutput, request: SegmentationRequest, segmentation: Any, target: Target
    ) -> str:
        """Write the finding, and say what was done."""
        logic, threshold = self.panel.logic, chosenThreshold(self.panel.logic.getParameterNode())
        (found,) = logic.segmentOutputs(output, request, threshold)
        if not found.mask.any():  # an empty result must not erase what the user has drawn
            presence = highestPresence(output.findings[0])
            text = _("{step}: not found (presence {presence:.0%}); nothing was changed")
            return _because(text.format(step=_stepOf(request), presence=presence), found.warnings)
        if not slicer.mrmlScene.IsNodePresent(segmentation) or not self._segment(segmentation, target.segmentId):
            raise SceneError(_("The segment was removed in the meantime; nothing was written."))
        if not isModuleEditor(self._editorNode()):  # else the write does it
            self._saveState()
        (written,) = logic.write(output, request, segmentation, Masking(self._editorNode()), threshold, into=target)
        text = _("{step}: {count:,} voxels changed").format(step=_stepOf(request), count=written.changedVoxels)
        return _because(text, written.warnings)

    # --- preview --------------------------------------------------------------------------------------------------

    def _toPreview(self) -> SegmentationRequest | None:
        text = self._wanted()
        setup = self.panel.setupSection
        if not text.strip() or self._isRunning or not (setup.isLicenceAccepted and setup.mayAsk):
            return None
        return None if self.whyNoSlice(text) else self._request(text, self._shownRange())

    def _show(self, output: SegmentationOutput | None, request: SegmentationRequest | None) -> None:
        if output is None or not slicer.mrmlScene.IsNodePresent(request.volumeNode):
            self._outline.drop()
            return
        outputs = self.panel.logic.segmentOutputs(output, request, self.panel.logic.getParameterNode().threshold)
        self._outline.show(request.volumeNode, outputs)
        text = "" if outputs[0].mask.any() else _("{step}: not found").format(step=_stepOf(request))
        self._onMessage(_because(text, outputs[0].warnings))

    def _fail(self, error: Exception) -> None:
        self._isRunning = False
        self._onMessage(str(error))
        self._onChanged()

    def _cancelled(self) -> None:
        self._isRunning = False
        self._onMessage(_("Cancelled; nothing was changed"))
        self._onChanged()


class _Runner:
    """The panel's runner, looked up when a job is started."""

    def __init__(self, runner: Callable[[], Any]):
        self._runner = runner

    def start(self, job: Any) -> Any:
        return self._runner().start(job)


def _stepOf(request: SegmentationRequest) -> str:
    """What is segmented, e.g. "left lung, slice 57"."""
    return stepText(request.findings, request.slices(), sliceShape(request.volumeNode)[0])


def _because(text: str, warnings: Any) -> str:
    return ". ".join(filter(None, (text, *warnings)))
