"""What is segmented: all slices, a range, or a region; in which plane; and how long it will take.

Owns the widgets for that; knows nothing about findings and how a run is made.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import vtk
from slicer.i18n import tr as _

from FastTextDiffSegmentLib.contract.images import PLANES
from FastTextDiffSegmentLib.Requests import SegmentationRequest
from FastTextDiffSegmentLib.scene.Geometry import SceneError, requireImage, sliceShape
from FastTextDiffSegmentLib.scene.Region import Region
from FastTextDiffSegmentLib.scene.SegmentHistory import Observers

from .ImageSection import ImageSection
from .ImagesList import ImagesList
from .PanelContext import PanelContext

ALL, RANGE, REGION = range(3)


class ScopeSection:
    """Adds the user's slices, region and plane to requests.

    Args:
        context: what all sections use.
        image: the image and its shown slice.
        onChanged: called when the user has changed something.

    Attributes:
        images: further images to segment.
    """

    def __init__(self, context: PanelContext, image: ImageSection, onChanged: Callable[[], None]):
        self._context, self._image, self._onChanged = context, image, onChanged
        self._shown: tuple[Any, str] | None = None
        self._region = Observers()
        ui, guarded = context.ui, context.guarded
        self.images = ImagesList(ui, guarded(onChanged))
        ui.scopeComboBox.addItems([_("All slices"), _("Slices from ... to"), _("Inside a region")])
        ui.planeComboBox.addItems([_("as acquired"), _("axial"), _("coronal"), _("sagittal")])
        ui.scopeComboBox.connect("currentIndexChanged(int)", guarded(lambda index: onChanged()))
        ui.planeComboBox.connect("activated(int)", guarded(self._onPlane))
        for box in (ui.firstSliceSpinBox, ui.lastSliceSpinBox):
            box.connect("valueChanged(int)", guarded(lambda number: onChanged()))
        ui.regionSelector.connect("currentNodeChanged(vtkMRMLNode*)", guarded(self._followRegion))
        for button, box in ((ui.firstHereButton, ui.firstSliceSpinBox), (ui.lastHereButton, ui.lastSliceSpinBox)):
            button.connect("clicked()", guarded(lambda box=box: self._take(box)))

    @property
    def scope(self) -> int:
        """`ALL`, `RANGE` or `REGION`."""
        return self._context.ui.scopeComboBox.currentIndex

    def applied(self, request: SegmentationRequest) -> SegmentationRequest:
        """A request for all slices, limited to what the user chose.

        Raises:
            SceneError: no region is chosen, or it cannot be used.
        """
        ui = self._context.ui
        if self.scope == RANGE:
            return replace(request, sliceRange=(ui.firstSliceSpinBox.value - 1, ui.lastSliceSpinBox.value))
        if self.scope == REGION:
            node = ui.regionSelector.currentNode()
            if node is None:
                raise SceneError(_("Choose a region: draw one with Slicer's ROI button, then select it here."))
            return replace(request, region=Region.of(node))
        return request

    def show(self) -> None:
        """Show the plane of the parameters, and fit the range to the image."""
        parameters = self._context.parameters
        self._context.ui.planeComboBox.setCurrentIndex(PLANES.index(parameters.plane))
        volume = parameters.inputVolume
        shown = None if volume is None else (volume, parameters.plane)
        if shown != self._shown:
            self._shown = shown
            self._fitRange()

    def _fitRange(self) -> None:
        ui, volume, plane = self._context.ui, self._context.parameters.inputVolume, self._context.parameters.plane
        try:
            requireImage(volume)
        except SceneError:
            return
        total = sliceShape(volume, plane)[0]
        for box, number in ((ui.firstSliceSpinBox, 1), (ui.lastSliceSpinBox, total)):
            wasBlocked = box.blockSignals(True)
            box.setRange(1, total)
            box.setValue(number)
            box.blockSignals(wasBlocked)

    def update(self, requests: Sequence[SegmentationRequest], problem: str) -> None:
        """Show what belongs to the scope, and the cost of a run.

        Args:
            requests: the run, one for each image; none if there is none.
            problem: why this scope cannot be segmented, in one line; empty if it can.
        """
        self.images.update(self._context.parameters.inputVolume)
        ui, scope = self._context.ui, self.scope
        for widget in (ui.firstSliceSpinBox, ui.firstHereButton, ui.lastSliceSpinBox, ui.lastHereButton, ui.toLabel):
            widget.visible = scope == RANGE
        ui.regionSelector.visible = scope == REGION
        logic = self._context.logic
        ui.costLabel.text = cost = logic.cost(*list(requests) * self.images.count).text() if requests else problem
        plane = ui.planeComboBox.currentText
        head = ui.scopeComboBox.currentText if plane == ui.planeComboBox.itemText(0) else plane
        ui.scopeCollapsibleButton.text = f"{head}: {cost}" if requests else head
        texts = {ALL: _("Segment volume"), RANGE: _("Segment slices"), REGION: _("Segment region")}
        ui.segmentVolumeButton.text = texts[scope]

    def _followRegion(self, node: Any) -> None:
        """Update the cost whenever the chosen region is moved."""
        self.close()
        if node is not None:
            self._region.add(node, vtk.vtkCommand.ModifiedEvent, self._context.guarded(lambda *_: self._onChanged()))
        self._onChanged()

    def forget(self) -> None:
        """Return to all slices, e.g. because the scene is closed."""
        self.close()
        self._shown = None
        self._context.ui.scopeComboBox.setCurrentIndex(ALL)

    def close(self) -> None:
        """Stop following the region."""
        self._region.clear()

    def _onPlane(self, index: int) -> None:
        self._context.parameters.plane = PLANES[index]

    def _take(self, box: Any) -> None:
        """Take the number of the shown slice."""
        shown = self._image.askedSlice()
        if shown is None or shown.index is None:
            raise SceneError(_("The view shows no slice of this plane: rotate it or scroll to the image."))
        box.setValue(shown.index + 1)
