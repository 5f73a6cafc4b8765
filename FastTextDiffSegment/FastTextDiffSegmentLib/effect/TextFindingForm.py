"""The options of the effect "Text finding": text line, tick boxes and buttons. Knows Qt, not the engine."""

from collections.abc import Callable
from typing import Any

import qt
from slicer.i18n import tr as _


class TextFindingForm:
    """Makes the widgets; the effect places them.

    Args:
        onText: called when text or preview have changed.
        onSlice: called by *Apply to slice*.
        onVolume: called by *Apply to volume*.
        onCancel: called by *Cancel*.

    Attributes:
        widgets: (label, widget) in the order to place them; a row without a label has an empty one.
    """

    def __init__(
        self,
        onText: Callable[[], None],
        onSlice: Callable[[], None],
        onVolume: Callable[[], None],
        onCancel: Callable[[], None],
    ):
        self.text, self.preview, self.replaces = qt.QLineEdit(), qt.QCheckBox(), qt.QCheckBox()
        self.slice, self.volume, self.cancel = qt.QPushButton(), qt.QPushButton(), qt.QPushButton()
        self.message, self._terms = qt.QLabel(), qt.QStringListModel()
        self._setUpTexts()
        completer = qt.QCompleter()
        completer.setModel(self._terms)
        completer.setCaseSensitivity(qt.Qt.CaseInsensitive)
        completer.setFilterMode(qt.Qt.MatchContains)
        self.text.setCompleter(completer)
        self._completer = completer  # PythonQt deletes what nobody refers to
        self.text.connect("textChanged(QString)", lambda _text: onText())
        self.preview.connect("toggled(bool)", lambda _isOn: onText())
        for button, act in ((self.slice, onSlice), (self.volume, onVolume), (self.cancel, onCancel)):
            button.connect("clicked()", act)
        buttons = qt.QHBoxLayout()
        for button in (self.slice, self.volume, self.cancel):
            buttons.addWidget(button)
        self.widgets: list[tuple[str, Any]] = [
            (_("Finding:"), self.text),
            ("", self.preview),
            ("", self.replaces),
            ("", buttons),
            ("", self.message),
        ]

    def _setUpTexts(self) -> None:
        self.text.setPlaceholderText(_("e.g. consolidation in the right lung"))
        self.text.setToolTip(_("What to look for. Sides are the patient's."))
        self.preview.setText(_("Preview on the shown slice"))
        self.preview.setChecked(True)
        self.replaces.setText(_("Replace what the segment has on these slices"))
        self.replaces.setToolTip(_("If not ticked, the finding is added, and nothing is taken away."))
        self.slice.setText(_("Apply to slice"))
        self.volume.setText(_("Apply to volume"))
        self.cancel.setText(_("Cancel"))
        self.message.setWordWrap(True)
        self.message.setTextFormat(qt.Qt.PlainText)

    def setTerms(self, terms: list[str]) -> None:
        """Set the completions."""
        self._terms.setStringList(terms)

    def update(self, noSlice: str, noVolume: str, isRunning: bool) -> None:
        """Enable the buttons, or say why they are not."""
        for button, reason in ((self.slice, noSlice), (self.volume, noVolume)):
            button.enabled = not reason
            button.toolTip = reason
        self.cancel.enabled = isRunning
