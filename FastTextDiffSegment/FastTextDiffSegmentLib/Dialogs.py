"""Questions to the user, in Slicer's own dialogs; scripts and tests inject their own answers."""

import slicer
from slicer.i18n import tr as _

import qt


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


class NoDialogs:
    """Answers for scripts: nothing is overwritten or resampled unless it was asked for."""

    def confirm(self, text: str, title: str) -> bool:
        """Always no."""
        return False
