"""The inputs of a batch: input, output folder, findings, formats and number of workers.

Owns their widgets; knows nothing about how a batch runs.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from FastTextDiffSegmentLib.batch.BatchCases import BatchCase, storedRequest

from .FolderEdit import askForFolders

_TABLES = (".csv", ".json")
_SEPARATOR = "; "


@dataclass(frozen=True)
class BatchHooks:
    """What the Batch section needs from the rest of the panel.

    Attributes:
        whyNotReady: why the engine cannot be used, in one line; empty if it can.
        hasConsent: whether the user accepts the weights' licence; may ask.
        findings: the findings ticked in the panel.
        options: the panel's options for a new batch, named as in a request (samples, seed, slice_by_slice, model,
            device).
        ask: asks the user a yes/no question.
        openFileName: asks for an input file; empty if the user cancelled.
        load: loads a case's image and segmentation into the scene.
    """

    whyNotReady: Callable[[], str]
    hasConsent: Callable[[], bool]
    findings: Callable[[], Sequence[str]]
    options: Callable[[], dict[str, Any]]
    ask: Callable[[str], bool]
    openFileName: Callable[[], str]
    load: Callable[[BatchCase, Path], None]


class BatchForm:
    """Reads the widgets, and fills them from a batch in the chosen output folder.

    Args:
        ui: the panel's widgets by name.
        hooks: the rest of the panel.
        guarded: wraps a slot so that its errors are shown.
        onChanged: called when an input has changed.
        onOutput: called when another output folder was chosen.
    """

    def __init__(
        self,
        ui: Any,
        hooks: BatchHooks,
        guarded: Callable[[Callable[..., None]], Callable[..., None]],
        onChanged: Callable[[], None],
        onOutput: Callable[[], None],
    ):
        self._ui, self._hooks, self._onChanged, self._onOutput = ui, hooks, onChanged, onOutput
        self._stored: dict[str, Any] = {}
        self._isThere = False
        for edit in (ui.batchInputPathLineEdit, ui.batchOutputPathLineEdit):
            askForFolders(edit)
        self._formats = {
            ".seg.nrrd": ui.batchNrrdCheckBox,
            ".nii.gz": ui.batchNiftiCheckBox,
            ".dcm": ui.batchDicomCheckBox,
            ".png": ui.batchPictureCheckBox,
            ".html": ui.batchPageCheckBox,
        }
        ui.batchWorkersSpinBox.maximum = os.cpu_count() or 1
        self._connect(guarded)

    def _connect(self, guarded: Callable[[Callable[..., None]], Callable[..., None]]) -> None:
        ui = self._ui
        ui.batchFileButton.connect("clicked()", guarded(self._onFile))
        for box in self._formats.values():
            box.connect("toggled(bool)", self._onInput)
        ui.batchInputPathLineEdit.connect("currentPathChanged(QString)", guarded(self._onSourcePath))
        ui.batchOutputPathLineEdit.connect("currentPathChanged(QString)", guarded(self._onOutputPath))
        ui.batchFindingsLineEdit.connect("textChanged(QString)", self._onInput)

    @property
    def output(self) -> str:
        """The output folder; empty while none is chosen."""
        return self._ui.batchOutputPathLineEdit.currentPath.strip()

    @property
    def formats(self) -> list[str]:
        """The chosen formats. Those of the batch in the folder come first, including any that have no box here."""
        checked = [ending for ending, box in self._formats.items() if box.checked]
        kept = [each for each in _storedFormats(self._stored) if each in checked or each not in self._formats]
        return [*kept, *(ending for ending in checked if ending not in kept)]

    @property
    def _source(self) -> str:
        return self._ui.batchInputPathLineEdit.currentPath.strip()

    @property
    def _findings(self) -> list[str]:
        text, stored = self._ui.batchFindingsLineEdit.text, self._stored.get("findings")
        if stored and text == _SEPARATOR.join(stored):
            return stored  # may contain semicolons
        typed = [" ".join(part.split()) for part in text.split(";")]
        return [finding for finding in typed if finding] or list(self._hooks.findings())

    def request(self) -> dict[str, Any]:
        """The batch request. Options that have no widget here are those of the batch in the folder."""
        options = {key: value for key, value in self._stored.items() if key != "scheduler"} or self._hooks.options()
        return {
            **options,
            "source": str(Path(self._source).absolute()),
            "output": str(Path(self.output).absolute()) if self.output else "",
            "findings": self._findings,
            "formats": self.formats,
            "workers": self._ui.batchWorkersSpinBox.value,
        }

    def whyNoCases(self) -> str:
        """Why there is nothing to segment, in one line; empty if there is something."""
        if not self._source:
            return _("Choose what to segment: a folder, a job table (.csv, .json) or a DICOMDIR.")
        if not self._isThere:
            return _("{path} does not exist.").format(path=self._source)
        if not self._findings and not self._source.lower().endswith(_TABLES):
            return _("Type a finding, here or in the list above.")
        return ""

    def findSource(self) -> None:
        """Check whether the input exists."""
        self._isThere = bool(self._source) and Path(self._source).exists()

    def setEnabled(self, isEnabled: bool) -> None:
        """Enable or disable the inputs."""
        ui = self._ui
        inputs = (
            ui.batchInputPathLineEdit,
            ui.batchFileButton,
            ui.batchOutputPathLineEdit,
            ui.batchFindingsLineEdit,
            ui.batchWorkersSpinBox,
        )
        for widget in (*inputs, *self._formats.values()):
            widget.enabled = isEnabled

    def _onFile(self) -> None:
        name = self._hooks.openFileName()
        if name:
            self._ui.batchInputPathLineEdit.currentPath = name

    def _onSourcePath(self, _path: str = "") -> None:
        self.findSource()
        self._onChanged()

    def _onInput(self, _value: Any = None) -> None:
        self._onChanged()

    def _onOutputPath(self, _path: str = "") -> None:
        """Show the batch in the new output folder, if there is one; it can be resumed."""
        self._stored = (storedRequest(Path(self.output)) if self.output else None) or {}
        if self._stored:
            self._show(self._stored)
        self._onOutput()

    def _show(self, request: dict[str, Any]) -> None:
        ui = self._ui
        ui.batchInputPathLineEdit.currentPath = request.get("source", "")
        ui.batchFindingsLineEdit.text = _SEPARATOR.join(request.get("findings", ()))
        ui.batchWorkersSpinBox.value = int(request.get("workers") or 1)
        for ending, box in self._formats.items():
            box.checked = ending in _storedFormats(request)


def _storedFormats(request: dict[str, Any]) -> list[str]:
    """Formats of a request, with the dot that the command line makes optional."""
    return [name if name.startswith(".") else f".{name}" for name in request.get("formats", ())]
