"""The text box for findings, and the list of findings to check. Knows neither the scene nor the engine."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import qt
from slicer.i18n import tr as _

from FastTextDiffSegmentLib.contract.answers import CheckedFinding
from FastTextDiffSegmentLib.Findings import (
    LEARNED_HERE,
    completions,
    findingLines,
    looksLikeReport,
    reportSentences,
    typedFindings,
    understoodNote,
)

_PASTED = 20
"""Characters inserted at once: more than anyone types, so they were pasted."""
_FINDING, _NOTE = range(2)
_ROW, _MOST_ROWS = 20, 3
"""Height of a row in pixels, and how many are visible without scrolling."""


class FindingsBox:
    """A text box with one finding per line, and below it a list of the lines to check, hidden if there are none.

    Listed are findings that a report denies, which are not segmented, and lines that were not understood as typed. Also
    listed are findings that the model was not taught or is weak in, and findings learned here.

    Args:
        textEdit: QTextEdit.
        table: QTableWidget.
        tableLabel: QLabel, shown with the table.
        onChanged: called after every change of text or ticks by the user.
    """

    def __init__(self, textEdit, table, tableLabel, onChanged: Callable[[], None]):
        self.textEdit, self.table, self._tableLabel, self._onChanged = textEdit, table, tableLabel, onChanged
        self._hint = str(textEdit.toolTip)
        self._unticked: set[str] = set()
        self._checked: Mapping[str, CheckedFinding] = {}
        self._terms: list[str] = []
        self._before = ""
        self._isUpdating = False
        self._setUpTable()
        self._completer = _Completer(textEdit, self._accept)
        textEdit.textChanged.connect(self._onText)
        table.itemChanged.connect(self._onTick)

    def _setUpTable(self) -> None:
        self.table.setColumnCount(2)
        self.table.horizontalHeader().hide()
        self.table.verticalHeader().hide()
        self.table.verticalHeader().setDefaultSectionSize(_ROW)
        self.table.horizontalHeader().setSectionResizeMode(_FINDING, qt.QHeaderView.Stretch)
        self.table.horizontalHeader().setSectionResizeMode(_NOTE, qt.QHeaderView.ResizeToContents)
        self.table.setShowGrid(False)

    def close(self) -> None:
        """Disconnect from the widgets."""
        self._completer.close()
        self.textEdit.textChanged.disconnect(self._onText)
        self.table.itemChanged.disconnect(self._onTick)

    @property
    def text(self) -> str:
        """The box's text."""
        return self.textEdit.toPlainText()

    @property
    def lines(self) -> list[str]:
        """All findings as understood, ticked or not."""
        return findingLines(self.text)

    @property
    def findings(self) -> list[str]:
        """The findings to segment."""
        return [line for line in self.lines if line not in self._unticked]

    @property
    def unticked(self) -> list[str]:
        """The findings not to segment."""
        return [line for line in self.lines if line in self._unticked]

    def show(self, text: str, unticked: list[str]) -> None:
        """Show a stored state; `onChanged` is not called."""
        if text == self.text and unticked == self.unticked:
            return
        self._unticked = set(unticked)
        self._setText(text)
        self._fillTable()

    def setTerms(self, terms: list[str]) -> None:
        """Set the completions: the terms that the model was taught for this kind of image."""
        self._terms = terms

    def setChecked(self, checked: Mapping[str, CheckedFinding]) -> None:
        """Show the engine's checks of the findings, by finding."""
        self._checked = checked
        self._fillTable()

    def _setText(self, text: str) -> None:
        self._isUpdating = True
        try:
            self.textEdit.setPlainText(text)
            self._before = text
        finally:
            self._isUpdating = False

    def _onText(self) -> None:
        if self._isUpdating:
            return
        before, self._before = self._before, self.text
        added = _insertedPart(before, self._before)
        if len(added.text) >= _PASTED and looksLikeReport(added.text):
            self._splitReport(added)
        else:
            self._completer.offer(completions(self._completer.line(), self._terms))
        self._fillTable()
        self._onChanged()

    def _splitReport(self, pasted: "_Part") -> None:
        """One line per sentence; what a report denies or only asks is left unticked, for the user to decide."""
        sentences = reportSentences(pasted.text)
        self._unticked |= set(findingLines("\n".join(each.text for each in sentences if not each.isFinding)))
        lines = "\n".join(sentence.text for sentence in sentences)
        before, behind = self.text[: pasted.start], self.text[pasted.start + len(pasted.text) :]
        lines = ("\n" if before and not before.endswith("\n") else "") + lines
        cursor = self.textEdit.textCursor()
        cursor.joinPreviousEditBlock()  # one step with the paste: undo reverts both
        cursor.setPosition(_qtLength(before))
        cursor.setPosition(_qtLength(before + pasted.text), qt.QTextCursor.KeepAnchor)
        self._insert(cursor, lines + ("\n" if behind and not behind.startswith("\n") else ""))
        cursor.endEditBlock()

    def add(self, finding: str) -> None:
        """Append a finding as a new line; the user can undo it like typing."""
        cursor = self.textEdit.textCursor()
        cursor.movePosition(qt.QTextCursor.End)
        self._insert(cursor, f"{'' if cursor.atBlockStart() else chr(10)}{finding}")
        self._fillTable()
        self._onChanged()

    def _insert(self, cursor, text: str) -> None:
        """Insert at a cursor; unlike setPlainText, this can be undone."""
        self._isUpdating = True
        try:
            cursor.insertText(text)
            self._before = self.text
        finally:
            self._isUpdating = False

    def _accept(self, term: str) -> None:
        self._completer.replaceLine(term)

    def _fillTable(self) -> None:
        self._isUpdating = True
        try:
            understood = {line: understoodNote(typed) for line, typed in typedFindings(self.text).items()}
            lines = [
                line
                for line, note in understood.items()
                if note or line in self._unticked or self._doubt(line) or self._learned(line)
            ]
            self._showQuality(list(understood))
            self.table.setRowCount(len(lines))
            for row, line in enumerate(lines):
                self._fillRow(row, line, understood[line])
            self.table.setFixedHeight(_ROW * min(len(lines), _MOST_ROWS) + 2 * self.table.frameWidth)
            self.table.visible = self._tableLabel.visible = bool(lines)
        finally:
            self._isUpdating = False

    def _doubt(self, line: str) -> str:
        """Why to doubt a result for a line, in a few words; empty if there is no reason."""
        checked = self._checked.get(line)
        if checked is None:
            return ""
        return _("not trained on this") if checked.warning else _("weak") if checked.weak else ""

    def _learned(self, line: str) -> str:
        """What a line was learned from here, in a few words; empty if it was not."""
        quality = self._checked[line].quality if line in self._checked else ""
        return quality if quality.startswith(LEARNED_HERE) else ""

    def _showQuality(self, lines: list[str]) -> None:
        known = [self._checked[line].quality for line in lines if line in self._checked]
        self.textEdit.setToolTip("\n".join(filter(None, known)) or self._hint)

    def _fillRow(self, row: int, line: str, understood: str) -> None:
        isTicked, checked = line not in self._unticked, self._checked.get(line, CheckedFinding(line, ""))
        text = (self._doubt(line) or self._learned(line) or understood) if isTicked else _("not segmented")
        finding, note = qt.QTableWidgetItem(line), qt.QTableWidgetItem(text)
        finding.setCheckState(qt.Qt.Checked if isTicked else qt.Qt.Unchecked)
        finding.setToolTip(line)
        note.setToolTip("\n".join(filter(None, (checked.warning, checked.quality, understood))))
        self.table.setItem(row, _FINDING, finding)
        self.table.setItem(row, _NOTE, note)

    def _onTick(self, item) -> None:
        if self._isUpdating or item.column() != _FINDING:
            return
        isTicked = item.checkState() == qt.Qt.Checked
        (self._unticked.discard if isTicked else self._unticked.add)(item.text())
        qt.QTimer.singleShot(0, self._fillTable)  # not within the item's own signal: the row may be removed
        self._onChanged()


