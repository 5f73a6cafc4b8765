"""One run at a time, its progress and the time left. The only widgets it knows are progress bars."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from slicer.i18n import tr as _

from FastTextDiffSegmentLib.engine.Jobs import Job, JobRunner, Steps


class RunControl:
    """Starts, cancels and shows the user's runs.

    Args:
        runner: advances jobs.
        progressBars: QProgressBar, at least one; all show the same.
        onChanged: called when a run has started or ended.
    """

    def __init__(self, runner: JobRunner, progressBars: Sequence[Any], onChanged: Callable[[], None]):
        self._runner, self._bars, self._onChanged = runner, progressBars, onChanged
        self._job: Job | None = None
        self._started = 0.0
        self._hasEnded = False

    @property
    def isRunning(self) -> bool:
        """Whether a run is under way."""
        return self._job is not None

    def start(
        self,
        makeSteps: Callable[[Callable[[int, int], None]], Steps],
        onDone: Callable[[Any], None],
        onFailed: Callable[[Exception], None],
        onCancelled: Callable[[], None] = lambda: None,
    ) -> None:
        """Start a run; no other may be under way.

        Args:
            makeSteps: makes the steps, given where to report progress.
            onDone: called with their result.
            onFailed: called with the exception that ended them.
            onCancelled: called when they were cancelled.
        """
        self._show(0, 0, _("Preparing..."))
        self._started = 0.0
        steps = makeSteps(self._progress)
        self._job = self._runner.start(
            Job(
                steps,
                lambda result: self._done(lambda: onDone(result), onFailed),
                lambda error: self._end(_("Failed"), lambda: onFailed(error)),
                lambda: self._end(_("Cancelled; nothing was changed"), onCancelled),
            )
        )
        self._onChanged()

    def cancel(self) -> None:
        """Ask the run to stop."""
        if self._job is not None:
            for bar in self._bars:
                bar.setFormat(_("Cancelling..."))
            self._job.cancel()

    def idle(self, isReady: bool, text: str) -> None:
        """Show the state while no run is under way. The outcome of the last run stays while a new one can be started.

        Args:
            isReady: whether a run can be started.
            text: the state.
        """
        if self._job is None and not (isReady and self._hasEnded):
            self._hasEnded = False
            self._show(0, 1, text)

    def _done(self, report: Callable[[], None], onFailed: Callable[[Exception], None]) -> None:
        """The steps are done, but what is made of their result, e.g. writing segments, may still fail."""
        try:
            self._end(_("Done"), report)
        except Exception as error:
            failure = error
            self._end(_("Failed"), lambda: onFailed(failure))

    def _end(self, text: str, report: Callable[[], None]) -> None:
        self._job, self._hasEnded = None, True
        self._show(0, 1, text)
        try:
            report()
        finally:
            self._onChanged()

    def _progress(self, done: int, total: int) -> None:
        now = time.monotonic()
        if not self._started:
            # the first batch includes the start-up of the model, so the time left is estimated from its end
            self._started, self._firstDone = now, done
        self._show(done, total, f"{done} / {total}{self._timeLeft(done, total, now)}")

    def _timeLeft(self, done: int, total: int, now: float) -> str:
        counted = done - self._firstDone
        if counted <= 0 or done >= total:
            return ""
        seconds = (now - self._started) / counted * (total - done)
        if seconds < 90:
            return _(", {seconds:.0f} s left").format(seconds=max(1.0, seconds))
        return _(", {minutes:.0f} min left").format(minutes=seconds / 60)

    def _show(self, done: int, total: int, text: str) -> None:
        for bar in self._bars:
            bar.setRange(0, total)
            bar.setValue(done)
            bar.setFormat(text)
