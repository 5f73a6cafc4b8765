"""Work done in small steps from Slicer's event loop, so that the window stays responsive. Knows nothing about the work.

The steps are a generator: every `yield` returns control to the window.
"""

import time
from collections.abc import Callable, Generator
from typing import Any

Steps = Generator[None, None, Any]


class JobCancelled(Exception):
    """Raised inside a job's steps when the user stops it."""


class Job:
    """One piece of work and how it ended.

    Args:
        steps: a generator; its return value is the result.
        onDone: called with the result.
        onFailed: called with the exception that ended the steps.
        onCancelled: called when the steps have ended after :meth:`cancel`.
    """

    def __init__(
        self,
        steps: Steps,
        onDone: Callable[[Any], None] = lambda result: None,
        onFailed: Callable[[Exception], None] = lambda error: None,
        onCancelled: Callable[[], None] = lambda: None,
    ):
        self._steps = steps
        self._onDone, self._onFailed, self._onCancelled = onDone, onFailed, onCancelled
        self._cancelAsked = self._cancelSent = False
        self.isFinished = False
        self.result: Any = None
        self.error: Exception | None = None

    def cancel(self) -> None:
        """Ask the steps to stop; they do at their next step, or when the engine has answered."""
        self._cancelAsked = True

    def advance(self) -> None:
        """Do one step."""
        if self.isFinished:
            return
        try:
            if self._cancelAsked and not self._cancelSent:
                self._cancelSent = True
                self._steps.throw(JobCancelled())
            else:
                next(self._steps)
        except StopIteration as end:
            self.result = end.value
            self._finish(self._onDone, end.value)
        except JobCancelled as error:
            self.error = error
            self._finish(self._onCancelled)
        except Exception as error:
            self.error = error
            self._finish(self._onFailed, error)

    def _finish(self, callback: Callable[..., None], *arguments: Any) -> None:
        self.isFinished = True
        self._steps.close()
        # What the callbacks hold (volumes, widgets) must not live as long as a reference to this job.
        self._onDone = self._onFailed = self._onCancelled = _ignore
        callback(*arguments)


def _ignore(*_arguments: Any) -> None:
    """The callback of a finished job: does nothing."""


class JobRunner:
    """Advances jobs, from a timer or while :meth:`wait` blocks.

    Args:
        poll: called before each round of steps, e.g. to fetch the engine's answers.

    Attributes:
        timer: has `start()` and `stop()` and calls :meth:`tick` while started; None where only :meth:`wait` is used.
    """

    def __init__(self, poll: Callable[[], None]):
        self._poll = poll
        self.timer: Any = None
        self._jobs: list[Job] = []
        self._isTicking = False

    def start(self, job: Job) -> Job:
        """Start a job; its first step is done at the next tick."""
        self._jobs.append(job)
        if self.timer is not None:
            self.timer.start()
        return job

    def tick(self) -> None:
        """Advance every job by one step. A call from within a step does nothing."""
        if self._isTicking:
            return
        self._isTicking = True
        try:
            self._poll()
            for job in list(self._jobs):
                job.advance()
        finally:
            self._isTicking = False
            self._jobs = [job for job in self._jobs if not job.isFinished]
            if not self._jobs and self.timer is not None:
                self.timer.stop()

    def wait(self, job: Job) -> Any:
        """Tick until a job has finished, and return its result.

        Raises:
            Exception: what ended the job, including :class:`JobCancelled`.
        """
        while not job.isFinished:
            self.tick()
            if not job.isFinished:
                time.sleep(0.005)
        if job.error is not None:
            raise job.error
        return job.result

    def cancelAll(self) -> None:
        """Ask all jobs to stop."""
        for job in self._jobs:
            job.cancel()
