"""Chooses the computer that segments, without a user interface. Knows the engine; knows nothing about widgets."""

from pathlib import Path

from slicer.i18n import tr as _

from .engine.EnginePath import engineCommand, engineEnvironment
from .engine.EngineProcess import EngineProcess
from .engine.EngineSession import EngineSession
from .engine.Jobs import Job, JobRunner, Steps
from .engine.Place import DEFAULT_PYTHON, OtherComputer, probeSteps
from .scene.Geometry import SceneError


class Computer:
    """The computer that segments: this one, or another one through ssh.

    From Slicer's Python console::

        logic.computer.use("doctor@gpu", sendImages=True)
        logic.computer.useThis()

    Args:
        session: the engine.
        runner: advances jobs.
    """

    def __init__(self, session: EngineSession, runner: JobRunner):
        self._session, self._runner = session, runner

    @property
    def host(self) -> str:
        """The name of the other computer; empty for this one."""
        return self._session.place.host

    def use(self, host: str, python: str = DEFAULT_PYTHON, sendImages: bool = False) -> None:
        """Segment on another computer from now on.

        Args:
            host: HOST or USER@HOST; ssh must log in there without a password.
            python: the Python there that has the engine.
            sendImages: the consent that voxels and findings are sent there.

        Raises:
            SceneError: `sendImages` is False; nothing was changed.
            EngineError: the host's name is not one; nothing was changed.
        """
        other = OtherComputer(host, python)
        if not sendImages:
            text = _("Segmenting on {host} sends voxels and findings there: agree to it with sendImages=True.")
            raise SceneError(text.format(host=host))
        self._session.place.allow(host)
        self._session.use(other)

    def useThis(self) -> None:
        """Segment on this computer from now on."""
        self._session.use(None)

    def test(self, host: str, python: str = DEFAULT_PYTHON) -> str:
        """Connect and report in one line which engine and device are there; no image is sent. Blocks until known.

        Raises:
            EngineError: the computer cannot be reached or used; the message names it.
        """
        return self._runner.wait(self._runner.start(Job(self.testSteps(OtherComputer(host, python)))))

    def testSteps(self, other: OtherComputer) -> Steps:
        """Like :meth:`test`, step by step."""
        folder = Path(self._session.folder.newFolder("test"))
        return probeSteps(other, lambda it: EngineProcess(engineCommand(*it.arguments), engineEnvironment(), folder))
