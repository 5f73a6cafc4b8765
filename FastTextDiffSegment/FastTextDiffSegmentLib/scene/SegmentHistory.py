"""The module's edits as steps that can be undone and redone, whatever others edit in between.

Slicer's own history restores a segmentation as a whole, so undoing after somebody else's edit would revert that edit
too. A step is therefore what one edit changed. Knows nothing about what is written.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import slicer

from .EditorHistory import saveEditorState
from .SegmentChanges import Before, SegmentChange, make
from .SegmentSurfaces import surfacesRebuilt
from .SegmentVoxels import segmentIds

REVIEW_ATTRIBUTE = "FastTextDiff.Review"
"""Attribute of a segmentation node with its review list, which is undone with the run that it is about."""
STEPS_KEPT = 50
BYTES_KEPT = 128 << 20
"""Memory of all steps; the oldest are dropped first, the newest is always kept."""


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


@dataclass
class Step:
    """One edit.

    Attributes:
        text: what it was, for the user, e.g. "left lung, slice 57".
        node: the segmentation.
        stored: the segmentation of the stored output; None if there is none.
        key: what the edit belongs to; an edit with the same key may continue the step.
        attribute: what the node's review list is on the other side of the step; None if the step left it alone.
        changes: (change, whether of the stored output), in the order they were made.
    """

    text: str
    node: Any
    stored: Any
    key: Any = None
    attribute: tuple[str | None] | None = None
    changes: list[tuple[SegmentChange, bool]] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(change.size for change, _isStored in self.changes)

    def inverse(self, changes: list[tuple[SegmentChange, bool]]) -> "Step":
        """The step that takes back what was made of this one."""
        return replace(self, changes=[(change.inverse(), isStored) for change, isStored in reversed(changes)])

    def add(self, changes: list[SegmentChange], isStored: bool) -> None:
        """Add changes, as one with earlier ones of the same segment where possible."""
        for change in changes:
            mine = [(each.segmentId, kind) for each, kind in self.changes]
            last = max((n for n, each in enumerate(mine) if each == (change.segmentId, isStored)), default=None)
            joined = None if last is None else self.changes[last][0].then(change)
            if joined is None:
                self.changes.append((change, isStored))
            else:
                self.changes[last] = joined, isStored
        self.changes = [(change, kind) for change, kind in self.changes if not change.isEmpty]

    def drop(self, node: Any, gone: Collection[str]) -> None:
        """Drop the changes of segments that are gone, if the step is about this segmentation."""
        if self.node is node:
            self.changes = [(change, kind) for change, kind in self.changes if change.segmentId not in gone]

    def rename(self, node: Any, names: Mapping[str, str]) -> None:
        """Take other segment ids, if the step is about this segmentation."""
        if self.node is node:
            self.changes = [
                (replace(change, segmentId=names.get(change.segmentId, change.segmentId)), isStored)
                for change, isStored in self.changes
            ]


class _Watch:
    """Observers of a segmentation, and the segments that it had last."""

    def __init__(self, node: Any):
        self.node, self.observers = node, Observers()
        self.ids = set(segmentIds(node.GetSegmentation()))


class SegmentHistory:
    """Records the module's edits, undoes and redoes them.

    A step changes back exactly the voxels and tags that its edit changed. What others edited since stays, except that
    a voxel set to the value it already had cannot be distinguished from one never touched.

    Args:
        guard: shared with :class:`~.OutputArchive.OutputArchive`.
        onChanged: called whenever what can be undone or redone may have changed.
    """

    def __init__(self, guard: EditGuard | None = None, onChanged: Callable[[], None] | None = None):
        self.guard = guard or EditGuard()
        self.onChanged = onChanged
        self._done: list[Step] = []
        self._undone: list[Step] = []
        self._watched: dict[str, _Watch] = {}

    @property
    def canUndo(self) -> bool:
        """Whether there is a step to undo."""
        return bool(self._done)

    @property
    def canRedo(self) -> bool:
        """Whether there is a step to redo."""
        return bool(self._undone)

    @property
    def undoText(self) -> str:
        """What :meth:`undo` would undo; empty for nothing."""
        return self._done[-1].text if self._done else ""

    @property
    def redoText(self) -> str:
        """What :meth:`redo` would redo; empty for nothing."""
        return self._undone[-1].text if self._undone else ""

    def ownEdit(self):
        """Context in which edits count as this module's."""
        return self.guard.ownEdit()

    @contextmanager
    def step(self, text: str, segmentationNode: Any, stored: Any = None, key: Any = None) -> Iterator[None]:
        """Context in which edits of a segmentation count as this module's and become one step.

        An edit that changes nothing, or that ends with an exception, is no step.

        Args:
            text: what it is, for the user.
            segmentationNode: the segmentation; its steps are forgotten when it is removed or the scene is closed.
            stored: the segmentation of the stored output, which is undone with it.
            key: if the last step has the same key, this edit continues it: one undo takes both back.
        """
        if not self.continues(key):
            saveEditorState(segmentationNode)
        nodes = [(node, isStored) for node, isStored in ((segmentationNode, False), (stored, True)) if node is not None]
        before = [(Before(node.GetSegmentation()), isStored) for node, isStored in nodes]
        attribute = segmentationNode.GetAttribute(REVIEW_ATTRIBUTE)
        with self.guard.ownEdit():
            yield
        step = self._done.pop() if self.continues(key) else Step(text, segmentationNode, stored, key)
        for earlier, isStored in before:
            step.add(earlier.changes(), isStored)
        if any(change.isMoved and not isStored for change, isStored in step.changes):
            step.changes = []  # on another grid now: it could be taken back only in part
        if step.attribute is None and attribute != segmentationNode.GetAttribute(REVIEW_ATTRIBUTE):
            step.attribute = (attribute,)
        self._undone = []
        if step.changes:
            self._done.append(step)
            self._watch(segmentationNode)
        self._limit()
        self._changed()

    def continues(self, key: Any) -> bool:
        """Whether an edit with this key continues the last step."""
        return key is not None and bool(self._done) and self._done[-1].key is key

    def _limit(self) -> None:
        while len(self._done) > 1 and (
            len(self._done) > STEPS_KEPT or sum(step.size for step in self._done) > BYTES_KEPT
        ):
            self._done.pop(0)

    def undo(self) -> str | None:
        """Undo the last step; its text, or None if there is nothing. A node made by the step stays, empty."""
        return self._move(self._done, self._undone, isBack=True)

    def redo(self) -> str | None:
        """Make the last undone step again; its text, or None if there is nothing."""
        return self._move(self._undone, self._done, isBack=False)

    def _move(self, source: list[Step], target: list[Step], isBack: bool) -> str | None:
        if not source:
            return None
        step = source.pop()
        saveEditorState(step.node)
        changes = step.inverse(step.changes).changes if isBack else step.changes
        with self.guard.ownEdit(), surfacesRebuilt(step.node):
            made = self._make(step, changes)
        if step.attribute is not None:
            here = step.node.GetAttribute(REVIEW_ATTRIBUTE)
            step.node.SetAttribute(REVIEW_ATTRIBUTE, step.attribute[0])
            step.attribute = (here,)
        made = [(change, isStored) for change, isStored in made if not change.isEmpty]
        if made:
            target.append(step.inverse(made) if isBack else replace(step, changes=made))
        self._changed()
        return step.text

    def _make(self, step: Step, changes: list[tuple[SegmentChange, bool]]) -> list[tuple[SegmentChange, bool]]:
        made, names = [], {}
        for change, isStored in changes:
            node = step.stored if isStored else step.node
            asked = replace(change, segmentId=names.get(change.segmentId, change.segmentId))
            done = make(node.GetSegmentation(), asked, isStored)
            if done.segmentId != asked.segmentId:
                names[change.segmentId] = done.segmentId
            made.append((done, isStored))
        for other in (*self._done, *self._undone) if names else ():
            other.rename(step.node, names)
        return made

    def forget(self) -> None:
        """Forget all steps."""
        self._forget(lambda step: True)

    def close(self) -> None:
        """Disconnect from the scene; `onChanged` is not called any more."""
        self.onChanged = None
        self.forget()

    def _forget(self, isMeant: Callable[[Step], bool]) -> None:
        before = len(self._done), len(self._undone)
        self._done = [step for step in self._done if not isMeant(step)]
        self._undone = [step for step in self._undone if not isMeant(step)]
        left = {step.node.GetID() for step in (*self._done, *self._undone)}
        for nodeId in [each for each in self._watched if each not in left]:
            self._watched.pop(nodeId).observers.clear()
        if before != (len(self._done), len(self._undone)):
            self._changed()

    def _changed(self) -> None:
        if self.onChanged is not None:
            self.onChanged()

    # --- edits by others ------------------------------------------------------------------------------------------

    def _watch(self, node: Any) -> None:
        if node.GetID() in self._watched:
            return
        watch = self._watched[node.GetID()] = _Watch(node)
        segmentation, events, scene = node.GetSegmentation(), slicer.vtkSegmentation, node.GetScene()
        for event in (events.SegmentAdded, events.SegmentRemoved):
            watch.observers.add(segmentation, event, lambda *_: self._onSegments(watch))
        changed = slicer.vtkMRMLSegmentationNode.SegmentationChangedEvent
        watch.observers.add(node, changed, lambda *_: self._forget(lambda step: step.node is node))
        removed, closing = slicer.vtkMRMLScene.NodeRemovedEvent, slicer.vtkMRMLScene.StartCloseEvent
        watch.observers.add(scene, removed, lambda *_: self._onNodeRemoved(node))
        watch.observers.add(scene, closing, lambda *_: self.forget())

    def _onSegments(self, watch: "_Watch") -> None:
        """A segment that others remove is no longer part of a step, even if a new one gets its id."""
        now = set(segmentIds(watch.node.GetSegmentation()))
        gone, watch.ids = watch.ids - now, now
        if gone and not self.guard.isOwn:
            for step in (*self._done, *self._undone):
                step.drop(watch.node, gone)
            self._forget(lambda step: not step.changes)

    def _onNodeRemoved(self, node: Any) -> None:
        if node.GetScene() is None:
            self._forget(lambda step: step.node is node)
