"""Makes the panel's requests, or says why it cannot. Knows the sections' state, no widgets."""

from slicer.i18n import tr as _

from FastTextDiffSegmentLib.Logic import SegmentationRequest

from .FindingsSection import FindingsSection
from .ImageSection import ImageSection
from .PanelContext import PanelContext
from .RunControl import RunControl
from .SetupSection import SetupSection


class PanelRequests:
    """Makes requests from the state of the sections.

    Args:
        context: what all sections use.
        setup: the engine's set-up.
        image: the image and its shown slice.
        findings: the typed findings.
        run: the user's runs.
    """

    def __init__(
        self,
        context: PanelContext,
        setup: SetupSection,
        image: ImageSection,
        findings: FindingsSection,
        run: RunControl,
    ):
        self._context, self._setup, self._image, self._findings, self._run = context, setup, image, findings, run

    def forSlices(self, sliceRange: tuple[int, int] | None) -> SegmentationRequest:
        """The request for the findings on slices [first, end); on all slices for None."""
        parameters = self._context.parameters
        return SegmentationRequest(
            volumeNode=parameters.inputVolume,
            findings=tuple(self._findings.box.findings),
            sliceRange=sliceRange,
            modality=parameters.modality or None,
            samples=parameters.samples,
            seed=parameters.seed,
            sliceBySlice=parameters.sliceBySlice,
            tryAnyway=parameters.tryAnyway,
        )

    def forShownSlice(self) -> SegmentationRequest | None:
        """The request for the slice in the chosen view; None if the view shows no slice of the image."""
        shown = self._image.shownSlice()
        return None if shown is None or shown.index is None else self.forSlices((shown.index, shown.index + 1))

    def whyNot(self) -> str:
        """Why nothing can be segmented now, in one line; empty if it can."""
        if self._context.parameters is None:
            return _("No scene.")
        reason = self._setup.whyNotReady
        if reason:
            return reason
        if self._run.isRunning:
            return _("A run is under way; wait for it or cancel it.")
        return self.forSlices(None).isValid()[1]

    def whyNoSlice(self) -> str:
        """Why the shown slice cannot be segmented now, in one line; empty if it can."""
        reason = self.whyNot()
        shown = self._image.shownSlice()
        if reason or shown is None:
            return reason or _("Choose a slice view.")
        if shown.acrossPlane:
            return _("The view does not show the acquisition plane of the image: rotate it with the button below.")
        return _("The view shows no slice of the image: scroll to the image.") if shown.index is None else ""
