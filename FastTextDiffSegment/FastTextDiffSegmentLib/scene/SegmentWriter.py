"""Writes masks as segments, one per finding. Changes only the requested slices of that finding's segment.

Knows nothing about the engine, undo or the stored output.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import slicer
from slicer.i18n import tr as _

from FastTextDiffSegmentLib.contract.colors import Rgb, distinct_color
from FastTextDiffSegmentLib.contract.images import ACQUISITION
from FastTextDiffSegmentLib.contract.segments import (
    FINDING_TAG,
    LESION_ENTRY,
    REGION_TAG,
    entry_codes,
    escape_tag,
    free_name,
)

from .EditorMasking import Masking, editorLike, requireArea
from .Geometry import SceneError, arrayShape, requireImage, requireLinear, sliceShape, toMatrix
from .SegmentSurfaces import surfacesRebuilt
from .SegmentTags import contentOf, recordTags, tagMixture, tagOf
from .SegmentVoxels import (
    LABELMAP,
    Patch,
    boundingBox,
    gridInSegmentation,
    gridsOf,
    indexShift,
    patchOfSlices,
    readVoxels,
    replaceVoxels,
    segmentVoxels,
    toImage,
)

_BLOCKED = _("the Segment Editor's masking or overwriting left nothing of '{name}'")


@dataclass(frozen=True)
class SegmentOutput:
    """What to write for one finding.

    Attributes:
        finding: the text as typed.
        name: name of the segment.
        color: (red, green, blue), 0 to 255; another is used if a segment has it already.
        terminology: Slicer's terminology entry.
        tags: segment tags, escaped; FastTextDiff.Finding identifies the finding's segment.
        mask: (n, rows, columns) of some slices, nonzero where the finding is.
        sliceRange: (first, end) of these slices.
        presence: highest probability over these slices that the finding is there at all.
        warnings: one line each.
        isAsked: whether the model was asked; otherwise nothing is written, and a segment stays as it is.
        plane: of the slices.
        region: (n, rows, columns) bool, the voxels that may change; None for all.
    """

    finding: str
    name: str
    color: Rgb
    terminology: str
    tags: Mapping[str, str]
    mask: np.ndarray
    sliceRange: tuple[int, int]
    presence: float = 0.0
    warnings: tuple[str, ...] = ()
    isAsked: bool = True
    plane: str = ACQUISITION
    region: np.ndarray | None = field(default=None, repr=False)

    def limitedTo(self, region: np.ndarray, text: str) -> "SegmentOutput":
        """Only the voxels of a region (n, rows, columns); the tag says which region."""
        tags = {**self.tags, REGION_TAG: escape_tag(text)}
        return replace(self, mask=(self.mask != 0) & region, region=region, tags=tags)


@dataclass(frozen=True)
class Target:
    """A segment to write into, whatever it was made of.

    Attributes:
        segmentId: its id.
        adds: whether a finding is added to it; otherwise it replaces what the segment has on the same slices.
    """

    segmentId: str
    adds: bool = False


@dataclass(frozen=True)
class SegmentedFinding:
    """One finding as it was written.

    Attributes:
        finding: the text.
        segmentId: id of its segment; None if there was none and nothing was found or masking prevented it.
        found: whether the mask on the requested slices is not empty.
        changedVoxels: number of voxels that were added or removed.
        presence: highest probability over the slices that the finding is there at all.
        warnings: one line each, e.g. that the model was not trained on it.
        created: whether the segment is new.
        blocked: whether masking prevented all changes.
        isAsked: whether the model was asked for it; it is not for what it was not taught.
        patch: the box that was written to, on the segment's grid; None without a segment.
    """

    finding: str
    segmentId: str | None
    found: bool
    changedVoxels: int
    presence: float
    warnings: tuple[str, ...]
    created: bool = False
    blocked: bool = False
    isAsked: bool = True
    patch: Patch | None = field(default=None, repr=False, compare=False)


def geometryMatches(segmentationNode, volumeNode) -> bool:
    """Whether the voxels of a segmentation coincide with those of a volume where both are shown; an empty one fits.

    Raises:
        SceneError: a parent transform is not linear.
    """
    segmentation = segmentationNode.GetSegmentation()
    if segmentation.GetNumberOfSegments() == 0:
        return True
    volumeGrid, shape = gridInSegmentation(segmentationNode, volumeNode), arrayShape(volumeNode)
    return all(indexShift(grid, volumeGrid, shape) is not None for grid in gridsOf(segmentation))


def findingSegment(segmentationNode, tags: Mapping[str, str]) -> str | None:
    """Id of the segment that was made for the same finding; None if there is none."""
    segmentation = segmentationNode.GetSegmentation()
    for index in range(segmentation.GetNumberOfSegments()):
        if tagOf(segmentation.GetNthSegment(index), FINDING_TAG) == tags[FINDING_TAG]:
            return segmentation.GetNthSegmentID(index)
    return None


def validTerminology(entry: str) -> str:
    """The entry if Slicer can read it, else one that fits any finding."""
    return entry if entry_codes(entry) else LESION_ENTRY


class SegmentWriter:
    """Writes findings into segmentation nodes."""

    def newSegmentation(self, volumeNode):
        """Add an empty segmentation on the grid of a volume, under the same transform and in the same study."""
        requireImage(volumeNode)
        name = slicer.mrmlScene.GenerateUniqueName(_("{image} findings").format(image=volumeNode.GetName()))
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
        node.CreateDefaultDisplayNodes()
        placeOnVolume(node, volumeNode)
        _placeBeside(node, volumeNode)
        return node

    def write(
        self,
        segmentationNode,
        volumeNode,
        outputs: Sequence[SegmentOutput],
        masking: Masking | None = None,
        resample: bool = False,
        into: Target | None = None,
    ) -> list[SegmentedFinding]:
        """Write findings; everything is checked before anything changes.

        Args:
            segmentationNode: the segmentation to write to.
            volumeNode: the image that the masks belong to.
            outputs: the findings.
            masking: None lets segments overlap and changes nothing else.
            resample: resample the masks to the segmentation's grid if it is another.
            into: the segment to write to; None for the segment of each finding, made if there is none.

        Returns:
            One entry for each output, in order.

        Raises:
            SceneError: the segmentation cannot take them, or masking allowed no change at all; nothing has changed.
        """
        _requireWritable(segmentationNode, volumeNode, outputs)
        requireArea(masking, segmentationNode)
        segmentation = segmentationNode.GetSegmentation()
        if segmentation.GetNumberOfSegments() == 0:
            placeOnVolume(segmentationNode, volumeNode)
        ids = [into.segmentId if into else findingSegment(segmentationNode, output.tags) for output in outputs]
        before = into and contentOf(
            segmentation.GetSegment(into.segmentId), segmentVoxels(segmentationNode, into.segmentId)
        )
        patches = [
            _patch(segmentationNode, segmentId, volumeNode, output, resample)
            for segmentId, output in zip(ids, outputs, strict=True)
        ]
        editorNode = masking.editorNode if masking else None
        brush = _Brush(segmentationNode, volumeNode, editorNode, adds=into is not None and into.adds)
        with surfacesRebuilt(segmentationNode), brush:
            written = [
                _written(segmentation, brush, output, segmentId, patch)
                for output, segmentId, patch in zip(outputs, ids, patches, strict=True)
            ]
            for output, each in zip(outputs, written, strict=True):
                if each.segmentId and not each.blocked:
                    segment = segmentation.GetSegment(each.segmentId)
                    total = sliceShape(volumeNode, output.plane)[0]
                    isWhole = output.sliceRange == (0, total) and output.region is None
                    recordTags(segment, output.tags, output.sliceRange, isWhole, output.plane)
                    if before is not None:
                        isAlone = segmentVoxels(segmentationNode, each.segmentId) == np.count_nonzero(output.mask)
                        tagMixture(segment, before, isAlone)
        if any(each.blocked for each in written) and not any(each.changedVoxels for each in written):
            message = _("The Segment Editor's masking or overwriting allowed no change. Relax it, or untick it here.")
            raise SceneError(message)
        return written


def _patch(segmentationNode, segmentId: str | None, volumeNode, output: SegmentOutput, resample: bool) -> Patch:
    """A finding's mask on the grid of its segment."""
    mask = output.mask if output.mask.dtype == bool else output.mask != 0
    first, plane, region = output.sliceRange[0], output.plane, output.region
    return patchOfSlices(segmentationNode, segmentId, volumeNode, mask, first, resample, plane, region)


