"""How findings of a volume hold together across its slices, slice by slice and with consistency, with truth or without.

Knows masks and geometry; the model is asked through `Segmenter`, as users ask it. Reports, never chooses.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.errors import UsageError
from fasttextdiff.image.orientation import display_plane
from fasttextdiff.image.volume import Modality, Volume
from fasttextdiff.io.read import read_volume
from fasttextdiff.segmenter import Segmenter

AIR_HU = -500
TISSUE_MM = 5.0
"""What is farther from air is inside of tissue; vessels of the lung are not."""


@dataclass(frozen=True)
class Held:
    """How one mask holds together.

    Attributes:
        finding: what was asked.
        way: "slice by slice" or "consistent".
        ml: its volume.
        parts: pieces that touch by faces, in three dimensions.
        slices: with a mask.
        several: of these, slices with more than one piece.
        tissue: of these, slices with voxels inside of tissue (CT); an island of a lung is there.
        jump: voxels that change from a slice to the next, by voxels of the mask.
        dice: with the truth; None without one.
    """

    finding: str
    way: str
    ml: float
    parts: int
    slices: int
    several: int
    tissue: int | None
    jump: float
    dice: float | None


def measure_volume(
    segmenter: Segmenter, volume: Volume, findings: Sequence[str], truths: Mapping[str, NDArray[np.bool_]]
) -> Iterator[Held]:
    """Ask for findings in both ways, with one look at the slices.

    Args:
        segmenter: the model.
        volume: the image.
        findings: what to ask for.
        truths: masks (k, j, i) by finding, as far as known.
    """
    image = segmenter.prepare(volume)
    air = depth_mm(volume) if volume.modality is Modality.CT and not volume.is_color else None
    for way, is_apart in (("slice by slice", True), ("consistent", False)):
        for found in segmenter.decode(image, findings, slice_by_slice=is_apart).findings:
            yield measure_mask(found.finding, way, volume, found.mask, air, truths.get(found.finding))


def measure_mask(
    finding: str,
    way: str,
    volume: Volume,
    mask: NDArray[np.bool_],
    depth: NDArray[np.float64] | None,
    truth: NDArray[np.bool_] | None,
) -> Held:
    """Measure how a mask holds together.

    Args:
        finding: what was asked.
        way: as in :class:`Held`.
        volume: the image.
        mask: (k, j, i), the answer.
        depth: from :func:`depth_mm`; None if the image is no CT.
        truth: (k, j, i); None if it is not known.
    """
    from scipy import ndimage

    shown = display_plane(volume, "acquisition").to_display(mask)
    voxels = max(1, int(mask.sum()))
    pieces = [ndimage.label(one, np.ones((3, 3)))[1] for one in shown]
    inside = None
    if depth is not None:
        deep = display_plane(volume, "acquisition").to_display(mask & (depth > TISSUE_MM))
        inside = int(deep.any(axis=(1, 2)).sum())
    return Held(
        finding=finding,
        way=way,
        ml=float(mask.sum()) * volume.voxel_ml,
        parts=int(ndimage.label(mask)[1]),
        slices=sum(count > 0 for count in pieces),
        several=sum(count > 1 for count in pieces),
        tissue=inside,
        jump=float((shown[1:] != shown[:-1]).sum()) / voxels,
        dice=None if truth is None else 2 * float((mask & truth).sum()) / max(1, int(mask.sum() + truth.sum())),
    )


def depth_mm(volume: Volume) -> NDArray[np.float64]:
    """Distance of every voxel from air in mm."""
    from scipy import ndimage

    i, j, k = volume.spacing
    depth: NDArray[np.float64] = ndimage.distance_transform_edt(volume.array.astype(np.float32) >= AIR_HU, (k, j, i))
    return depth


def read_truth(text: str, volume: Volume) -> tuple[str, NDArray[np.bool_]]:
    """A truth as the command line names it, on the grid of a volume (nearest voxel).

    Args:
        text: FINDING=FILE, or FINDING=FILE:10,11 for some labels of a file; all above 0 are meant otherwise.
        volume: whose grid is wanted.

    Raises:
        UsageError: it is not of this form.
    """
    finding, equals, place = text.partition("=")
    name, _, after = place.rpartition(":")
    chosen = [int(label) for label in after.split(",")] if name and re.fullmatch(r"\d+(,\d+)*", after) else []
    if not (finding and equals and place):
        raise UsageError(f"--truth takes FINDING=FILE or FINDING=FILE:LABELS, not '{text}'")
    mask = read_volume(name if chosen else place, modality="other")
    numbers = mask.array.astype(np.int64)
    labels = np.isin(numbers, chosen) if chosen else numbers > 0
    return finding, _on_grid(labels, np.linalg.inv(mask.ijk_to_ras) @ volume.ijk_to_ras, volume.shape)


def _on_grid(labels: NDArray[np.bool_], matrix: NDArray[np.float64], shape: tuple[int, int, int]) -> NDArray[np.bool_]:
    """The nearest voxel of each voxel of another grid; `matrix` takes indices (i, j, k, 1) there."""
    from scipy import ndimage

    swap = matrix[:3, :3][::-1, ::-1], matrix[:3, 3][::-1]
    moved = ndimage.affine_transform(labels.astype(np.uint8), *swap, output_shape=shape, order=0, mode="constant")
    return np.asarray(moved > 0)
