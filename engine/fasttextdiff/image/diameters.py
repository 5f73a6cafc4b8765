"""The longest diameter of a mask within a slice, and the longest at right angles to it, as RECIST 1.1 asks.

Knows masks, matrices and millimetres; knows nothing about findings or files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]


@dataclass(frozen=True)
class Diameters:
    """The two diameters of a lesion.

    Attributes:
        longest: in mm.
        perpendicular: in mm, the longest chord at right angles to the longest diameter.
        slice: index of the slice along the array axis.
    """

    longest: float
    perpendicular: float
    slice: int


def largest_diameters(mask: NDArray[np.bool_], ijk_to_ras: NDArray[np.float64], axis: int) -> Diameters | None:
    """Measure every part on every slice; the part with the longest diameter counts.

    A part is what is connected on a slice, corners included, so that separate lesions are never measured as one. Its
    outline runs half-way between the centres of neighbouring pixels inside and outside, and chords are those of the
    convex outline.

    Args:
        mask: (k, j, i).
        ijk_to_ras: 4x4 in mm; may be oblique or sheared.
        axis: array axis across the slices (0 = k, 1 = j, 2 = i).

    Returns:
        None for an empty mask.
    """
    to_mm = _in_plane(ijk_to_ras, axis)
    best: Diameters | None = None
    for index, plane in enumerate(np.moveaxis(mask, axis, 0)):
        for part, limit in _parts(plane, to_mm):
            if best is not None and limit <= best.longest:
                continue
            longest, perpendicular = _diameters(_outline(part) @ to_mm.T)
            if best is None or longest > best.longest:
                best = Diameters(longest, perpendicular, index)
    return best


def _in_plane(ijk_to_ras: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """(2, 2): steps (row, column) of a slice to mm along two axes at right angles within it."""
    steps = np.stack([ijk_to_ras[:3, 2 - other] for other in range(3) if other != axis], axis=1)
    across, _ = np.linalg.qr(steps)
    found: NDArray[np.float64] = across.T @ steps
    return found


def _parts(plane: NDArray[np.bool_], to_mm: NDArray[np.float64]) -> Iterator[tuple[NDArray[np.bool_], float]]:
    """The parts of a slice, each in its box, with the box's longer diagonal in mm."""
    if not plane.any():
        return
    from scipy import ndimage

    labels, _ = ndimage.label(plane, np.ones((3, 3)))
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        sides = np.array([side.stop - side.start for side in box])
        diagonals = np.linalg.norm(to_mm @ np.array([sides, sides * (1, -1)]).T, axis=0)
        yield labels[box] == number, float(diagonals.max())


def _outline(part: NDArray[np.bool_]) -> Points:
    """(n, 2): points (row, column) half-way from each pixel to a neighbour outside."""
    padded = np.pad(part, 1)
    points = []
    for step in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        is_edge = padded & ~np.roll(padded, (-step[0], -step[1]), axis=(0, 1))
        points.append(np.argwhere(is_edge) + np.array(step) / 2)
    return np.concatenate(points)


def _diameters(outline: Points) -> tuple[float, float]:
    """(longest, perpendicular) of a convex outline in mm."""
    from scipy.spatial import ConvexHull
    from scipy.spatial.distance import pdist, squareform

    hull = outline[ConvexHull(outline).vertices]
    distances = squareform(pdist(hull))
    first, last = divmod(int(distances.argmax()), len(hull))
    longest = float(distances[first, last])
    along = (hull[last] - hull[first]) / longest
    turned = np.roll(hull, -first, axis=0) - hull[first]
    places = np.stack([turned @ along, turned @ np.array([-along[1], along[0]])], axis=1)
    return longest, _widest(places, (last - first) % len(hull))


def _widest(places: Points, end: int) -> float:
    """The longest chord across a convex outline given as (along, across), which starts at (0, 0).

    The width is piecewise linear between the corners, so that it is largest at one of them.

    Args:
        places: the corners in order.
        end: index of the corner at the far end of the longest diameter.
    """
    there, back = places[: end + 1], np.concatenate([places[end:], places[:1]])[::-1]
    stops = places[:, 0]
    widths = np.interp(stops, there[:, 0], there[:, 1]) - np.interp(stops, back[:, 0], back[:, 1])
    return float(np.abs(widths).max())
