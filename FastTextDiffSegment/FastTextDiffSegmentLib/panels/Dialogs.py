"""Questions to the user in Slicer's dialogs; scripts and tests substitute their own answers."""

import qt
import slicer
from slicer.i18n import tr as _


class Dialogs:
    """Asks in dialog windows."""

    def confirm(self, text: str, title: str) -> bool:
        """Ask a yes/no question."""
        return bool(slicer.util.confirmYesNoDisplay(text, windowTitle=title))

    def openFileName(self) -> str:
        """Ask for the input file of a batch; empty if the user cancelled."""
        filters = _("Job table, DICOMDIR or image (*)")
        name = qt.QFileDialog.getOpenFileName(slicer.util.mainWindow(), _("Input of the batch"), "", filters)
        return str(name or "")

    def openLearned(self) -> str:
        """Ask for the file of a learned finding; empty if the user cancelled."""
        title, filters = _("Import a learned finding"), _("Learned finding (*.safetensors)")
        return str(qt.QFileDialog.getOpenFileName(slicer.util.mainWindow(), title, "", filters) or "")

    def saveLearned(self, suggestion: str) -> str:
        """Ask where to write a learned finding; empty if the user cancelled."""
        title, filters = _("Export a learned finding"), _("Learned finding (*.safetensors)")
        return str(qt.QFileDialog.getSaveFileName(slicer.util.mainWindow(), title, suggestion, filters) or "")

    def askText(self, question: str, text: str) -> str:
        """Ask for a line of text; empty if the user cancelled."""
        normal = qt.QLineEdit.Normal
        return str(qt.QInputDialog.getText(slicer.util.mainWindow(), "", question, normal, text) or "")

    def saveFileName(self, suggestion: str, offersDicom: bool) -> str:
        """Ask for a file to save to; empty if the user cancelled."""
        filters = _("Slicer segmentation (*.seg.nrrd);;NIfTI (*.nii.gz)")
        filters += ";;" + _("DICOM Segmentation (*.dcm)") if offersDicom else ""
        name = qt.QFileDialog.getSaveFileName(slicer.util.mainWindow(), _("Save segments"), suggestion, filters)
        return str(name or "")

    def saveMeasurements(self, suggestion: str, offersDicom: bool) -> str:
        """Ask for a file to save measurements to; empty if the user cancelled."""
        filters = _("Table (*.csv)")
        filters += ";;" + _("DICOM Structured Report, with its segments (*.dcm)") if offersDicom else ""
        name = qt.QFileDialog.getSaveFileName(slicer.util.mainWindow(), _("Save measurements"), suggestion, filters)
        return str(name or "")
