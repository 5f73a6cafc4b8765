"""The library of learned findings: its table, and the buttons below it. Knows nothing about how they are learned."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
from slicer.i18n import tr as _

from FastTextDiffSegmentLib.contract.teaching import (
    ExportLearned,
    LearnedFinding,
    RemoveLearned,
    RenameLearned,
    RollBackLearned,
    SwitchLearned,
)
from FastTextDiffSegmentLib.engine.Jobs import Job, Steps
from FastTextDiffSegmentLib.Findings import learnedText

from .ButtonReasons import ButtonReasons
from .PanelContext import PanelContext

_FINDING, _ABOUT = range(2)
_ROW, _MOST_ROWS = 22, 5
SEPARATOR = ";"
"""Between a finding and its synonyms."""


def wordsOf(text: str) -> list[str]:
    """The words in a text, separated by semicolons."""
    return [" ".join(part.split()) for part in text.split(SEPARATOR) if part.strip()]


class TeachLibrary:
    """Shows the library, and changes it.

    Args:
        context: what all sections use.
        whyBusy: why nothing can be changed now, in one line; empty if something can.
        onChanged: called when the library has changed.
    """

    def __init__(self, context: PanelContext, whyBusy: Callable[[], str], onChanged: Callable[[], None]):
        self._context, self._whyBusy, self._onChanged = context, whyBusy, onChanged
        self._teaching, self._buttons = context.logic.teaching, ButtonReasons()
        self._isFilling = False
        self._setUp()
        ui, guarded = context.ui, context.guarded
        ui.importLearnedButton.connect("clicked()", guarded(self._import))
        ui.exportLearnedButton.connect("clicked()", guarded(self._export))
        ui.renameLearnedButton.connect("clicked()", guarded(self._rename))
        ui.rollBackButton.connect("clicked()", guarded(self._rollBack))
        ui.removeLearnedButton.connect("clicked()", guarded(self._remove))
        ui.libraryTable.itemChanged.connect(guarded(self._onTick))
        ui.libraryTable.connect("itemSelectionChanged()", self.update)

    def _setUp(self) -> None:
        table = self._context.ui.libraryTable
        table.setColumnCount(2)
        table.horizontalHeader().hide()
        table.verticalHeader().hide()
        table.verticalHeader().setDefaultSectionSize(_ROW)
        table.horizontalHeader().setSectionResizeMode(_FINDING, qt.QHeaderView.Stretch)
        table.horizontalHeader().setSectionResizeMode(_ABOUT, qt.QHeaderView.ResizeToContents)
        table.setSelectionBehavior(qt.QAbstractItemView.SelectRows)
        self._fill()

    def refresh(self) -> None:
        """Ask the engine what is in the library; an empty folder needs no engine."""
        folder = self._teaching.library
        if folder is not None and folder.is_dir() and any(folder.iterdir()):
            self._start(self._teaching.session.listed())

    def start(self, steps: Steps, done: str = "") -> None:
        """Run a change of the library, and say so when it is done."""
        self._start(steps, done)

    def _start(self, steps: Steps, done: str = "") -> None:
        def onDone(_found: Any) -> None:
            if done:
                self._context.message.show(done)
            self._fill()
            self._onChanged()

        def onFailed(error: Exception) -> None:
            self._fill()
            self._onChanged()
            self._context.showError(error)

        self._context.runner.start(Job(steps, onDone, onFailed))

    @property
    def _selected(self) -> LearnedFinding | None:
        row, found = self._context.ui.libraryTable.currentRow(), self._teaching.session.findings
        return found[row] if 0 <= row < len(found) else None

    def _import(self) -> None:
        name = self._context.dialogs.openLearned()
        if name:
            self._start(self._teaching.importSteps(name), _("The learned finding was added."))

    def _export(self) -> None:
        name = self._context.dialogs.saveLearned(f"{self._selected.finding}.safetensors")
        if name:
            output = Path(name).absolute()
            steps = self._teaching.change(ExportLearned, finding=self._selected.finding, output=output)
            self._start(steps, _("Written: {file}").format(file=output))

    def _rename(self) -> None:
        one = self._selected
        question = _("Finding and synonyms, separated by semicolons:")
        words = wordsOf(self._context.dialogs.askText(question, f"{SEPARATOR} ".join(one.words)))
        if words:
            more = tuple(words[1:])
            self._start(self._teaching.change(RenameLearned, finding=one.finding, name=words[0], synonyms=more))

    def _rollBack(self) -> None:
        one = self._selected
        question = _("Delete version {number} of '{finding}' and return to the previous one?")
        if self._context.ask(question.format(number=one.versions, finding=one.finding)):
            self._start(self._teaching.change(RollBackLearned, finding=one.finding))

    def _remove(self) -> None:
        one = self._selected
        question = _("Remove '{finding}' with all its versions? Segments made with it stay.")
        if self._context.ask(question.format(finding=one.finding)):
            self._start(self._teaching.change(RemoveLearned, finding=one.finding))

    def _onTick(self, item: Any) -> None:
        if self._isFilling or item.column() != _FINDING:
            return
        one = self._teaching.session.findings[item.row()]
        enabled = item.checkState() == qt.Qt.Checked
        if enabled != one.enabled:
            self._start(self._teaching.change(SwitchLearned, finding=one.finding, enabled=enabled))

    def _fill(self) -> None:
        table, found = self._context.ui.libraryTable, self._teaching.session.findings
        self._isFilling = True
        try:
            table.setRowCount(len(found))
            for row, one in enumerate(found):
                for column, item in zip((_FINDING, _ABOUT), _items(one), strict=True):
                    table.setItem(row, column, item)
            table.setFixedHeight(_ROW * min(len(found), _MOST_ROWS) + 2 * table.frameWidth)
            table.visible = self._context.ui.libraryLabel.visible = bool(found)
        finally:
            self._isFilling = False
        self.update()

    def update(self) -> None:
        """Update the buttons."""
        ui, one, busy = self._context.ui, self._selected, self._whyBusy()
        none = busy or ("" if one is not None else _("Choose a learned finding in the table."))
        damaged = none or (_("Its file is damaged.") if not one.digest else "")
        first = none or ("" if one.versions > 1 else _("There is no earlier version."))
        self._buttons.show(
            {
                ui.importLearnedButton: busy,
                ui.exportLearnedButton: damaged,
                ui.renameLearnedButton: damaged,
                ui.rollBackButton: first,
                ui.removeLearnedButton: none,
            }
        )


def _items(one: LearnedFinding) -> tuple[Any, Any]:
    """The cells of a learned finding."""
    finding = qt.QTableWidgetItem(f"{SEPARATOR} ".join(one.words))
    finding.setFlags(qt.Qt.ItemIsSelectable | qt.Qt.ItemIsEnabled | qt.Qt.ItemIsUserCheckable)
    finding.setCheckState(qt.Qt.Checked if one.enabled else qt.Qt.Unchecked)
    text = _("cannot be used") if one.problem else f"{learnedText(one.examples)}, {one.modality}"
    about = qt.QTableWidgetItem(text)
    about.setFlags(qt.Qt.ItemIsSelectable | qt.Qt.ItemIsEnabled)
    dice = "" if one.dice is None else _("Dice on held-out examples: {dice}").format(dice=one.dice)
    version = _("version {number}, learned on {base}").format(number=one.versions, base=one.base)
    for item in (finding, about):
        item.setToolTip("\n".join(filter(None, (one.problem or version, dice))))
    return finding, about
