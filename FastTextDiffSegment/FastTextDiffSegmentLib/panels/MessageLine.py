"""The panel's message line: what came of the last step, and why buttons are grey. Knows one label."""

import logging
from collections.abc import Iterable
from typing import Any

from slicer.i18n import tr as _

from FastTextDiffSegmentLib.engine.EngineClient import EngineError
from FastTextDiffSegmentLib.engine.Installer import InstallError
from FastTextDiffSegmentLib.scene.Geometry import SceneError


class MessageLine:
    """Shows the last message, then what keeps the user from going on, else what is known about the image.

    Args:
        label: QLabel.
    """

    def __init__(self, label: Any):
        self._label = label
        self._told = self._hint = self._notes = ""

    def tell(self, text: str) -> None:
        """What came of a step; empty for nothing."""
        self._told = text
        self._show()

    def tellError(self, error: Exception) -> None:
        """An error in one line; one that nobody foresaw also goes to the log."""
        if isinstance(error, (SceneError, EngineError, InstallError)):
            self.tell(str(error))
            return
        logging.error("FastTextDiffSegment failed", exc_info=error)
        message = _("Internal error, {kind}: {text}. Please report it with the Python console's text.")
        self.tell(message.format(kind=type(error).__name__, text=error))

    def hint(self, text: str) -> None:
        """Why the user cannot continue; empty if they can."""
        self._hint = text
        self._show()

    def note(self, notes: Iterable[str]) -> None:
        """What the engine says about the image, e.g. what it guessed."""
        self._notes = "; ".join(notes)
        self._show()

    def _show(self) -> None:
        if self._hint and self._hint not in self._told:
            self._label.text = f"{_sentence(self._told)} {self._hint}".strip()
        else:
            self._label.text = self._told or self._notes


def _sentence(text: str) -> str:
    return text if not text or text.endswith((".", "?", "!")) else f"{text}."
