"""Shows where the model is unsure: the entropy of the last run's probability, as a layer over the slice views.

Knows the scene; changes neither segments nor the image, and leaves nothing in a saved scene.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _
from vtk.util.numpy_support import vtk_to_numpy

from FastTextDiffSegmentLib.contract.answers import FoundFinding
from FastTextDiffSegmentLib.contract.images import entropy
from FastTextDiffSegmentLib.engine.Jobs import Job, JobRunner, Steps
from FastTextDiffSegmentLib.engine.SegmentationOutput import maskOf, probabilityOf
from FastTextDiffSegmentLib.scene.Geometry import arrayShape, ijkToRas, inSliceOrder, jumpToSlice, toMatrix

from .LastRun import LastRun

_AT_ONCE = 1 << 19
"""Voxels computed in one step: a few milliseconds."""
_VISIBLE = 0.05
"""Bits below which nothing is drawn: a probability under 0.6 % or over 99.4 %."""
COLORS = "vtkMRMLColorTableNodefMRIPA"
"""From red to yellow; one of the tables that Slicer always has."""


@dataclass(frozen=True)
class Uncertainty:
    """The uncertainty of one run.

    Attributes:
        run: the run.
        image: vtkImageData on the grid of the run's image, float32, binary entropy in bits (0..1); the maximum over its
            findings, 0 on slices that were not segmented.
        findings: the findings of the run that it covers.
        means: (n,), mean over each segmented slice.
    """

    run: LastRun
    image: Any
    means: np.ndarray
    findings: Sequence[FoundFinding]

    def leastCertain(self) -> int | None:
        """The slice with the highest mean among those with a mask, the first of equals; None without any mask."""
        masks = [maskOf(found, self.run.threshold) for found in self.findings]
        isMarked = np.any([mask.any(axis=(1, 2)) for mask in masks], axis=0) if masks else np.zeros(0, bool)
        if not isMarked.any():
            return None
        return self.run.output.sliceRange[0] + int(np.argmax(np.where(isMarked, self.means, -1.0)))


def uncertaintySteps(run: LastRun, only: str = "") -> Steps:
    """Compute the uncertainty of a run, a few slices at a time.

    Args:
        run: the run.
        only: the finding to use; empty for all.

    Returns:
        :class:`Uncertainty`.
    """
    volumeNode = run.request.volumeNode
    k, j, i = arrayShape(volumeNode)
    image = vtk.vtkImageData()
    image.SetDimensions(i, j, k)
    image.AllocateScalars(vtk.VTK_FLOAT, 1)
    voxels = inSliceOrder(
        volumeNode, vtk_to_numpy(image.GetPointData().GetScalars()).reshape(k, j, i), run.request.plane
    )
    findings = [found for found in run.output.findings if only in ("", found.finding)]
    (first, end), probabilities = run.output.sliceRange, [probabilityOf(found) for found in findings]
    step, means = max(1, _AT_ONCE // voxels[0].size), np.zeros(end - first)
    for start in range(0, len(voxels), step):
        voxels[start : start + step] = 0
        asked = slice(max(start, first), min(start + step, end))
        if asked.start < asked.stop:
            part = slice(asked.start - first, asked.stop - first)
            for probability in probabilities:
                np.maximum(voxels[asked], entropy(probability[part], np.log2), out=voxels[asked])
            means[part] = voxels[asked].mean(axis=(1, 2), dtype=np.float64)
        yield
    return Uncertainty(run, image, means, findings)


class UncertaintyLayer:
    """The layer, which can be switched on and off.

    Args:
        runner: advances jobs.
        showMessage: shows one line.
        onFailed: called with the exception that ended a job.

    Attributes:
        run: the run whose uncertainty is shown.
        node: the layer's volume node while it is shown, else None.
    """

    def __init__(self, runner: JobRunner, showMessage: Callable[[str], None], onFailed: Callable[[Exception], None]):
        self._runner, self._showMessage, self._onFailed = runner, showMessage, onFailed
        self.run: LastRun | None = None
        self._known: Uncertainty | None = None
        self._job: Job | None = None
        self._jumpTo: Any = None
        self._isOn, self._opacity, self._only = False, 0.5, ""
        self._before: dict[str, tuple[str | None, float]] = {}
        self.node: Any = None

    def follow(self, run: LastRun | None) -> None:
        """Show another run's uncertainty from now on; nothing for None."""
        if run is not self.run:
            self._only = ""
            self._begin(run)

    def choose(self, finding: str) -> None:
        """Show the uncertainty of one finding of the run; an empty text shows all."""
        if finding != self._only:
            self._only = finding
            self._begin(self.run)

    def _begin(self, run: LastRun | None) -> None:
        if self._job is not None:
            self._job.cancel()
        self.run, self._known, self._job, self._jumpTo = run, None, None, None
        if run is None:
            self._remove()
        elif self._isOn:
            self._compute()

    def switch(self, isOn: bool) -> None:
        """Show the layer, or remove its volume node."""
        self._isOn = isOn
        if not isOn:
            self._known = None  # frees as much memory as the image takes
            self._remove()
        elif self._known is not None:
            self._show()
        elif self.run is not None:
            self._compute()

    def setOpacity(self, opacity: float) -> None:
        """How much the layer covers the image: 0 to 1."""
        self._opacity = opacity
        for composite in self._composites():
            composite.SetForegroundOpacity(opacity)

    def jump(self, sliceNode: Any) -> None:
        """Move a slice view to the slice that the model is least certain of, as soon as that is known."""
        self._jumpTo = sliceNode
        if self._known is not None:
            self._jump()
        elif self.run is not None:
            self._compute()

    def _compute(self) -> None:
        if self._job is None:
            self._job = self._runner.start(
                Job(uncertaintySteps(self.run, self._only), self._onComputed, self._onJobFailed)
            )

    def _onComputed(self, known: Uncertainty) -> None:
        if known.run is not self.run:
            return
        self._job, self._known = None, known
        if self._isOn:
            self._show()
        if self._jumpTo is not None:
            self._jump()

    def _onJobFailed(self, error: Exception) -> None:
        self._job = None
        self._onFailed(error)

    def _jump(self) -> None:
        sliceNode, self._jumpTo = self._jumpTo, None
        k = self._known.leastCertain()
        if k is None:
            self._showMessage(_("No slice of the last result has a mask."))
        elif slicer.mrmlScene.IsNodePresent(self.run.request.volumeNode):
            jumpToSlice(sliceNode, self.run.request.volumeNode, k, self.run.request.plane)
            mean = self._known.means[k - self.run.output.sliceRange[0]]
            text = _("Slice {number} is the least certain one: {mean:.3f} bits on average")
            self._showMessage(text.format(number=k + 1, mean=mean))

    # --- the volume node ------------------------------------------------------------------------------------------

    def _show(self) -> None:
        source = self.run.request.volumeNode
        if not slicer.mrmlScene.IsNodePresent(source):
            return
        if self.node is None or not slicer.mrmlScene.IsNodePresent(self.node):
            self.node = _newNode()
        self.node.SetIJKToRASMatrix(toMatrix(ijkToRas(source)))
        self.node.SetAndObserveTransformNodeID(source.GetTransformNodeID())
        self.node.SetAndObserveImageData(self._known.image)
        for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
            if composite.GetForegroundVolumeID() != self.node.GetID():
                before = composite.GetForegroundVolumeID(), composite.GetForegroundOpacity()
                self._before[composite.GetID()] = before
                composite.SetForegroundVolumeID(self.node.GetID())
            composite.SetForegroundOpacity(self._opacity)

    def _composites(self) -> list[Any]:
        """The slice views that show the layer."""
        if self.node is None:
            return []
        composites = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
        return [each for each in composites if each.GetForegroundVolumeID() == self.node.GetID()]

    def _remove(self) -> None:
        """Remove the node, and restore the views' previous layers."""
        for composite in self._composites():
            volumeId, opacity = self._before.get(composite.GetID(), (None, 0.0))
            isThere = volumeId is not None and slicer.mrmlScene.GetNodeByID(volumeId) is not None
            composite.SetForegroundVolumeID(volumeId if isThere else None)
            composite.SetForegroundOpacity(opacity)
        if self.node is not None and slicer.mrmlScene.IsNodePresent(self.node):
            display = self.node.GetDisplayNode()
            slicer.mrmlScene.RemoveNode(self.node)
            if display is not None:
                slicer.mrmlScene.RemoveNode(display)
        self.node, self._before = None, {}


def _newNode() -> Any:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", _("Uncertainty (FastTextDiff)"))
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    for each in (node, display):
        each.SetSaveWithScene(False)
    display.SetAndObserveColorNodeID(COLORS)
    display.SetAutoWindowLevel(False)
    display.SetWindowLevelMinMax(0.0, 1.0)
    display.SetThreshold(_VISIBLE, 1.0)
    display.SetApplyThreshold(True)
    return node
