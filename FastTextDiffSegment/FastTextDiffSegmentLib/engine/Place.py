"""Where the engine runs: on this computer, or on another one through ssh. The only door for what is sent there.

Knows nothing about the scene, windows or how a user is asked.
"""

from collections.abc import Callable
from dataclasses import dataclass

from FastTextDiffSegmentLib.contract.answers import Environment
from FastTextDiffSegmentLib.contract.hosts import host_problem
from FastTextDiffSegmentLib.contract.messages import USAGE
from FastTextDiffSegmentLib.contract.requests import (
    Cancel,
    CheckEnvironment,
    ClearCache,
    CloseVolume,
    DescribeModel,
    ListSeries,
    MeasureCache,
    Open,
    Request,
    SaveDicomSeg,
)

from .EngineClient import EngineClient, EngineError, Process
from .Jobs import Steps

_WITHOUT_IMAGES = (
    *(CheckEnvironment, DescribeModel, Open, MeasureCache, ClearCache, Cancel, CloseVolume),
    *(ListSeries, SaveDicomSeg),
)
"""Requests that hold neither voxels nor findings; the last two are about files, and the engine does them here."""
DEFAULT_PYTHON = "python3"


@dataclass(frozen=True)
class OtherComputer:
    """Another computer.

    Attributes:
        host: HOST or USER@HOST, as ssh takes it.
        python: the Python there that has the engine.

    Raises:
        EngineError: the host's name is not one.
    """

    host: str
    python: str = DEFAULT_PYTHON

    def __post_init__(self) -> None:
        problem = host_problem(self.host)
        if problem:
            raise EngineError(USAGE, problem)

    @property
    def arguments(self) -> tuple[str, ...]:
        """The engine's arguments that make it a worker there."""
        return "over-ssh", self.host, self.python


class Place:
    """Where the engine runs, and what may be sent there.

    Attributes:
        other: the other computer; None for this one.
    """

    def __init__(self):
        self.other: OtherComputer | None = None
        self._allowed: set[str] = set()

    @property
    def host(self) -> str:
        """The other computer's name; empty for this one."""
        return self.other.host if self.other is not None else ""

    @property
    def arguments(self) -> tuple[str, ...]:
        """The arguments that start the engine there."""
        return self.other.arguments if self.other is not None else ("worker",)

    @property
    def isAllowed(self) -> bool:
        """Whether images and findings may be sent there."""
        return self.other is None or self.other.host in self._allowed

    def allow(self, host: str, allowed: bool = True) -> None:
        """Remember the consent to send images and findings to a host, or forget it."""
        (self._allowed.add if allowed else self._allowed.discard)(host)

    def require(self, request: Request) -> None:
        """Check a request before it is sent.

        Raises:
            EngineError: it holds voxels or findings, and they may not be sent there.
        """
        if not self.isAllowed and not isinstance(request, _WITHOUT_IMAGES):
            raise EngineError(
                USAGE,
                f"Nothing was sent to {self.host}: images and findings leave this computer only with your consent.",
            )


def probeSteps(other: OtherComputer, startProcess: Callable[[OtherComputer], Process]) -> Steps:
    """Connect to another computer and ask what it has; no image and no finding is sent.

    Args:
        other: the computer.
        startProcess: makes a running process.

    Returns:
        One line: the engine's version and model, and the device.

    Raises:
        EngineError: it cannot be reached or used; the message names it.
    """
    place = Place()
    place.other = other
    client = EngineClient(lambda: startProcess(other), place.require)
    try:
        environment = yield from _polled(client, client.ask(CheckEnvironment()))
        missing = ", ".join(package.requirement for package in environment.packages if package.problem)
        if missing:
            return f"{other.host}: connected, but Python packages are missing there: {missing}"
        model = yield from _polled(client, client.ask(DescribeModel(None)))
        about = f"engine {environment.version}, model {model.name}, {_deviceOf(environment)}"
        return f"{other.host}: connected; {about}"
    finally:
        client.close()


def _polled(client: EngineClient, steps: Steps) -> Steps:
    """The steps of a client that no runner polls."""
    while True:
        client.poll()
        try:
            next(steps)
        except StopIteration as end:
            return end.value
        yield


def _deviceOf(environment: Environment) -> str:
    """The first device that works; GPUs come first."""
    working = [f"{device.id} ({device.name})" for device in environment.devices if not device.problem]
    return working[0] if working else "no device that works"
