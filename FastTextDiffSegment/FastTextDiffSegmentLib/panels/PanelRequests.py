"""Makes the panel's requests, or says why it cannot. Knows the sections' state, no widgets."""

from dataclasses import replace

from slicer.i18n import tr as _

from FastTextDiffSegmentLib.Logic import SegmentationRequest
from FastTextDiffSegmentLib.scene.Geometry import SceneError
from FastTextDiffSegmentLib.Several import requireAll

from .FindingsSection import FindingsSection
from .ImageSection import ImageSection
from .PanelContext import PanelContext
from .RunControl import RunControl
from .ScopeSection import ScopeSection
from .SetupSection import SetupSection


class PanelRequests:
    """Makes requests from the state of the sections.

    Args:
        context: what all sections use.
        setup: the engine's set-up.
        image: the image and its shown slice.
        findings: the typed findings.
        run: the user's runs.
        scope: what is segmented.
    """

    def __init__(
        self,
        context: PanelContext,
        setup: SetupSection,
        image: ImageSection,
        findings: FindingsSection,
        run: RunControl,
        scope: ScopeSection,
    ):
        self._context, self._setup, self._image, self._findings, self._run = context, setup, image, findings, run
        self._scope = scope

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
            plane=parameters.plane,
        )

    def forScope(self) -> SegmentationRequest:
        """The request for the slices and the region that the user chose.

        Raises:
            SceneError: there is no such region.
        """
        return self._scope.applied(self.forSlices(None))

    def forImages(self) -> list[SegmentationRequest]:
        """The requests for the chosen image and for those that are also ticked.

        Raises:
            SceneError: there is no such region.
        """
        request = self.forScope()
        others = [] if self._scope.images.hasAllItems else self._scope.images.ticked
        return [request, *(replace(request, volumeNode=node) for node in others)]

    def whyNotScope(self) -> str:
        """Why these images, slices and this region cannot be segmented now, in one line; empty if they can."""
        reason = self.whyNot()
        if reason:
            return reason
        try:
            requests = self.forImages()
            if self._scope.images.hasAllItems and self._context.parameters.editorMasking:
                raise SceneError(
                    _("The Segment Editor's masking cannot be applied to all items: untick one of the two.")
                )
            if len(requests) > 1:
                requireAll(requests)
            return requests[0].isValid()[1]
        except SceneError as error:
            return str(error)

    def forShownSlice(self) -> SegmentationRequest | None:
        """The request for the slice in the chosen view; None if the view shows no slice of the image."""
        shown = self._image.askedSlice()
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
        shown = self._image.askedSlice()
        if reason or shown is None:
            return reason or _("Choose a slice view.")
        if shown.acrossPlane:
            return _("The view does not show the plane that is segmented: rotate it with the button below.")
        return _("The view shows no slice of the image: scroll to the image.") if shown.index is None else ""
