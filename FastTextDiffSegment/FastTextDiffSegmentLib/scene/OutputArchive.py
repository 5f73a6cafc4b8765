"""Stores the model's output of every segment, and marks segments that were edited since.

The output is in a hidden segmentation node that the user's segmentation refers to, so that both are saved together. Of
the items of a sequence, edits are noticed, but the output is not kept. Knows nothing about the engine or undo.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import slicer
from slicer.i18n import tr as _

from FastTextDiffSegmentLib.contract.images import ACQUISITION
from FastTextDiffSegmentLib.contract.segments import ALGORITHM_TAG, AUTOMATIC, CORRECTED_TAG, FINDING_TAG, SEMIAUTOMATIC

from .Geometry import SceneError, sliceShape
from .SegmentChanges import Before
from .SegmentHistory import EditGuard, Observers
from .SegmentSurfaces import surfacesRebuilt
from .SegmentTags import setTag
from .SegmentVoxels import (
    LABELMAP,
    Index,
    Patch,
    copyLabelmap,
    gridOf,
    indexShift,
    isWhole,
    labelmapOf,
    patchOfSlices,
    readVoxels,
    replaceVoxels,
    segmentGrid,
    segmentIds,
)
from .SegmentWriter import SegmentedFinding, tagOf
from .SequenceItems import SequenceItems

ROLE = "FastTextDiffOutput"
"""Node reference from the user's segmentation to the stored output."""
_PART = ".part"
"""Ends the id of a stored segment with the voxels that the model decided about, of a segment that had others before."""


