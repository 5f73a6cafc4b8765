"""Zones of the lungs as words and as parts of a picture, for learning from texts without masks.

Knows sentences of LViT's form and the halves and thirds of a picture; knows no networks. Sides are the patient's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.image.volume import Modality
from fasttextdiff.training.samples import ZONED_LUNG

SIDES = ("left", "right")
ROWS = {Modality.CT: ("anterior", "middle", "posterior")}
"""Names of the upper, middle and lower third of a picture by modality, where they are not those of an X-ray."""
XRAY_ROWS = ("upper", "middle", "lower")


def zone_maps(shape: tuple[int, int], modality: Modality) -> tuple[tuple[str, ...], NDArray[np.uint8]]:
    """Six zones of a picture in radiological orientation: its thirds from top to bottom, left and right.

    The borders are only rough ones of the lungs' zones: a text says no more.

    Returns:
        Names such as "upper left lung", and maps (6, h, w) with 1 in the zone.
    """
    height, width = shape
    third = np.minimum(np.arange(height) * 3 // height, 2)
    patient_left = np.arange(width) >= width / 2
    names, maps = [], []
    for number, row in enumerate(ROWS.get(modality, XRAY_ROWS)):
        for side in SIDES:
            names.append(f"{row} {side} lung")
            maps.append(np.outer(third == number, patient_left == (side == "left")))
    return tuple(names), np.stack(maps).astype(np.uint8)


def stated_zones(sentence: str) -> dict[str, set[str]]:
    """The zones that a sentence names, by side; an empty set if it names the side only.

    "All left lung" is every zone of it. An empty result means that the sentence names no lung.
    """
    found: dict[str, set[str]] = {}
    for words, side in ZONED_LUNG.findall(sentence.lower()):
        zones = set(words.split())
        if "all" in zones:
            zones = {*XRAY_ROWS, *ROWS[Modality.CT]}
        found.setdefault(side, set()).update(zones)
    return found


def known(sentence: str, healthy: str, names: tuple[str, ...]) -> list[float]:
    """What a sentence says about zones: 1 there, 0 not there, NaN unknown.

    Args:
        sentence: of the image.
        healthy: the sentence of images without the finding.
        names: zones, e.g. "upper left lung".
    """
    if sentence == healthy:
        return [0.0] * len(names)
    stated = stated_zones(sentence)
    return [_known(name, stated) for name in names]


def _known(name: str, stated: dict[str, set[str]]) -> float:
    row, side, _ = name.split()
    if not stated:
        return float("nan")
    if side not in stated:
        return 0.0
    return float(row in stated[side]) if stated[side] else float("nan")
