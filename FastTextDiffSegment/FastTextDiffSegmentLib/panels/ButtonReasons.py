"""Grey buttons that say why they are grey. Knows buttons and reasons, not what they are about."""

from collections.abc import Mapping
from typing import Any


class ButtonReasons:
    """Enables buttons; where one is not, its tool tip is the reason, else what it is for."""

    def __init__(self):
        self._tips: dict[str, str] = {}

    def show(self, reasons: Mapping[Any, str]) -> None:
        """Bring buttons up to date.

        Args:
            reasons: why a button cannot be pressed, by button; empty if it can.
        """
        for button, reason in reasons.items():
            tip = self._tips.setdefault(button.objectName, button.toolTip)
            button.enabled = not reason
            button.toolTip = reason or tip
