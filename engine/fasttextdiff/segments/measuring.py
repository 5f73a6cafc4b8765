"""Measures segments: size, diameters, intensities, parts, and their share of the lungs.

Voxels, intensities and parts are counted by SimpleITK's label statistics. Knows nothing about files or networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.contract.images import PLANE_ACROSS, nearest_ras_axes
from fasttextdiff.contract.measurements import SegmentMeasurements
from fasttextdiff.errors import UsageError, require_type
from fasttextdiff.image.diameters import largest_diameters
from fasttextdiff.image.volume import Modality, Volume
from fasttextdiff.result import SegmentationResult
from fasttextdiff.segments.anatomy import ANATOMY, LUNG
from fasttextdiff.segments.tags import segment_names
from fasttextdiff.segments.terminology import CodedFinding, code_finding

_PERCENTILES = (5, 25, 50, 75, 95)
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class MaskedSegment:
    """A segment to measure.

    Attributes:
        name: its name.
        mask: (k, j, i) on the grid of its image.
        codes: what it is.
    """

    name: str
    mask: Mask
    codes: CodedFinding

    @property
    def is_lung(self) -> bool:
        """Whether it is a lung, or both lungs."""
        return (self.codes.category.value, self.codes.type.value) == (ANATOMY.value, LUNG.value)


def segments_of(result: SegmentationResult) -> list[MaskedSegment]:
    """The findings of a result as segments."""
    names = segment_names([found.finding for found in result.findings])
    return [
        MaskedSegment(name, found.mask, code_finding(found.finding))
        for name, found in zip(names, result.findings, strict=True)
    ]


def measure_segments(volume: Volume, segments: Sequence[MaskedSegment]) -> tuple[SegmentMeasurements, ...]:
    """Measure segments of a volume.

    Diameters are those within the slices as acquired, see :func:`fasttextdiff.image.diameters.largest_diameters`.
    Intensities are those of the volume, also where it was padded; a colour image has none. The share of the lungs
    counts the voxels of a segment that lie within the segments coded as lung.

    Args:
        volume: the image.
        segments: on its grid.

    Returns:
        One entry for each segment, in order.

    Raises:
        UsageError: there is no segment, or a mask is not on the grid of the volume.
    """
    if not segments:
        raise UsageError("there is no segment to measure")
    for segment in segments:
        if segment.mask.shape != volume.shape:
            raise UsageError(
                f"the segment '{segment.name}' has {segment.mask.shape} voxels, the image {volume.shape}: "
                "it belongs to another image"
            )
    lungs = [segment for segment in segments if segment.is_lung]
    lung = np.logical_or.reduce([segment.mask for segment in lungs]) if lungs else None
    names = ", ".join(segment.name for segment in lungs)
    return tuple(_measured(volume, segment, lung, names) for segment in segments)


def measure(result: SegmentationResult) -> tuple[SegmentMeasurements, ...]:
    """Measure the findings of a result, one entry each; see :func:`measure_segments`."""
    require_type(result, SegmentationResult, "result", "use Segmenter.segment")
    return measure_segments(result.volume, segments_of(result))


def _measured(volume: Volume, segment: MaskedSegment, lung: Mask | None, lungs: str) -> SegmentMeasurements:
    box = _box(segment.mask)
    if box is None:
        return SegmentMeasurements(segment.name, 0, unit=_unit(volume), **_amount(volume, 0))
    inside = segment.mask[box]
    voxels, parts = _counted(inside)
    return SegmentMeasurements(
        name=segment.name,
        voxels=voxels,
        parts=parts,
        unit=_unit(volume),
        **_amount(volume, voxels),
        **_extent(volume, inside, box),
        **_intensities(volume, inside, box),
        **_share(segment, inside, box, lung, lungs),
    )


def _box(mask: Mask) -> tuple[slice, ...] | None:
    """The smallest box that contains a mask; None if it is empty."""
    box = []
    for axis in range(3):
        there = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        if not there.size:
            return None
        box.append(slice(int(there[0]), int(there[-1]) + 1))
    return tuple(box)


def _image(array: NDArray[Any]) -> Any:
    import SimpleITK as sitk  # noqa: N813

    return sitk.GetImageFromArray(np.ascontiguousarray(array))


def _counted(mask: Mask) -> tuple[int, int]:
    """(voxels, parts) of a mask that is not empty."""
    import SimpleITK as sitk  # noqa: N813

    label = _image(mask.view(np.uint8))
    shape, parts = sitk.LabelShapeStatisticsImageFilter(), sitk.ConnectedComponentImageFilter()
    shape.ComputePerimeterOff()
    shape.Execute(label)
    parts.FullyConnectedOff()
    parts.Execute(label)
    return int(shape.GetNumberOfPixels(1)), int(parts.GetObjectCount())


def has_pixel_size(volume: Volume) -> bool:
    """Whether lengths in mm in the patient are known.

    Pictures without a pixel size are read with pixels of 1 mm. Imager Pixel Spacing (0018,1164) of a projection X-ray
    is measured at the detector; the magnification of what is in front of it is not known.
    """
    return not (volume.is_planar and (volume.modality is Modality.XRAY or volume.spacing[:2] == (1.0, 1.0)))


def measuring_notes(volume: Volume) -> list[str]:
    """What to know about the measurements of a volume, one line each."""
    if not volume.is_planar:
        return []
    if volume.modality is Modality.XRAY:
        return ["the pixels of a projection X-ray do not show sizes in the patient: no lengths and areas"]
    if not has_pixel_size(volume):
        return ["the size of its pixels is not known: no lengths and areas"]
    across, down = volume.spacing[:2]
    return [
        f"lengths and areas rely on the pixel size in the file, {across:g} x {down:g} mm, "
        "which need not be that in the patient"
    ]


def _amount(volume: Volume, voxels: int) -> dict[str, Any]:
    """Volume or area; neither for a picture whose pixel size is not known."""
    if not volume.is_planar:
        return {"volume_ml": voxels * volume.voxel_ml}
    if not has_pixel_size(volume):
        return {}
    axes = volume.ijk_to_ras[:3, :3]
    return {"area_mm2": voxels * float(np.linalg.norm(np.cross(axes[:, 0], axes[:, 1])))}


def _extent(volume: Volume, mask: Mask, box: tuple[slice, ...]) -> dict[str, Any]:
    if not has_pixel_size(volume):
        return {}
    axis = volume.slice_axis
    found = largest_diameters(mask, volume.ijk_to_ras, axis)
    if found is None:
        return {}
    across = nearest_ras_axes(volume.ijk_to_ras.tolist())[axis]
    return {
        "longest_mm": found.longest,
        "perpendicular_mm": found.perpendicular,
        "slice_number": box[axis].start + found.slice + 1,
        "plane": "" if volume.is_planar else PLANE_ACROSS[across],
    }


def _intensities(volume: Volume, mask: Mask, box: tuple[slice, ...]) -> dict[str, Any]:
    if volume.is_color:
        return {}
    import SimpleITK as sitk  # noqa: N813

    image = volume.array[box]
    counted = sitk.LabelStatisticsImageFilter()
    counted.Execute(_image(image.astype(np.float64)), _image(mask.view(np.uint8)))
    levels = np.percentile(image[mask].astype(np.float64), _PERCENTILES).tolist()
    return {
        "mean": float(counted.GetMean(1)),
        "sd": float(counted.GetSigma(1)),
        **{f"p{percent}": level for percent, level in zip(_PERCENTILES, levels, strict=True)},
    }


def _share(segment: MaskedSegment, mask: Mask, box: tuple[slice, ...], lung: Mask | None, lungs: str) -> dict[str, Any]:
    if lung is None or segment.is_lung or not lung.any():
        return {}
    return {"lung_percent": 100.0 * np.count_nonzero(mask & lung[box]) / np.count_nonzero(lung), "lungs": lungs}


def _unit(volume: Volume) -> str:
    return "HU" if volume.modality is Modality.CT and not (volume.is_color or volume.is_planar) else ""
