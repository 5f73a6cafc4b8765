"""The Set-up section: installed and missing packages, device, model folder and licence.

Knows how to ask the engine about itself; knows nothing about images.
"""

from collections.abc import Callable
from typing import Any

from slicer.i18n import tr as _

from FastTextDiffSegmentLib.contract.answers import Device, Environment, ModelDescription, Opened
from FastTextDiffSegmentLib.contract.requests import CheckEnvironment, DescribeModel
from FastTextDiffSegmentLib.engine.EngineSession import EngineSession
from FastTextDiffSegmentLib.engine.Installer import InstallError
from FastTextDiffSegmentLib.engine.Jobs import Job, JobRunner, Steps
from FastTextDiffSegmentLib.ModuleSettings import ModuleSettings

from .FolderEdit import FolderEdit
from .SetupPlace import SetupPlace

_GIB = 1 << 30


class SetupSection(SetupPlace):
    """The collapsible section at the top.

    Args:
        ui: the panel's widgets by name.
        session: the engine.
        runner: advances jobs.
        settings: settings of this computer.
        installer: an `Installer`.
        onChanged: called when the engine's state has changed.
        onFailed: called with an exception to show.
    """

    def __init__(
        self,
        ui: Any,
        session: EngineSession,
        runner: JobRunner,
        settings: ModuleSettings,
        installer: Any,
        onChanged: Callable[[], None],
        onFailed: Callable[[Exception], None],
    ):
        super().__init__(session, settings)
        self._ui, self._runner = ui, runner
        self._installer, self._onChanged, self._onFailed = installer, onChanged, onFailed
        self._environment: Environment | None = None
        self.model: ModelDescription | None = None
        self._opened: Opened | None = None
        self._hasFolded = False
        self._checking: Job | None = None
        self._problem = self._installProblem = ""
        self._applySettings()
        ui.modelPathLineEdit.currentPath = settings.modelFolder
        self._modelPath = FolderEdit(ui.modelPathLineEdit, self._onModelFolder)
        ui.deviceComboBox.addItem(_("Automatic"), "auto")
        ui.installButton.clicked.connect(self._onInstall)
        ui.checkSetupButton.clicked.connect(self.checkAgain)
        ui.deviceComboBox.connect("activated(int)", self._onDevice)
        ui.bundledModelButton.connect("clicked()", self._onBundledModel)
        ui.licenceCheckBox.connect("clicked(bool)", self._onLicence)
        self._show()

    @property
    def missing(self) -> list[str]:
        """Requirements that are not met; empty until they are known."""
        packages = self._environment.packages if self._environment else ()
        return [package.requirement for package in packages if package.problem]

    @property
    def dicomSegProblem(self) -> str:
        """What is wrong with the package that DICOM Segmentations need; empty if nothing or not known."""
        isKnown = self._environment is not None and not self.host  # they are written on this computer
        package = self._environment.dicom_seg if isKnown else None
        return f"{package.name}: {package.problem}" if package is not None and package.problem else ""

    @property
    def isReady(self) -> bool:
        """Whether the engine can be asked to segment."""
        return self._environment is not None and not self.missing and self.model is not None and not self._problem

    @property
    def whyNotReady(self) -> str:
        """Why the engine cannot be asked to segment, in one line; empty if it can."""
        if self.missing and self.host:
            return _("Python packages are missing on {host}: install them there.").format(host=self.host)
        if self.missing:
            return _("Python packages are missing: install them in Set-up above.")
        if self._problem:
            return _("The engine cannot be used: see Set-up above.")
        if self.isReady:
            return ""
        return _("Connecting to {host}...").format(host=self.host) if self.host else _("The engine is starting...")

    @property
    def stage(self) -> str:
        """The state of the engine, in a few words."""
        if self.whyNotReady:
            return self.whyNotReady
        text = _("Ready") if self._session.isOpen else _("Loading the model...")
        return _("{stage} on {host}").format(stage=text.rstrip("."), host=self.host) if self.host else text

    @property
    def isLicenceAccepted(self) -> bool:
        """Whether the user accepted the licence of this model's weights."""
        model = self.model
        return model is not None and self._settings.isLicenceAccepted(model.name, model.licence)

    def acceptLicence(self) -> None:
        """Remember the user's consent."""
        self._onLicence(True)

    def terms(self, modality: str | None) -> list[str]:
        """Terms that the model was taught for a kind of image; for all kinds if the kind is None."""
        taught = self.model.taught if self.model else {}
        kinds = [modality] if modality in taught else ([] if modality else list(taught))
        return list(dict.fromkeys(term for kind in kinds for finding in taught[kind] for term in finding.terms))

    def check(self) -> None:
        """Check what is installed, and load the model so that the first result is fast."""
        if self._checking is not None:
            self._checking.cancel()  # its answer would be outdated
        self._problem = ""
        self._checking = self._runner.start(Job(self._checkSteps(), onFailed=self._checkFailed))

    def checkAgain(self) -> None:
        """Restart the engine and check again: a running engine does not see newly installed packages."""
        self._session.client.close()
        self._environment = self.model = None
        self._applySettings()
        self.check()
        self._show()

    def _checkSteps(self) -> Steps:
        self._environment = yield from self._session.client.ask(CheckEnvironment())
        self._show()
        self.model = yield from self._session.client.ask(DescribeModel(self._session.settings.model))
        self._show()
        if not self.missing:
            self._opened = yield from self._session.opened()
            self._show()

    def _checkFailed(self, error: Exception) -> None:
        self._problem = str(error)
        self._show()
        self._onFailed(error)

    def _applySettings(self) -> None:
        settings = self._session.settings
        settings.device = self._settings.otherDevice if self.host else self._settings.device
        settings.model = None if self.host else self._settings.modelFolder or None

    def _onDevice(self, index: int) -> None:
        device = str(self._ui.deviceComboBox.itemData(index))
        if self.host:
            self._settings.otherDevice = device
        else:
            self._settings.device = device
        self._applySettings()
        self.check()

    def _onModelFolder(self, path: str) -> None:
        self._settings.modelFolder = path
        self._applySettings()
        self.model = None
        self.check()
        self._show()

    def _onBundledModel(self) -> None:
        self._ui.modelPathLineEdit.currentPath = ""

    def _onLicence(self, accepted: bool) -> None:
        if self.model is not None:
            self._settings.setLicenceAccepted(self.model.name, self.model.licence, accepted)
        self._show()

    def _onInstall(self) -> None:
        self._installProblem = ""
        try:
            isDone = self._installer.install(self.missing or [self._environment.dicom_seg.requirement])
        except InstallError as error:
            self._installProblem, isDone = str(error), True  # some packages may be there now
            self._onFailed(error)
        if isDone:
            self.checkAgain()

    def _show(self) -> None:
        ui = self._ui
        ui.setupLabel.text = "\n".join(self._statusLines())
        ui.setupCollapsibleButton.text = _("Set-up: {stage}").format(stage=self._headline())
        ui.installButton.enabled = bool(self.missing or self.dicomSegProblem) and not self.host
        ui.modelPathLineEdit.enabled = not self.host
        ui.bundledModelButton.enabled = bool(self._settings.modelFolder) and not self.host
        ui.licenceCheckBox.enabled = self.model is not None
        ui.licenceCheckBox.checked = self.isLicenceAccepted
        if self.model is not None:
            ui.licenceCheckBox.text = _("I accept the licence of the weights: {licence}").format(
                licence=self.model.licence or _("not stated")
            )
        self._showDevices()
        self._fold()
        self._onChanged()

    def _headline(self) -> str:
        if self.missing and not self.host:
            return _("Python packages are missing")
        if self.missing or not self._problem:
            return self.stage
        return _("{host} cannot be used").format(host=self.host) if self.host else _("the engine cannot be used")

    def _statusLines(self) -> list[str]:
        lines = [f"✗ {problem}" for problem in (self._installProblem, self._problem) if problem]
        if self._environment is None:
            return lines or [self.stage if self.host else _("Checking what is installed...")]
        problems = [f"✗ {p.name}: {p.problem}" for p in self._environment.packages if p.problem]
        lines += problems or [_("✓ All Python packages are installed")]
        if self.dicomSegProblem:
            lines.append(_("○ {problem} (only to save DICOM Segmentations)").format(problem=self.dicomSegProblem))
        if self.model is not None:
            text = _("✓ Model {name}") if not self.host else _("✓ Model {name}, which comes with the engine there")
            lines.append(text.format(name=self.model.name))
        if not self.missing and not self._problem:
            lines += self._engineLines()
        return lines

    def _engineLines(self) -> list[str]:
        """Names the device, since the user may have chosen another."""
        if not self._session.isOpen or self._opened is None:
            return [self.stage]
        ready = _("✓ Engine ready ({runtime} on {device})").format(
            runtime=self._opened.runtime, device=self._opened.device
        )
        return [ready, *(f"○ {note}" for note in self._opened.notes)]

    def _showDevices(self) -> None:
        box = self._ui.deviceComboBox
        devices = self._environment.devices if self._environment else []
        shown = [str(box.itemText(row)) for row in range(1, box.count)]
        if box.count and shown == [_deviceText(device) for device in devices]:
            return
        box.clear()
        box.addItem(_("Automatic"), "auto")
        for device in devices:
            box.addItem(_deviceText(device), device.id)
        box.setCurrentIndex(max(0, box.findData(self._session.settings.device)))

    def _fold(self) -> None:
        """Collapse once everything works, but only the first time: the user may open it again."""
        if self.missing or self._problem:
            self._ui.setupCollapsibleButton.collapsed = False
        elif self._session.isOpen and not self._hasFolded:
            self._hasFolded = True
            self._ui.setupCollapsibleButton.collapsed = True


def _deviceText(device: Device) -> str:
    free, total = device.memory_free, device.memory_total
    memory = f", {free / _GIB:.0f} of {total / _GIB:.0f} GB free" if free and total else ""
    return f"{device.id}: {device.name}{memory}" + (f" ({device.problem})" if device.problem else "")