@dataclass(frozen=True)
class _Part:
    """Part of a text and where it starts."""

    text: str
    start: int


def _insertedPart(before: str, after: str) -> _Part:
    """The text that was inserted; empty if the text did not get longer."""
    start = next((n for n, (old, new) in enumerate(zip(before, after, strict=False)) if old != new), len(before))
    return _Part(after[start : start + max(0, len(after) - len(before))], start)


def _qtLength(text: str) -> int:
    """Length as Qt counts it: in UTF-16 units."""
    return len(text.encode("utf-16-le")) // 2


class _Completer:
    """A list of terms at the cursor: Enter or Tab accepts one, Escape closes it, typing goes to the text box."""

    def __init__(self, textEdit, onAccepted: Callable[[str], None]):
        self._textEdit, self._onAccepted = textEdit, onAccepted
        self._model = qt.QStringListModel()
        self._completer = qt.QCompleter()
        self._completer.setModel(self._model)
        self._completer.setCompletionMode(qt.QCompleter.UnfilteredPopupCompletion)
        self._completer.setWidget(textEdit)
        self._popup = self._completer.popup()
        self._filter = _PopupKeys(self._takeCurrent)
        # installed after the completer's own filter, so called first: otherwise Enter would also go to the text box
        self._popup.installEventFilter(self._filter)
        self._completer.connect("activated(QString)", self._onAccepted)

    def offer(self, terms: list[str]) -> None:
        """Show terms, or close the list if there are none."""
        if not terms or not self._textEdit.hasFocus():
            self._popup.hide()
            return
        self._model.setStringList(terms)
        rectangle = self._textEdit.cursorRect()
        rectangle.setWidth(max(240, self._popup.sizeHintForColumn(0) + 20))
        self._completer.complete(rectangle)

    def line(self) -> str:
        """The current line, up to the cursor."""
        cursor = self._textEdit.textCursor()
        return cursor.block().text()[: cursor.positionInBlock()]

    def replaceLine(self, term: str) -> None:
        """Replace the current line by a term; the user can undo it like typing."""
        cursor = self._textEdit.textCursor()
        cursor.movePosition(qt.QTextCursor.StartOfBlock)
        cursor.movePosition(qt.QTextCursor.EndOfBlock, qt.QTextCursor.KeepAnchor)
        cursor.insertText(term)
        self._textEdit.setTextCursor(cursor)
        self._popup.hide()

    def _takeCurrent(self) -> bool:
        index = self._popup.currentIndex()
        if not index.isValid():
            return False
        self._popup.hide()
        self._onAccepted(str(index.data()))
        return True

    def close(self) -> None:
        """Disconnect from the text box."""
        self._popup.removeEventFilter(self._filter)
        self._popup.hide()


class _PopupKeys(qt.QObject):
    """Keys that accept the selected term."""

    def __init__(self, takeCurrent: Callable[[], bool]):
        qt.QObject.__init__(self)
        self._takeCurrent = takeCurrent

    def eventFilter(self, target, event) -> bool:
        """Called by Qt; True discards the key."""
        if event.type() != qt.QEvent.KeyPress:
            return False
        return event.key() in (qt.Qt.Key_Return, qt.Qt.Key_Enter, qt.Qt.Key_Tab) and self._takeCurrent()
