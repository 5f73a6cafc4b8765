"""Review lists in the scene: kept with a segmentation, saved with it, and summarised in the tags of its segments.

Knows segmentations and volumes; does not know how slices are proposed.
"""

from collections.abc import Collection
from typing import Any

import slicer
from slicer.i18n import tr as _

from FastTextDiffSegmentLib.contract.answers import ProposedSlice
from FastTextDiffSegmentLib.contract.images import ACQUISITION, PLANES
from FastTextDiffSegmentLib.contract.segments import FINDING_TAG, LOOKED_AT_TAG, REVIEW_TAG, escape_tag, unescape_tag
from FastTextDiffSegmentLib.ReviewList import ACCEPTED, CORRECTED, ReviewedSlice, ReviewList, sameImage

from .Geometry import SceneError, requireImage, sliceShape, slicesToRas
from .OutputArchive import OutputArchive
from .SceneVolume import voxelDigest
from .SegmentHistory import REVIEW_ATTRIBUTE
from .SegmentTags import setTag, tagOf
from .SegmentVoxels import segmentIds
from .SegmentWriter import geometryMatches


class Reviews:
    """The review lists of the scene.

    Args:
        archive: knows which slices were edited since the model made them.
    """

    def __init__(self, archive: OutputArchive):
        self._archive = archive

    def begin(
        self,
        segmentationNode: Any,
        volumeNode: Any,
        proposed: tuple[ProposedSlice, ...],
        slices: tuple[int, int],
        findings: Collection[str],
        plane: str = ACQUISITION,
    ) -> None:
        """Take the proposals of a run for findings on slices [first, end); other slices and findings stay."""
        image, known = _imageOf(volumeNode, plane), self._known(segmentationNode)
        if known is None or not sameImage(known.image, image):
            if not proposed:
                return
            known = ReviewList(image)
        new = (ReviewedSlice(each.slice, each.finding, each.reason, each.pixels) for each in proposed)
        self._keep(segmentationNode, known.updated(*slices, findings, new))

    def of(self, segmentationNode: Any, volumeNode: Any) -> ReviewList | None:
        """The review list of a segmentation, with slices that were edited since as corrected; None if there is none.

        Raises:
            SceneError: it belongs to another image.
        """
        known = self._known(segmentationNode)
        if known is None or volumeNode is None or not _findings(segmentationNode):
            return None
        requireImage(volumeNode)
        if not sameImage(known.image, _imageOf(volumeNode, known.image["plane"])):
            message = _("The review list of '{segmentation}' belongs to another image, '{image}'.")
            name = known.image.get("name", "")
            raise SceneError(message.format(segmentation=segmentationNode.GetName(), image=name))
        return known

    def accept(self, segmentationNode: Any, volumeNode: Any, number: int) -> str:
        """Mark a slice as looked at: as corrected where it was edited since the model made it, else as accepted.

        Returns:
            The state; corrected if the slice is in the list for several findings, and one of them is.

        Raises:
            SceneError: there is no review list for this image, or the slice is not in it.
        """
        known = self.of(segmentationNode, volumeNode)
        if known is None or known.at(number) is None:
            raise SceneError(_("Slice {number} is not in the review list.").format(number=number + 1))
        states = set()
        for each in [each for each in known.slices if each.number == number]:
            isEdited = self._isEdited(segmentationNode, volumeNode, each, known.image["plane"])
            states.add(CORRECTED if isEdited else ACCEPTED)
            known = known.marked(each, CORRECTED if isEdited else ACCEPTED)
        self._keep(segmentationNode, known)
        return CORRECTED if CORRECTED in states else ACCEPTED

    def refresh(self, segmentationNode: Any, volumeNode: Any) -> None:
        """Mark accepted slices that were edited since as corrected, and rewrite the tags."""
        known = self.of(segmentationNode, volumeNode)
        if known is None:
            return
        updated = known
        for each in known.slices:
            if each.state == ACCEPTED and self._isEdited(segmentationNode, volumeNode, each, known.image["plane"]):
                updated = updated.marked(each, CORRECTED)
        self._keep(segmentationNode, updated)

    def retag(self) -> None:
        """Rewrite the tags of all segmentations, e.g. after an undo."""
        for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
            if self._archive.node(node) is not None:
                _tag(node, self._known(node))

    def _isEdited(self, segmentationNode: Any, volumeNode: Any, entry: ReviewedSlice, plane: str) -> bool:
        if not geometryMatches(segmentationNode, volumeNode):  # the slices cannot be compared
            return False
        return any(
            self._archive.isEdited(segmentationNode, segmentId, (entry.number, entry.number + 1), volumeNode, plane)
            for segmentId, findings in _findings(segmentationNode).items()
            if entry.finding in findings
        )

    @staticmethod
    def _known(segmentationNode: Any) -> ReviewList | None:
        text = None if segmentationNode is None else segmentationNode.GetAttribute(REVIEW_ATTRIBUTE)
        if not text:
            return None
        try:
            known = ReviewList.fromJson(text)
        except ValueError:
            return None  # edited by hand, or by another version: a new run makes a new list
        return known if known.image.get("plane") in PLANES else None

    @staticmethod
    def _keep(segmentationNode: Any, reviewed: ReviewList) -> None:
        text = reviewed.toJson() if reviewed.slices else None
        if segmentationNode.GetAttribute(REVIEW_ATTRIBUTE) != text:
            segmentationNode.SetAttribute(REVIEW_ATTRIBUTE, text)
        _tag(segmentationNode, reviewed)


def _tag(segmentationNode: Any, reviewed: ReviewList | None) -> None:
    """Tag each segment with the slices of its own findings that were looked at."""
    for segmentId, findings in _findings(segmentationNode).items():
        mine = None if reviewed is None else reviewed.about(findings)
        segment = segmentationNode.GetSegmentation().GetSegment(segmentId)
        isListed = mine is not None and bool(mine.slices)
        setTag(segment, REVIEW_TAG, escape_tag(mine.summary()) if isListed else "")
        setTag(segment, LOOKED_AT_TAG, str(mine.lookedAt) if isListed else "")


def _findings(segmentationNode: Any) -> dict[str, set[str]]:
    """The findings in each segment that this module made, by its id."""
    segmentation = segmentationNode.GetSegmentation()
    texts = {each: unescape_tag(tagOf(segmentation.GetSegment(each), FINDING_TAG)) for each in segmentIds(segmentation)}
    return {segmentId: {text, *text.split("; ")} for segmentId, text in texts.items() if text}


def _imageOf(volumeNode: Any, plane: str) -> dict[str, Any]:
    matrix = [[round(float(number), 3) for number in row] for row in slicesToRas(volumeNode, plane)[:3]]
    return {
        "name": volumeNode.GetName() or "",
        "plane": plane,
        "shape": list(sliceShape(volumeNode, plane)),
        "matrix": matrix,
        "content": voxelDigest(volumeNode),
    }
