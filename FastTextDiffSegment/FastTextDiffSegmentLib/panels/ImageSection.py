"""The image: its kind, the slice that is shown, and how to show it as the model sees it.

Owns the box for the kind of image, the slice label and the view buttons; knows nothing about findings.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import slicer
from slicer.i18n import tr as _

from FastTextDiffSegmentLib.contract.answers import VolumeOpened
from FastTextDiffSegmentLib.contract.images import ACQUISITION
from FastTextDiffSegmentLib.engine.Jobs import Job
from FastTextDiffSegmentLib.engine.SegmentationOutput import SegmentationOutput
from FastTextDiffSegmentLib.Logic import SegmentationRequest
from FastTextDiffSegmentLib.Parameters import MODALITIES
from FastTextDiffSegmentLib.scene.Geometry import (
    SceneError,
    ShownSlice,
    requireImage,
    rotateViewToSlices,
    shownSlice,
)

from .ButtonReasons import ButtonReasons
from .ImageTexts import KnownImage, modalityTexts, sliceText, windowText
from .PanelContext import PanelContext


class ImageSection:
    """What is known about the chosen image.

    Args:
        context: what all sections use.
        isEngineReady: whether the engine can be asked, and the image may be given to it.
        onKnown: called when the engine has described the image.
        onChosen: called when the user has chosen the kind of image.

    Attributes:
        known: what the engine reported about the image.
    """

    def __init__(
        self,
        context: PanelContext,
        isEngineReady: Callable[[], bool],
        onKnown: Callable[[], None],
        onChosen: Callable[[], None],
    ):
        self._context, self._isEngineReady = context, isEngineReady
        self._onKnown, self._onChosen = onKnown, onChosen
        self._buttons = ButtonReasons()
        self._key: Any = None
        self._job: Job | None = None
        self.known = KnownImage()
        ui, guarded = context.ui, context.guarded
        ui.modalityComboBox.addItems(modalityTexts())
        ui.modalityComboBox.connect("activated(int)", self._onModality)
        ui.windowButton.connect("clicked()", guarded(self._showWindow))
        ui.rotateViewButton.connect("clicked()", guarded(self._rotateView))
        ui.oneViewButton.connect("clicked()", guarded(self._showOneView))

    def show(self) -> None:
        """Show the parameters, and send the image to the engine if it has changed."""
        self._context.ui.modalityComboBox.setCurrentIndex(MODALITIES.index(self._context.parameters.modality))
        self.provide()

    def provide(self) -> None:
        """Send the image ahead of time, so that its kind and window are known and the first result is fast."""
        parameters = self._context.parameters
        volume = parameters.inputVolume if parameters is not None else None
        host = self._context.logic.computer.host
        key = None if volume is None else (volume.GetID(), volume.GetMTime(), parameters.modality, host)
        if not self._context.isEntered or not self._isEngineReady() or key == self._key:
            return
        self._key, self.known = key, KnownImage()
        self._showKnown(())
        if volume is None:
            return
        request = SegmentationRequest(volume, ("any",), modality=parameters.modality or None)
        if request.isValid()[0]:
            steps, failed = self._context.logic.volumeSteps(request), self._context.showError
            self._job = self._context.runner.start(Job(steps, lambda opened: self._onOpened(key, opened), failed))

    def _onOpened(self, key: Any, opened: VolumeOpened) -> None:
        if key != self._key:  # another image was chosen in the meantime
            return
        self.known = KnownImage(opened.modality, opened.planar, opened.window)
        self._showKnown(opened.notes)
        self._onKnown()

    def _showKnown(self, notes: Sequence[str]) -> None:
        self._context.message.note(notes)
        guessed = None if self._context.parameters.modality else self.known.modality
        self._context.ui.modalityComboBox.setItemText(0, modalityTexts(guessed)[0])

    def learn(self, volumeNode: Any, output: SegmentationOutput) -> None:
        """Take window and kind from a result, if it is for the chosen image."""
        if volumeNode is self._context.parameters.inputVolume:
            self.known = replace(self.known, window=output.window, isPlanar=output.volume.planar)

    def forget(self) -> None:
        """Forget the image, and stop sending it, e.g. because the scene is closed."""
        self._key, self.known = None, KnownImage()
        if self._job is not None:
            self._job.cancel()
            self._job = None

    def askedSlice(self) -> ShownSlice | None:
        """The slice of the plane that is segmented in the chosen view; None without image or view."""
        parameters = self._context.parameters
        return None if parameters is None else self.shownSlice(parameters.plane)

    def shownSlice(self, plane: str = ACQUISITION) -> ShownSlice | None:
        """The slice of a plane of the image in the chosen view; None without image or view."""
        parameters = self._context.parameters
        if parameters is None or parameters.inputVolume is None or parameters.sliceView is None:
            return None
        try:
            requireImage(parameters.inputVolume)
            return shownSlice(parameters.inputVolume, parameters.sliceView, plane)
        except SceneError:
            return None

    def update(self) -> None:
        """Update labels and buttons."""
        ui, shown, isPlanar = self._context.ui, self.askedSlice(), bool(self.known.isPlanar)
        self._buttons.show({ui.windowButton: "" if self.known.window else _("No grey-level window is known.")})
        ui.windowValueLabel.text = windowText(self.known)
        ui.oneViewButton.visible = isPlanar and slicer.app.layoutManager() is not None
        ui.rotateViewButton.visible = shown is not None and shown.acrossPlane
        isOnSlice = shown is not None and shown.index is not None
        volume, plane = self._context.parameters.inputVolume, self._context.parameters.plane
        ui.sliceLabel.text = sliceText(volume, shown.index, isPlanar, plane) if isOnSlice else ""

    def _onModality(self, index: int) -> None:
        self._context.parameters.modality = MODALITIES[index]
        self._onChosen()

    def _showWindow(self) -> None:
        """Show the image as the model sees it."""
        level, width = self.known.window
        volume = self._context.parameters.inputVolume
        volume.CreateDefaultDisplayNodes()
        display = volume.GetDisplayNode()
        display.SetAutoWindowLevel(False)
        display.SetWindowLevel(width, level)

    def _rotateView(self) -> None:
        parameters = self._context.parameters
        rotateViewToSlices(parameters.sliceView, parameters.inputVolume, parameters.plane)

    def _showOneView(self) -> None:
        slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView)
