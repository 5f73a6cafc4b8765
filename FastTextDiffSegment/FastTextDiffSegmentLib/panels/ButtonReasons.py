"""Disabled buttons that say why they are disabled. Knows buttons and reasons, not what they are for."""

from collections.abc import Mapping
from typing import Any


class ButtonReasons:
    """Enables and disables buttons; the tool tip of a disabled button is the reason."""

    def __init__(self):
        self._tips: dict[str, str] = {}

    def show(self, reasons: Mapping[Any, str]) -> None:
        """Update buttons.

        Args:
            reasons: why a button cannot be pressed, by button; empty if it can.
        """
        for button, reason in reasons.items():
            tip = self._tips.setdefault(button.objectName, button.toolTip)
            button.enabled = not reason
            button.toolTip = reason or tip
