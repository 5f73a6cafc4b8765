"""The list of further images to segment, and the box for all items of a sequence. Knows volumes, starts no run."""

from collections.abc import Callable
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from FastTextDiffSegmentLib.scene.SequenceItems import SequenceItems

_CLASSES = ("vtkMRMLScalarVolumeNode", "vtkMRMLVectorVolumeNode")


class ImagesList:
    """Images to segment in addition to the chosen one.

    Args:
        ui: the panel's widgets by name.
        onChanged: called when the user has ticked something.
    """

    def __init__(self, ui: Any, onChanged: Callable[[], None]):
        self._ui = ui
        self._shown: list[tuple[str, str]] = []
        self._items: SequenceItems | None = None
        ui.imagesListWidget.connect("itemChanged(QListWidgetItem*)", lambda item: onChanged())
        ui.itemsCheckBox.connect("toggled(bool)", lambda isOn: onChanged())

    @property
    def hasAllItems(self) -> bool:
        """Whether all items of the sequence are to be segmented."""
        return self._items is not None and self._ui.itemsCheckBox.checked

    @property
    def count(self) -> int:
        """How many images of the sequence are to be segmented; 1 without sequence."""
        return len(self._items.values) - len(self._items.missing()) if self.hasAllItems else 1

    @property
    def ticked(self) -> list[Any]:
        """The ticked images that are still in the scene."""
        box = self._ui.imagesListWidget
        rows = [row for row in range(len(self._shown)) if box.item(row).checkState() == qt.Qt.Checked]
        nodes = [slicer.mrmlScene.GetNodeByID(self._shown[row][0]) for row in rows]
        return [node for node in nodes if node is not None]

    def update(self, chosen: Any) -> None:
        """Show the images of the scene except the chosen one, and keep the ticks."""
        items = self._items = SequenceItems.of(chosen)
        self._ui.itemsCheckBox.visible = items is not None
        if items is not None:
            self._ui.itemsCheckBox.text = _("All {count} items of the sequence").format(count=len(items.values))
        shown = [(node.GetID(), node.GetName() or "") for node in _images() if node is not chosen]
        if shown != self._shown:
            self._fill(shown)
        isOffered = bool(shown) and not self.hasAllItems
        self._ui.imagesLabel.visible = self._ui.imagesListWidget.visible = isOffered

    def _fill(self, shown: list[tuple[str, str]]) -> None:
        box, ticked = self._ui.imagesListWidget, {node.GetID() for node in self.ticked}
        wasBlocked = box.blockSignals(True)
        box.clear()
        for nodeId, name in shown:
            item = qt.QListWidgetItem(name)
            item.setFlags(qt.Qt.ItemIsUserCheckable | qt.Qt.ItemIsEnabled)
            item.setCheckState(qt.Qt.Checked if nodeId in ticked else qt.Qt.Unchecked)
            box.addItem(item)
        box.blockSignals(wasBlocked)
        self._shown = shown


def _images() -> list[Any]:
    nodes = slicer.util.getNodesByClass("vtkMRMLVolumeNode")
    return [node for node in nodes if node.GetClassName() in _CLASSES and not node.GetHideFromEditors()]
