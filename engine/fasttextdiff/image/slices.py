"""Prepares the requested slices of a volume for the model: plane, window, tiles, fit.

Knows geometry and windows; knows nothing about networks or findings.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.errors import FastTextDiffError, UsageError
from fasttextdiff.image.orientation import DisplayPlane, display_plane
from fasttextdiff.image.preprocessing import (
    Fit,
    ImageSettings,
    Tile,
    Window,
    apply_window,
    body_tile,
    choose_window,
    has_fixed_window,
    tiles,
)
from fasttextdiff.image.volume import Volume
from fasttextdiff.option_rules import check_options

FREQUENT = 24
"""Slices and tiles of one size from which a network for this size pays: it takes 0.3 s to make and saves 11 ms each."""
SMALLEST_SIDE = 8
"""Minimum side of a slice in pixels."""


@dataclass(frozen=True)
class View:
    """One input of the model: a slice or a tile of it.

    Attributes:
        voxels: (h, w) or (h, w, 3), as in the volume.
        window: (level, width); None for colour.
    """

    voxels: NDArray[np.generic]
    window: Window | None

    def pixels(self) -> NDArray[np.float32]:
        """The voxels windowed to [0, 1]."""
        return apply_window(self.voxels, self.window)

    @cached_property
    def key(self) -> tuple[Any, ...]:
        """A cache key by content, so that a later view of a volume that was changed in place has another one."""
        return hashlib.blake2b(self.voxels.tobytes(), digest_size=16).digest(), self.voxels.dtype.str, self.window


@dataclass(frozen=True)
class PreparedImage:
    """A volume prepared for a request; nothing is computed yet.

    Attributes:
        volume: the image.
        display: display plane of its slices.
        slices: slice numbers along the display's slice axis, from 0.
        window: (level, width); None for colour.
        tiles: parts of a slice that are separate inputs of the model; a single one for whole slices.
        fit: how a tile is fitted into the model's input; the same for all tiles.
        samples: noise samples.
        seed: seed of the first sample's noise; sample n uses seed + n.
        by_finding: whether a finding taught in another window uses that window; for a CT in Hounsfield units if the
            user chose no window.
    """

    volume: Volume
    display: DisplayPlane
    slices: range
    window: Window | None
    tiles: tuple[Tile, ...]
    fit: Fit
    samples: int = 1
    seed: int = 0
    by_finding: bool = False

    def views(self, index: int) -> list[View]:
        """The tiles of one slice."""
        pixels = self.display.to_display(self.volume.array)[index]
        return [View(pixels[tile.slices], self.window) for tile in self.tiles]

    def requested(self) -> tuple[slice, ...]:
        """The requested slices, as an index of the volume's grid (k, j, i)."""
        axis = self.display.axes[0]
        return tuple(slice(self.slices.start, self.slices.stop) if n == axis else slice(None) for n in range(3))

    def with_request(self, *, slices: tuple[int, int] | None, samples: int, seed: int) -> PreparedImage:
        """Another request on the same volume, without reading its voxels again.

        Args:
            slices: (first, last + 1) along the display's slice axis, from 0; all if None.
            samples: noise samples.
            seed: of the noise.

        Raises:
            UsageError: the slices do not exist, or an option is not valid, see :func:`check_options`.
        """
        check_options(slices=slices, samples=samples, seed=seed)
        for name, value in (("samples", samples), ("seed", seed)):
            if value is None:  # the rules of options allow it
                raise UsageError(f"'{name}' must be a whole number, not None")
        return replace(self, slices=_slice_range(slices, self.display), samples=int(samples), seed=int(seed))


def prepare(
    volume: Volume, settings: ImageSettings, multiple: int, *, plane: str = "acquisition", window: Window | None = None
) -> PreparedImage:
    """Prepare a whole volume in a plane, with the settings of its modality.

    Args:
        volume: the image.
        settings: settings of its modality.
        multiple: rows and columns of the model's input are multiples of this.
        plane: "acquisition", "axial", "coronal" or "sagittal".
        window: (level, width) instead of that of the settings.

    Raises:
        UsageError: the plane or the window does not fit the image.
        FastTextDiffError: the slices are too small, or all voxels are equal.
    """
    check_options(plane=plane, window=window)
    display = display_plane(volume, plane)
    if window is not None:
        if volume.is_color:
            raise UsageError("a window is for images without colour: leave it out")
        window = float(window[0]), float(window[1])
    _require_content(volume, display)
    cut = _tiles(volume, display, settings)
    return PreparedImage(
        volume=volume,
        display=display,
        slices=range(display.n_slices),
        window=window or choose_window(volume, settings),
        tiles=cut,
        fit=replace(_fit(cut[0], display, settings, multiple), is_frequent=display.n_slices * len(cut) >= FREQUENT),
        by_finding=window is None and has_fixed_window(volume, settings),
    )


def _tiles(volume: Volume, display: DisplayPlane, settings: ImageSettings) -> tuple[Tile, ...]:
    rows, columns = display.display_shape[1:]
    if settings.crop_to_body and not volume.is_planar and not volume.is_color:
        return (body_tile(volume, display),)
    longest = max(rows, columns)
    side = math.ceil(settings.size / _magnification(longest, settings)) if settings.tiled else longest
    return tuple(tiles((rows, columns), side))


def _magnification(longest: int, settings: ImageSettings) -> float:
    """Factor by which a tiled image with a longer side of `longest` pixels is enlarged."""
    return max(1.0, settings.enlarge_to / longest)


def _fit(tile: Tile, display: DisplayPlane, settings: ImageSettings, multiple: int) -> Fit:
    """Tiles keep their pixels or are enlarged; whole slices are resized to the model's size at equal spacing."""
    shape = tile.height, tile.width
    if settings.tiled:
        size = round(max(shape) * _magnification(max(display.display_shape[1:]), settings))
        return Fit.of(shape, (1.0, 1.0), size, multiple)
    return Fit.of(shape, display.pixel_spacing, settings.size, multiple)


def _slice_range(slices: tuple[int, int] | None, display: DisplayPlane) -> range:
    if slices is None:
        return range(display.n_slices)
    first, end = slices
    if not 0 <= first < end <= display.n_slices:
        raise UsageError(
            f"slices {first}:{end} are not in this volume: it has {display.n_slices} in the {display.plane} plane "
            f"(0:{display.n_slices})"
        )
    return range(first, end)


def _require_content(volume: Volume, display: DisplayPlane) -> None:
    """Refuse images with tiny slices or constant voxels."""
    rows, columns = display.display_shape[1:]
    if min(rows, columns) < SMALLEST_SIDE:
        raise FastTextDiffError(
            f"{volume.source.path or 'the image'}: slices of {rows} x {columns} pixels are too small to segment"
        )
    if volume.array.min() == volume.array.max():
        raise FastTextDiffError(
            f"{volume.source.path or 'the image'}: all voxels are {volume.array.flat[0]}: there is nothing to segment"
        )
