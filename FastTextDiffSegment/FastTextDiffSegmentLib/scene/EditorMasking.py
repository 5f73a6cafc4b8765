"""The Segment Editor's masking and overwriting, as a limit of what this module writes. Changes no segment."""

from dataclasses import dataclass
from typing import Any

import slicer
from slicer.i18n import tr as _

from .Geometry import SceneError


@dataclass(frozen=True)
class Masking:
    """How other segments and the image limit a write.

    Attributes:
        editorNode: vtkMRMLSegmentEditorNode whose masking and overwriting are applied; None lets segments overlap.
    """

    editorNode: Any = None


def requireArea(masking: Masking | None, segmentationNode: Any) -> None:
    """Check that a segmentation has the segment that is the editable area, e.g. that it is not another image's.

    Args:
        masking: None for none.
        segmentationNode: None for a new one, which has no segments.

    Raises:
        SceneError: it has none of that id.
    """
    editorNode = masking.editorNode if masking else None
    if editorNode is None or editorNode.GetMaskMode() != slicer.vtkMRMLSegmentationNode.EditAllowedInsideSingleSegment:
        return
    segmentId = editorNode.GetMaskSegmentID()
    segmentation = None if segmentationNode is None else segmentationNode.GetSegmentation()
    if segmentation is None or not segmentId or segmentation.GetSegment(segmentId) is None:
        message = _(
            "The Segment Editor's editable area is a segment that '{name}' does not have. Choose another area there, "
            "or untick its masking here."
        )
        name = _("a new segmentation") if segmentationNode is None else segmentationNode.GetName()
        raise SceneError(message.format(name=name))


def editorLike(settings: Any) -> Any:
    """A hidden editor node with the same masking and overwriting."""
    node = slicer.vtkMRMLSegmentEditorNode()
    node.SetHideFromEditors(True)
    node.SetSaveWithScene(False)
    slicer.mrmlScene.AddNode(node)
    node.SetOverwriteMode(settings.GetOverwriteMode())
    node.SetMaskMode(settings.GetMaskMode())
    node.SetMaskSegmentID(settings.GetMaskSegmentID())
    node.SetSourceVolumeIntensityMask(settings.GetSourceVolumeIntensityMask())
    node.SetSourceVolumeIntensityMaskRange(settings.GetSourceVolumeIntensityMaskRange())
    return node
