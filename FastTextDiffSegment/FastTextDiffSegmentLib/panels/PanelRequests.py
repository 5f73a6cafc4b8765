"""What the panel would ask for now, or why it cannot. Knows the sections' state, no widget."""

from slicer.i18n import tr as _

from FastTextDiffSegmentLib.Logic import SegmentationRequest

from .FindingsSection import FindingsSection
from .ImageSection import ImageSection
from .PanelContext import PanelContext
from .RunControl import RunControl
from .SetupSection import SetupSection


class PanelRequests:
    """Puts requests together.

    Args:
        context: what all sections use.
        setup: the engine as it is set up.
        image: the image and its shown slice.
        findings: what is typed.
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

    def about(self, sliceRange: tuple[int, int] | None) -> SegmentationRequest:
        """The findings on slices [first, end), on all for None."""
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

    def aboutShownSlice(self) -> SegmentationRequest | None:
        """The findings on the slice in the chosen view; None if it shows no slice of the image."""
        shown = self._image.shownSlice()
        return None if shown is None or shown.index is None else self.about((shown.index, shown.index + 1))

    def whyNot(self) -> str:
        """Why nothing can be segmented now, in one line; empty if it can."""
        if self._context.parameters is None:
            return _("No scene.")
        reason = self._setup.whyNotReady
        if reason:
            return reason
        if self._run.isRunning:
            return _("A run is under way; wait for it or cancel it.")
        return self.about(None).isValid()[1]

    def whyNoSlice(self) -> str:
        """Why the shown slice cannot be segmented now, in one line; empty if it can."""
        reason = self.whyNot()
        shown = self._image.shownSlice()
        if reason or shown is None:
            return reason or _("Choose a slice view.")
        if shown.acrossPlane:
            return _("The view shows another plane than the slices of the image: rotate it with the button below.")
        return _("The view shows no slice of the image: move to the image.") if shown.index is None else ""
