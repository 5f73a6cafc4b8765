"""The box in which findings are typed, completed, ticked and marked. Knows nothing about the scene or the engine."""

from collections.abc import Callable, Mapping

import qt
from slicer.i18n import tr as _

from .Findings import completions, findingLines, looksLikeReport, reportSentences

_PASTED = 20
"""Characters that come at once: nobody types so fast, so a report in them was pasted."""
_FINDING, _NOTE = range(2)


class FindingsPanel:
    """A text box with one finding a line, and a table of the lines with ticks and notes.

    Args:
        textEdit: QTextEdit.
        table: QTableWidget.
        onChanged: called after every change of text or ticks by the user.
    """

    def __init__(self, textEdit, table, onChanged: Callable[[], None]):
        self.textEdit, self.table, self._onChanged = textEdit, table, onChanged
        self._unticked: set[str] = set()
        self._notes: Mapping[str, str] = {}
        self._terms: list[str] = []
        self._length = 0
        self._isUpdating = False
        self._setUpTable()
        self._completer = _Completer(textEdit, self._accept)
        textEdit.textChanged.connect(self._onText)
        table.itemChanged.connect(self._onTick)

    def _setUpTable(self) -> None:
        self.table.setColumnCount(2)
        self.table.horizontalHeader().hide()
        self.table.verticalHeader().hide()
        self.table.verticalHeader().setDefaultSectionSize(20)
        self.table.horizontalHeader().setSectionResizeMode(_FINDING, qt.QHeaderView.Stretch)
        self.table.horizontalHeader().setSectionResizeMode(_NOTE, qt.QHeaderView.ResizeToContents)
        self.table.setShowGrid(False)

    def close(self) -> None:
        """Let go of the widgets."""
        self._completer.close()
        self.textEdit.textChanged.disconnect(self._onText)
        self.table.itemChanged.disconnect(self._onTick)

    @property
    def text(self) -> str:
        """The box's text."""
        return self.textEdit.toPlainText()

    @property
    def lines(self) -> list[str]:
        """All findings, ticked or not."""
        return findingLines(self.text)

    @property
    def findings(self) -> list[str]:
        """What is to be segmented."""
        return [line for line in self.lines if line not in self._unticked]

    @property
    def unticked(self) -> list[str]:
        """Lines that are not to be segmented."""
        return [line for line in self.lines if line in self._unticked]

    def show(self, text: str, unticked: list[str]) -> None:
        """Show a remembered state; nothing is reported back."""
        if text == self.text and unticked == self.unticked:
            return
        self._unticked = set(unticked)
        self._setText(text)
        self._fillTable()

    def setTerms(self, terms: list[str]) -> None:
        """What the box completes to: the findings the model was trained on for this kind of image."""
        self._terms = terms

    def setNotes(self, notes: Mapping[str, str]) -> None:
        """Why a finding is none that the model was trained on for this kind of image, by finding; empty if it is."""
        self._notes = notes
        self._fillTable()

    def _setText(self, text: str) -> None:
        self._isUpdating = True
        try:
            self.textEdit.setPlainText(text)
            self._length = len(text)
        finally:
            self._isUpdating = False

    def _onText(self) -> None:
        if self._isUpdating:
            return
        added, self._length = len(self.text) - self._length, len(self.text)
        if added >= _PASTED and any(looksLikeReport(line) for line in self.text.splitlines()):
            self._splitReport()
        else:
            self._completer.offer(completions(self._completer.line(), self._terms))
        self._fillTable()
        self._onChanged()

    def _splitReport(self) -> None:
        """One line a sentence; what a report denies, or only asks, is left unticked, for the user to see and decide."""
        sentences = reportSentences(self.text)
        self._unticked |= {sentence.text for sentence in sentences if not sentence.isFinding}
        cursor = self.textEdit.textCursor()
        cursor.joinPreviousEditBlock()  # one step with the pasting: undo takes back both
        cursor.select(qt.QTextCursor.Document)
        self._insert(cursor, "\n".join(sentence.text for sentence in sentences))
        cursor.endEditBlock()

    def add(self, finding: str) -> None:
        """Write a finding as a line of its own behind the others; undone as any typing."""
        cursor = self.textEdit.textCursor()
        cursor.movePosition(qt.QTextCursor.End)
        self._insert(cursor, f"{'' if cursor.atBlockStart() else chr(10)}{finding}")
        self._fillTable()
        self._onChanged()

    def _insert(self, cursor, text: str) -> None:
        """Write at a cursor: other than setPlainText, this can be undone."""
        self._isUpdating = True
        try:
            cursor.insertText(text)
            self._length = len(self.text)
        finally:
            self._isUpdating = False

    def _accept(self, term: str) -> None:
        self._completer.replaceLine(term)

    def _fillTable(self) -> None:
        self._isUpdating = True
        try:
            lines = self.lines
            self.table.setRowCount(len(lines))
            for row, line in enumerate(lines):
                self._fillRow(row, line)
        finally:
            self._isUpdating = False

    def _fillRow(self, row: int, line: str) -> None:
        warning = self._notes.get(line, "")
        finding, note = qt.QTableWidgetItem(line), qt.QTableWidgetItem(_("not trained on this") if warning else "")
        finding.setCheckState(qt.Qt.Unchecked if line in self._unticked else qt.Qt.Checked)
        finding.setToolTip(line)
        note.setToolTip(warning)
        self.table.setItem(row, _FINDING, finding)
        self.table.setItem(row, _NOTE, note)

    def _onTick(self, item) -> None:
        if self._isUpdating or item.column() != _FINDING:
            return
        isTicked = item.checkState() == qt.Qt.Checked
        (self._unticked.discard if isTicked else self._unticked.add)(item.text())
        self._onChanged()


class _Completer:
    """A list of terms under the cursor; Enter or Tab takes one, Escape closes it, typing goes on underneath."""

    def __init__(self, textEdit, onAccepted: Callable[[str], None]):
        self._textEdit, self._onAccepted = textEdit, onAccepted
        self._model = qt.QStringListModel()
        self._completer = qt.QCompleter()
        self._completer.setModel(self._model)
        self._completer.setCompletionMode(qt.QCompleter.UnfilteredPopupCompletion)
        self._completer.setWidget(textEdit)
        self._popup = self._completer.popup()
        self._filter = _PopupKeys(self._takeCurrent)
        # installed after the completer's own, so asked first: else Enter would also go to the text box
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
        """The line in which the cursor is, up to the cursor."""
        cursor = self._textEdit.textCursor()
        return cursor.block().text()[: cursor.positionInBlock()]

    def replaceLine(self, term: str) -> None:
        """Put a term in place of the line; the user can undo it as any typing."""
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
        """Let go of the text box."""
        self._popup.removeEventFilter(self._filter)
        self._popup.hide()


class _PopupKeys(qt.QObject):
    """Keys that take the chosen term."""

    def __init__(self, takeCurrent: Callable[[], bool]):
        qt.QObject.__init__(self)
        self._takeCurrent = takeCurrent

    def eventFilter(self, target, event) -> bool:
        """Qt's hook: True swallows the key."""
        if event.type() != qt.QEvent.KeyPress:
            return False
        return event.key() in (qt.Qt.Key_Return, qt.Qt.Key_Enter, qt.Qt.Key_Tab) and self._takeCurrent()
