"""The table of a batch's cases. Does not know where they come from."""

from collections.abc import Callable
from pathlib import Path

import qt
from slicer.i18n import tr as _

from FastTextDiffSegmentLib.batch.BatchCases import FAILED, RUNNING, SKIPPED, BatchCase

_ROWS = 500
"""Nobody reads more rows, and filling them would take seconds."""
_NOTABLE = (FAILED, RUNNING, SKIPPED)
_CASE, _STATE = 0, 2


class BatchTable:
    """Shows cases; one can be selected.

    Args:
        table: QTableWidget.
        onSelected: called when another row is selected.
    """

    def __init__(self, table, onSelected: Callable[[], None]):
        self._table = table
        self._rows: list[tuple[str, str, str]] = []
        self._cases: list[BatchCase] = []
        table.setColumnCount(3)
        table.setHorizontalHeaderLabels([_("Case"), _("Image"), _("State")])
        table.setWordWrap(False)  # a long reason is cut at its end, not after its first word
        table.verticalHeader().hide()
        table.verticalHeader().setDefaultSectionSize(20)
        table.horizontalHeader().setSectionResizeMode(_STATE, qt.QHeaderView.Stretch)
        table.itemSelectionChanged.connect(onSelected)

    @property
    def selected(self) -> BatchCase | None:
        """The selected case; None if none is selected."""
        row = self._table.currentRow()
        return self._cases[row] if 0 <= row < len(self._cases) else None

    def show(self, cases: list[BatchCase]) -> None:
        """Show these cases; only changed rows are filled. If there are too many, failed and running ones come first."""
        hidden = len(cases) - _ROWS
        if hidden > 0:
            cases = sorted(cases, key=lambda case: case.state not in _NOTABLE)
        self._cases = cases[:_ROWS]
        rows = [(case.name, Path(case.path).name, _stateText(case)) for case in self._cases]
        if hidden > 0:
            rows.append(("", "", _("and {count:,} more: see summary.csv").format(count=hidden)))
        if len(rows) != len(self._rows):
            self._table.setRowCount(len(rows))
        for number, row in enumerate(rows):
            if self._rows[number : number + 1] != [row]:
                self._fill(number, row)
        if len(rows) != len(self._rows):
            self._table.resizeColumnToContents(_CASE)
        self._rows = rows

    def _fill(self, number: int, row: tuple[str, str, str]) -> None:
        path = self._cases[number].path if number < len(self._cases) else ""
        for column, text in enumerate(row):
            item = qt.QTableWidgetItem(text)
            item.setToolTip("\n".join(filter(None, (path, row[_STATE]))))
            self._table.setItem(number, column, item)


def _stateText(case: BatchCase) -> str:
    # the row names the case already
    return f"{case.state}: {case.reason.removeprefix(f'{case.name}: ')}" if case.reason else case.state
