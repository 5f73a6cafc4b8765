"""Converts voxels to the model's input, and probabilities back to the slice.

Knows windows, sizes and aspect ratios; knows nothing about files or networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.image.orientation import DisplayPlane, in_standard_order
from fasttextdiff.image.resampling import resampled
from fasttextdiff.image.volume import Modality, Volume

Window = tuple[float, float]
"""(level, width) in the voxels' units (DICOM PS3.3 section C.11.2.1.2)."""


BODY_ABOVE = -300
"""Hounsfield units; skin, fat and muscle are above, air, lung and blankets below."""
PART_AREA, PART_THICKNESS = 0.2, 1 / 3
"""Shares of the largest part's area and thickness from which a separate part belongs to the body, as a second leg does.
A cable is too small, and a table, which may be as large as a child, too thin."""


@dataclass(frozen=True)
class ImageSettings:
    """How images of one modality are prepared for the model; the same in training and in use.

    Attributes:
        size: pixels of the longer side of the model's input; for tiled images, the side of a tile.
        window: fixed (level, width) for modalities with absolute units; None to use `percentiles` of the whole volume.
        percentiles: lowest and highest percentile of the window if it is not fixed.
        tiled: whether images larger than `size` are covered by overlapping tiles at full resolution instead of being
            shrunk.
        enlarge_to: for tiled images, the longer side in pixels to which smaller images are enlarged, because structures
            a few pixels wide are lost in the network; 0 for never.
        crop_to_body: whether CT slices are cropped to the body's bounding box, without the surrounding air and table;
            the result is empty outside.
    """

    size: int
    window: Window | None = None
    percentiles: tuple[float, float] = (0.5, 99.5)
    tiled: bool = False
    enlarge_to: int = 0
    crop_to_body: bool = False


