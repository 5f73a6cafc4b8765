"""Questions to the user, in Slicer's own dialogs; scripts and tests inject their own answers."""

import qt
import slicer
from slicer.i18n import tr as _


class Dialogs:
    """Asks in windows."""

    def confirm(self, text: str, title: str) -> bool:
        """A question to be answered with yes or no."""
        return bool(slicer.util.confirmYesNoDisplay(text, windowTitle=title))

    def openFileName(self) -> str:
        """A file that a batch is to read, empty if the user changed their mind."""
        filters = _("Job table, DICOMDIR or image (*)")
        name = qt.QFileDialog.getOpenFileName(slicer.util.mainWindow(), _("Input of the batch"), "", filters)
        return str(name or "")

    def saveFileName(self, suggestion: str, offersDicom: bool) -> str:
        """A file to save to, empty if the user changed their mind."""
        filters = _("Slicer segmentation (*.seg.nrrd);;NIfTI (*.nii.gz)")
        filters += ";;" + _("DICOM Segmentation (*.dcm)") if offersDicom else ""
        name = qt.QFileDialog.getSaveFileName(slicer.util.mainWindow(), _("Save segments"), suggestion, filters)
        return str(name or "")
