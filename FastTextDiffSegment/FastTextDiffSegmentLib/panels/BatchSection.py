"""The Batch section: starts and stops a batch, and shows its progress and its cases.

`BatchForm` reads the inputs. Knows nothing about the protocol.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
from slicer.i18n import tr as _

from FastTextDiffSegmentLib.batch.BatchCases import (
    DONE,
    FAILED,
    BatchState,
    folderSteps,
    isInUse,
)
from FastTextDiffSegmentLib.batch.BatchRun import BatchRun
from FastTextDiffSegmentLib.engine.Jobs import Job, JobRunner
from FastTextDiffSegmentLib.engine.WorkFolder import WorkFolder

from .BatchForm import BatchForm, BatchHooks
from .BatchTable import BatchTable

_PAUSE = 200
"""Milliseconds between two updates of the table while a batch runs."""
_REFRESH = 1000
"""Milliseconds between checks of an output folder that another process is using."""


class BatchSection:
    """The widgets named `batch...`, except those of the form.

    Args:
        ui: the panel's widgets by name.
        runner: advances jobs.
        work: holds the log of the batch's process.
        hooks: the rest of the panel.
        guarded: wraps a slot so that its errors are shown.
    """

    def __init__(
        self,
        ui: Any,
        runner: JobRunner,
        work: WorkFolder,
        hooks: BatchHooks,
        guarded: Callable[[Callable[..., None]], Callable[..., None]],
    ):
        self._ui, self._runner, self._hooks = ui, runner, hooks
        self._table = BatchTable(ui.batchTable, self.updateButtons)
        self._looking: Job | None = None
        self._isInUse = self._isDryRun = self._wasRunning = False
        self._failed = 0
        self._pause = qt.QTimer()
        self._pause.setSingleShot(True)
        self._pause.setInterval(_PAUSE)
        self._pause.timeout.connect(guarded(self._onPause))
        self.run = BatchRun(runner, work, self._onRun)
        self._timer = qt.QTimer()
        self._timer.setInterval(_REFRESH)
        self._timer.timeout.connect(guarded(self._look))
        self._form = BatchForm(ui, hooks, guarded, self._onInput, self._onOutput)
        self._connect(guarded)
        self.update()

    def _connect(self, guarded: Callable[[Callable[..., None]], Callable[..., None]]) -> None:
        ui = self._ui
        buttons = {
            ui.batchCheckButton: self.onCheck,
            ui.batchStartButton: self.onStart,
            ui.batchStopButton: self.run.stop,
            ui.batchLoadButton: self._onLoad,
            ui.batchRetryButton: self._onRetry,
        }
        for button, act in buttons.items():
            button.connect("clicked()", guarded(act))

    @property
    def isRunning(self) -> bool:
        """Whether this window is running a batch; a dry run does not count."""
        return self.run.isRunning and not self._isDryRun

    def enter(self) -> None:
        """The panel is shown: start checking the output folder regularly."""
        self._timer.start()
        self._form.findSource()
        self._look()
        self.updateButtons()

    def exit(self) -> None:
        """Another panel is shown; a batch keeps running."""
        self._timer.stop()

    def close(self) -> None:
        """Stop a running batch; finished cases are kept."""
        self._timer.stop()
        self._pause.stop()
        self.run.close()

    def mayStop(self) -> bool:
        """Stop a running batch after asking the user; True if none is running afterwards."""
        if self.isRunning:
            if not self._hooks.ask(_("A batch is running. Stop it? Finished cases are kept; Start resumes it.")):
                return False
            self.run.close()
        return True

    # --- user actions ---------------------------------------------------------------------------------------------

    def whyNoCheck(self) -> str:
        """Why cases cannot be listed now, in one line; empty if they can."""
        if self.run.isRunning:
            return _("A batch is running; wait for it or stop it.")
        return self._hooks.whyNotReady() or self._form.whyNoCases()

    def whyNoStart(self) -> str:
        """Why no batch can be started now, in one line; empty if one can."""
        reason = self.whyNoCheck()
        if reason:
            return reason
        if not self._form.output:
            return _("Choose an output folder; a batch in it is resumed.")
        if self._isInUse:
            return _("Another process is using this output folder: wait until it has finished.")
        return "" if self._form.formats else _("Choose a format.")

    def _onInput(self) -> None:
        """An input has changed: clear the last error."""
        if not self.run.isRunning:
            self.run.state.error = self.run.state.ended = ""
        self.updateButtons()

    def _onOutput(self) -> None:
        """Another output folder was chosen: forget the last batch."""
        if not self.run.isRunning:
            self.run.state = BatchState()
        self._isInUse, self._looking = False, None
        self._look(isNew=True)
        self.update()

    def onCheck(self) -> None:
        """List the cases, and what is skipped and why; nothing is written."""
        self._start(self.whyNoCheck(), "--dry-run")

    def onStart(self) -> None:
        """Start the batch, or resume it."""
        self._start(self.whyNoStart())

    def _onRetry(self) -> None:
        self._start(self.whyNoStart(), "--retry-failed")

    def _start(self, reason: str, *options: str) -> None:
        self._isDryRun = "--dry-run" in options
        if reason or not (self._isDryRun or self._hooks.hasConsent()):
            self.update()
            return
        request = self._form.request()
        if self._isDryRun:
            request["output"] = request["output"] or os.devnull  # required by the command line, but not written to
        self.run.start(request, *options)

    def _onLoad(self) -> None:
        case = self._table.selected
        if case is not None:
            self._hooks.load(case, Path(self._form.output) / case.name)

    # --- the output folder ----------------------------------------------------------------------------------------

    def _look(self, isNew: bool = False) -> None:
        """Read the state of the batch in the output folder while another process runs it, and once afterwards."""
        if self.run.isRunning or self._looking is not None or not self._form.output:
            return
        wasInUse, self._isInUse = self._isInUse, isInUse(Path(self._form.output))
        if isNew or wasInUse or self._isInUse:
            job = Job(
                folderSteps(Path(self._form.output), self.run.state, self._isInUse), lambda _: self._onLooked(job)
            )
            self._looking = self._runner.start(job)

    def _onLooked(self, job: Job) -> None:
        if self._looking is job:  # otherwise another folder was chosen in the meantime
            self._looking = None
            self.update()

    def _onRun(self) -> None:
        """The batch sent an event: shown after a short pause, or at once when the batch starts or ends."""
        if self._wasRunning == self.run.isRunning:
            if not self._pause.active:
                self._pause.start()
            return
        self._wasRunning = self.run.isRunning
        self.update()
        if not self._wasRunning:
            self._look(isNew=True)  # only the folder has the reasons of earlier failures

    def _onPause(self) -> None:
        self.update()

    # --- showing --------------------------------------------------------------------------------------------------

    def update(self) -> None:
        """Update all widgets."""
        self._failed = self.run.state.count(FAILED)
        self._showProgress()
        self._table.show([*self.run.state.cases.values(), *self.run.state.skipped])
        self.updateButtons()

    def updateButtons(self) -> None:
        """Update the buttons and the line below them; fast even with many cases."""
        ui, start = self._ui, self.whyNoStart()
        for button, reason in ((ui.batchCheckButton, self.whyNoCheck()), (ui.batchStartButton, start)):
            button.enabled = not reason
        ui.batchStopButton.enabled = self.run.isRunning
        self._form.setEnabled(not self.run.isRunning)
        ui.batchRetryButton.enabled = not start and self._failed > 0
        selected = self._table.selected
        ui.batchLoadButton.enabled = selected is not None and selected.state == DONE
        ui.batchLabel.text = self._line(start)

    def _line(self, whyNoStart: str) -> str:
        state = self.run.state
        if self.run.isRunning:
            return ""
        return state.error or (_("Stopped; Start resumes it.") if state.ended == "stopped" else whyNoStart)

    def _showProgress(self) -> None:
        state, bar = self.run.state, self._ui.batchProgressBar
        done, total = state.count(DONE), len(state.cases)
        if state.looked is not None:
            ended, total = state.looked
            text = _("Looking at {done} of {total} files").format(done=ended, total=total)
        elif total:
            ended, text = done + self._failed, _("{done} of {total} done").format(done=done, total=total)
            text += _(", {failed} failed").format(failed=self._failed) if self._failed else ""
            text += _pace(state)
        else:
            ended, text = 0, _("Looking...") if self.run.isRunning else _("No batch")
        isUnknown = total == 0 and self.run.isRunning
        bar.setRange(0, 0 if isUnknown else max(total, 1))
        bar.setValue(ended)
        bar.setFormat(text)


def _pace(state: BatchState) -> str:
    if not state.perHour or state.secondsLeft is None:
        return ""
    left = state.secondsLeft
    time = _("{s:.0f} s").format(s=left) if left < 90 else _("{m:.0f} min").format(m=left / 60)
    if left >= 5400:
        time = _("{h:.1f} h").format(h=left / 3600)
    return _(", {rate:,.0f} an hour, {time} left").format(rate=state.perHour, time=time)
