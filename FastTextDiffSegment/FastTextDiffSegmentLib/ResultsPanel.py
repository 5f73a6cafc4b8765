"""The table of segments. Knows rows of text; knows nothing about where they come from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import qt
from slicer.i18n import tr as _


@dataclass(frozen=True)
class ResultRow:
    """One segment.

    Attributes:
        segmentId: its id.
        name: its name.
        color: (red, green, blue), 0 to 1.
        amount: volume or area, as text.
        presence: how sure the model is that the finding is there at all, as text.
        isEdited: whether somebody changed it since.
        tip: how it was made, for the tool tip.
    """

    segmentId: str
    name: str
    color: tuple[float, float, float]
    amount: str
    presence: str
    isEdited: bool
    tip: str


class ResultsPanel:
    """Shows rows; one can be chosen.

    Args:
        table: QTableWidget.
        onSelected: called when another row is chosen.
    """

    def __init__(self, table, onSelected: Callable[[], None]):
        self._table = table
        self._rows: list[ResultRow] = []
        table.setColumnCount(4)
        table.setHorizontalHeaderLabels([_("Segment"), _("Amount"), _("Presence"), _("State")])
        table.verticalHeader().hide()
        table.verticalHeader().setDefaultSectionSize(20)
        table.horizontalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        table.horizontalHeader().setSectionResizeMode(0, qt.QHeaderView.Stretch)
        table.itemSelectionChanged.connect(onSelected)

    @property
    def selected(self) -> ResultRow | None:
        """The chosen row, the first if none is chosen, None without rows."""
        return self._rows[max(0, self._table.currentRow())] if self._rows else None

    def show(self, rows: Sequence[ResultRow]) -> None:
        """Show these rows; does nothing if they are shown already."""
        if list(rows) == self._rows:
            return
        self._rows = list(rows)
        self._table.setRowCount(len(rows))
        for number, row in enumerate(rows):
            texts = (row.name, row.amount, row.presence, _("edited") if row.isEdited else _("model"))
            for column, text in enumerate(texts):
                item = qt.QTableWidgetItem(text)
                item.setToolTip(row.tip)
                if column == 0:
                    item.setIcon(_swatch(row.color))
                self._table.setItem(number, column, item)


def _swatch(color: tuple[float, float, float]):
    pixmap = qt.QPixmap(12, 12)
    pixmap.fill(qt.QColor.fromRgbF(*color))
    return qt.QIcon(pixmap)
