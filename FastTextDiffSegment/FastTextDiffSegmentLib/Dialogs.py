"""Questions to the user, in Slicer's own dialogs; scripts and tests inject their own answers."""

import qt
import slicer
from slicer.i18n import tr as _


class Dialogs:
    """Asks in windows."""

    def confirm(self, text: str, title: str) -> bool:
        """A question to be answered with yes or no."""
        return bool(slicer.util.confirmYesNoDisplay(text, windowTitle=title))

    def saveFileName(self, suggestion: str) -> str:
        """A file to save to, empty if the user changed their mind."""
        filters = _("Slicer segmentation (*.seg.nrrd);;NIfTI (*.nii.gz)")
        name = qt.QFileDialog.getSaveFileName(slicer.util.mainWindow(), _("Save segments"), suggestion, filters)
        return str(name or "")
