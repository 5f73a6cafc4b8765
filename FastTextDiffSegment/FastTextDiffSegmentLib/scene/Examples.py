"""Slices with masks that the user chose as examples of a finding. Knows the scene; knows nothing about learning."""

import secrets
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
from slicer.i18n import tr as _

from FastTextDiffSegmentLib.engine.TeachingSession import VolumeExamples

from .Geometry import SceneError, inSliceOrder, nearestRasAxes, requireImage, slicesToRas
from .SceneVolume import contentKey, volumeSource
from .SegmentSlices import segmentOf, segmentSlice

EDITED, ACCEPTED, EMPTY = "edited", "accepted", "empty"
"""States of an example: its mask was edited, or is the model's own, or says that the finding is absent."""
_GROUP = "_fastTextDiffGroup"


@dataclass(frozen=True, eq=False)
class Example:
    """One slice with the mask of a finding, as it was when it was added.

    Attributes:
        volumeNode: the image.
        sliceIndex: number of its slice, as acquired.
        mask: (rows, columns) bool.
        state: one of the above.
        content: identifies the content of the image then.
    """

    volumeNode: Any
    sliceIndex: int
    mask: np.ndarray
    state: str
    content: Hashable

    def isOf(self, volumeNode: Any, sliceIndex: int) -> bool:
        """Whether it is this slice."""
        return self.volumeNode is volumeNode and self.sliceIndex == sliceIndex


def exampleOf(volumeNode, sliceIndex: int, segmentationNode, words: Sequence[str], isEdited) -> Example:
    """The shown slice with the mask of a finding.

    Args:
        volumeNode: the image.
        sliceIndex: number of its slice, as acquired.
        segmentationNode: has a segment of the finding.
        words: the finding and its synonyms.
        isEdited: tells whether a segment (segmentation node, id) was edited on this slice.

    Raises:
        SceneError: there is no mask of the finding on this slice.
    """
    requireImage(volumeNode)
    segmentId = segmentOf(segmentationNode, words)
    mask = None if segmentId is None else segmentSlice(segmentationNode, segmentId, volumeNode, sliceIndex)
    if mask is None or not mask.any():
        message = _(
            "There is no mask of '{finding}' on this slice: segment, paint or correct it first, or press Absent here."
        )
        raise SceneError(message.format(finding=words[0]))
    state = EDITED if isEdited(segmentationNode, segmentId) else ACCEPTED
    return Example(volumeNode, sliceIndex, mask, state, contentKey(volumeNode))


def absentExample(volumeNode, sliceIndex: int) -> Example:
    """A slice on which the finding is absent.

    Raises:
        SceneError: there is no image.
    """
    requireImage(volumeNode)
    shape = inSliceOrder(volumeNode, slicer.util.arrayFromVolume(volumeNode)).shape
    return Example(volumeNode, sliceIndex, np.zeros(shape[1:3], bool), EMPTY, contentKey(volumeNode))


def requireSameContent(example: Example) -> None:
    """Check that an example's image still shows what the mask was drawn on.

    Raises:
        SceneError: it was changed, e.g. because a sequence shows another item.
    """
    if contentKey(example.volumeNode) != example.content:
        message = _(
            "The image '{image}' was changed since slice {number} became an example: learn before you change an image "
            "or show another item of a sequence, or remove that example."
        )
        name = example.volumeNode.GetName() or ""
        raise SceneError(message.format(image=name, number=example.sliceIndex + 1))


def byVolume(examples: Sequence[Example], modality: str | None = None) -> list[VolumeExamples]:
    """The examples as the engine takes them, one group a volume, in the order added.

    Raises:
        SceneError: the image of one is no longer in the scene, or was changed.
    """
    groups: dict[str, list[Example]] = {}
    for example in examples:
        if not slicer.mrmlScene.IsNodePresent(example.volumeNode):
            raise SceneError(_("The image of an example is no longer in the scene: remove that example."))
        requireSameContent(example)
        groups.setdefault(example.volumeNode.GetID(), []).append(example)
    return [
        VolumeExamples(
            volumeSource(those[0].volumeNode, modality),
            tuple(each.sliceIndex for each in those),
            np.stack([each.mask for each in those]),
            _patientOf(those[0].volumeNode),
        )
        for those in groups.values()
    ]


def _patientOf(volumeNode) -> str:
    """What images of one patient have in common; the image itself where the patient is not known."""
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    item = hierarchy.GetItemByDataNode(volumeNode) if hierarchy else 0
    known = hierarchy.GetAttributeFromItemAncestor(item, "DICOM.PatientID", "Patient") if item else ""
    if known:
        return known
    # not the node's ID, which images of other patients have in other sessions; VTK keeps it as long as the node lives
    if not hasattr(volumeNode, _GROUP):
        setattr(volumeNode, _GROUP, secrets.token_hex(16))
    return getattr(volumeNode, _GROUP)


def thumbnail(example: Example, size: int = 48) -> np.ndarray:
    """A small picture of an example, (size, size, 3) uint8: the slice in grey, the mask in orange."""
    volumeNode = example.volumeNode
    pixels = inSliceOrder(volumeNode, slicer.util.arrayFromVolume(volumeNode))[example.sliceIndex]
    grey = pixels.astype(np.float32) if pixels.ndim == 2 else pixels[..., :3].mean(axis=2)
    rows, columns = (np.linspace(0, length - 1, size).round().astype(int) for length in grey.shape)
    grey, mask = (_turned(volumeNode, each[np.ix_(rows, columns)]) for each in (grey, example.mask))
    low, high = np.percentile(grey, (2, 98))
    shown = np.clip((grey - low) / max(float(high - low), 1e-6), 0, 1)
    picture = np.repeat(shown[..., None], 3, axis=2)
    picture[mask] = 0.5 * picture[mask] + 0.5 * np.array([1.0, 0.6, 0.0])
    return (255 * picture).astype(np.uint8)


def _turned(volumeNode, pixels: np.ndarray) -> np.ndarray:
    """A slice (rows, columns) turned to radiological display: patient right on image left, superior or anterior up."""
    toRas = slicesToRas(volumeNode)
    columns, rows, _across = nearestRasAxes(toRas)
    turned = pixels[:: -1 if toRas[rows, 1] > 0 else 1, :: -1 if toRas[columns, 0] > 0 else 1]
    return turned if columns < rows else turned.T
