"""Surfaces of segments in 3D stay shown through edits. Knows segmentation nodes, no voxels."""

from collections.abc import Iterator
from contextlib import contextmanager

_SURFACE = "Closed surface"


@contextmanager
def surfacesRebuilt(segmentationNode) -> Iterator[None]:
    """Remove the surfaces during an edit, each step of which would remake them; make them again afterwards if shown."""
    isShown = _isShownIn3D(segmentationNode)
    if segmentationNode.GetSegmentation().ContainsRepresentation(_SURFACE):
        segmentationNode.RemoveClosedSurfaceRepresentation()
    try:
        yield
    finally:
        if isShown:
            segmentationNode.CreateClosedSurfaceRepresentation()


def _isShownIn3D(segmentationNode) -> bool:
    """Whether surfaces have been made and are visible."""
    display = segmentationNode.GetDisplayNode()
    isVisible = display is not None and display.GetVisibility() and display.GetVisibility3D()
    return bool(isVisible and segmentationNode.GetSegmentation().ContainsRepresentation(_SURFACE))
