"""A box in space that limits what is segmented, from Slicer's ROI node. Knows volumes, nothing about findings."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import vtk
from slicer.i18n import tr as _

from FastTextDiffSegmentLib.contract.images import ACQUISITION

from .Geometry import SceneError, requireLinear, sliceShape, slicesToWorld, toArray


@dataclass(frozen=True)
class Region:
    """A box as it was at one time, so that a run does not change with the node.

    Attributes:
        name: name of its node.
        fromWorld: (4, 4) from world coordinates in mm to the box's own, whose origin is its centre.
        size: (3,), lengths of its sides along its own axes.
        center: (3,) RAS in mm.
    """

    name: str
    fromWorld: np.ndarray
    size: np.ndarray
    center: np.ndarray

    @classmethod
    def of(cls, roiNode: Any) -> "Region":
        """The box of a vtkMRMLMarkupsROINode.

        Raises:
            SceneError: it has no size yet, or is under a non-linear transform.
        """
        requireLinear(roiNode)
        size = np.array(roiNode.GetSize(), float)
        if not (size > 0).all():
            raise SceneError(_("The region '{name}' has no size yet: place it first.").format(name=roiNode.GetName()))
        matrix = vtk.vtkMatrix4x4()
        matrix.DeepCopy(roiNode.GetObjectToWorldMatrix())
        toWorld = toArray(matrix)
        return cls(roiNode.GetName(), np.linalg.inv(toWorld), size, toWorld[:3, 3])

    def slices(self, volumeNode: Any, plane: str = ACQUISITION) -> tuple[int, int]:
        """(first, end) of the slices of a volume with a voxel inside.

        Raises:
            SceneError: there is none.
        """
        count = sliceShape(volumeNode, plane)[0]
        candidates = self._candidates(volumeNode, plane, count)

        def firstInside(numbers: Iterable[int]) -> int | None:
            return next((k for k in numbers if self._slice(volumeNode, plane, k).any()), None)

        first, last = firstInside(candidates), firstInside(reversed(candidates))
        if first is None or last is None:
            message = _("The region '{region}' is outside the image '{image}': move it onto the image.")
            raise SceneError(message.format(region=self.name, image=volumeNode.GetName()))
        return first, last + 1

    def _candidates(self, volumeNode: Any, plane: str, count: int) -> range:
        """The slices between the box's corners."""
        sides = [(-length / 2, length / 2) for length in self.size]
        corners = np.array([[a, b, c, 1.0] for a in sides[0] for b in sides[1] for c in sides[2]]).T
        numbers = (np.linalg.inv(self.fromWorld @ slicesToWorld(volumeNode, plane)) @ corners)[2]
        return range(max(0, int(np.floor(numbers.min()))), min(count, int(np.ceil(numbers.max())) + 1))

    def mask(self, volumeNode: Any, slices: tuple[int, int], plane: str = ACQUISITION) -> np.ndarray:
        """(n, rows, columns) bool, which voxels of some slices have their centre inside."""
        return np.stack([self._slice(volumeNode, plane, k) for k in range(*slices)])

    def _slice(self, volumeNode: Any, plane: str, k: int) -> np.ndarray:
        matrix = self.fromWorld @ slicesToWorld(volumeNode, plane)
        _count, rows, columns = sliceShape(volumeNode, plane)
        inside = np.ones((rows, columns), bool)
        for (alongColumns, alongRows, alongSlices, offset), length in zip(matrix[:3], self.size, strict=True):
            place = (
                alongColumns * np.arange(columns) + (alongRows * np.arange(rows) + alongSlices * k + offset)[:, None]
            )
            inside &= np.abs(place) <= length / 2
        return inside

    def text(self) -> str:
        """The box in words, for a tag: size and centre in mm."""
        sides = " x ".join(f"{side:.1f}" for side in self.size)
        return f"{sides} mm around RAS {' '.join(f'{number:.1f}' for number in self.center)}"
