"""The texts of a study: those of an evaluation, and two more that reports are made of.

Knows words; knows nothing about images or systems.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
from numpy.random import Generator

from fasttextdiff.evaluation import texts

ABBREVIATIONS = (
    ("ground-glass opacity", "GGO"), ("consolidation", "consol."), ("bilateral", "bilat."), ("unilateral", "unilat."),
    ("infection", "infect."), ("pulmonary", "pulm."), ("left", "L"), ("right", "R"), ("upper", "up."),
    ("middle", "mid."), ("lower", "low."), ("anterior", "ant."), ("posterior", "post."), ("density", "dens."),
    ("distributed", "distr."),
)  # fmt: skip
"""As radiologists shorten these words."""
_SIDES_AND_ZONES = r"(?:upper|middle|lower|anterior|posterior|left|right|central|all)"


def without_location(text: str) -> str:
    """The text without sides and zones, e.g. "Bilateral pulmonary infection, two infected areas."."""
    kept = re.sub(rf",?\s*(?:\b{_SIDES_AND_ZONES}\b\s*)+lungs?(?:\s+and\b)?", "", text, flags=re.IGNORECASE)
    kept = re.sub(rf"(?:\s+(?:in|of)\s+the)?(?:\s*\b{_SIDES_AND_ZONES}\b)+", "", kept, flags=re.IGNORECASE)
    return re.sub(r"\s+([,.])", r"\1", re.sub(r"\s+", " ", kept)).strip(" ,")


def abbreviated(text: str) -> str:
    """The text with the words of :data:`ABBREVIATIONS` shortened."""
    for word, short in ABBREVIATIONS:
        text = re.sub(rf"\b{word}\b", short, text, flags=re.IGNORECASE)
    return re.sub(r"\.\.+", ".", text)


TEXTS: dict[str, Callable[[Sequence[str], Generator], list[str]]] = {
    **texts.TEXTS,
    "no-location": lambda lines, _: [without_location(line) for line in lines],
    "abbreviated": lambda lines, _: [abbreviated(line) for line in lines],
}
"""Text modes by name: functions from the true texts of a split to the texts to use."""


def chosen(lines: Sequence[str], mode: str, seed: int) -> list[str]:
    """The text for each image; see :data:`TEXTS`."""
    if mode in texts.TEXTS:
        return texts.choose_texts(lines, mode, seed)
    return TEXTS[mode](lines, np.random.default_rng(seed))
