"""The module's panel: builds its sections, and reacts when Slicer shows, hides, reloads or unloads it or its scene.

Each section has its own class in `panels`; this one creates them and notifies them of each other's changes. It knows
neither the engine's protocol nor how a segment is written.
"""

import sys
from collections.abc import Callable
from typing import Any

import qt
import slicer
import vtk
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleWidget
from slicer.util import VTKObservationMixin

from .engine.Installer import Installer
from .Logic import FastTextDiffSegmentLogic
from .ModuleSettings import ModuleSettings
from .panels.BatchLink import BatchLink
from .panels.BatchSection import BatchSection
from .panels.CacheSection import CacheSection
from .panels.CloseGuard import CloseGuard
from .panels.Dialogs import Dialogs
from .panels.FindingsSection import FindingsSection
from .panels.ImageSection import ImageSection
from .panels.MeasurementSection import MeasurementSection
from .panels.PanelContext import PanelContext
from .panels.PanelRequests import PanelRequests
from .panels.PlaceSection import PlaceSection
from .panels.PreviewSection import PreviewSection
from .panels.ResultSection import ResultSection
from .panels.ReviewSection import ReviewSection
from .panels.RunControl import RunControl
from .panels.RunSection import RunSection
from .panels.SceneLink import SceneLink
from .panels.ScopeSection import ScopeSection
from .panels.SetupSection import SetupSection
from .panels.Shortcuts import Shortcuts
from .panels.TeachSection import TeachSection
from .panels.ThresholdSlider import ThresholdSlider
from .panels.Timers import singleShot
from .panels.WordsSection import WordsSection
from .Teaching import defaultLibrary

_TICK = 15
"""Milliseconds between two steps of a running job."""


class FastTextDiffSegmentWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The module's panel.

    Args:
        parent: the parent widget, from Slicer.
    """

    def __init__(self, parent=None):
        VTKObservationMixin.__init__(self)  # first: without a parent, the next line calls setup
        ScriptedLoadableModuleWidget.__init__(self, parent)

    # --- life cycle -----------------------------------------------------------------------------------------------

    def setup(self) -> None:
        """Build the panel. Nothing heavy is loaded, and no engine is started before the panel is entered."""
        ScriptedLoadableModuleWidget.setup(self)
        panel = slicer.util.loadUI(self.resourcePath("UI/FastTextDiffSegment.ui"))
        self.layout.addWidget(panel)
        _addTeach(panel, slicer.util.loadUI(self.resourcePath("UI/Teach.ui")))
        self.ui = slicer.util.childWidgetVariables(panel)
        panel.setMRMLScene(slicer.mrmlScene)
        self._hasAskedLibrary = False
        self._makeShared()
        self._makeSections()
        guarded = self.context.guarded
        segment, undo, redo = (guarded(act) for act in (self.runSection.segmentSlice, self._undo, self.results.redo))
        acts = {"Ctrl+Return": segment, "Ctrl+Enter": segment, "Ctrl+Z": undo, "Ctrl+Y": redo, "Ctrl+Shift+Z": redo}
        review = {"N": self.review.next, "Shift+N": self.review.previous, "A": self.review.accept}
        more = {**review, **self._strokeKeys()}
        self._shortcuts = Shortcuts(panel, {**acts, **{keys: guarded(act) for keys, act in more.items()}})
        window = slicer.util.mainWindow()
        self._closeGuard = CloseGuard(window, self.batch.mayStop) if window is not None else None
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self._onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self._onSceneReplaced)
        self.addObserver(scene, scene.EndImportEvent, self._onSceneReplaced)
        self._arrived = singleShot(self.context.guarded(self._onArrived))
        self.addObserver(scene, scene.NodeAddedEvent, self._onNodeAdded)
        self._link.connect()
        self.logic.archive.attachAll()

    def _makeShared(self) -> None:
        """Make what the sections share: the logic with its timer, the Set-up section, the user's runs."""
        self._timer = qt.QTimer()
        self._timer.setInterval(_TICK)
        self.logic = FastTextDiffSegmentLogic()
        self.logic.runner.timer = self._timer
        dialogs = Dialogs()
        self.context = PanelContext(self.ui, self.logic, dialogs, lambda: self.setupSection.check())
        self._timer.timeout.connect(self.context.guarded(self.logic.runner.tick))
        self.settings = ModuleSettings()
        self.place = PlaceSection(self.context, self.settings, self._onMoved)
        self.setupSection = SetupSection(
            self.ui,
            self.logic.session,
            self.logic.runner,
            self.settings,
            Installer(dialogs.confirm),
            self._onSetup,
            self.context.message.showError,
        )
        self.cache = CacheSection(self.ui, self.logic.session, self.logic.runner, self.context.message.showError)
        self.logic.session.library = defaultLibrary()
        self.run = RunControl(self.logic.runner, (self.ui.progressBar, self.ui.teachProgressBar), self._update)
        self._link = SceneLink(self.context, self._onParameters, self._onImageModified, self._onViewModified)

    def _makeSections(self) -> None:
        context, setup, run = self.context, self.setupSection, self.run
        self.image = ImageSection(context, lambda: setup.mayAsk, self._onImageKnown, lambda: self.preview.schedule())
        self.findings = FindingsSection(context, setup, self._onAsked)
        self.results = ResultSection(context, setup, self.image, run, self._update)
        self.scope = ScopeSection(context, self.image, self._update)
        requests = PanelRequests(context, setup, self.image, self.findings, run, self.scope)
        self.preview = PreviewSection(context, setup, self.image, requests, self.results, self._update)
        self.runSection = RunSection(context, setup, requests, run, self.preview, self.results, self.scope)
        self.words = WordsSection(context, setup, self.findings.box, requests, run)
        self.measurements = MeasurementSection(context, setup, run, self.results.saving)
        self._threshold = ThresholdSlider(context, self.preview, self.results)
        self.review = ReviewSection(context, lambda: self.image.known.window, self._update)
        shared = self.image, self.findings, self.results, self.preview
        self.teach = TeachSection(context, setup, *shared, run, self._onLearned)
        hooks = BatchLink(context, setup, self.settings, self.findings, run).hooks()
        self.batch = BatchSection(self.ui, self.logic.runner, self.logic.session.folder, hooks, context.guarded)

    def _strokeKeys(self) -> dict[str, Callable[[], None]]:
        strokes = self.teach.strokes
        paint = {keys: lambda: strokes.draw(True) for keys in ("Ctrl++", "Ctrl+=")}
        return {**paint, "Ctrl+-": lambda: strokes.draw(False), "Ctrl+Shift+Return": strokes.accept}

    def _undo(self) -> None:
        """Take back the last stroke while a slice is being corrected, else the last result."""
        if self.teach.strokes.isActive:
            self.teach.strokes.undo()
        else:
            self.results.undo()

    def enter(self) -> None:
        """Called by Slicer when the panel is shown: start the engine, and activate the shortcuts."""
        self.context.isEntered = True
        if self.context.parameters is None:
            self._link.connect()
        self.logic.archive.attachAll()
        self.results.updateTable()
        self._shortcuts.activate()
        self.review.refresh()
        self.batch.enter()
        self.measurements.update()
        if not self.logic.session.isOpen:
            self.setupSection.check()
        self.image.provide()

    def exit(self) -> None:
        """Called by Slicer when another panel is shown: deactivate the shortcuts, and drop the preview."""
        self.context.isEntered = False
        self._shortcuts.deactivate()
        self.teach.leave()
        self.preview.drop()
        self.words.drop()
        self.batch.exit()

    def cleanup(self) -> None:
        """Called by Slicer when the module is unloaded or Slicer closes: stop the engine, and leave nothing behind."""
        self.exit()
        self.logic.runner.cancelAll()
        self._timer.stop()
        self._arrived.stop()
        self.place.close()
        self.batch.close()
        if self._closeGuard is not None:
            self._closeGuard.remove()
        self.teach.close()
        self.results.forget()
        self._link.close()
        self.removeObservers()
        self.findings.close()
        self.scope.close()
        self.preview.close()
        self.logic.close()

    def onReload(self) -> None:
        """Called by Slicer's Reload button: also reload the library's files."""
        wasEntered = self.context.isEntered
        for name in [name for name in sys.modules if name.split(".")[0] == "FastTextDiffSegmentLib"]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)
        reloaded = slicer.modules.FastTextDiffSegmentWidget
        if wasEntered and not reloaded.context.isEntered:  # Slicer does not call this for a panel that is shown already
            reloaded.enter()

    # --- the scene ------------------------------------------------------------------------------------------------

    def _onSceneStartClose(self, caller=None, event=None) -> None:
        self.batch.mayStop()
        self.context.message.show("")  # the last message is about another image
        self.run.cancel()
        self.teach.forget()
        self.preview.drop()
        self.results.forget()
        self.measurements.forget()
        self.words.drop()
        self.image.forget()
        self.scope.forget()
        self.review.forget()
        self.logic.session.forgetVolumes()
        self._link.disconnect()

    def _onSceneReplaced(self, caller=None, event=None) -> None:
        self._link.connect()
        self.logic.archive.attachAll()
        if self.context.isEntered:
            self.results.updateTable()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _onNodeAdded(self, caller, event, node) -> None:
        if node.IsA("vtkMRMLSegmentationNode"):
            self._arrived.start(0)  # it gets its segments after it was added

    def _onArrived(self) -> None:
        """A segmentation was loaded or copied: edits of it count from now on."""
        if not slicer.mrmlScene.IsBatchProcessing():  # else the scene's own end of import does it
            self.logic.archive.attachAll()

    def _onParameters(self) -> None:
        """Something in the parameter node has changed."""
        self.findings.show()
        self.scope.show()
        self.image.show()
        self._update()
        self.results.show()

    def _onImageModified(self) -> None:
        self.results.forgetOutdated()
        self.image.provide()
        self.preview.renew()

    def _onViewModified(self) -> None:
        self._update()
        self.preview.schedule()

    # --- what sections report -------------------------------------------------------------------------------------

    def _onAsked(self) -> None:
        """The user has changed the findings."""
        self._update()
        self.preview.schedule()

    def _onImageKnown(self) -> None:
        """The engine has reported the kind of image."""
        self.findings.check(self.image.known.modality)
        self._update()
        self.preview.schedule(0)

    def _onSetup(self) -> None:
        """The engine's state has changed."""
        if self.context.parameters is not None:
            self.image.provide()
            if self.setupSection.isReady and not self.setupSection.host and not self._hasAskedLibrary:
                self._hasAskedLibrary = True
                self.teach.library.refresh()
            self.findings.check(self.image.known.modality)
            self._update()
            self.preview.schedule()

    def _onMoved(self) -> None:
        """Another computer segments from now on."""
        self.preview.drop()
        self.setupSection.checkAgain()
        self.cache.moved()

    def _onLearned(self) -> None:
        """The learned findings have changed."""
        if self.context.parameters is not None:
            self.findings.check(self.image.known.modality)
            self._update()
            self.preview.schedule()

    def _update(self) -> None:
        """Update buttons and labels."""
        if self.context.parameters is None:
            return
        self.place.show()
        if self.setupSection.model is not None:
            self._threshold.follow(self.setupSection.model.threshold)
        self.runSection.update()
        self.preview.update()
        self.results.update()
        self.review.update()
        self.measurements.update()
        self.words.update()
        self.words.offer(self.image.known.modality)
        self.image.update()
        self.teach.update()
        self.batch.updateButtons()
        self.findings.update(self.image.known.modality)


def _addTeach(panel: Any, teach: Any) -> None:
    """Put the Teach section above the Batch section."""
    layout = panel.layout()
    batch = slicer.util.childWidgetVariables(panel).batchCollapsibleButton
    layout.insertWidget(layout.indexOf(batch), teach)