class OutputArchive:
    """The stored output, and which segments were edited since.

    Args:
        guard: shared with :class:`~.SegmentHistory.SegmentHistory`.
        onEdited: called with (segmentation node, segment id) when the user or another module edits a segment.
    """

    def __init__(self, guard: EditGuard | None = None, onEdited: Callable[[Any, str], None] | None = None):
        self.guard = guard or EditGuard()
        self.onEdited = onEdited
        self._watched: dict[str, Observers] = {}
        self._checked: dict[tuple[str, str], int] = {}
        self._items: dict[str, Before] = {}  # what a sequence shows: its item before the user edits it

    def ownEdit(self):
        """Context in which edits count as this module's."""
        return self.guard.ownEdit()

    def node(self, segmentationNode):
        """The output node of a segmentation; None if there is none.

        There is none for a segmentation that shows items of a sequence: it would be compared with other items.
        """
        return None if SequenceItems.isShownBy(segmentationNode) else segmentationNode.GetNodeReference(ROLE)

    def prepare(self, segmentationNode):
        """Make the output node if there is none, and observe the segmentation; to be called before a write.

        Segments that the model made and whose output is not stored, e.g. of a file or a copy, are stored as they are.
        A segmentation that has none, see :meth:`node`, is only observed.
        """
        if SequenceItems.isShownBy(segmentationNode):
            self.attach(segmentationNode)
            return None
        archive = self.node(segmentationNode) or self._newNode(segmentationNode)
        user, stored = segmentationNode.GetSegmentation(), archive.GetSegmentation()
        for segmentId in _notStored(user, stored):
            _addEmpty(stored, segmentId, user.GetSegment(segmentId).GetName())
            copyLabelmap(user, stored, segmentId)
        self.attach(segmentationNode)
        return archive

    def _newNode(self, segmentationNode):
        archive = slicer.vtkMRMLSegmentationNode()
        archive.SetName(f"{segmentationNode.GetName()} (FastTextDiff output)")
        archive.SetHideFromEditors(True)  # before it is added to the scene, or lists would show it
        archive.GetSegmentation().CopyConversionParameters(segmentationNode.GetSegmentation())
        slicer.mrmlScene.AddNode(archive)
        segmentationNode.SetNodeReferenceID(ROLE, archive.GetID())
        return archive

    def attachAll(self) -> None:
        """Adopt every segmentation in the scene, e.g. after loading a scene, a file or the module."""
        for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
            if not node.GetHideFromEditors():  # else a preview, or what is stored here
                self.adopt(node)

    def adopt(self, segmentationNode) -> None:
        """Observe a segmentation if it has segments that the model made, see :meth:`prepare`."""
        isOurs = self.node(segmentationNode) is not None or _notStored(segmentationNode.GetSegmentation())
        if isOurs or SequenceItems.isShownBy(segmentationNode):  # the model may have made another item
            self.prepare(segmentationNode)

    def attach(self, segmentationNode) -> None:
        """Observe a segmentation for edits by the user or other modules, and notice those made before."""
        nodeId, scene = segmentationNode.GetID(), segmentationNode.GetScene()
        self._unwatch(nodeId)
        observers = self._watched[nodeId] = Observers()
        changed = slicer.vtkSegmentation.SourceRepresentationModified
        observers.add(segmentationNode.GetSegmentation(), changed, lambda *_: self._onModified(segmentationNode))
        replaced = slicer.vtkMRMLSegmentationNode.SegmentationChangedEvent
        observers.add(segmentationNode, replaced, lambda *_: self.attach(segmentationNode))
        # a removed node loses its node references
        archive = self.node(segmentationNode)
        removed = slicer.vtkMRMLScene.NodeRemovedEvent
        observers.add(scene, removed, lambda *_: self._onNodeRemoved(segmentationNode, nodeId, archive))
        observers.add(scene, slicer.vtkMRMLScene.StartCloseEvent, lambda *_: self._release(nodeId))
        if SequenceItems.isShownBy(segmentationNode):
            self._remember(segmentationNode)
        else:
            self._onModified(segmentationNode)

    def close(self) -> None:
        """Disconnect from the scene; the stored output stays in it."""
        self.onEdited = None
        for nodeId in list(self._watched):
            self._release(nodeId)

    def _unwatch(self, nodeId: str) -> None:
        if nodeId in self._watched:
            self._watched.pop(nodeId).clear()

    def _release(self, nodeId: str) -> None:
        self._unwatch(nodeId)
        self._items.pop(nodeId, None)
        self._checked = {key: time for key, time in self._checked.items() if key[0] != nodeId}

    def record(self, segmentationNode, written: Sequence[SegmentedFinding]) -> None:
        """Store the segments as a write has just left them, within the boxes that were written to.

        Args:
            segmentationNode: the segmentation; :meth:`prepare` was called before the write.
            written: what was written.
        """
        if self.node(segmentationNode) is None:
            return
        user, stored = segmentationNode.GetSegmentation(), self.node(segmentationNode).GetSegmentation()
        for each in written:
            if each.segmentId is None or each.patch is None:
                continue
            segment, partId = user.GetSegment(each.segmentId), each.segmentId + _PART
            isOther = each.created or _shiftOfPatch(stored, each.segmentId, each.patch) is None
            for storedId in (each.segmentId, partId):
                if isOther and stored.GetSegment(storedId):  # of a removed segment of this id, or on a former grid
                    stored.RemoveSegment(storedId)
            if not stored.GetSegment(each.segmentId):
                for storedId in (each.segmentId,) if each.created else (each.segmentId, partId):
                    _addEmpty(stored, storedId, segment.GetName())
            if _recordPatch(user, stored, each.segmentId, each.patch):
                segment.SetTag(ALGORITHM_TAG, SEMIAUTOMATIC)

    def isStored(self, segmentationNode, segmentId: str) -> bool:
        """Whether both this segment and its stored output exist."""
        archive = self.node(segmentationNode)
        both = () if archive is None else (archive.GetSegmentation(), segmentationNode.GetSegmentation())
        return bool(both) and all(labelmapOf(segmentation, segmentId) is not None for segmentation in both)

    def isEdited(
        self, segmentationNode, segmentId: str, sliceRange=None, volumeNode=None, plane: str = ACQUISITION
    ) -> bool:
        """Whether a segment differs from its stored output, voxel by voxel; False if none is stored.

        Args:
            segmentationNode: the user's segmentation.
            segmentId: the segment.
            sliceRange: (first, end) of the volume's slices; all if None.
            volumeNode: defines the slices; the segment must be on its grid.
            plane: of the slices.

        Raises:
            SceneError: the segment is on another grid than the volume.
        """
        if not self.isStored(segmentationNode, segmentId):
            return False
        user, stored = segmentationNode.GetSegmentation(), self.node(segmentationNode).GetSegmentation()
        shift = _shift(labelmapOf(user, segmentId), stored, segmentId)
        if shift is None:
            return True
        if sliceRange is None:
            start, shape = _commonBox(labelmapOf(user, segmentId), labelmapOf(stored, segmentId), shift)
        else:
            start, shape = _sliceBox(segmentationNode, segmentId, volumeNode, sliceRange, plane)
        now = readVoxels(user, segmentId, start, shape)
        return not np.array_equal(now, readVoxels(stored, segmentId, _moved(start, shift), shape))

    def restore(self, segmentationNode, segmentId: str) -> bool:
        """Restore a segment from its stored output, as an edit by this module; False if none is stored.

        Of a segment that the model made only in part, the rest stays.

        Raises:
            SceneError: the model made only a part, and the segment is on another grid now.
        """
        if not self.isStored(segmentationNode, segmentId):
            return False
        user, stored = segmentationNode.GetSegmentation(), self.node(segmentationNode).GetSegmentation()
        with self.guard.ownEdit(), surfacesRebuilt(segmentationNode):
            if stored.GetSegment(segmentId + _PART) is None:
                copyLabelmap(stored, user, segmentId)
            else:
                _restorePart(user, stored, segmentId)
            if not self.isEdited(segmentationNode, segmentId):
                user.GetSegment(segmentId).SetTag(ALGORITHM_TAG, AUTOMATIC)
                setTag(user.GetSegment(segmentId), CORRECTED_TAG, "")
        return True

    def _remember(self, segmentationNode) -> None:
        """Remember a shown item: another one replaces the vtkSegmentation, so that this one changes only by edits."""
        self._items.pop(segmentationNode.GetID(), None)
        segmentation = segmentationNode.GetSegmentation()
        if any(tagOf(segmentation.GetSegment(each), FINDING_TAG) for each in segmentIds(segmentation)):
            self._items[segmentationNode.GetID()] = Before(segmentation)

    def _onModified(self, segmentationNode) -> None:
        isItem = SequenceItems.isShownBy(segmentationNode)
        if self.guard.isOwn:
            if isItem:
                self._remember(segmentationNode)
            return
        if self.node(segmentationNode) is None and not isItem:
            return
        segmentation = segmentationNode.GetSegmentation()
        for index in range(segmentation.GetNumberOfSegments()):
            segment, segmentId = segmentation.GetNthSegment(index), segmentation.GetNthSegmentID(index)
            if tagOf(segment, ALGORITHM_TAG) == AUTOMATIC and self._isNewlyEdited(segmentationNode, segmentId):
                segment.SetTag(ALGORITHM_TAG, SEMIAUTOMATIC)
                if self.onEdited is not None:
                    self.onEdited(segmentationNode, segmentId)

    def _isNewlyEdited(self, segmentationNode, segmentId: str) -> bool:
        """Compares only labelmaps that changed since the last call: every stroke of the brush calls this."""
        image = labelmapOf(segmentationNode.GetSegmentation(), segmentId)
        if image is None or not isWhole(image):
            return False
        key, time = (segmentationNode.GetID(), segmentId), image.GetMTime()
        if self._checked.get(key) == time:
            return False
        self._checked[key] = time
        item = self._items.get(segmentationNode.GetID())
        return self.isEdited(segmentationNode, segmentId) if item is None else item.hasOtherVoxels(segmentId)

    def _onNodeRemoved(self, segmentationNode, nodeId: str, archive) -> None:
        if segmentationNode.GetScene() is not None:
            return
        self._release(nodeId)
        if archive is not None and archive.GetScene() is not None:
            slicer.mrmlScene.RemoveNode(archive)


