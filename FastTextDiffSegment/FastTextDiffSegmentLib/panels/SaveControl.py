"""Save...: asks for a file and saves the segments in the format of its file name. Knows no widget."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from slicer.i18n import tr as _

from FastTextDiffSegmentLib.Logic import FastTextDiffSegmentLogic
from FastTextDiffSegmentLib.scene.DicomSaving import DICOM_SEG, dicomSegSteps
from FastTextDiffSegmentLib.scene.DicomSource import dicomFiles
from FastTextDiffSegmentLib.scene.Geometry import SceneError
from FastTextDiffSegmentLib.scene.SegmentationFiles import save

from .RunControl import RunControl


class SaveControl:
    """Saves segments. A DICOM Segmentation is written by the engine in a run, so that the window stays responsive.

    Args:
        logic: has the engine.
        run: the user's runs.
        askFileName: (suggestion, whether DICOM is offered) -> file, empty if the user cancelled.
        packageProblem: returns what is wrong with the package that DICOM Segmentations need; empty if nothing.
        showMessage: shows one line.
        onFailed: called with the exception that ended a run.
    """

    def __init__(
        self,
        logic: FastTextDiffSegmentLogic,
        run: RunControl,
        askFileName: Callable[[str, bool], str],
        packageProblem: Callable[[], str],
        showMessage: Callable[[str], None],
        onFailed: Callable[[Exception], None],
    ):
        self._logic, self._run, self._askFileName = logic, run, askFileName
        self._packageProblem, self._showMessage, self._onFailed = packageProblem, showMessage, onFailed

    def whyNoDicom(self, volumeNode: Any) -> str:
        """Why no DICOM Segmentation can be offered for segments of an image, in one line; empty if it can."""
        try:
            dicomFiles(volumeNode)
        except SceneError as error:
            return str(error)
        problem = self._packageProblem()
        return _("{problem}: install it in Set-up above.").format(problem=problem) if problem else ""

    def save(self, segmentationNode: Any, volumeNode: Any) -> None:
        """Ask for a file, and save.

        Raises:
            SceneError: it cannot be saved; no file was changed.
        """
        with suppress(SceneError):  # a review of another image is not saved as one of this
            self._logic.reviews.refresh(segmentationNode, volumeNode)
        reason = self.whyNoDicom(volumeNode)
        refusal = _("No DICOM Segmentation: {reason}").format(reason=reason) if reason else ""
        self._showMessage(refusal)
        name = self._askFileName(f"{segmentationNode.GetName()}.seg.nrrd", not reason)
        if not name:
            return
        if not name.lower().endswith(DICOM_SEG):
            self._showSaved([str(path) for path in save(segmentationNode, volumeNode, name)])
        elif reason:
            raise SceneError(refusal)
        else:
            steps = dicomSegSteps(self._logic.session, segmentationNode, volumeNode, name)
            self._run.start(lambda report: steps, lambda notes: self._showSaved([name], notes), self._onFailed)

    def _showSaved(self, files: list[str], notes: list[str] | None = None) -> None:
        self._showMessage("; ".join([_("Saved {files}").format(files=", ".join(files)), *(notes or [])]))