def _written(
    segmentation, brush: "_Brush", output: SegmentOutput, segmentId: str | None, patch: Patch
) -> SegmentedFinding:
    isFound, isNew = bool(patch.mask.any()), segmentId is None
    nothing = SegmentedFinding(output.finding, None, isFound, 0, output.presence, output.warnings)
    if not output.isAsked:
        return replace(nothing, segmentId=segmentId, isAsked=False)
    if isNew and not isFound:
        return nothing
    segmentId = _newSegment(segmentation, output, patch) if isNew else segmentId
    changed, isWanted = brush.apply(segmentId, patch)
    if not isWanted or changed:
        return replace(nothing, segmentId=segmentId, changedVoxels=changed, created=isNew, patch=patch)
    blocked = replace(nothing, blocked=True, warnings=(*output.warnings, _BLOCKED.format(name=output.name)))
    if isNew:
        segmentation.RemoveSegment(segmentId)
        return blocked
    return replace(blocked, segmentId=segmentId, patch=patch)


class _Brush:
    """Applies patches to segments, directly or through the Segment Editor's masking.

    Args:
        segmentationNode: the segments.
        volumeNode: the image for intensity masks.
        editorNode: the settings to apply; None for none.
        adds: never take voxels away.
    """

    def __init__(self, segmentationNode, volumeNode, editorNode=None, adds=False):
        self._segmentationNode, self._volumeNode, self._settings = segmentationNode, volumeNode, editorNode
        self._adds = adds
        self._editorNode = self._logic = None

    def __enter__(self):
        if self._settings is not None:
            # a separate node, so that the user's keeps its segment, image and effect
            self._editorNode = editorLike(self._settings)
            self._logic = slicer.vtkSlicerSegmentEditorLogic()
            self._logic.SetMRMLScene(slicer.mrmlScene)
            self._logic.SetVerbose(True)  # or failures are silent
            self._logic.SetSegmentEditorNode(self._editorNode)
            self._logic.SetSegmentationNode(self._segmentationNode)
            self._logic.SetSourceVolumeNode(self._volumeNode)
        return self

    def __exit__(self, *exception) -> None:
        if self._editorNode is not None:
            self._logic.SetSegmentEditorNode(None)
            self._logic.SetMRMLScene(None)
            slicer.mrmlScene.RemoveNode(self._editorNode)

    def apply(self, segmentId: str, patch: Patch) -> tuple[int, bool]:
        """(number of voxels that changed, whether any change was wanted)."""
        segmentation = self._segmentationNode.GetSegmentation()
        if self._adds:
            present = readVoxels(segmentation, segmentId, patch.start, patch.shape)
            patch = replace(patch, mask=patch.mask | present)
        if self._logic is None:
            changed = replaceVoxels(segmentation, segmentId, patch)
            return changed, changed > 0
        before = readVoxels(segmentation, segmentId, patch.start, patch.shape)
        region = np.ones(patch.shape, bool) if patch.region is None else patch.region
        self._modify(segmentId, patch, region & ~patch.mask & before, self._logic.ModificationModeRemove)
        self._modify(segmentId, patch, region & patch.mask, self._logic.ModificationModeAdd)
        after = readVoxels(segmentation, segmentId, patch.start, patch.shape)
        isWanted = bool((region & (before != patch.mask)).any())
        return int(np.count_nonzero(before != after)), isWanted

    def _modify(self, segmentId: str, patch: Patch, voxels: np.ndarray, mode: int) -> None:
        box = boundingBox(voxels)
        if box is None:
            return
        start = tuple(first + side.start for first, side in zip(patch.start, box[::-1], strict=True))
        # keep the grid's origin and use an extent: intensity masking ignores an image with a shifted origin
        image = toImage(voxels[box].astype(np.uint8), start, patch.grid)
        self._logic.ModifySegmentByLabelmap(
            self._segmentationNode, segmentId, image, mode, image.GetExtent(), False, False
        )


