"""The table of segments. Knows rows of text; knows nothing about where they come from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import qt
from slicer.i18n import tr as _

_ROW, _FEWEST_ROWS, _MOST_ROWS = 20, 2, 5
"""Height of a row in pixels, and how many rows there is room for."""


@dataclass(frozen=True)
class ResultRow:
    """One segment.

    Attributes:
        segmentId: its id.
        name: its name.
        color: (red, green, blue), 0 to 1.
        amount: volume or area, and on how many slices, as text.
        certainty: how sure the model is that the finding is there at all, as text.
        isEdited: whether somebody changed it since.
        tip: how it was made, for the tool tip.
    """

    segmentId: str
    name: str
    color: tuple[float, float, float]
    amount: str
    certainty: str
    isEdited: bool
    tip: str


class ResultTable:
    """Shows rows; one can be chosen.

    Args:
        table: QTableWidget.
        onSelected: called when another row is chosen.
    """

    def __init__(self, table, onSelected: Callable[[], None]):
        self._table = table
        self._rows: list[ResultRow] = []
        table.setColumnCount(3)
        table.setHorizontalHeaderLabels([_("Segment"), _("Amount"), _("Certainty")])
        table.horizontalHeaderItem(2).setToolTip(
            _("How sure the model is that the finding is there at all: the highest of the slices that were segmented.")
        )
        table.verticalHeader().hide()
        table.verticalHeader().setDefaultSectionSize(_ROW)
        table.horizontalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        table.horizontalHeader().setSectionResizeMode(0, qt.QHeaderView.Stretch)
        table.itemSelectionChanged.connect(onSelected)
        self._fitHeight()

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
            name = _("{name} (edited)").format(name=row.name) if row.isEdited else row.name
            texts = (name, row.amount, row.certainty)
            for column, text in enumerate(texts):
                item = qt.QTableWidgetItem(text)
                item.setToolTip(row.tip)
                if column == 0:
                    item.setIcon(_swatch(row.color))
                self._table.setItem(number, column, item)
        self._fitHeight()

    def _fitHeight(self) -> None:
        """As high as its rows, within limits: on a small screen what is below has to be seen too."""
        rows = min(max(len(self._rows), _FEWEST_ROWS), _MOST_ROWS)
        self._table.setFixedHeight(_ROW * (rows + 1) + 2 * self._table.frameWidth + 4)


def _swatch(color: tuple[float, float, float]):
    pixmap = qt.QPixmap(12, 12)
    pixmap.fill(qt.QColor.fromRgbF(*color))
    return qt.QIcon(pixmap)