@dataclass(frozen=True)
class Preprocessing:
    """Settings for every modality; `other` is used for modalities that are not listed.

    Attributes:
        settings: by modality; `Modality.OTHER` is required.
        channel_order: "rgb", or "bgr" for heads trained by the published code, which uses OpenCV's order.
    """

    settings: Mapping[Modality, ImageSettings]
    channel_order: str = "rgb"

    def __post_init__(self) -> None:
        """Refuse settings that do not cover every image."""
        if Modality.OTHER not in self.settings:
            raise ValueError("preprocessing needs settings for 'other' modalities")
        if self.channel_order not in ("rgb", "bgr"):
            raise ValueError(f"channel_order must be 'rgb' or 'bgr', not {self.channel_order!r}")

    def of(self, modality: Modality) -> ImageSettings:
        """The settings for a modality."""
        return self.settings.get(modality, self.settings[Modality.OTHER])

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON values."""
        return {
            "channel_order": self.channel_order,
            "settings": {modality.value: asdict(setting) for modality, setting in self.settings.items()},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Preprocessing:
        """The inverse of :meth:`to_dict`."""
        settings = {Modality(name): _settings_from(values) for name, values in data["settings"].items()}
        return cls(settings, data.get("channel_order", "rgb"))


def _settings_from(values: Mapping[str, Any]) -> ImageSettings:
    window = values.get("window")
    low, high = values.get("percentiles", (0.5, 99.5))
    return ImageSettings(
        size=int(values["size"]),
        window=None if window is None else (float(window[0]), float(window[1])),
        percentiles=(float(low), float(high)),
        tiled=bool(values.get("tiled", False)),
        enlarge_to=int(values.get("enlarge_to", 0)),
        crop_to_body=bool(values.get("crop_to_body", False)),
    )


def choose_window(volume: Volume, settings: ImageSettings) -> Window | None:
    """The window for a volume. The DICOM or display window is not used, because it is often chosen for other tissue.

    An 8-bit picture of a modality with absolute units (a CT slice saved as PNG) is already windowed, and its full range
    is used. Any other picture of a CT is in Hounsfield units, see `Volume`; unless only its content shows that it is
    one, so that its percentiles are used.

    Returns:
        None for colour images, which keep the range of their voxel type.
    """
    if volume.is_color:
        return None
    if has_fixed_window(volume, settings):
        return settings.window
    if settings.window and volume.array.dtype == np.uint8:
        return 127.5, 255.0
    values = in_standard_order(volume, volume.array)
    if volume.padding is not None:
        values = values[~in_standard_order(volume, volume.padding)]
    return percentile_window(values, settings.percentiles)


def has_fixed_window(volume: Volume, settings: ImageSettings) -> bool:
    """Whether the voxels are in absolute units, so that a window means the same in every image."""
    return settings.window is not None and not (
        volume.is_color or (volume.is_planar and (volume.is_guessed or volume.array.dtype == np.uint8))
    )


def percentile_window(array: NDArray[np.generic], percentiles: tuple[float, float]) -> Window:
    """(level, width) that spans two percentiles of the voxels; the width is 1 for a constant image."""
    step = max(1, array.size // 2_000_000)  # two million voxels give a percentile to well under one grey level
    low, high = np.percentile(array.flat[::step].astype(np.float64), percentiles)
    return float((low + high) / 2), float(high - low) or 1.0


def apply_window(array: NDArray[np.generic], window: Window | None) -> NDArray[np.float32]:
    """Map voxels to [0, 1] float32; without a window, from the range of the integer type, or clipped for floats."""
    if window is None:
        top = float(np.iinfo(str(array.dtype)).max) if array.dtype.kind in "iu" else 1.0
        return np.clip(array.astype(np.float32) / np.float32(top), 0, 1)
    level, width = window
    return np.clip((array.astype(np.float32) - np.float32(level - width / 2)) / np.float32(width), 0, 1)


@dataclass(frozen=True)
class Fit:
    """How a slice is fitted into the model's input.

    It is resized at its physical aspect ratio, then padded on the right and bottom.

    Attributes:
        source: (rows, columns) of the slice.
        resized: (rows, columns) after resizing.
        padded: (rows, columns) of the model's input.
        is_frequent: whether there are many images of this size, so that a network for just this size pays.
    """

    source: tuple[int, int]
    resized: tuple[int, int]
    padded: tuple[int, int]
    is_frequent: bool = False

    @classmethod
    def of(cls, source: tuple[int, int], spacing: tuple[float, float], size: int, multiple: int) -> Fit:
        """Fit a slice so that its physically longer side has `size` pixels.

        Args:
            source: (rows, columns).
            spacing: (row, column) distance in mm, or any common unit.
            size: pixels of the longer side.
            multiple: rows and columns of the input must be multiples of this.
        """
        extent = (source[0] * spacing[0], source[1] * spacing[1])
        scale = size / max(extent)
        resized = (max(1, round(extent[0] * scale)), max(1, round(extent[1] * scale)))
        return cls(source, resized, (_round_up(resized[0], multiple), _round_up(resized[1], multiple)))

    def forward(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """(..., *source) to (..., *padded), anti-aliased, padded by repeating the border."""
        if image.shape[-2:] != self.resized:
            image = resampled(image, self.resized, antialias=True)
        bottom, right = self.padded[0] - self.resized[0], self.padded[1] - self.resized[1]
        return np.pad(image, [(0, 0)] * (image.ndim - 2) + [(0, bottom), (0, right)], mode="edge")

    def inverse(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """(..., h, w), a map of the whole padded input at any resolution, to (..., *source), bilinear."""
        if logits.shape[-2:] != self.padded:
            logits = resampled(logits, self.padded, antialias=False)
        inside = logits[..., : self.resized[0], : self.resized[1]]
        return inside if self.resized == self.source else resampled(inside, self.source, antialias=False)


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def to_model_range(image: NDArray[np.float32], channel_order: str) -> NDArray[np.float32]:
    """(N, h, w) or (N, h, w, 3) in [0, 1] to (N, 3, h, w) in [-1, 1] (2x - 1; grey is repeated)."""
    channels = np.moveaxis(image, 3, 1) if image.ndim == 4 else np.repeat(image[:, None], 3, axis=1)
    if channel_order == "bgr":
        channels = channels[:, ::-1]
    return np.ascontiguousarray(channels * np.float32(2) - np.float32(1))


def fitted(images: NDArray[np.float32], fit: Fit, channel_order: str) -> NDArray[np.float32]:
    """(N, h, w) or (N, h, w, 3) in [0, 1] to the model's input (N, 3, *fit.padded) in [-1, 1]."""
    if images.ndim == 4:
        return fit.forward(to_model_range(images, channel_order))
    grey = fit.forward(images * np.float32(2) - np.float32(1))  # resampled once, not once per channel
    return np.repeat(grey[:, None], 3, axis=1)


