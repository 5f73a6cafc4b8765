"""The table of segments. Knows rows of text; knows nothing about where they come from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import qt
from slicer.i18n import tr as _

_ROW, _FEWEST_ROWS, _MOST_ROWS = 20, 2, 5
"""Height of a row in pixels, and the limits for the number of visible rows."""


@dataclass(frozen=True)
class ResultRow:
    """One segment.

    Attributes:
        segmentId: its id.
        name: its name.
        color: (red, green, blue), 0 to 1.
        amount: volume or area, and on how many slices, as text.
        presence: probability that the finding is there at all, as text.
        isEdited: whether it was edited after the model made it.
        tip: how it was made, for the tool tip.
    """

    segmentId: str
    name: str
    color: tuple[float, float, float]
    amount: str
    presence: str
    isEdited: bool
    tip: str


class ResultTable:
    """Shows rows; one can be selected.

    Args:
        table: QTableWidget.
        onSelected: called when another row is selected.
    """

    def __init__(self, table, onSelected: Callable[[], None]):
        self._table = table
        self._rows: list[ResultRow] = []
        table.setColumnCount(3)
        table.setHorizontalHeaderLabels([_("Segment"), _("Amount"), _("Presence")])
        table.horizontalHeaderItem(2).setToolTip(
            _("The model's probability that the finding is there at all: the highest of all segmented slices.")
        )
        table.verticalHeader().hide()
        table.verticalHeader().setDefaultSectionSize(_ROW)
        table.horizontalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        table.horizontalHeader().setSectionResizeMode(0, qt.QHeaderView.Stretch)
        table.itemSelectionChanged.connect(onSelected)
        self._fitHeight()

    @property
    def selected(self) -> ResultRow | None:
        """The selected row, the first if none is selected, None without rows."""
        return self._rows[max(0, self._table.currentRow())] if self._rows else None

    def show(self, rows: Sequence[ResultRow]) -> None:
        """Show these rows; does nothing if they are already shown."""
        if list(rows) == self._rows:
            return
        self._rows = list(rows)
        self._table.setRowCount(len(rows))
        for number, row in enumerate(rows):
            name = _("{name} (edited)").format(name=row.name) if row.isEdited else row.name
            texts = (name, row.amount, row.presence)
            for column, text in enumerate(texts):
                item = qt.QTableWidgetItem(text)
                item.setToolTip(row.tip)
                if column == 0:
                    item.setIcon(_swatch(row.color))
                self._table.setItem(number, column, item)
        self._fitHeight()

    def _fitHeight(self) -> None:
        """Fit the height to the rows, within limits: the widgets below must stay visible on a small screen."""
        rows = min(max(len(self._rows), _FEWEST_ROWS), _MOST_ROWS)
        self._table.setFixedHeight(_ROW * (rows + 1) + 2 * self._table.frameWidth + 4)


def _swatch(color: tuple[float, float, float]):
    pixmap = qt.QPixmap(12, 12)
    pixmap.fill(qt.QColor.fromRgbF(*color))
    return qt.QIcon(pixmap)
