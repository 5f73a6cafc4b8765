"""Questions to the user in Slicer's dialogs; scripts and tests substitute their own answers."""

import qt
import slicer
from slicer.i18n import tr as _

_QUESTION_WIDTH = 460


class Dialogs:
    """Asks in dialog windows."""

    def confirm(self, text: str, title: str) -> bool:
        """Ask a yes/no question."""
        return bool(slicer.util.confirmYesNoDisplay(text, windowTitle=title))

    def confirmAndRemember(self, text: str, box: str, title: str) -> tuple[bool, bool]:
        """Ask a yes/no question with a check box, unticked; the answer, and whether the box is ticked."""
        dialog = qt.QDialog(slicer.util.mainWindow())
        dialog.setWindowTitle(title)
        layout = qt.QVBoxLayout(dialog)
        label, remember = qt.QLabel(text, dialog), qt.QCheckBox(box, dialog)
        label.setTextFormat(qt.Qt.PlainText)
        label.setWordWrap(True)
        label.setMinimumWidth(_QUESTION_WIDTH)
        buttons = qt.QDialogButtonBox(dialog)
        yes = buttons.addButton(qt.QDialogButtonBox.Yes)
        no = buttons.addButton(qt.QDialogButtonBox.No)
        no.setDefault(True)
        yes.connect("clicked()", dialog.accept)
        no.connect("clicked()", dialog.reject)
        for widget in (label, remember, buttons):
            layout.addWidget(widget)
        isYes = dialog.exec_() == qt.QDialog.Accepted
        isTicked = bool(remember.checked)
        dialog.deleteLater()
        return isYes, isYes and isTicked

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
        if offersDicom:
            filters += ";;" + _("DICOM Segmentation (*.dcm);;DICOM Segmentation, one label map (*.labelmap.dcm)")
        name = qt.QFileDialog.getSaveFileName(slicer.util.mainWindow(), _("Save segments"), suggestion, filters)
        return str(name or "")

    def saveMeasurements(self, suggestion: str, offersDicom: bool) -> str:
        """Ask for a file to save measurements to; empty if the user cancelled."""
        filters = _("Table (*.csv)")
        filters += ";;" + _("DICOM Structured Report, with its segments (*.dcm)") if offersDicom else ""
        name = qt.QFileDialog.getSaveFileName(slicer.util.mainWindow(), _("Save measurements"), suggestion, filters)
        return str(name or "")
