"""The rows of Set-up that choose the computer that segments, and the lines of the panel that name it.

Knows hosts and consents; knows nothing about images.
"""

from collections.abc import Callable

from slicer.i18n import tr as _

from FastTextDiffSegmentLib.engine.EngineClient import EngineError
from FastTextDiffSegmentLib.engine.Jobs import Job
from FastTextDiffSegmentLib.engine.Place import DEFAULT_PYTHON, OtherComputer
from FastTextDiffSegmentLib.ModuleSettings import ModuleSettings

from .ButtonReasons import ButtonReasons
from .PanelContext import PanelContext


class PlaceSection:
    """This computer or another one.

    Args:
        context: what all sections use.
        settings: settings of this computer.
        onMoved: called when another computer segments from now on.
    """

    def __init__(self, context: PanelContext, settings: ModuleSettings, onMoved: Callable[[], None]):
        self._context, self._settings, self._onMoved = context, settings, onMoved
        self._session, self._buttons = context.logic.session, ButtonReasons()
        self._testing: Job | None = None
        self._problem = self._outcome = ""
        ui, guarded = context.ui, context.guarded
        ui.placeComboBox.addItems([_("This computer"), _("Another computer")])
        ui.placeComboBox.setCurrentIndex(int(settings.isElsewhere))
        ui.hostLineEdit.text, ui.pythonLineEdit.text = settings.host, settings.python
        ui.placeComboBox.connect("activated(int)", guarded(self._onChoice))
        ui.hostLineEdit.connect("editingFinished()", guarded(self._onChoice))
        ui.pythonLineEdit.connect("editingFinished()", guarded(self._onChoice))
        ui.testHostButton.connect("clicked()", guarded(self.test))
        ui.withdrawButton.connect("clicked()", guarded(self.withdraw))
        self._use()
        self.show()

    def test(self) -> None:
        """Connect to the typed host and report its engine and device; a second press stops it. No image is sent."""
        if self._testing is not None:
            self._testing.cancel()
            return
        other = self._typed()
        if other is None:
            self.show()
            return
        steps = self._context.logic.computer.testSteps(other)
        self._outcome = _("Connecting to {host}...").format(host=other.host)
        self._testing = self._context.runner.start(
            Job(steps, self._tested, lambda error: self._tested(str(error)), lambda: self._tested(_("Stopped.")))
        )
        self.show()

    def withdraw(self) -> None:
        """Forget the consent to send images to the host, and end the connection, which removes the copies there."""
        host = self._session.place.host
        self._session.place.allow(host, False)
        self._settings.setHostAllowed(host, False)
        self._onMoved()
        self.show()

    def close(self) -> None:
        """End a test."""
        if self._testing is not None:
            self._testing.cancel()
            self._testing.advance()

    def show(self) -> None:
        """Show the rows, and where images go."""
        ui, isElsewhere = self._context.ui, self._settings.isElsewhere
        rows = (ui.hostLabel, ui.hostLineEdit, ui.pythonLabel, ui.pythonLineEdit, ui.testHostButton, ui.withdrawButton)
        for widget in (*rows, ui.hostStateLabel):
            widget.visible = isElsewhere
        ui.testHostButton.text = _("Test") if self._testing is None else _("Stop")
        ui.hostStateLabel.text = self._problem or self._outcome or _limits()
        ui.hostStateLabel.toolTip = _limits()
        place = self._session.place
        hasConsent = bool(place.host) and place.isAllowed
        none = _("There is no consent to withdraw: you will be asked before the first image is sent.")
        self._buttons.show({ui.withdrawButton: "" if hasConsent else none})
        ui.placeLabel.visible = bool(place.host)
        ui.placeLabel.text = _("Segmenting on {host}, not on this computer").format(host=place.host)
        ui.researchLabel.text = f"{_('Research use only. Not for diagnosis.')} {self._whatLeaves()}"

    def _whatLeaves(self) -> str:
        place = self._session.place
        if not place.host:
            return _("Nothing leaves this computer.")
        if not place.isAllowed:
            return _("Images and findings leave this computer only once you allow it.")
        return _("Images and findings are sent to {host}.").format(host=place.host)

    def _onChoice(self, _index: int = 0) -> None:
        ui, settings = self._context.ui, self._settings
        settings.isElsewhere = ui.placeComboBox.currentIndex == 1
        settings.host, settings.python = str(ui.hostLineEdit.text).strip(), str(ui.pythonLineEdit.text).strip()
        if self._use():
            self._outcome = ""
            self._onMoved()
        self.show()

    def _use(self) -> bool:
        """Let the chosen computer segment, this one while the other's name is missing or wrong; whether it changed."""
        self._problem = ""
        other = self._typed() if self._settings.isElsewhere else None
        place = self._session.place
        if other is not None and self._settings.isHostAllowed(other.host):
            place.allow(other.host)
        isMoved = other != place.other
        self._session.use(other)
        return isMoved

    def _typed(self) -> OtherComputer | None:
        """The other computer of the settings; None, with the problem shown, while its name is missing or wrong."""
        host, python = self._settings.host, self._settings.python or DEFAULT_PYTHON
        self._problem = "" if host else _("Type the host; until then, this computer segments.")
        try:
            return OtherComputer(host, python) if host else None
        except EngineError as error:
            self._problem = _("{problem}. Until then, this computer segments.").format(problem=error)
            return None

    def _tested(self, line: str) -> None:
        self._testing, self._outcome = None, line
        self.show()


def _limits() -> str:
    return _("Batches run, and findings are learned and used, only on this computer.")
