"""The panel: reads what the user wants, has the logic do it, and shows what came of it.

Each part of the panel has a class of its own; this one connects them. It knows neither the engine's protocol nor how a
segment is written.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleWidget
from slicer.util import VTKObservationMixin

from .batch.BatchLoading import LoadedCase, caseSteps
from .contract.requests import CheckFindings
from .engine.EngineClient import STOPPED, EngineError
from .engine.Installer import Installer
from .engine.Jobs import Job, Steps
from .Logic import FastTextDiffSegmentLogic, SegmentationRequest
from .ModuleSettings import ModuleSettings
from .panels.BatchPanel import BatchHooks, BatchPanel
from .panels.ButtonReasons import ButtonReasons
from .panels.CloseGuard import CloseGuard
from .panels.Dialogs import Dialogs
from .panels.FindingsPanel import FindingsPanel
from .panels.ImageTexts import modalityTexts, sliceText, windowText
from .panels.LivePreview import LivePreview
from .panels.MessageLine import MessageLine
from .panels.ParameterBinding import ParameterBinding
from .panels.ResultActions import ResultActions
from .panels.ResultControl import ResultControl
from .panels.Results import resultRows
from .panels.ResultsPanel import ResultsPanel
from .panels.RunControl import RunControl
from .panels.SaveControl import SaveControl
from .panels.SetupPanel import SetupPanel
from .panels.UncertaintyPanel import UncertaintyPanel
from .panels.UncertaintyView import UncertaintyView
from .Parameters import MODALITIES, remembered
from .scene.Geometry import SceneError, ShownSlice, requireImage, rotateViewToAcquisition, shownSlice
from .scene.PreviewSegmentation import PreviewSegmentation

_TICK = 15
"""Milliseconds between rounds of a running job."""
_SLIDER_PAUSE = 250
"""Milliseconds of rest after which the threshold is applied to a whole volume."""
TITLE = "FastTextDiff Segment"


class FastTextDiffSegmentWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The module's panel.

    Args:
        parent: Slicer's.
        logic: a :class:`FastTextDiffSegmentLogic`; made if None.
        dialogs: how to ask the user; Slicer's dialogs if None.
        installer: how to install packages; Slicer's way if None.
    """

    def __init__(self, parent=None, logic=None, dialogs=None, installer=None):
        self._givenLogic, self.dialogs = logic, dialogs or Dialogs()
        self._installer = installer or Installer(self.dialogs.confirm)
        self._parameters = None
        self.isEntered = False
        self._shortcuts: list[Any] = []
        self._known: dict[str, Any] = {}
        self._observed: dict[str, Any] = {}
        self._resultsOf: tuple[Any, Any] = (None, None)
        VTKObservationMixin.__init__(self)  # first: without a parent, the next line calls setup
        ScriptedLoadableModuleWidget.__init__(self, parent)

    # --- life -----------------------------------------------------------------------------------------------------

    def setup(self) -> None:
        """Build the panel; nothing heavy is loaded, and no engine is started before the panel is entered."""
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/FastTextDiffSegment.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self._panel = uiWidget
        self._makeParts()
        self._connect()
        window = slicer.util.mainWindow()
        self._closeGuard = CloseGuard(window, self.batch.mayStop) if window is not None else None
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self._onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self._onSceneReplaced)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self._onSceneReplaced)
        self._useParameters()

    def _makeParts(self) -> None:
        timer = qt.QTimer()
        timer.setInterval(_TICK)
        self.logic = self._givenLogic or FastTextDiffSegmentLogic()
        self.logic.runner.timer = timer
        timer.timeout.connect(self.logic.runner.tick)
        self.settings, self._binding = ModuleSettings(), ParameterBinding(self.ui)
        self.message, self._buttons = MessageLine(self.ui.messageLabel), ButtonReasons()
        self.findings = FindingsPanel(
            self.ui.findingsTextEdit, self.ui.findingsTable, self.ui.findingsCheckLabel, self._onFindings
        )
        self.run = RunControl(self.logic.runner, self.ui.progressBar, self._update)
        self.results = ResultControl(self.logic, self._ask, self._updateResults)
        self.saving = SaveControl(
            self.logic,
            self.run,
            lambda suggestion, offersDicom: self.dialogs.saveFileName(suggestion, offersDicom),
            lambda: self.setupPanel.dicomSegProblem,
            self.message.tell,
            self._showError,
        )
        self.resultsPanel = ResultsPanel(self.ui.resultsTable, self._update)
        self._actions = ResultActions(
            self.ui,
            self.resultsPanel,
            self.logic.archive,
            self.saving,
            lambda: self._parameters,
            self._ask,
            self._updateResults,
        )
        self.preview = PreviewSegmentation()
        self.livePreview = LivePreview(
            self.logic.segmentationSteps,
            self.logic.runner,
            _singleShot(lambda: self.livePreview.ask()),
            self._previewRequest,
            self._showPreview,
            self._showError,
        )
        self.uncertainty = UncertaintyView(self.logic.runner, self.message.tell, self._showError)
        self._uncertaintyPanel = UncertaintyPanel(
            self.ui, self.uncertainty, lambda: self._parameters.sliceView, self._guarded
        )
        self._thresholdTimer = _singleShot(self._guarded(self._applyThreshold))
        self.logic.history.onChanged = self._update
        self.logic.archive.onEdited = lambda segmentation, segmentId: self._updateResults()
        self.setupPanel = SetupPanel(
            self.ui,
            self.logic.session,
            self.logic.runner,
            self.settings,
            self._installer,
            self._onSetupChanged,
            self.message.tellError,
        )

        self.batch = BatchPanel(
            self.ui,
            self.logic.runner,
            self.logic.session.folder,
            BatchHooks(
                whyNotReady=lambda: self.setupPanel.whyNotReady,
                hasConsent=self._hasConsent,
                findings=lambda: self.findings.findings,
                options=self._batchOptions,
                ask=self._ask,
                openFileName=lambda: self.dialogs.openFileName(),
                load=self._onLoadCase,
            ),
            self._guarded,
        )

    def _connect(self) -> None:
        ui = self.ui
        ui.modalityComboBox.addItems(modalityTexts({}))
        ui.modalityComboBox.connect("activated(int)", self._onModality)
        ui.historyComboBox.connect("activated(int)", self._onHistory)
        buttons = {
            ui.segmentSliceButton: self.onSegmentSlice,
            ui.segmentVolumeButton: self.onSegmentVolume,
            ui.cancelButton: self.run.cancel,
            ui.rotateViewButton: self._onRotateView,
            ui.oneViewButton: self._onOneView,
            ui.keepButton: self.onKeepPreview,
            ui.dropButton: self.livePreview.drop,
            ui.undoButton: self.onUndo,
            ui.windowButton: self._onShowWindow,
        }
        for button, act in buttons.items():
            button.connect("clicked()", self._guarded(act))
        self._actions.connect(self._guarded)
        ui.thresholdSlider.connect("valueChanged(double)", self._guarded(self._onThreshold))

    def enter(self) -> None:
        """Slicer's hook: the panel is shown. Warm up the engine, and take the keys."""
        self.isEntered = True
        if self._parameters is None:
            self._useParameters()
        self.logic.archive.attachAll()
        self._updateResults()
        self._addShortcuts()
        self.batch.enter()
        if not self.logic.session.isOpen:
            self.setupPanel.check()
        self._provideVolume()

    def exit(self) -> None:
        """Slicer's hook: another panel is shown. Give the keys back and drop what was only a preview."""
        self.isEntered = False
        self._removeShortcuts()
        self.livePreview.drop()
        self.batch.exit()

    def cleanup(self) -> None:
        """Slicer's hook: the module is unloaded or Slicer closes. The engine ends, nothing stays behind."""
        self.exit()
        self.logic.runner.cancelAll()
        self.logic.runner.timer.stop()
        self.batch.close()
        if self._closeGuard is not None:
            self._closeGuard.remove()
        self._uncertaintyPanel.follow(None)
        self.results.forget()
        self._disconnectParameters()
        self.removeObservers()
        self.findings.close()
        self.preview.drop()
        self.logic.close()

    def onReload(self) -> None:
        """Slicer's hook of the Reload button: the library's files are read again too."""
        wasEntered = self.isEntered
        for name in [name for name in sys.modules if name.split(".")[0] == "FastTextDiffSegmentLib"]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)
        reloaded = slicer.modules.FastTextDiffSegmentWidget
        if wasEntered and not reloaded.isEntered:  # the panel is in front already, so nobody else will say so
            reloaded.enter()

    def _addShortcuts(self) -> None:
        panel = self._panel
        for keys in ("Ctrl+Return", "Ctrl+Enter"):
            shortcut = qt.QShortcut(qt.QKeySequence(keys), panel)
            shortcut.setContext(qt.Qt.WidgetWithChildrenShortcut)
            shortcut.connect("activated()", self._guarded(self.onSegmentSlice))
            self._shortcuts.append(shortcut)
        # in the whole window, as in the Segment Editor; the text box keeps its own Ctrl+Z
        undo = qt.QShortcut(qt.QKeySequence("Ctrl+Z"), slicer.util.mainWindow() or panel)
        undo.connect("activated()", self._guarded(self.onUndo))
        self._shortcuts.append(undo)

    def _removeShortcuts(self) -> None:
        for shortcut in self._shortcuts:
            shortcut.setParent(None)
            shortcut.deleteLater()
        self._shortcuts = []

    # --- the scene ------------------------------------------------------------------------------------------------

    def _useParameters(self) -> None:
        """Connect the panel to the scene's parameter node, anew after a scene was closed or loaded."""
        self._disconnectParameters()
        parameters = self._parameters = self.logic.getParameterNode()
        self._chooseFirst()
        self._binding.connect(parameters)
        self.addObserver(parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self._onParameters)
        self._onParameters()

    def _chooseFirst(self) -> None:
        """What a user would choose first: the volume in the Red view, and the Red view."""
        parameters = self._parameters
        if parameters.sliceView is None:
            parameters.sliceView = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSliceNode")
        if parameters.inputVolume is None:
            selection = slicer.mrmlScene.GetNodeByID(_activeVolumeId())
            if selection is not None and not selection.IsA("vtkMRMLLabelMapVolumeNode"):
                parameters.inputVolume = selection

    def _disconnectParameters(self) -> None:
        if self._parameters is not None:
            self._binding.disconnect()
            self.removeObserver(self._parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self._onParameters)
            self._parameters = None

    def _onSceneStartClose(self, caller=None, event=None) -> None:
        self.batch.mayStop()
        self.message.tell("")  # the last message is about another image
        self.run.cancel()
        self.livePreview.drop()
        self._uncertaintyPanel.follow(None)
        self.results.forget()
        self._known.clear()
        self.logic.session.forgetVolumes()
        self._disconnectParameters()

    def _onSceneReplaced(self, caller=None, event=None) -> None:
        self._useParameters()
        if self.isEntered:
            self.logic.archive.attachAll()
            self._updateResults()

    def _onParameters(self, caller=None, event=None) -> None:
        """Something in the parameter node changed."""
        parameters = self._parameters
        self.findings.show(parameters.findings, list(parameters.unticked))
        self.ui.modalityComboBox.setCurrentIndex(MODALITIES.index(parameters.modality))
        self._observe("volume", parameters.inputVolume, vtk.vtkCommand.ModifiedEvent, self._onVolumeModified)
        self._observe("view", parameters.sliceView, vtk.vtkCommand.ModifiedEvent, self._onViewModified)
        self._showHistory()
        self._provideVolume()
        self._update()
        if self._resultsOf != (parameters.outputSegmentation, parameters.inputVolume):
            self._updateResults()

    def _observe(self, role: str, node: Any, event: Any, callback: Callable) -> None:
        """Observe one node in a role, and no longer the one before."""
        observed = self._observed.get(role)
        if observed is node:
            return
        if observed is not None:
            self.removeObserver(observed, event, callback)
        if node is not None:
            self.addObserver(node, event, callback)
        self._observed[role] = node

    def _onVolumeModified(self, caller=None, event=None) -> None:
        self._provideVolume()
        self.livePreview.schedule()

    def _onViewModified(self, caller=None, event=None) -> None:
        self._update()
        self.livePreview.schedule()

    # --- what the user wants --------------------------------------------------------------------------------------

    def _onFindings(self) -> None:
        parameters = self._parameters
        if parameters is None:
            return
        with slicer.util.NodeModify(parameters.parameterNode):
            parameters.findings = self.findings.text
            parameters.unticked = self.findings.unticked
        self._update()
        self.livePreview.schedule()

    def _onModality(self, index: int) -> None:
        self._parameters.modality = MODALITIES[index]
        self.livePreview.schedule()

    def _onHistory(self, index: int) -> None:
        finding = str(self.ui.historyComboBox.itemText(index))
        if index > 0 and finding not in self.findings.lines:  # the first entry says what the box is for
            self.findings.add(finding)

    def _showHistory(self) -> None:
        box, history = self.ui.historyComboBox, list(self._parameters.history)
        if [str(box.itemText(row)) for row in range(1, box.count)] != history:
            box.clear()
            box.addItem(_("Add a finding asked before"))
            box.addItems(history)

    def _request(self, sliceRange: tuple[int, int] | None) -> SegmentationRequest:
        parameters = self._parameters
        return SegmentationRequest(
            volumeNode=parameters.inputVolume,
            findings=tuple(self.findings.findings),
            sliceRange=sliceRange,
            modality=parameters.modality or None,
            samples=parameters.samples,
            seed=parameters.seed,
        )

    def _shownSlice(self) -> ShownSlice | None:
        """The slice of the image in the chosen view; None without image or view."""
        parameters = self._parameters
        if parameters is None or parameters.inputVolume is None or parameters.sliceView is None:
            return None
        try:
            requireImage(parameters.inputVolume)
            return shownSlice(parameters.inputVolume, parameters.sliceView)
        except SceneError:
            return None

    def _previewRequest(self) -> SegmentationRequest | None:
        """What the live preview should show now; None for nothing."""
        shown = self._shownSlice()
        if shown is None or shown.index is None or self.run.isRunning or not self.isEntered:
            return None
        if not self._parameters.livePreview or not self.setupPanel.isReady or not self.setupPanel.isLicenceAccepted:
            return None
        request = self._request((shown.index, shown.index + 1))
        run = self.results.lastRun
        if run is not None:
            request = run.unanswered(request)  # what it answered is shown as segments already
        return request if request.isValid()[0] else None

    # --- runs -----------------------------------------------------------------------------------------------------

    def onSegmentSlice(self) -> None:
        """Segment the shown slice."""
        reason = self._whyNoSlice()
        if reason:
            self.message.tell(reason)
            return
        index = self._shownSlice().index
        self._startRun(self._request((index, index + 1)))

    def onSegmentVolume(self) -> None:
        """Segment all slices."""
        reason = self._whyNot()
        if reason:
            self.message.tell(reason)
            return
        self._startRun(self._request(None))

    def _startRun(self, request: SegmentationRequest) -> None:
        if not self._mayWrite(request):
            return
        self.message.tell("")
        self.livePreview.drop()
        self.run.start(
            lambda report: self.logic.segmentationSteps(request, report),
            lambda output: self._finishRun(output, request),
            self._showError,
        )

    def _hasConsent(self) -> bool:
        if not self.setupPanel.isLicenceAccepted:
            model = self.setupPanel.model
            question = _(
                "The weights of the model {name} may be used under the licence {licence}. They are for research, "
                "not for diagnosis.\n\nDo you accept this?"
            )
            if self._ask(question.format(name=model.name, licence=model.licence)):
                self.setupPanel.acceptLicence()
            else:
                self.message.tell(_("The licence of the weights has to be accepted first: open Set-up above."))
        return self.setupPanel.isLicenceAccepted

    def _finishRun(self, output: Any, request: SegmentationRequest) -> None:
        self.message.tell(self.results.write(output, request, self._parameters))
        self._known.update(window=output.window, planar=output.volume.planar)
        self._update()

    def onKeepPreview(self) -> None:
        """Write the previewed outline into the segmentation."""
        request = self.livePreview.request
        if request is None or not self._mayWrite(request):
            return
        output = self.livePreview.take()
        self.preview.drop()
        self._finishRun(output, request)

    def _mayWrite(self, request: SegmentationRequest) -> bool:
        """Ask what has to be asked before a result is written, and remember the findings with the scene."""
        parameters = self._parameters
        if not self._hasConsent() or not self.results.mayReplace(parameters.outputSegmentation, request):
            return False
        parameters.history = remembered(list(parameters.history), list(request.findings))
        return True

    # --- after a run ----------------------------------------------------------------------------------------------

    def onUndo(self) -> None:
        """Take back the last result."""
        if self.results.undo():
            self.message.tell(_("The last result was taken back."))
            self._update()

    def _onThreshold(self, value: float) -> None:
        """Move the preview if one is shown, else the last result: a slice at once, a volume after a rest."""
        self._parameters.threshold = value  # this slot may be called before the parameter node's own
        run = self.results.lastRun
        if self.livePreview.output is not None:
            self._showPreview(self.livePreview.output, self.livePreview.request)
        elif run is not None and run.isOneSlice:
            self._applyThreshold()
        elif run is not None:
            self._thresholdTimer.start(_SLIDER_PAUSE)

    def _applyThreshold(self) -> None:
        if self._parameters is not None:
            self.results.applyThreshold(self._parameters)

    # --- batch ----------------------------------------------------------------------------------------------------

    def _batchOptions(self) -> dict[str, Any]:
        options = {"model": self.settings.modelFolder or None, "device": self.settings.device}
        if self._parameters is not None:
            options.update(samples=self._parameters.samples, seed=self._parameters.seed)
        return options

    def _onLoadCase(self, case: Any, folder: Any) -> None:
        if self.run.isRunning:
            self.message.tell(_("A run is under way; wait for it or cancel it."))
            return
        self.run.start(lambda report: caseSteps(self.logic.session, case, folder), self._showCase, self._showError)

    def _showCase(self, loaded: LoadedCase) -> None:
        self.logic.archive.adopt(loaded.segmentation)
        if loaded.volume is not None:
            slicer.util.setSliceViewerLayers(background=loaded.volume, fit=True)
            self._parameters.inputVolume = loaded.volume
        self._parameters.outputSegmentation = loaded.segmentation
        self.message.tell(loaded.text)

    # --- showing the image ----------------------------------------------------------------------------------------

    def _onShowWindow(self) -> None:
        """Show the image as the model sees it."""
        level, width = self._known["window"]
        self._parameters.inputVolume.CreateDefaultDisplayNodes()
        display = self._parameters.inputVolume.GetDisplayNode()
        display.SetAutoWindowLevel(False)
        display.SetWindowLevel(width, level)

    def _onRotateView(self) -> None:
        rotateViewToAcquisition(self._parameters.sliceView, self._parameters.inputVolume)

    def _onOneView(self) -> None:
        slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView)

    def _showPreview(self, output: Any, request: SegmentationRequest | None) -> None:
        if output is None or not slicer.mrmlScene.IsNodePresent(request.volumeNode):
            self.preview.drop()
            self.message.tell("")
        else:
            outputs = self.logic.segmentOutputs(output, request, self._parameters.threshold)
            self.preview.show(request.volumeNode, outputs)
            self._known["window"] = output.window
            missing = [each.finding for each in outputs if not each.mask.any()]
            self.message.tell(_("Not found on this slice: {names}").format(names=", ".join(missing)) if missing else "")
        self._update()

    # --- what the engine knows ------------------------------------------------------------------------------------

    def _provideVolume(self) -> None:
        """Hand the image over before it is needed: its kind and window are known then, and the first result is fast."""
        volume = self._parameters.inputVolume if self._parameters is not None else None
        key = None if volume is None else (volume.GetID(), volume.GetMTime(), self._parameters.modality)
        if not self.isEntered or not self.setupPanel.isReady or key == self._known.get("key"):
            return
        self._known = {"key": key}
        self._showKnown(())
        request = self._request(None)
        if volume is not None and SegmentationRequest(volume, ("any",)).isValid()[0]:
            self.logic.runner.start(
                Job(self.logic.volumeSteps(request), lambda known: self._onVolumeKnown(key, known), self._showError)
            )

    def _onVolumeKnown(self, key: Any, known: Any) -> None:
        if key != self._known.get("key"):
            return
        self._known.update(window=known.window, planar=known.planar, modality=known.modality)
        self._showKnown(known.notes)
        self._checkFindings()
        self._update()
        self.livePreview.schedule(0)

    def _showKnown(self, notes: Sequence[str]) -> None:
        """What the engine takes the image for, and what else it says about it."""
        self.message.note(notes)
        box = self.ui.modalityComboBox
        box.setItemText(0, modalityTexts(self._known if not self._parameters.modality else {})[0])

    def _onSetupChanged(self) -> None:
        if self._parameters is not None:
            self._provideVolume()
            self._checkFindings()
            self._update()
            self.livePreview.schedule()

    def _checkFindings(self) -> None:
        """Have the findings marked that the model was not trained on for this kind of image."""
        self.findings.setTerms(self.setupPanel.terms(self._known.get("modality")))
        if self.findings.lines and self.setupPanel.isReady:
            lines = self.findings.lines
            self._known["checked"] = lines
            self.logic.runner.start(Job(self._checkSteps(lines), self.findings.setNotes, self._showError))

    def _checkSteps(self, lines: list[str]) -> Steps:
        session = self.logic.session
        request = CheckFindings(session.settings.model, tuple(lines), self._known.get("modality"))
        answer = yield from session.client.ask(request)
        return {found.finding: found.warning for found in answer.findings}

    # --- showing --------------------------------------------------------------------------------------------------

    def _ask(self, question: str) -> bool:
        return self.dialogs.confirm(question, TITLE)

    def _showError(self, error: Exception) -> None:
        """Tell about an error, and start the engine again if it was its death."""
        self.message.tellError(error)
        if isinstance(error, EngineError) and error.kind == STOPPED and self.isEntered:
            self.setupPanel.check()

    def _guarded(self, act: Callable) -> Callable:
        """A slot whose errors are shown in one line instead of being lost in the console."""

        def slot(*arguments):
            try:
                act(*arguments)
            except Exception as error:
                self._showError(error)

        return slot

    def _whyNot(self) -> str:
        """Why nothing can be segmented now; empty if it can."""
        if self._parameters is None:
            return _("No scene.")
        reason = self.setupPanel.whyNotReady
        if reason:
            return reason
        if self.run.isRunning:
            return _("A run is under way; wait for it or cancel it.")
        return self._request(None).isValid()[1]

    def _whyNoSlice(self) -> str:
        reason = self._whyNot()
        shown = self._shownSlice()
        if reason or shown is None:
            return reason or _("Choose a slice view.")
        if shown.acrossPlane:
            return _("The view shows another plane than the slices of the image: rotate it with the button below.")
        return _("The view shows no slice of the image: move to the image.") if shown.index is None else ""

    def _update(self) -> None:
        """Bring buttons and labels up to date."""
        if self._parameters is None:
            return
        self._updateButtons()
        self._updateSlice()
        self.batch.updateButtons()
        if self.findings.lines != self._known.get("checked", []):
            self._checkFindings()

    def _updateButtons(self) -> None:
        ui, preview = self.ui, self.livePreview.output is not None
        noVolume, noSlice = self._whyNot(), self._whyNoSlice()
        busy = _("A run is under way.") if self.run.isRunning else ""
        hasLast = self.results.lastRun is not None and self._parameters.sliceView is not None
        self._buttons.show(
            {
                ui.segmentSliceButton: noSlice,
                ui.segmentVolumeButton: noVolume,
                ui.cancelButton: "" if busy else _("No run is under way."),
                ui.undoButton: busy or ("" if self.logic.history.canUndo else _("There is nothing to take back.")),
                ui.leastCertainButton: "" if hasLast else _("There is no last result."),
                ui.windowButton: "" if self._known.get("window") else _("No grey-level window is known."),
                **self._actions.reasons(busy),
            }
        )
        self.message.hint("" if busy else noSlice or self._whyNoPreview())
        self.run.idle(not noVolume, self.setupPanel.stage if not noVolume else _("Not ready"))
        for widget in (ui.previewLabel, ui.keepButton, ui.dropButton):
            widget.visible = preview
        ui.oneViewButton.visible = bool(self._known.get("planar")) and slicer.app.layoutManager() is not None
        ui.windowValueLabel.text = windowText(self._known)

    def _whyNoPreview(self) -> str:
        """Why the live preview that the user wants is not shown; empty if it is, or nothing could be previewed."""
        if not self._parameters.livePreview or self.setupPanel.isLicenceAccepted:
            return ""
        return _("The live preview starts once you accept the licence of the model: in Set-up above, or by Segment.")

    def _updateSlice(self) -> None:
        shown = self._shownSlice()
        self.ui.rotateViewButton.visible = shown is not None and shown.acrossPlane
        if shown is None or shown.index is None:
            self.ui.sliceLabel.text = ""
        else:
            isPlanar = bool(self._known.get("planar"))
            self.ui.sliceLabel.text = sliceText(self._parameters.inputVolume, shown.index, isPlanar)

    def _updateResults(self) -> None:
        """Bring the table of segments up to date; counts voxels, so only when a segment has changed."""
        parameters = self._parameters
        if parameters is None:
            return
        self._resultsOf = (parameters.outputSegmentation, parameters.inputVolume)
        isPlanar = bool(self._known.get("planar"))
        self.resultsPanel.show(resultRows(parameters.outputSegmentation, parameters.inputVolume, isPlanar))
        self._uncertaintyPanel.follow(self.results.lastRun)
        self._actions.update()
        self._updateButtons()


def _singleShot(act: Callable[[], None]):
    timer = qt.QTimer()
    timer.setSingleShot(True)
    timer.timeout.connect(act)
    return timer


def _activeVolumeId() -> str:
    selection = slicer.app.applicationLogic().GetSelectionNode()
    return (selection.GetActiveVolumeID() or "") if selection is not None else ""
