"""Colours of segments that are not taken for each other. Knows numbers, no segments."""

import math
from collections.abc import Sequence

Rgb = tuple[int, int, int]
# Told apart by colour-blind readers too (after Okabe and Ito, jfly.uni-koeln.de/color), readable on grey.
_PALETTE = (
    (230, 159, 0),  # orange
    (86, 180, 233),  # sky blue
    (0, 178, 133),  # bluish green
    (240, 228, 66),  # yellow
    (224, 102, 30),  # vermilion
    (221, 138, 184),  # reddish purple
    (40, 130, 205),  # blue
    (170, 220, 90),  # lime
    (255, 190, 160),  # apricot
    (150, 130, 255),  # violet
    (0, 220, 220),  # cyan
    (255, 90, 140),  # rose
)
_ALIKE = 160.0
"""Colours that differ less may be taken for each other: sky blue and blue do by 130."""


def freeColor(taken: Sequence[Rgb], color: Rgb) -> Rgb:
    """The colour if none that is taken is like it, else the most different of the palette.

    Args:
        taken: (red, green, blue), 0 to 255, each.
        color: the one that is wanted.
    """

    def distance(candidate: Rgb) -> float:
        return min((colorDistance(candidate, each) for each in taken), default=_ALIKE)

    return tuple(color) if distance(color) >= _ALIKE else max(_PALETTE, key=distance)


def colorDistance(first: Rgb, second: Rgb) -> float:
    """How different two colours look, 0 to about 765: a weighted distance that goes with the eye better than plain RGB.

    Source: Riemersma, "Colour metric", compuphase.com/cmetric.htm.
    """
    red, green, blue = (a - b for a, b in zip(first, second, strict=True))
    mean = (first[0] + second[0]) / 2
    return math.sqrt((2 + mean / 256) * red**2 + 4 * green**2 + (2 + (255 - mean) / 256) * blue**2)