def _notStored(user, stored=None) -> list[str]:
    """Ids of the segments that the model made and that are not among the stored ones."""
    segments = [(segmentId, user.GetSegment(segmentId)) for segmentId in segmentIds(user)]
    return [
        segmentId
        for segmentId, segment in segments
        if tagOf(segment, ALGORITHM_TAG) == AUTOMATIC
        and tagOf(segment, FINDING_TAG)
        and labelmapOf(user, segmentId) is not None
        and (stored is None or stored.GetSegment(segmentId) is None)
    ]


def _addEmpty(segmentation, segmentId: str, name: str) -> None:
    segment = slicer.vtkSegment()
    segment.SetName(name)
    segment.AddRepresentation(LABELMAP, slicer.vtkOrientedImageData())
    segmentation.AddSegment(segment, segmentId)


def _recordPatch(user, stored, segmentId: str, patch: Patch) -> bool:
    """Store what the model made within a patch; whether the segment has more there, drawn by hand."""
    now, start = readVoxels(user, segmentId, patch.start, patch.shape), _placeOfPatch(stored, segmentId, patch)
    made = now & (patch.mask | readVoxels(stored, segmentId, start, patch.shape))
    _storePatch(stored, segmentId, replace(patch, mask=made))
    if stored.GetSegment(segmentId + _PART):
        _storePatch(stored, segmentId + _PART, replace(patch, mask=np.ones(patch.shape, bool)))
    byHand = now & ~made
    return bool(byHand.any() if patch.region is None else byHand[patch.region].any())


