"""Draws one slice as a small picture: windowed grey values, true proportions, and a mask as an overlay.

Knows nothing about findings, captions or pages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.contract.colors import Rgb
from fasttextdiff.image.orientation import DisplayPlane
from fasttextdiff.result import SegmentationResult

if TYPE_CHECKING:
    from PIL import Image

_WIDTHS = {1: 560, 2: 520, 3: 460, 4: 400, 5: 350, 6: 320}
_TALLEST = 640
_FILL = 0.30


def tile_size(display: DisplayPlane, tiles: int) -> tuple[int, int]:
    """Pixels (width, height) of a tile, in the slice's proportions in millimetres.

    Args:
        display: gives the shape and pixel spacing of slices.
        tiles: number of tiles side by side, 1 to 6; fewer are drawn larger.
    """
    _, rows, columns = display.display_shape
    row_mm, column_mm = display.pixel_spacing
    ratio = (rows * row_mm) / (columns * column_mm)
    width = _WIDTHS[tiles]
    if width * ratio > _TALLEST:
        width = round(_TALLEST / ratio)
    # A slice only a few voxels high is drawn out of proportion rather than as an invisible line.
    return max(width, 60), max(min(round(width * ratio), _TALLEST), 60)


def to_gray(voxels: NDArray[np.generic], result: SegmentationResult) -> NDArray[np.uint8]:
    """One slice (row, column[, 3]) as 0 to 255 in the window of the run, or in its own range if there is none."""
    values = voxels.astype(np.float32)
    window = result.provenance.window
    if window is not None:
        low, high = window[0] - window[1] / 2, window[0] + window[1] / 2
    elif voxels.dtype == np.uint8:
        low, high = 0.0, 255.0
    else:
        low, high = (float(bound) for bound in np.percentile(values, (0.5, 99.5)))
    scaled = (values - low) / max(high - low, 1e-6)
    gray: NDArray[np.uint8] = (np.clip(scaled, 0, 1) * 255 + 0.5).astype(np.uint8)
    return gray


def draw_slice(pixels: NDArray[np.uint8], size: tuple[int, int]) -> Image.Image:
    """A slice (row, column[, 3]) scaled to `size` (width, height) as RGB."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB")
    return image.resize(size, Image.Resampling.LANCZOS if image.width > size[0] else Image.Resampling.BICUBIC)


def overlay_mask(tile: Image.Image, mask: NDArray[np.bool_], color: Rgb) -> Image.Image:
    """A copy of the tile with a mask (row, column) as a translucent area with a sharp outline."""
    from PIL import Image

    inside = _scaled(mask, tile.size)
    pixels = np.asarray(tile).astype(np.float32)
    paint = np.array(color, np.float32)
    pixels[inside] = (1 - _FILL) * pixels[inside] + _FILL * paint
    pixels[_outline(inside)] = paint
    return Image.fromarray((pixels + 0.5).astype(np.uint8))


def draw_outline(tile: Image.Image, mask: NDArray[np.bool_], color: Rgb) -> Image.Image:
    """A copy of the tile with only the outline of a mask (row, column), so that the inside stays visible."""
    from PIL import Image

    pixels = np.array(tile)
    pixels[_outline(_scaled(mask, tile.size))] = color
    return Image.fromarray(pixels)


def _outline(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The outermost two pixels of a mask."""
    from PIL import Image, ImageFilter

    shrunk = Image.fromarray(inside.astype(np.uint8)).filter(ImageFilter.MinFilter(5))
    return inside & (np.asarray(shrunk) == 0)


def _scaled(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask at `size` (width, height): edges keep their place when enlarged; no voxel is lost when shrunk."""
    from PIL import Image

    area = Image.fromarray(mask.astype(np.float32))
    if mask.shape[1] > size[0] or mask.shape[0] > size[1]:
        # A small lesion must not vanish from the picture, however little of a pixel it covers.
        inside: NDArray[np.bool_] = np.asarray(area.resize(size, Image.Resampling.BOX)) > 1e-6
    else:
        inside = np.asarray(area.resize(size, Image.Resampling.BILINEAR)) > 0.5
    return inside
