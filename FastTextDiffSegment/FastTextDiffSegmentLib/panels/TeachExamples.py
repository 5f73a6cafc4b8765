"""The list of examples to learn from, with thumbnails. Owns its table and buttons; knows nothing about learning."""

from collections.abc import Callable
from typing import Any

import numpy as np
import qt
from slicer.i18n import tr as _

from FastTextDiffSegmentLib.contract.findings import same_key
from FastTextDiffSegmentLib.scene.Examples import ACCEPTED, EDITED, EMPTY, Example, requireSameContent, thumbnail
from FastTextDiffSegmentLib.scene.Geometry import SceneError

from .ButtonReasons import ButtonReasons
from .PanelContext import PanelContext

_SLICE, _STATE = range(2)
_SIZE, _MOST_ROWS = 48, 4
"""Side of a thumbnail in pixels, and how many rows are visible without scrolling."""
_STATES = {EDITED: _("edited"), ACCEPTED: _("accepted as it is"), EMPTY: _("finding is absent")}


class TeachExamples:
    """Examples of one finding in the order added; a slice occurs once.

    Args:
        context: what all sections use.
        newExample: the shown slice with the mask of the finding; raises an error to show if it has none.
        newAbsent: the shown slice, on which the finding is absent.
        newFinding: the finding as typed now.
        onChanged: called when the list has changed.

    Attributes:
        all: the examples.
    """

    def __init__(
        self,
        context: PanelContext,
        newExample: Callable[[], Example],
        newAbsent: Callable[[], Example],
        newFinding: Callable[[], str],
        onChanged: Callable[[], None],
    ):
        self._newFinding, self._finding = newFinding, ""
        self._table, self._ui, self._onChanged = context.ui.examplesTable, context.ui, onChanged
        self._buttons = ButtonReasons()
        self.all: list[Example] = []
        ui, guarded = context.ui, context.guarded
        ui.addExampleButton.connect("clicked()", guarded(lambda: self.add(newExample())))
        ui.addAbsentButton.connect("clicked()", guarded(lambda: self.add(newAbsent())))
        ui.removeExampleButton.connect("clicked()", guarded(self._removeSelected))
        self._setUp()

    def _setUp(self) -> None:
        table = self._table
        table.setColumnCount(2)
        table.horizontalHeader().hide()
        table.verticalHeader().hide()
        table.verticalHeader().setDefaultSectionSize(_SIZE + 4)
        table.horizontalHeader().setSectionResizeMode(_SLICE, qt.QHeaderView.Stretch)
        table.horizontalHeader().setSectionResizeMode(_STATE, qt.QHeaderView.ResizeToContents)
        table.setSelectionBehavior(qt.QAbstractItemView.SelectRows)
        table.setIconSize(qt.QSize(_SIZE, _SIZE))
        self._fill()

    def add(self, example: Example) -> None:
        """Add an example, in place of an earlier one of the same slice.

        Raises:
            SceneError: the others are of another finding, or the image was changed since one of them was added.
        """
        self.requireOf(self._newFinding())
        for other in self.all:
            if other.volumeNode is example.volumeNode:
                requireSameContent(other)
        self.all = [each for each in self.all if not each.isOf(example.volumeNode, example.sliceIndex)]
        self.all.append(example)
        self._finding = self._newFinding()
        self._fill()
        self._onChanged()

    def requireOf(self, finding: str) -> None:
        """Check that the examples are of a finding: their masks would teach any other word as well.

        Raises:
            SceneError: they are of another one.
        """
        if self.all and same_key(finding) != same_key(self._finding):
            message = _("The examples are of '{old}', not of '{new}': type '{old}' again, or remove them.")
            raise SceneError(message.format(old=self._finding, new=finding))

    def clear(self) -> None:
        """Forget all examples."""
        self.all = []
        self._fill()
        self._onChanged()

    def has(self, volumeNode: Any, sliceIndex: int) -> bool:
        """Whether a slice is an example."""
        return any(each.isOf(volumeNode, sliceIndex) for each in self.all)

    def update(self, whyNoSlice: str) -> None:
        """Update the buttons."""
        ui = self._ui
        empty = "" if self.all else _("There is no example.")
        reasons = {ui.addExampleButton: whyNoSlice, ui.addAbsentButton: whyNoSlice, ui.removeExampleButton: empty}
        self._buttons.show(reasons)

    def _removeSelected(self) -> None:
        row = self._table.currentRow()
        if 0 <= row < len(self.all):
            del self.all[row]
            self._fill()
            self._onChanged()

    def _fill(self) -> None:
        table = self._table
        table.setRowCount(len(self.all))
        for row, example in enumerate(self.all):
            text = _("slice {number}, {image}").format(
                number=example.sliceIndex + 1, image=example.volumeNode.GetName() or ""
            )
            item = qt.QTableWidgetItem(text)
            item.setIcon(qt.QIcon(_pixmap(thumbnail(example, _SIZE))))
            item.setToolTip(text)
            state = qt.QTableWidgetItem(_STATES[example.state])
            for column, cell in ((_SLICE, item), (_STATE, state)):
                cell.setFlags(qt.Qt.ItemIsSelectable | qt.Qt.ItemIsEnabled)
                table.setItem(row, column, cell)
        table.setFixedHeight((_SIZE + 4) * min(len(self.all), _MOST_ROWS) + 2 * table.frameWidth)
        table.visible = bool(self.all)


def _pixmap(picture: np.ndarray) -> Any:
    """A picture (h, w, 3) uint8 for Qt, pixel by pixel: PythonQt takes no memory of ours."""
    height, width = picture.shape[:2]
    image = qt.QImage(width, height, qt.QImage.Format_RGB32)
    for y in range(height):
        for x in range(width):
            red, green, blue = (int(part) for part in picture[y, x])
            image.setPixel(x, y, 0xFF000000 | red << 16 | green << 8 | blue)
    return qt.QPixmap.fromImage(image)