def _storePatch(stored, segmentId: str, patch: Patch) -> None:
    grid = patch.grid if labelmapOf(stored, segmentId).IsEmpty() else segmentGrid(stored, segmentId)
    replaceVoxels(stored, segmentId, replace(patch, grid=grid, start=_placeOfPatch(stored, segmentId, patch)))


def _shiftOfPatch(stored, segmentId: str, patch: Patch) -> Index | None:
    """As :func:`_shift`, from the grid of a patch."""
    image = labelmapOf(stored, segmentId)
    if image is None or image.IsEmpty():
        return 0, 0, 0
    k, j, i = (first + size for first, size in zip(patch.start[::-1], patch.shape, strict=True))
    return indexShift(gridOf(image), patch.grid, (k, j, i))


def _placeOfPatch(stored, segmentId: str, patch: Patch) -> Index:
    return _moved(patch.start, _shiftOfPatch(stored, segmentId, patch))


def _restorePart(user, stored, segmentId: str) -> None:
    """Restore the voxels that the model decided about."""
    part = labelmapOf(stored, segmentId + _PART)
    start, shape = part.GetExtent()[::2], part.GetDimensions()[::-1]
    shift = _shift(part, user, segmentId)
    if shift is None:
        message = _("'{name}' was resampled since the model made a part of it. Segment the finding again.")
        raise SceneError(message.format(name=user.GetSegment(segmentId).GetName()))
    isEmpty = labelmapOf(user, segmentId).IsEmpty()
    grid = gridOf(part) if isEmpty else segmentGrid(user, segmentId)
    made = readVoxels(stored, segmentId, _moved(start, _shift(part, stored, segmentId)), shape)
    region = readVoxels(stored, segmentId + _PART, start, shape)
    replaceVoxels(user, segmentId, Patch(grid, _moved(start, shift), made, region))


def _shift(image, segmentation, segmentId: str) -> Index | None:
    """What to add to an index in an image to get the same place in a segment's labelmap; stored ones may be cropped.

    None if the grids do not coincide; an empty labelmap fits any grid.
    """
    if image.IsEmpty() or labelmapOf(segmentation, segmentId).IsEmpty():
        return 0, 0, 0
    return indexShift(segmentGrid(segmentation, segmentId), gridOf(image), image.GetDimensions()[::-1])


def _moved(start: Index, shift: Index) -> Index:
    return start[0] + shift[0], start[1] + shift[1], start[2] + shift[2]


def _sliceBox(segmentationNode, segmentId: str, volumeNode, sliceRange: tuple[int, int], plane: str):
    """Start and size of some slices of a volume on the grid of a segment."""
    first, end = sliceRange
    asked = np.broadcast_to(np.False_, (end - first, *sliceShape(volumeNode, plane)[1:]))
    patch = patchOfSlices(segmentationNode, segmentId, volumeNode, asked, first, resample=False, plane=plane)
    return patch.start, patch.shape


def _commonBox(userImage, storedImage, shift: Index) -> tuple[Index, Index]:
    """Start (i, j, k) and size (k, j, i) of the smallest box, in the user's indices, that contains both labelmaps."""
    extents = [np.array(userImage.GetExtent()), np.array(storedImage.GetExtent()) - np.repeat(shift, 2)]
    filled = [extent for extent, image in zip(extents, (userImage, storedImage), strict=True) if not image.IsEmpty()]
    if not filled:
        return (0, 0, 0), (0, 0, 0)
    low = np.min([extent[::2] for extent in filled], axis=0)
    k, j, i = (np.max([extent[1::2] for extent in filled], axis=0) - low + 1)[::-1]
    return (int(low[0]), int(low[1]), int(low[2])), (int(k), int(j), int(i))
