"""Segments the shown slice while the user types. Decides when to ask the engine, not how.

Only one request runs at a time. A newer one waits until the older one is cancelled, so that the engine never works on
a queue of outdated requests.
"""

from collections.abc import Callable
from typing import Any

from FastTextDiffSegmentLib.engine.Jobs import Job, JobRunner
from FastTextDiffSegmentLib.engine.SegmentationOutput import SegmentationOutput
from FastTextDiffSegmentLib.Logic import SegmentationRequest

TYPING_PAUSE = 350
"""Milliseconds without a key press before the findings are segmented."""


class LivePreview:
    """Keeps the preview up to date with findings, slice and image.

    Args:
        steps: makes the steps of a request, e.g. `FastTextDiffSegmentLogic.segmentationSteps`.
        runner: advances jobs.
        timer: single-shot timer with `start(milliseconds)` and `stop()`, which calls :meth:`ask`.
        describe: returns what to segment now; None for nothing.
        onShown: called with (output, request) of a new preview, or (None, None) when it is dropped.
        onFailed: called with an exception.
    """

    def __init__(
        self,
        steps: Callable[[SegmentationRequest], Any],
        runner: JobRunner,
        timer: Any,
        describe: Callable[[], SegmentationRequest | None],
        onShown: Callable[[SegmentationOutput | None, SegmentationRequest | None], None],
        onFailed: Callable[[Exception], None],
    ):
        self._steps, self._runner, self._timer = steps, runner, timer
        self._describe, self._onShown, self._onFailed = describe, onShown, onFailed
        self._job: Job | None = None
        self._asked: SegmentationRequest | None = None
        self._isAskingAgain = False
        self.output: SegmentationOutput | None = None
        self.request: SegmentationRequest | None = None

    def schedule(self, pause: int = TYPING_PAUSE) -> None:
        """Ask after a pause; every call restarts it."""
        self._timer.start(pause)

    def ask(self) -> None:
        """Ask now, unless the same request is already shown or running."""
        self._timer.stop()
        request = self._describe()
        if request is None:
            self.drop()
        elif request not in (self.request, self._asked):
            self._ask(request)

    def _ask(self, request: SegmentationRequest) -> None:
        if self._job is not None:
            self._isAskingAgain = True
            self._job.cancel()
            return
        self._asked = request
        self._job = self._runner.start(
            Job(self._steps(request), self._show, onFailed=self._failed, onCancelled=self._ended)
        )

    def _show(self, output: SegmentationOutput) -> None:
        self._release()
        self.output, self.request = output, self._asked
        self._ended()
        self._onShown(self.output, self.request)

    def _failed(self, error: Exception) -> None:
        self._ended()
        self._onFailed(error)

    def _ended(self) -> None:
        self._job = self._asked = None
        if self._isAskingAgain:
            self._isAskingAgain = False
            self.schedule(0)

    def drop(self) -> None:
        """Drop the preview and cancel a running request."""
        self._timer.stop()
        self._isAskingAgain = False
        if self._job is not None:
            self._job.cancel()
        if self.output is not None:
            self._release()
            self._onShown(None, None)

    def renew(self, isOutdated: Callable[[SegmentationOutput, SegmentationRequest], bool]) -> None:
        """Drop a preview that is outdated or under way, and ask again."""
        if self._job is not None or (self.output is not None and isOutdated(self.output, self.request)):
            self.drop()
        self.schedule()

    def take(self) -> SegmentationOutput | None:
        """Hand over the shown output; the caller releases it."""
        output, self.output, self.request = self.output, None, None
        return output

    def _release(self) -> None:
        if self.output is not None:
            self.output.release()
        self.output = self.request = None
