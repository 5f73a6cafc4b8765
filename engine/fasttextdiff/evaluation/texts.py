"""The texts of an evaluation: the true text, none, that of another target, or a changed true text.

Knows words; knows nothing about images, models or scores. Sides are the patient's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
from numpy.random import Generator

from fasttextdiff.errors import UsageError
from fasttextdiff.evaluation.datasets import swap_sides

LETTERS_PER_TYPO = 8
KEYBOARD = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
"""Rows of a QWERTY keyboard."""


def choose_texts(texts: Sequence[str], mode: str, seed: int = 0) -> list[str]:
    """Choose the text for each target.

    Args:
        texts: the split's true texts.
        mode: one of `TEXTS`: "true" as written, "none" the empty text, "shuffled" a different text of another target,
            "flipped" the true text with left and right exchanged, "typos" see :func:`mistyped`, "paraphrase" see
            :func:`paraphrased`.
        seed: seed of shuffling and typos.

    Raises:
        UsageError: the mode is unknown, or there is only one text to shuffle.
    """
    if mode not in TEXTS:
        raise UsageError(f"'{mode}' is not a text mode: use {', '.join(TEXTS)}")
    return TEXTS[mode](texts, np.random.default_rng(seed))


def _shuffled(texts: Sequence[str], rng: Generator) -> list[str]:
    if len(set(texts)) < 2:
        raise UsageError("all targets of this split have the same text: there is nothing to shuffle")
    return [_another(texts, text, rng) for text in texts]


def _another(texts: Sequence[str], own: str, rng: Generator) -> str:
    """A random text of the split other than `own`, weighted by how often it occurs."""
    while True:
        text = texts[int(rng.integers(len(texts)))]
        if text != own:
            return text


def mistyped(text: str, rng: Generator) -> str:
    """The text with one typo in every eight letters, and at least one.

    A typo swaps two letters, drops or doubles a letter, or replaces it by a neighbour on the keyboard. The words "left"
    and "right" are kept, because with another side the true mask would be unknown.
    """
    cells = list(text)
    words = [
        match.span() for match in re.finditer(r"[A-Za-z]+", text) if match.group().lower() not in ("left", "right")
    ]
    letters = [(position, end) for start, end in words for position in range(start, end)]
    for start in range(0, max(1, len(letters) - LETTERS_PER_TYPO + 1), LETTERS_PER_TYPO):
        # not the last of the eight letters, which a typo in the next eight could also change
        stretch = letters[start : start + LETTERS_PER_TYPO - 1]
        if stretch:
            position, end = stretch[int(rng.integers(len(stretch)))]
            _slip(cells, position, end, rng)
    return "".join(cells)


def _slip(cells: list[str], position: int, end: int, rng: Generator) -> None:
    """One typo at a letter, in place; `end` is where its word ends."""
    letter = cells[position]
    changes = [(position, ""), (position, letter * 2), (position, _neighbour_key(letter, rng))]
    if position + 1 < end and cells[position + 1] != letter:
        changes.append((position + 1, letter))
    place, change = changes[int(rng.integers(len(changes)))]
    if place != position:
        cells[position] = cells[place]
    cells[place] = change


def _neighbour_key(letter: str, rng: Generator) -> str:
    """A letter next to the given one on the keyboard, in the same case."""
    row = next(row for row in KEYBOARD if letter.lower() in row)
    place = row.index(letter.lower())
    near = [row[n] for n in (place - 1, place + 1) if 0 <= n < len(row)]
    key = near[int(rng.integers(len(near)))]
    return key.upper() if letter.isupper() else key


LESION_SENTENCE = re.compile(r"(bi|uni)lateral pulmonary infection, (\w+) infected areas?, (.+?)\.*", re.IGNORECASE)
"""LViT's sentence for chest X-rays and CT: one side or both, number of areas, location."""
PLACE = re.compile(r"((?:\w+ )*)(left|right) lung", re.IGNORECASE)
LESION_REWORDINGS = (
    "{Number} {site} of infection in {lungs}: {brief}.",
    "The infection occupies {number} {site}, namely {long}.",
    "COVID-19 changes at {number} {site}: {long}.",
)
ZONES = {
    "upper": "top", "middle": "mid", "lower": "base",
    "anterior": "front", "posterior": "back", "all": "whole",
}  # fmt: skip
REWORDINGS = (
    (r"(?:the )?(?:patient's )?(left|right) lung", "lung on the patient's {0}-hand side"),
    (r"ground[- ]glass opacit(?:y|ies)|GGOs?", "ground-glass attenuation"),
    (r"consolidations?", "consolidated lung tissue"),
    (r"heart and mediastinum|heart", "cardiomediastinal contour"),
    (r"the nuclei are evenly distributed\.?", "An even spread of nuclei across the tile."),
    (r"the nuclei are irregularly distributed\.?", "An uneven, patchy spread of nuclei."),
    (r"the nuclei are sparsely distributed\.?", "Few nuclei, lying far apart."),
    (r"the nuclei density in the (.+) is high\.?", "Nuclei crowd together in the {0} region of the tile."),
)
"""Paraphrases of whole texts (regular expression, wording); none of them is used in training."""


