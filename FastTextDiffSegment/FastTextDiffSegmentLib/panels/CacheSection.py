"""What the engine keeps on its computer, its size, and a button to remove it. Knows only the engine's questions."""

from collections.abc import Callable
from typing import Any

from slicer.i18n import tr as _

from FastTextDiffSegmentLib.contract.answers import CacheSizes
from FastTextDiffSegmentLib.contract.requests import ClearCache, MeasureCache
from FastTextDiffSegmentLib.engine.EngineSession import EngineSession
from FastTextDiffSegmentLib.engine.Jobs import Job, JobRunner

from .ButtonReasons import ButtonReasons


class CacheSection:
    """A line of the Set-up section.

    Args:
        ui: the panel's widgets by name.
        session: the engine.
        runner: advances jobs.
        onFailed: called with an exception to show.
    """

    def __init__(self, ui: Any, session: EngineSession, runner: JobRunner, onFailed: Callable[[Exception], None]):
        self._ui, self._session, self._runner, self._onFailed = ui, session, runner, onFailed
        self._buttons = ButtonReasons()
        ui.removeCacheButton.connect("clicked()", self._remove)
        ui.setupCollapsibleButton.connect("toggled(bool)", lambda isOpen: self.measure() if isOpen else None)
        self._show(None)

    def measure(self) -> None:
        """Ask for the sizes and show them; without the packages that the engine needs, none are shown."""
        self._ask(MeasureCache(), lambda error: self._show(None))

    def moved(self) -> None:
        """Another computer segments from now on, so the sizes shown are out of date."""
        self._show(None)
        if not self._ui.setupCollapsibleButton.collapsed:
            self.measure()

    def _remove(self) -> None:
        self._ask(ClearCache(), self._onFailed)

    def _ask(self, request: Any, onFailed: Callable[[Exception], None]) -> None:
        self._runner.start(Job(self._session.client.ask(request), self._show, onFailed))

    def _show(self, sizes: CacheSizes | None) -> None:
        ui = self._ui
        if sizes is None:
            ui.cacheLabel.text = ""
            self._buttons.show({ui.removeCacheButton: _("The sizes are not known yet.")})
            return
        computer = self._session.place.host or _("this computer")
        text = _("Kept on {computer} in {folder}: converted networks {converted}, compiled for it {compiled}")
        ui.cacheLabel.text = text.format(
            computer=computer, folder=sizes.folder, converted=_size(sizes.converted), compiled=_size(sizes.compiled)
        )
        isEmpty = not sizes.converted and not sizes.compiled
        self._buttons.show({ui.removeCacheButton: _("There is nothing to remove.") if isEmpty else ""})


def _size(count: int) -> str:
    return _("{size:.1f} MB").format(size=count / 1e6)
