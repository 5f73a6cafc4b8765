"""The findings: those typed, those used before in this scene, and those the model was not taught.

Owns the text box, the list below it and the history; of the image it knows only the kind.
"""

from collections.abc import Callable
from dataclasses import replace

import slicer
from slicer.i18n import tr as _

from FastTextDiffSegmentLib.contract.answers import CheckedFinding
from FastTextDiffSegmentLib.contract.requests import CheckFindings
from FastTextDiffSegmentLib.engine.Jobs import Job, Steps
from FastTextDiffSegmentLib.Findings import learnedText

from .FindingsBox import FindingsBox
from .PanelContext import PanelContext
from .SetupSection import SetupSection


class FindingsSection:
    """Stores the findings in the parameters, and lets the engine check them.

    Args:
        context: what all sections use.
        setup: the engine's set-up.
        onChanged: called when the user has changed the findings.

    Attributes:
        box: the text box with its list.
    """

    def __init__(self, context: PanelContext, setup: SetupSection, onChanged: Callable[[], None]):
        self._context, self._setup, self._onChanged = context, setup, onChanged
        self._checked: tuple[list[str], str | None] = ([], None)
        ui = context.ui
        self.box = FindingsBox(ui.findingsTextEdit, ui.findingsTable, ui.findingsCheckLabel, self._onBox)
        ui.historyComboBox.connect("activated(int)", self._onHistory)

    def show(self) -> None:
        """Show the findings of the parameters."""
        parameters = self._context.parameters
        self.box.show(parameters.findings, list(parameters.unticked))
        box, history = self._context.ui.historyComboBox, list(parameters.history)
        if [str(box.itemText(row)) for row in range(1, box.count)] != history:
            box.clear()
            box.addItem(_("Add an earlier finding"))
            box.addItems(history)

    def update(self, modality: str | None) -> None:
        """Check the findings, unless they were already checked for this kind of image."""
        if (self.box.lines, modality) != self._checked:
            self.check(modality)

    def check(self, modality: str | None) -> None:
        """Mark the findings that the model was not taught for a kind of image; None for all kinds."""
        lines = self.box.lines
        learned = self._context.logic.teaching.session.inUse
        own = [word for one in learned for word in one.words]
        self.box.setTerms([*own, *self._setup.terms(modality)])
        if self._setup.mayAsk:
            self._checked = lines, modality
        if lines and self._setup.mayAsk:
            steps = self._checkSteps(lines, modality)
            self._context.runner.start(Job(steps, self.box.setChecked, self._context.showError))

    def _checkSteps(self, lines: list[str], modality: str | None) -> Steps:
        session, learned = self._context.logic.session, self._context.logic.teaching.session.inUse
        request = CheckFindings(session.settings.model, tuple(lines), modality, tuple(learned))
        answer = yield from session.client.ask(request)
        slices = {one.finding: one.examples for one in learned}
        return {found.finding: _withSlices(found, slices) for found in answer.findings}

    def close(self) -> None:
        """Disconnect from the widgets."""
        self.box.close()

    def _onBox(self) -> None:
        parameters = self._context.parameters
        if parameters is None:
            return
        with slicer.util.NodeModify(parameters.parameterNode):
            parameters.findings = self.box.text
            parameters.unticked = self.box.unticked
        self._onChanged()

    def _onHistory(self, index: int) -> None:
        finding = str(self._context.ui.historyComboBox.itemText(index))
        if index > 0 and finding not in self.box.lines:  # the first entry is the box's label
            self.box.add(finding)


def _withSlices(found: CheckedFinding, slices: dict[str, int]) -> CheckedFinding:
    """A check that says from how many slices a finding was learned, if it was."""
    return replace(found, quality=learnedText(slices[found.learned])) if found.learned else found
