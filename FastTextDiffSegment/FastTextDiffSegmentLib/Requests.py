"""What to segment: image, findings, slices, plane, region and options. Knows the scene, nothing about the engine."""

from dataclasses import dataclass
from typing import Any

import slicer
from slicer.i18n import tr as _

from .contract.images import ACQUISITION, PLANES
from .scene.Geometry import SceneError, requireImage, requireLinear, sliceShape
from .scene.Region import Region


@dataclass(frozen=True)
class SegmentationRequest:
    """What to segment.

    Attributes:
        volumeNode: scalar or vector volume.
        findings: texts, one segment each.
        sliceRange: (first, end) of the slices of the plane; None for all.
        modality: the kind of image; None lets the engine decide.
        samples: number of noise samples to average.
        seed: seed of the noise.
        threshold: probability above which a pixel belongs to a segment; None for the model's own.
        sliceBySlice: each slice as the model answers it: no smoothing across slices, no parts left out.
        tryAnyway: ask for findings that the model was not taught, too; otherwise they are left empty.
        plane: "acquisition", "axial", "coronal" or "sagittal".
        region: voxels outside this box stay as they are; None for no limit.
    """

    volumeNode: Any
    findings: tuple[str, ...]
    sliceRange: tuple[int, int] | None = None
    modality: str | None = None
    samples: int = 1
    seed: int = 0
    threshold: float | None = None
    sliceBySlice: bool = False
    tryAnyway: bool = False
    plane: str = ACQUISITION
    region: Region | None = None

    def isValid(self) -> tuple[bool, str]:
        """Whether it can be segmented, and if not, why."""
        if self.volumeNode is None or not slicer.mrmlScene.IsNodePresent(self.volumeNode):
            return False, _("Choose an image.")
        if not self.findings:
            return False, _("Type a finding, one per line.")
        try:
            requireImage(self.volumeNode)
            requireLinear(self.volumeNode)
            self.slices()
        except SceneError as error:
            return False, str(error)
        return True, ""

    def kind(self) -> tuple[int, int]:
        """Rows and columns of its slices, on which the time for a slice depends."""
        return sliceShape(self.volumeNode, self.plane)[1:]

    def slices(self) -> tuple[int, int]:
        """(first, end) of the slices to segment.

        Raises:
            SceneError: they are not in the image, or there is no such plane.
        """
        if self.plane not in PLANES:
            message = _("There is no plane '{plane}': choose one of {planes}.")
            raise SceneError(message.format(plane=self.plane, planes=", ".join(PLANES)))
        total = sliceShape(self.volumeNode, self.plane)[0]
        first, end = self.sliceRange or (0, total)
        if not 0 <= first < end <= total:
            message = _("Slices {first} to {last} are not in the image '{image}': it has slices 1 to {total}.")
            raise SceneError(
                message.format(first=first + 1, last=end, image=self.volumeNode.GetName() or "", total=total)
            )
        if self.region is None:
            return first, end
        low, high = self.region.slices(self.volumeNode, self.plane)
        if max(first, low) >= min(end, high):
            message = _("The region '{region}' covers slices {low} to {high}, none of the slices {first} to {last}.")
            raise SceneError(message.format(region=self.region.name, low=low + 1, high=high, first=first + 1, last=end))
        return max(first, low), min(end, high)
