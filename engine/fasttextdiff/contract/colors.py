"""Colours of segments, and how to tell whether two are easily confused. Knows nothing about findings."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Collection, Sequence

Rgb = tuple[int, int, int]
"""(red, green, blue), 0 to 255 each."""

# The palette of Okabe and Ito for colour-blind readers (jfly.uni-koeln.de/color, 2008) without black, with dark
# colours lightened to show on a grey image, and five more. The order keeps neighbours far apart.
ORANGE, SKY_BLUE, BLUISH_GREEN, YELLOW, VERMILION = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 178, 133),
    (240, 228, 66),
    (224, 102, 30),
)
PALETTE: tuple[Rgb, ...] = (
    *(ORANGE, SKY_BLUE, BLUISH_GREEN, YELLOW, VERMILION),
    (221, 138, 184),  # reddish purple
    (40, 130, 205),  # blue
    (170, 220, 90),  # lime
    (255, 190, 160),  # apricot
    (150, 130, 255),  # violet
    (0, 220, 220),  # cyan
    (255, 90, 140),  # rose
)
ALIKE = 160.0
"""Colours closer than this are easily confused; sky blue and blue differ by 130."""


def color_distance(first: Sequence[float], second: Sequence[float]) -> float:
    """How different two colours look, 0 to about 765: a weighted RGB distance, closer to perception than the plain one.

    Source: Riemersma, "Colour metric", compuphase.com/cmetric.htm.
    """
    red, green, blue = (a - b for a, b in zip(first, second, strict=True))
    mean = (first[0] + second[0]) / 2
    return math.sqrt((2 + mean / 256) * red**2 + 4 * green**2 + (2 + (255 - mean) / 256) * blue**2)


def distinct_color(taken: Collection[Rgb], wanted: Rgb) -> Rgb:
    """The wanted colour if it is distinct from all taken ones, else the most distinct colour of the palette."""

    def distance(candidate: Rgb) -> float:
        return min((color_distance(candidate, each) for each in taken), default=ALIKE)

    return wanted if distance(wanted) >= ALIKE else max(PALETTE, key=distance)


def next_color(taken: Collection[Rgb]) -> Rgb:
    """The first free colour of the palette; after the last, hues a golden ratio apart, which do not repeat."""
    for color in PALETTE:
        if color not in taken:
            return color
    step = len(taken)
    while True:
        shade = colorsys.hls_to_rgb(step * 0.618034 % 1.0, 0.45 + 0.1 * (step % 4), 0.75)
        red, green, blue = (round(255 * part) for part in shade)
        if (red, green, blue) not in taken:
            return red, green, blue
        step += 1
