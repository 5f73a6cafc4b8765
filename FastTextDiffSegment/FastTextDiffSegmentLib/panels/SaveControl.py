"""Save...: asks for a file and saves the segments in the format of its name. Knows no widget."""

from collections.abc import Callable
from typing import Any

from slicer.i18n import tr as _

from FastTextDiffSegmentLib.Logic import FastTextDiffSegmentLogic
from FastTextDiffSegmentLib.scene.DicomSaving import DICOM_SEG, dicomSegSteps
from FastTextDiffSegmentLib.scene.DicomSource import dicomFiles
from FastTextDiffSegmentLib.scene.Geometry import SceneError
from FastTextDiffSegmentLib.scene.SegmentationFiles import save

from .RunControl import RunControl


class SaveControl:
    """Saves segments; a DICOM Segmentation is a run of the engine's, so that the window stays alive.

    Args:
        logic: has the engine.
        run: the user's runs.
        askFileName: (suggestion, whether DICOM is offered) -> file, empty if the user changed their mind.
        packageProblem: says what is wrong with the package that DICOM Segmentations need; empty if nothing.
        tell: shows one line.
        onFailed: called with the exception that ended a run.
    """

    def __init__(
        self,
        logic: FastTextDiffSegmentLogic,
        run: RunControl,
        askFileName: Callable[[str, bool], str],
        packageProblem: Callable[[], str],
        tell: Callable[[str], None],
        onFailed: Callable[[Exception], None],
    ):
        self._logic, self._run, self._askFileName = logic, run, askFileName
        self._packageProblem, self._tell, self._onFailed = packageProblem, tell, onFailed

    def whyNoDicom(self, volumeNode: Any) -> str:
        """Why no DICOM Segmentation can be offered for segments of an image, in one line; empty if it can."""
        try:
            dicomFiles(volumeNode)
        except SceneError as error:
            return str(error)
        problem = self._packageProblem()
        return _("{problem}: install it in Set-up above.").format(problem=problem) if problem else ""

    def save(self, segmentationNode: Any, volumeNode: Any) -> None:
        """Ask where to, and save.

        Raises:
            SceneError: it cannot be saved; no file was changed.
        """
        reason = self.whyNoDicom(volumeNode)
        refusal = _("No DICOM Segmentation: {reason}").format(reason=reason) if reason else ""
        self._tell(refusal)
        name = self._askFileName(f"{segmentationNode.GetName()}.seg.nrrd", not reason)
        if not name:
            return
        if not name.lower().endswith(DICOM_SEG):
            self._told([str(path) for path in save(segmentationNode, volumeNode, name)])
        elif reason:
            raise SceneError(refusal)
        else:
            steps = dicomSegSteps(self._logic.session, segmentationNode, volumeNode, name)
            self._run.start(lambda report: steps, lambda notes: self._told([name], notes), self._onFailed)

    def _told(self, files: list[str], notes: list[str] | None = None) -> None:
        self._tell("; ".join([_("Saved {files}").format(files=", ".join(files)), *(notes or [])]))
