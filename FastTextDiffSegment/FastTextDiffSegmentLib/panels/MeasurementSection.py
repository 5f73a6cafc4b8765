"""The Measurements section: measures the segments, shows the table, copies and saves it.

Owns its table and buttons; does not know how anything is measured.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import qt
from slicer.i18n import tr as _

from FastTextDiffSegmentLib.contract.answers import Measured
from FastTextDiffSegmentLib.contract.measurements import csv_text, table_rows
from FastTextDiffSegmentLib.scene.DicomSaving import DICOM_SEG, dicomSegSteps
from FastTextDiffSegmentLib.scene.Geometry import SceneError
from FastTextDiffSegmentLib.scene.SegmentationFiles import saveText
from FastTextDiffSegmentLib.scene.SentSegments import segmentsState

from .ButtonReasons import ButtonReasons
from .Consent import maySend
from .PanelContext import PanelContext
from .RunControl import RunControl
from .SaveControl import SaveControl
from .SetupSection import SetupSection

CSV = ".csv"
_ROW, _MOST_ROWS = 20, 6
"""Height of a row in pixels, and how many are visible without scrolling."""
_CHANGED = _("Segments or image have changed since: measure again.")


class MeasurementSection:
    """Measures on request; values of segments that have changed since are neither copied nor saved.

    Args:
        context: what all sections use.
        setup: the engine's set-up.
        run: the user's runs.
        saving: knows whether DICOM can be written.

    Attributes:
        measured: the last measurements; None if there are none.
    """

    def __init__(self, context: PanelContext, setup: SetupSection, run: RunControl, saving: SaveControl):
        self._context, self._setup, self._run, self._saving = context, setup, run, saving
        self._buttons = ButtonReasons()
        self.measured: Measured | None = None
        self._state: Any = None
        self._image = ""
        table, ui, guarded = context.ui.measurementsTable, context.ui, context.guarded
        table.verticalHeader().hide()
        table.verticalHeader().setDefaultSectionSize(_ROW)
        table.horizontalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        ui.measureButton.connect("clicked()", guarded(self.measure))
        ui.copyMeasurementsButton.connect("clicked()", guarded(self._copy))
        ui.saveMeasurementsButton.connect("clicked()", guarded(self._save))
        self._fill([], [])

    @property
    def isCurrent(self) -> bool:
        """Whether the table is about the segments as they are now."""
        return self.measured is not None and self._now() == self._state

    def measure(self) -> None:
        """Measure all segments of the chosen segmentation."""
        if not maySend(self._context, self._setup):
            return
        parameters, state = self._context.parameters, self._now()
        segmentation, volume = parameters.outputSegmentation, parameters.inputVolume
        self._run.start(
            lambda report: self._context.logic.examining.measureSteps(
                segmentation, volume, parameters.modality or None
            ),
            lambda measured: self._show(measured, state, volume.GetName()),
            self._context.showError,
        )

    def forget(self) -> None:
        """Empty the table, e.g. because the scene is closed."""
        self.measured = self._state = None
        self._fill([], [])

    def update(self) -> None:
        """Update buttons and the line below the table."""
        ui, parameters = self._context.ui, self._context.parameters
        reason = self._whyNot()
        isStale = self.measured is not None and not self.isCurrent
        stale = _CHANGED if isStale else ""
        noTable = stale or ("" if self.measured is not None else _("Measure first."))
        busy = _("A run is under way; wait for it or cancel it.") if self._run.isRunning else ""
        hasImage = parameters is not None and parameters.inputVolume is not None
        self._buttons.show(
            {
                ui.measureButton: reason,
                ui.copyMeasurementsButton: noTable,
                ui.saveMeasurementsButton: noTable or busy or ("" if hasImage else _("Choose an image.")),
            }
        )
        notes = self.measured.notes if self.measured is not None else ()
        ui.measurementsLabel.text = stale or "; ".join(notes)
        ui.measurementsLabel.visible = bool(stale or notes)
        ui.measurementsTable.enabled = not isStale

    def _whyNot(self) -> str:
        """Why nothing can be measured now, in one line; empty if it can."""
        parameters = self._context.parameters
        if parameters is None or parameters.inputVolume is None:
            return _("Choose an image.")
        node = parameters.outputSegmentation
        if node is None or node.GetSegmentation().GetNumberOfSegments() == 0:
            return _("There is no segment yet: segment something first.")
        if self._run.isRunning:
            return _("A run is under way; wait for it or cancel it.")
        return self._setup.whyNotReady

    def _now(self) -> Any:
        parameters = self._context.parameters
        return parameters and segmentsState(parameters.outputSegmentation, parameters.inputVolume)

    def _show(self, measured: Measured, state: Any, image: str) -> None:
        self.measured, self._state, self._image = measured, state, image
        self._fill(*table_rows(measured.segments))
        self._context.message.show(_("Measured {count} segments").format(count=len(measured.segments)))

    def _fill(self, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        table = self._context.ui.measurementsTable
        table.setColumnCount(len(headings))
        table.setRowCount(len(rows))
        table.setHorizontalHeaderLabels(list(headings))
        for number, row in enumerate(rows):
            for column, text in enumerate(row):
                item = qt.QTableWidgetItem(text)
                item.setToolTip(text)
                if column:
                    item.setTextAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
                table.setItem(number, column, item)
        table.setFixedHeight(_ROW * (min(max(len(rows), 1), _MOST_ROWS) + 2) + 2 * table.frameWidth)
        table.visible = bool(rows)

    def _requireCurrent(self) -> None:
        """Values of earlier segments or of another image must not leave the panel as if they were the present ones."""
        if not self.isCurrent:
            self.update()
            raise SceneError(_CHANGED)

    def _copy(self) -> None:
        self._requireCurrent()
        headings, rows = table_rows(self.measured.segments)
        qt.QApplication.clipboard().setText("\n".join("\t".join(row) for row in (headings, *rows)))
        self._context.message.show(_("Copied; paste it into a table or a report."))

    def _save(self) -> None:
        self._requireCurrent()
        parameters = self._context.parameters
        noDicom = self._saving.whyNoDicom(parameters.inputVolume)
        name = self._context.dialogs.saveMeasurements(f"{self._image} measurements.csv", not noDicom)
        if not name:
            return
        path = Path(name)
        if path.suffix.lower() == CSV:
            saveText(csv_text(self.measured.segments, self._image), path)
            self._context.message.show(_("Saved {files}").format(files=path))
        elif path.suffix.lower() != DICOM_SEG:
            raise SceneError(_("'{name}' cannot be saved: choose .csv, or .dcm for a DICOM series.").format(name=name))
        elif noDicom:
            raise SceneError(_("No DICOM report: {reason}").format(reason=noDicom))
        else:
            self._saveReport(path)

    def _saveReport(self, report: Path) -> None:
        """A report refers to a DICOM Segmentation, which is written with it."""
        segmentation = report.with_name(f"{report.stem}.seg{DICOM_SEG}")
        parameters, session = self._context.parameters, self._context.logic.session
        steps = dicomSegSteps(session, parameters.outputSegmentation, parameters.inputVolume, segmentation, report)
        saved = _("Saved {report} and its segments: {segmentation}")
        text = saved.format(report=report, segmentation=segmentation.name)
        self._run.start(
            lambda progress: steps,
            lambda notes: self._context.message.show("; ".join([text, *notes])),
            self._context.showError,
        )
