"""Connects the Batch section with the rest of the panel: findings, options, consent, and loading a case.

Knows nothing about how a batch runs.
"""

from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from FastTextDiffSegmentLib.batch.BatchCases import BatchCase
from FastTextDiffSegmentLib.batch.BatchLoading import LoadedCase, caseSteps
from FastTextDiffSegmentLib.ModuleSettings import ModuleSettings

from .BatchForm import BatchHooks
from .Consent import hasConsent
from .FindingsSection import FindingsSection
from .PanelContext import PanelContext
from .RunControl import RunControl
from .SetupSection import SetupSection


class BatchLink:
    """Makes the hooks of the Batch section.

    Args:
        context: what all sections use.
        setup: the engine's set-up.
        settings: settings of this computer.
        findings: the typed findings.
        run: the user's runs; loading a case is one of them.
    """

    def __init__(
        self,
        context: PanelContext,
        setup: SetupSection,
        settings: ModuleSettings,
        findings: FindingsSection,
        run: RunControl,
    ):
        self._context, self._setup, self._settings = context, setup, settings
        self._findings, self._run = findings, run

    def hooks(self) -> BatchHooks:
        """The hooks."""
        return BatchHooks(
            whyNotReady=lambda: self._setup.whyNotHere,
            hasConsent=lambda: hasConsent(self._context, self._setup),
            findings=lambda: self._findings.box.findings,
            options=self._options,
            ask=self._context.ask,
            openFileName=lambda: self._context.dialogs.openFileName(),
            load=self._load,
        )

    def _options(self) -> dict[str, Any]:
        options = {"model": self._settings.modelFolder or None, "device": self._settings.device}
        learned = self._context.logic.teaching.session.inUse
        if learned:
            options["adapters"] = [str(one.file) for one in learned]
        parameters = self._context.parameters
        if parameters is not None:
            options.update(samples=parameters.samples, seed=parameters.seed)
            options.update(slice_by_slice=parameters.sliceBySlice, try_anyway=parameters.tryAnyway)
        return options

    def _load(self, case: BatchCase, folder: Path) -> None:
        if self._run.isRunning:
            self._context.message.show(_("A run is under way; wait for it or cancel it."))
            return
        session = self._context.logic.session
        self._run.start(lambda report: caseSteps(session, case, folder), self._show, self._context.showError)

    def _show(self, loaded: LoadedCase) -> None:
        parameters = self._context.parameters
        self._context.logic.archive.adopt(loaded.segmentation)
        if loaded.volume is not None:
            slicer.util.setSliceViewerLayers(background=loaded.volume, fit=True)
            parameters.inputVolume = loaded.volume
        parameters.outputSegmentation = loaded.segmentation
        self._context.message.show(loaded.text)
