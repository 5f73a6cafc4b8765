"""One undo step: a segmentation as it was before the module's last write, until somebody else edits it.

Slicer's own history restores a segmentation as a whole, so undoing after somebody else's edit would revert that edit
too. Knows nothing about what is written.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import slicer

from .SegmentSurfaces import surfacesRebuilt


class EditGuard:
    """Distinguishes this module's edits from all others; shared by the classes that observe a segmentation."""

    def __init__(self):
        self._depth = 0

    @property
    def isOwn(self) -> bool:
        """Whether an edit that happens now is this module's."""
        return self._depth > 0

    @contextmanager
    def ownEdit(self) -> Iterator[None]:
        """Context in which edits count as this module's."""
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1


class Observers:
    """Observers of VTK objects that are removed together."""

    def __init__(self):
        self._tags: list[tuple[Any, int]] = []

    def add(self, subject, event, callback: Callable[..., None]) -> None:
        """Call `callback` with the subject and the event."""
        self._tags.append((subject, subject.AddObserver(event, callback)))

    def clear(self) -> None:
        """Remove all observers."""
        tags, self._tags = self._tags, []
        for subject, tag in tags:
            subject.RemoveObserver(tag)


class SegmentHistory:
    """Stores a segmentation before a write, and restores it.

    Args:
        guard: shared with :class:`~.OutputArchive.OutputArchive`.
        onChanged: called whenever :attr:`canUndo` may have changed.
    """

    def __init__(self, guard: EditGuard | None = None, onChanged: Callable[[], None] | None = None):
        self.guard = guard or EditGuard()
        self.onChanged = onChanged
        self._observers = Observers()
        self._node = None
        self._states: list[Any] = []
        self._labels: tuple = ()

    @property
    def canUndo(self) -> bool:
        """Whether there is a step to undo."""
        return self._node is not None

    @property
    def segmentationNode(self):
        """The segmentation that :meth:`undo` would restore; None if there is none."""
        return self._node

    def ownEdit(self):
        """Context in which edits count as this module's and keep the undo step."""
        return self.guard.ownEdit()

    def remember(self, segmentationNode, *companions) -> None:
        """Store a segmentation as it is now, in place of what was stored before.

        Args:
            segmentationNode: forgotten as soon as somebody else edits it, it is removed or the scene is closed.
            companions: segmentation nodes that are restored with it, e.g. the stored output.
        """
        self._drop()
        self._node = segmentationNode
        self._states = [_stateOf(node) for node in (segmentationNode, *companions) if node is not None]
        self._labels = _labelsOf(segmentationNode.GetSegmentation())
        self._observe(segmentationNode)
        self._changed()

    def _observe(self, segmentationNode) -> None:
        segmentation, events = segmentationNode.GetSegmentation(), slicer.vtkSegmentation
        for event in (events.SourceRepresentationModified, events.SegmentAdded, events.SegmentRemoved):
            self._observers.add(segmentation, event, self._onEdited)
        self._observers.add(segmentation, events.SegmentsOrderModified, self._onEdited)
        self._observers.add(segmentation, events.SegmentModified, self._onSegmentModified)
        self._observers.add(segmentationNode, slicer.vtkMRMLSegmentationNode.SegmentationChangedEvent, self._onEdited)
        scene = segmentationNode.GetScene()
        self._observers.add(scene, slicer.vtkMRMLScene.NodeRemovedEvent, self._onNodeRemoved)
        self._observers.add(scene, slicer.vtkMRMLScene.StartCloseEvent, self._onSceneClosing)

    def undo(self) -> bool:
        """Restore what was stored; False if there is nothing. A node made by the write stays, empty."""
        if not self.canUndo:
            return False
        node, states = self._node, self._states
        self._drop()
        with self.guard.ownEdit(), surfacesRebuilt(node):
            for state in states:
                state.RestorePreviousState()  # does nothing where nothing was written
        self._changed()
        return True

    def forget(self) -> None:
        """Drop the undo step, e.g. because the write failed before it changed anything."""
        if self.canUndo:
            self._drop()
            self._changed()

    def close(self) -> None:
        """Disconnect from the scene; `onChanged` is not called any more."""
        self.onChanged = None
        self._drop()

    def _drop(self) -> None:
        self._observers.clear()
        self._node, self._states = None, []

    def _changed(self) -> None:
        if self.onChanged is not None:
            self.onChanged()

    def _onEdited(self, _caller, _event) -> None:
        if not self.guard.isOwn:
            self.forget()

    def _onSegmentModified(self, segmentation, _event) -> None:
        """Also called when surfaces are made or a file is saved; these keep the undo step."""
        labels = _labelsOf(segmentation)
        if self.guard.isOwn:
            self._labels = labels
        elif labels != self._labels:
            self.forget()

    def _onNodeRemoved(self, _scene, _event) -> None:
        if self._node is not None and self._node.GetScene() is None:
            self.forget()

    def _onSceneClosing(self, _scene, _event) -> None:
        self.forget()


def _labelsOf(segmentation) -> tuple:
    """Name, colour and terminology of the segments: what others may change without changing voxels."""
    segments = [segmentation.GetNthSegment(index) for index in range(segmentation.GetNumberOfSegments())]
    return tuple((each.GetName(), each.GetColor(), each.GetTerminology()) for each in segments)


def _stateOf(segmentationNode):
    history = slicer.vtkSegmentationHistory()
    history.SetSegmentation(segmentationNode.GetSegmentation())
    history.SetMaximumNumberOfStates(2)  # restoring first stores the current state; with a limit of one, both are lost
    history.SaveState()
    return history
