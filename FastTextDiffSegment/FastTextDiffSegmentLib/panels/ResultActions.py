"""The buttons below the table of segments: edit, revert, 3D, save. Knows the scene, not how segments are made."""

from collections.abc import Callable
from typing import Any

import slicer
from slicer.i18n import tr as _

from FastTextDiffSegmentLib.Parameters import FastTextDiffSegmentParameters

from .ResultTable import ResultTable
from .SaveControl import SaveControl


class ResultActions:
    """Actions on the segments in the table.

    Args:
        ui: the panel's widgets by name.
        table: the segments, one of which is selected.
        revert: restores (segmentation, segment id) from the model's own output.
        saving: saves segments.
        parameters: returns the panel's state.
        ask: asks the user a yes/no question.
        onChanged: called when a segment has changed.
    """

    def __init__(
        self,
        ui: Any,
        table: ResultTable,
        revert: Callable[[Any, str], bool],
        saving: SaveControl,
        parameters: Callable[[], FastTextDiffSegmentParameters],
        ask: Callable[[str], bool],
        onChanged: Callable[[], None],
    ):
        self._ui, self._table, self._restore, self._saving = ui, table, revert, saving
        self._parameters, self._ask, self._onChanged = parameters, ask, onChanged

    def connect(self, guarded: Callable[[Callable[..., None]], Callable[..., None]]) -> None:
        """Connect the buttons."""
        ui = self._ui
        for button, act in ((ui.editButton, self._edit), (ui.revertButton, self._revert), (ui.saveButton, self._save)):
            button.connect("clicked()", guarded(act))
        ui.show3DButton.connect("toggled(bool)", guarded(self._center3D))

    def reasons(self, busy: str) -> dict[Any, str]:
        """Why the buttons cannot be pressed now, by button; empty for those that can.

        Args:
            busy: why no action is possible now; empty if actions are.
        """
        ui, selected = self._ui, self._table.selected
        noSegment = "" if selected else _("There is no segment yet: segment something first.")
        noImage = "" if self._parameters().inputVolume is not None else _("Choose an image.")
        isEdited = selected is not None and selected.isEdited
        return {
            ui.editButton: noSegment or noImage,
            ui.revertButton: noSegment or ("" if isEdited else _("The selected segment is the model's own output.")),
            ui.saveButton: busy or noSegment or noImage,
        }

    def update(self) -> None:
        """Give Slicer's 3D button the segmentation; it follows its surfaces, but keeps its state without one."""
        button, segmentation = self._ui.show3DButton, self._parameters().outputSegmentation
        button.setSegmentationNode(segmentation)
        if segmentation is None:
            wasBlocked = button.blockSignals(True)
            button.checked = False
            button.blockSignals(wasBlocked)

    def _edit(self) -> None:
        parameters = self._parameters()
        segmentId = self._table.selected.segmentId
        slicer.util.selectModule("SegmentEditor")
        editor = slicer.modules.segmenteditor.widgetRepresentation().self().editor
        editor.setSegmentationNode(parameters.outputSegmentation)
        editor.setSourceVolumeNode(parameters.inputVolume)
        editor.setCurrentSegmentID(segmentId)

    def _revert(self) -> None:
        """Restore the model's own output of the selected segment."""
        row = self._table.selected
        question = _("Replace your edits of {name} with the model's own output?")
        if self._ask(question.format(name=row.name)):
            self._restore(self._parameters().outputSegmentation, row.segmentId)
            self._onChanged()

    @staticmethod
    def _center3D(isShown: bool) -> None:
        if isShown and slicer.app.layoutManager() is not None:
            slicer.util.resetThreeDViews()

    def _save(self) -> None:
        parameters = self._parameters()
        self._saving.save(parameters.outputSegmentation, parameters.inputVolume)
