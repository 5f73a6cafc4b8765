"""The findings: what is typed, what was asked before in this scene, and what the model was not trained on.

Owns the box, the list below it and the box of earlier findings; knows nothing about the image but its kind.
"""

from collections.abc import Callable

import slicer
from slicer.i18n import tr as _

from FastTextDiffSegmentLib.contract.requests import CheckFindings
from FastTextDiffSegmentLib.engine.Jobs import Job, Steps

from .FindingsBox import FindingsBox
from .PanelContext import PanelContext
from .SetupSection import SetupSection


class FindingsSection:
    """Keeps the findings in the parameters, and has them checked by the engine.

    Args:
        context: what all sections use.
        setup: the engine as it is set up.
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
        """Show what the parameters say."""
        parameters = self._context.parameters
        self.box.show(parameters.findings, list(parameters.unticked))
        box, history = self._context.ui.historyComboBox, list(parameters.history)
        if [str(box.itemText(row)) for row in range(1, box.count)] != history:
            box.clear()
            box.addItem(_("Add a finding asked before"))
            box.addItems(history)

    def update(self, modality: str | None) -> None:
        """Have the findings checked unless they were checked for this kind of image."""
        if (self.box.lines, modality) != self._checked:
            self.check(modality)

    def check(self, modality: str | None) -> None:
        """Have the findings marked that the model was not trained on for a kind of image; None for all kinds."""
        lines = self.box.lines
        self.box.setTerms(self._setup.terms(modality))
        if self._setup.isReady:
            self._checked = lines, modality
        if lines and self._setup.isReady:
            steps = self._checkSteps(lines, modality)
            self._context.runner.start(Job(steps, self.box.setChecked, self._context.showError))

    def _checkSteps(self, lines: list[str], modality: str | None) -> Steps:
        session = self._context.logic.session
        answer = yield from session.client.ask(CheckFindings(session.settings.model, tuple(lines), modality))
        return {found.finding: found for found in answer.findings}

    def close(self) -> None:
        """Let go of the widgets."""
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
        if index > 0 and finding not in self.box.lines:  # the first entry says what the box is for
            self.box.add(finding)
