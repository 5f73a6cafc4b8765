"""Draws lines with intervals as SVG. Knows numbers and names only."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999", "#b2182b", "#5e3c99")
"""Okabe and Ito's, which colour-blind readers can tell apart, and three more."""
_WIDTH, _HEIGHT, _LEFT, _TOP, _LEGEND = 480, 320, 56, 16, 20


@dataclass(frozen=True)
class Line:
    """A named line.

    Attributes:
        name: for the legend.
        points: x, and y as value, low and high.
    """

    name: str
    points: Sequence[tuple[float, Mapping[str, float]]]


def chart(lines: Sequence[Line], across: str, up: str, joined: bool) -> str:
    """Points with intervals over a logarithmic x axis; y from 0 to 1.

    Args:
        lines: at least one point.
        across: label of the x axis.
        up: label of the y axis.
        joined: whether points of a line are joined.
    """
    places = [x for line in lines for x, _ in line.points]
    low, high = max(0.5, min(places)) / 1.3, max(places) * 1.3
    height = _TOP + _HEIGHT + 52 + _LEGEND * len(lines)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _WIDTH + 20}" height="{height}" '
            'font-family="sans-serif" font-size="12" fill="#222">',
            f'<rect width="{_LEFT + _WIDTH + 20}" height="{height}" fill="#fff"/>',
            *_axes(low, high, across, up),
            *(part for n, line in enumerate(lines) for part in _line(n, line, low, high, joined)),
            "</svg>\n",
        ]
    )


def _axes(low: float, high: float, across: str, up: str) -> list[str]:
    bottom = _TOP + _HEIGHT
    lines = [
        f'<rect x="{_LEFT}" y="{_TOP}" width="{_WIDTH}" height="{_HEIGHT}" fill="none" stroke="#888"/>',
        f'<text x="{_LEFT + _WIDTH // 2}" y="{bottom + 34}" text-anchor="middle">{escape(across)}</text>',
        f'<text x="14" y="{_TOP + _HEIGHT // 2}" text-anchor="middle" '
        f'transform="rotate(-90 14 {_TOP + _HEIGHT // 2})">{escape(up)}</text>',
    ]
    for tick in (0, 0.2, 0.4, 0.6, 0.8, 1):
        y = _TOP + (1 - tick) * _HEIGHT
        lines.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for exponent in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1):
        for tick in (10.0**exponent, 2 * 10.0**exponent, 5 * 10.0**exponent):
            if low <= tick <= high:
                x = _across(tick, low, high)
                lines.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{tick:g}</text>')
    return lines


def _line(number: int, line: Line, low: float, high: float, joined: bool) -> list[str]:
    color = COLORS[number % len(COLORS)]
    points = sorted(line.points, key=lambda point: point[0])
    at = [(_across(x, low, high), y) for x, y in points]
    parts = []
    for x, y in at:
        parts.append(
            f'<path d="M{x:.1f} {_up(y["low"]):.1f}V{_up(y["high"]):.1f}" stroke="{color}"/>'
            f'<circle cx="{x:.1f}" cy="{_up(y["value"]):.1f}" r="3.5" fill="{color}"/>'
        )
    if joined:
        path = " ".join(f"{x:.1f},{_up(y['value']):.1f}" for x, y in at)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
    y_legend = _TOP + _HEIGHT + 54 + _LEGEND * number
    parts.append(f'<circle cx="{_LEFT + 6}" cy="{y_legend}" r="4" fill="{color}"/>')
    parts.append(f'<text x="{_LEFT + 18}" y="{y_legend + 4}">{escape(line.name)}</text>')
    return parts


def _across(x: float, low: float, high: float) -> float:
    return _LEFT + _WIDTH * math.log(max(x, low) / low) / math.log(high / low)


def _up(y: float) -> float:
    return _TOP + (1 - min(1.0, max(0.0, y))) * _HEIGHT
