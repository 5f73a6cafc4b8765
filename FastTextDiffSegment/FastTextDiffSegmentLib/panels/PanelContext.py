"""What all sections of the panel share: widgets, logic, the scene's parameters, messages, questions and errors.

Knows no section.
"""

from collections.abc import Callable
from typing import Any

from FastTextDiffSegmentLib.contract.messages import LOST
from FastTextDiffSegmentLib.engine.EngineClient import STOPPED, EngineError
from FastTextDiffSegmentLib.engine.Jobs import JobRunner
from FastTextDiffSegmentLib.Logic import FastTextDiffSegmentLogic

from .MessageLine import MessageLine

TITLE = "FastTextDiff Segment"


class PanelContext:
    """Shared by all sections.

    Args:
        ui: the panel's widgets by name.
        logic: does the work.
        dialogs: asks the user, as `Dialogs` does.
        onEngineStopped: called when the engine stopped unexpectedly while the panel is shown.

    Attributes:
        parameters: `FastTextDiffSegmentParameters` of the scene; None while the panel is not connected.
        isEntered: whether the panel is shown.
        message: the panel's message line.
    """

    def __init__(self, ui: Any, logic: FastTextDiffSegmentLogic, dialogs: Any, onEngineStopped: Callable[[], None]):
        self.ui, self.logic, self.dialogs = ui, logic, dialogs
        self._onEngineStopped = onEngineStopped
        self.message = MessageLine(ui.messageLabel, ui.teachLabel)
        self.parameters: Any = None
        self.isEntered = False

    @property
    def runner(self) -> JobRunner:
        """Advances jobs."""
        return self.logic.runner

    def ask(self, question: str) -> bool:
        """Ask the user a yes/no question."""
        return bool(self.dialogs.confirm(question, TITLE))

    def showError(self, error: Exception) -> None:
        """Show an error in one line, and restart the engine, or connect again, if it has stopped."""
        self.message.showError(error)
        if isinstance(error, EngineError) and error.kind in (STOPPED, LOST) and self.isEntered:
            self._onEngineStopped()

    def guarded(self, act: Callable[..., None]) -> Callable[..., None]:
        """Wrap a slot so that its errors are shown in one line instead of being lost in the console."""

        def slot(*arguments: Any) -> None:
            try:
                act(*arguments)
            except Exception as error:
                self.showError(error)

        return slot
