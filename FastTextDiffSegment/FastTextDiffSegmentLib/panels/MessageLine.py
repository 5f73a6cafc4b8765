"""The panel's message line: the outcome of the last step, and why buttons are disabled. Knows two labels."""

import logging
from collections.abc import Iterable
from typing import Any

from slicer.i18n import tr as _

from FastTextDiffSegmentLib.engine.EngineClient import EngineError
from FastTextDiffSegmentLib.engine.Installer import InstallError
from FastTextDiffSegmentLib.scene.Geometry import SceneError


class MessageLine:
    """Shows the last message and why the user cannot continue; if there is neither, the notes about the image.

    Args:
        label: QLabel.
        echo: QLabel that shows the outcome of the last step too, where the first may be scrolled out of sight.
    """

    def __init__(self, label: Any, echo: Any):
        self._label, self._echo = label, echo
        self._text = self._hint = self._notes = ""

    def show(self, text: str) -> None:
        """Show the outcome of a step; an empty text clears it."""
        self._text = text
        self._update()

    def showError(self, error: Exception) -> None:
        """Show an error in one line; an unexpected one is also logged."""
        if isinstance(error, (SceneError, EngineError, InstallError)):
            self.show(str(error))
            return
        logging.error("FastTextDiffSegment failed", exc_info=error)
        message = _("Internal error, {kind}: {text}. Please report it with the text of the Python console.")
        self.show(message.format(kind=type(error).__name__, text=error))

    def hint(self, text: str) -> None:
        """Show why the user cannot continue; empty if they can."""
        self._hint = text
        self._update()

    def note(self, notes: Iterable[str]) -> None:
        """Show the engine's notes about the image, e.g. what it guessed."""
        self._notes = "; ".join(notes)
        self._update()

    def _update(self) -> None:
        self._echo.text = self._text
        if self._hint and self._hint not in self._text:
            self._label.text = f"{_sentence(self._text)} {self._hint}".strip()
        else:
            self._label.text = self._text or self._notes


def _sentence(text: str) -> str:
    return text if not text or text.endswith((".", "?", "!")) else f"{text}."
