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

    def saveFileName(self, suggestion: str, offersDicom: bool) -> str:
        """Ask for a file to save to; empty if the user cancelled."""
        filters = _("Slicer segmentation (*.seg.nrrd);;NIfTI (*.nii.gz)")
        filters += ";;" + _("DICOM Segmentation (*.dcm)") if offersDicom else ""
        name = qt.QFileDialog.getSaveFileName(slicer.util.mainWindow(), _("Save segments"), suggestion, filters)
        return str(name or "")
