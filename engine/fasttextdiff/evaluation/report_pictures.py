"""Draws the pictures of a report: reliability curves as SVG, and single cases with the outlines of truth and mask.

Knows nothing about models or the page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.contract.colors import Rgb
from fasttextdiff.render.tiles import draw_outline, draw_slice

if TYPE_CHECKING:
    from PIL import Image

TRUTH_COLOR: Rgb = (0, 190, 255)
MASK_COLOR: Rgb = (255, 150, 0)
TILE_PX = 320
_SIDE, _LEFT, _TOP, _LEGEND = 300, 56, 16, 22
_CURVE_COLORS = ("#0072b2", "#d55e00")


def case_picture(image: NDArray[np.uint8], truth: NDArray[np.bool_], mask: NDArray[np.bool_]) -> Image.Image:
    """The plain image, and next to it the image with the outlines of the true mask and, on top, of the model's mask.

    Args:
        image: (h, w) or (h, w, 3).
        truth: (h, w).
        mask: (h, w).
    """
    from PIL import Image as Pillow

    rows, columns = truth.shape
    scale = TILE_PX / max(rows, columns)
    tile = draw_slice(image, (max(1, round(columns * scale)), max(1, round(rows * scale))))
    outlined = draw_outline(draw_outline(tile, truth, TRUTH_COLOR), mask, MASK_COLOR)
    picture = Pillow.new("RGB", (2 * tile.width + 4, tile.height), (255, 255, 255))
    picture.paste(tile, (0, 0))
    picture.paste(outlined, (tile.width + 4, 0))
    return picture


def reliability_svg(curves: Mapping[str, Sequence[Mapping[str, Any]]], across: str, up: str) -> str:
    """Reliability curves in one diagram, with the diagonal of perfect calibration.

    Args:
        curves: bins by name, see :meth:`calibration.Reliability.rows`; at most two.
        across: label of the horizontal axis, the predicted probability.
        up: label of the vertical axis, the observed frequency.
    """
    width, height = _LEFT + _SIDE + 16, _TOP + _SIDE + 48 + _LEGEND * len(curves)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12" fill="#222">',
            f'<rect width="{width}" height="{height}" fill="#fff"/>',
            *_axes(across, up),
            *(line for n, (name, bins) in enumerate(curves.items()) for line in _curve(n, name, bins)),
            "</svg>\n",
        ]
    )


def _axes(across: str, up: str) -> list[str]:
    bottom, right = _TOP + _SIDE, _LEFT + _SIDE
    middle = _TOP + _SIDE // 2
    lines = [
        f'<rect x="{_LEFT}" y="{_TOP}" width="{_SIDE}" height="{_SIDE}" fill="none" stroke="#888"/>',
        f'<path d="M{_LEFT} {bottom}L{right} {_TOP}" stroke="#888" stroke-dasharray="4 4"/>',
        f'<text x="{_LEFT + _SIDE // 2}" y="{bottom + 34}" text-anchor="middle">{escape(across)}</text>',
        f'<text x="14" y="{middle}" text-anchor="middle" transform="rotate(-90 14 {middle})">{escape(up)}</text>',
    ]
    for tick in (0, 0.2, 0.4, 0.6, 0.8, 1):
        x, y = _place(tick, tick)
        lines.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{tick:g}</text>')
        lines.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    return lines


def _curve(number: int, name: str, bins: Sequence[Mapping[str, Any]]) -> list[str]:
    """Line, points and legend of one curve."""
    color = _CURVE_COLORS[number]
    points = [_place(entry["predicted"], entry["observed"]) for entry in bins]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    y = _TOP + _SIDE + 52 + _LEGEND * number
    return [
        f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>',
        *(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{color}"/>' for x, y in points),
        f'<circle cx="{_LEFT + 6}" cy="{y}" r="4" fill="{color}"/>',
        f'<text x="{_LEFT + 18}" y="{y + 4}">{escape(name)}</text>',
    ]


def _place(across: float, up: float) -> tuple[float, float]:
    return _LEFT + across * _SIDE, _TOP + (1 - up) * _SIDE