def paraphrased(text: str, variant: int = 0) -> str:
    """A paraphrase of the text; unchanged if no rule matches.

    Args:
        text: LViT's sentence (QaTa-COV19, MosMedData+, MoNuSeg) as translated by the loader, or a single finding.
        variant: which wording, if there are several.
    """
    sentence = LESION_SENTENCE.fullmatch(text)
    if sentence is not None and all(PLACE.fullmatch(place) for place in sentence.group(3).split(" and ")):
        return _reworded_lesions(sentence.group(2), sentence.group(3), variant)
    for pattern, wording in REWORDINGS:
        match = re.fullmatch(pattern, text, re.IGNORECASE)
        if match is not None:
            return wording.format(*match.groups())
    return text


def _reworded_lesions(number: str, where: str, variant: int) -> str:
    places = [PLACE.fullmatch(place) for place in where.split(" and ")]
    sides = {m.group(2): m.group(1).split() for m in places if m is not None}
    long = " and ".join(_long_place(side, zones) for side, zones in sides.items())
    values = {
        "number": number.lower(),
        "Number": number.capitalize(),
        "site": "site" if number.lower() == "one" else "sites",
        "lungs": "both lungs" if len(sides) > 1 else f"the {next(iter(sides))} lung",
        "brief": "; ".join(_brief_place(side, zones) for side, zones in sides.items()),
        "long": long,
    }
    return LESION_REWORDINGS[variant % len(LESION_REWORDINGS)].format(**values)


def _brief_place(side: str, zones: Sequence[str]) -> str:
    """For example "right top, base", or only a side if there are no zones."""
    return f"{side} {', '.join(ZONES.get(zone, zone) for zone in zones)}".rstrip()


def _long_place(side: str, zones: Sequence[str]) -> str:
    """For example "the upper and lower parts of the right lung"."""
    if not zones:
        return f"the {side} lung"
    if list(zones) == ["all"]:
        return f"the whole {side} lung"
    if len(zones) == 1:
        return f"the {zones[0]} part of the {side} lung"
    return f"the {', '.join(zones[:-1])} and {zones[-1]} parts of the {side} lung"


TEXTS: dict[str, Callable[[Sequence[str], Generator], list[str]]] = {
    "true": lambda texts, _: list(texts),
    "none": lambda texts, _: [""] * len(texts),
    "shuffled": _shuffled,
    "flipped": lambda texts, _: [swap_sides(text) for text in texts],
    "typos": lambda texts, rng: [mistyped(text, rng) for text in texts],
    "paraphrase": lambda texts, _: [paraphrased(text, n) for n, text in enumerate(texts)],
}
"""Text modes by name: functions from the true texts of a split to the texts to use."""
