"""The items of a sequence as volumes, and their segmentations as a second sequence. Knows nothing about findings.

The browser is never moved: a user may go on looking at other items during a run. Where an item is missing, Slicer
leaves the voxels of the previous one in the shown volume, so the shown volume is not what is segmented.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import slicer
from slicer.i18n import tr as _

from FastTextDiffSegmentLib.contract.segments import SEQUENCE_ITEM_TAG

from .Geometry import SceneError, ijkToRas, requireImage, toMatrix
from .SceneVolume import MODALITY_ATTRIBUTE, dicomModality

_COPIED = "DICOM.instanceUIDs"
"""Says that the voxels are in the order of the slices."""


@dataclass(frozen=True)
class SequenceItems:
    """A sequence of images.

    Attributes:
        browser: vtkMRMLSequenceBrowserNode.
        sequence: vtkMRMLSequenceNode of the images.
        shown: the volume that shows the browser's current item.
        values: index value of each item of the browser.
    """

    browser: Any
    sequence: Any
    shown: Any
    values: tuple[str, ...]

    @classmethod
    def of(cls, volumeNode: Any) -> "SequenceItems | None":
        """The sequence that a volume shows an item of; None if it belongs to none."""
        scene = None if volumeNode is None else volumeNode.GetScene()
        for index in range(scene.GetNumberOfNodesByClass("vtkMRMLSequenceBrowserNode") if scene else 0):
            browser = scene.GetNthNodeByClass(index, "vtkMRMLSequenceBrowserNode")
            sequence, master = browser.GetSequenceNode(volumeNode), browser.GetMasterSequenceNode()
            if sequence is not None and master is not None:
                values = tuple(master.GetNthIndexValue(n) for n in range(master.GetNumberOfDataNodes()))
                return cls(browser, sequence, volumeNode, values)
        return None

    @staticmethod
    def isShownBy(node: Any) -> bool:
        """Whether a browser shows its current item by this node, so that it becomes another item's any time."""
        return slicer.modules.sequences.logic().GetFirstBrowserNodeForProxyNode(node) is not None

    def image(self, number: int) -> Any:
        """The image of an item, from 0; None if it is missing or has no voxels."""
        node = self.sequence.GetDataNodeAtValue(self.values[number], True)
        try:
            requireImage(node)
        except SceneError:
            return None
        return node

    def missing(self) -> list[int]:
        """Numbers of the items without an image, from 0."""
        return [number for number in range(len(self.values)) if self.image(number) is None]

    @contextmanager
    def volumes(self) -> Iterator[dict[int, Any]]:
        """Context with a hidden volume node for each item that has an image, by number; they share its voxels."""
        nodes: dict[int, Any] = {}
        try:
            for number in range(len(self.values)):
                image = self.image(number)
                if image is not None:
                    nodes[number] = self._volume(number, image)
            yield nodes
        finally:
            for node in nodes.values():
                if slicer.mrmlScene.IsNodePresent(node):  # else the scene was closed
                    slicer.mrmlScene.RemoveNode(node)

    def _volume(self, number: int, image: Any) -> Any:
        node = slicer.mrmlScene.CreateNodeByClass(image.GetClassName())
        node.UnRegister(None)
        node.SetHideFromEditors(True)  # before it is added to the scene, or lists would show it
        node.SetSaveWithScene(False)
        node.SetName(_("{image}, item {number}").format(image=self.shown.GetName(), number=number + 1))
        node.SetAndObserveImageData(image.GetImageData())
        node.SetIJKToRASMatrix(toMatrix(ijkToRas(image)))
        node.SetAttribute(_COPIED, self.shown.GetAttribute(_COPIED))
        node.SetAttribute(MODALITY_ATTRIBUTE, dicomModality(self.shown))
        node.SetAttribute(SEQUENCE_ITEM_TAG, str(number))
        slicer.mrmlScene.AddNode(node)
        node.SetAndObserveTransformNodeID(self.shown.GetTransformNodeID())
        return node

    def addSegmentations(self, segmentations: Sequence[Any], name: str) -> Any:
        """Add segmentations, one per item and all in the scene, as a sequence that the browser shows with the images.

        Args:
            segmentations: removed from the scene; what is shown of them is the browser's.
            name: of the sequence.

        Returns:
            The segmentation node that shows the browser's current item.
        """
        sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", slicer.mrmlScene.GenerateUniqueName(name))
        sequence.SetIndexName(self.sequence.GetIndexName())
        sequence.SetIndexUnit(self.sequence.GetIndexUnit())
        sequence.SetIndexType(self.sequence.GetIndexType())
        for value, segmentation in zip(self.values, segmentations, strict=True):
            sequence.SetDataNodeAtValue(segmentation, value)
        for segmentation in segmentations:
            display = segmentation.GetDisplayNode()
            slicer.mrmlScene.RemoveNode(segmentation)
            if display is not None:
                slicer.mrmlScene.RemoveNode(display)
        self.browser.AddSynchronizedSequenceNode(sequence)
        self.browser.SetSaveChanges(sequence, True)  # or edits would be lost as soon as another item is shown
        slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(self.browser)
        shown = self.browser.GetProxyNode(sequence)
        shown.CreateDefaultDisplayNodes()
        return shown
