"""What Set-up says about the computer that segments: which one, and what may be given to it. Knows no widgets."""

from slicer.i18n import tr as _

from FastTextDiffSegmentLib.engine.EngineSession import EngineSession
from FastTextDiffSegmentLib.ModuleSettings import ModuleSettings


class SetupPlace:
    """The part of the Set-up section that is about the place.

    Args:
        session: the engine.
        settings: settings of this computer.
    """

    isReady: bool
    whyNotReady: str

    def __init__(self, session: EngineSession, settings: ModuleSettings):
        self._session, self._settings = session, settings

    @property
    def host(self) -> str:
        """The other computer that segments; empty for this one."""
        return self._session.place.host

    @property
    def mayAsk(self) -> bool:
        """Whether images and findings may be given to the engine."""
        return self.isReady and self._session.place.isAllowed

    @property
    def whyNotHere(self) -> str:
        """Why what is done only on this computer cannot be done, in one line; empty if it can."""
        text = _("This works only on this computer, not on {host}: choose it in Set-up above.")
        return text.format(host=self.host) if self.host else self.whyNotReady

    def allow(self, isRemembered: bool) -> None:
        """Remember the user's consent to send images to the other computer, until Slicer ends or until withdrawn."""
        self._session.place.allow(self.host)
        if isRemembered:
            self._settings.setHostAllowed(self.host, True)