def _requireWritable(segmentationNode, volumeNode, outputs: Sequence[SegmentOutput]) -> None:
    requireImage(volumeNode)
    requireLinear(volumeNode)
    if segmentationNode is None or segmentationNode.GetScene() is None:
        raise SceneError(_("The segmentation is gone. Choose another or a new one."))
    requireLinear(segmentationNode)
    if segmentationNode.GetSegmentation().GetSourceRepresentationName() != LABELMAP:
        message = _(
            "The segmentation '{name}' consists of surfaces. Choose another, or make binary labelmap its source."
        )
        raise SceneError(message.format(name=segmentationNode.GetName()))
    for output in outputs:
        slices, rows, columns = sliceShape(volumeNode, output.plane)
        first, end = output.sliceRange
        if not 0 <= first < end <= slices or output.mask.shape != (end - first, rows, columns):
            raise ValueError(f"mask {output.mask.shape} of slices {output.sliceRange} is not on the image's grid")


def placeOnVolume(segmentationNode, volumeNode) -> None:
    """Give an empty segmentation the grid and the parent transform of a volume."""
    segmentationNode.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
    segmentationNode.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())


def _placeBeside(segmentationNode, volumeNode) -> None:
    """Put a segmentation into the study of its volume."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    volumeItem = hierarchy.GetItemByDataNode(volumeNode)
    if not volumeItem:
        return
    parent = hierarchy.GetItemParent(volumeItem)
    item = hierarchy.GetItemByDataNode(segmentationNode) or hierarchy.CreateItem(parent, segmentationNode)
    hierarchy.SetItemParent(item, parent)


def _newSegment(segmentation, output: SegmentOutput, patch: Patch) -> str:
    """Add an empty segment with its own labelmap; the first successful write sets its tags."""
    segment = slicer.vtkSegment()
    segment.SetName(free_name(output.name, _names(segmentation)))
    segment.SetNameAutoGenerated(False)
    segment.SetColor([part / 255.0 for part in distinct_color(_colors(segmentation), output.color)])
    segment.SetColorAutoGenerated(False)
    segment.SetTerminology(validTerminology(output.terminology))
    image = slicer.vtkOrientedImageData()
    image.SetImageToWorldMatrix(toMatrix(patch.grid))
    segment.AddRepresentation(LABELMAP, image)
    segmentId = segmentation.GenerateUniqueSegmentID("Segment")
    segmentation.AddSegment(segment, segmentId)
    return segmentId


def _segments(segmentation) -> list[Any]:
    return [segmentation.GetNthSegment(index) for index in range(segmentation.GetNumberOfSegments())]


def _colors(segmentation) -> list[Rgb]:
    return [tuple(round(255 * part) for part in segment.GetColor()) for segment in _segments(segmentation)]


def _names(segmentation) -> set[str]:
    return {segment.GetName() for segment in _segments(segmentation)}