@dataclass(frozen=True)
class Tile:
    """A square window of a large slice.

    Attributes:
        row: first row.
        column: first column.
        height: rows.
        width: columns.
    """

    row: int
    column: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns, as an index of an array."""
        return slice(self.row, self.row + self.height), slice(self.column, self.column + self.width)


def body_tile(volume: Volume, display: DisplayPlane) -> Tile:
    """The part of a CT's displayed slices that holds the body; independent of the direction of the slices."""
    stack = display.to_display(volume.array)
    return body_box(stack if display.ascending else stack[::-1])


def body_box(stack: NDArray[np.generic]) -> Tile:
    """The bounding box of the body over all slices of a CT; the whole slice if no body is found.

    Legs, hands or feet side by side are all of the body; a table, a blanket or a cable is not.

    Args:
        stack: (slices, rows, columns) in Hounsfield units; a regular sample of the slices is used.
    """
    from scipy import ndimage

    rows, columns = stack.shape[1:]
    whole = Tile(0, 0, rows, columns)
    every = max(1, len(stack) // 16)  # a few slices are enough to find the body
    solid = ndimage.binary_opening(stack[::every].max(axis=0) > BODY_ABOVE, iterations=3)
    parts, count = ndimage.label(solid)
    if count == 0:
        return whole
    vertical, horizontal = body_extent(parts)
    top, left = max(0, vertical.start - 2), max(0, horizontal.start - 2)
    bottom, right = min(rows, vertical.stop + 2), min(columns, horizontal.stop + 2)
    if min(bottom - top, right - left) < min(rows, columns) / 4:
        return whole
    return Tile(top, left, bottom - top, right - left)


def body_extent(parts: NDArray[np.int32]) -> tuple[slice, slice]:
    """Rows and columns of the largest labelled part and of those nearly as large and thick; see `PART_AREA`.

    Args:
        parts: (rows, columns), numbered from 1, as `scipy.ndimage.label` gives them; at least one.
    """
    from scipy import ndimage

    areas, boxes = np.bincount(parts.ravel())[1:], ndimage.find_objects(parts)
    large = np.flatnonzero(areas >= PART_AREA * areas.max())
    if len(large) > 1:
        thickness = [ndimage.distance_transform_edt(np.pad(parts[boxes[n]] == n + 1, 1)).max() for n in large]
        thick = thickness[int(np.argmax(areas[large]))] * PART_THICKNESS
        large = large[np.greater_equal(thickness, thick)]
    vertical, horizontal = (
        slice(min(boxes[n][axis].start for n in large), max(boxes[n][axis].stop for n in large)) for axis in (0, 1)
    )
    return vertical, horizontal


def tiles(shape: tuple[int, int], side: int) -> list[Tile]:
    """Evenly spaced tiles that cover `shape`; neighbours overlap by at least a quarter of a side. One if it fits."""
    rows, columns = (_starts(extent, side) for extent in shape)
    return [Tile(r, c, min(side, shape[0]), min(side, shape[1])) for r in rows for c in columns]


def _starts(extent: int, side: int) -> list[int]:
    if extent <= side:
        return [0]
    count = -(-(extent - side) // int(side * 0.75)) + 1
    return [round(k * (extent - side) / (count - 1)) for k in range(count)]


def tile_weight(height: int, width: int) -> NDArray[np.float32]:
    """Weight (height, width) of a tile's logits in a blend: 1 in the middle, falling linearly towards the border."""
    rows, columns = (1 - np.abs(2 * (np.arange(n) + 0.5) / n - 1) for n in (height, width))
    return np.outer(rows, columns).clip(min=1e-3).astype(np.float32)
