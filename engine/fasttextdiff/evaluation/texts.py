"""What a model is asked in an evaluation: the true text, none, another's, and true texts that were changed.

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
"""Rows of an English keyboard."""


def choose_texts(texts: Sequence[str], mode: str, seed: int = 0) -> list[str]:
    """What the model is asked for, target by target.

    Args:
        texts: the split's true texts.
        mode: one of `TEXTS`: "true" as written, "none" the empty text, "shuffled" another target's text that differs,
            "flipped" the true text with left and right exchanged, "typos" see :func:`mistyped`, "paraphrase" see
            :func:`paraphrased`.
        seed: of shuffling and typos.

    Raises:
        UsageError: no such mode, or there is only one text to shuffle.
    """
    if mode not in TEXTS:
        raise UsageError(f"'{mode}' is not a text mode: use {', '.join(TEXTS)}")
    return TEXTS[mode](texts, np.random.default_rng(seed))


def _shuffled(texts: Sequence[str], rng: Generator) -> list[str]:
    if len(set(texts)) < 2:
        raise UsageError("all targets of this split have the same text: there is nothing to shuffle")
    return [_another(texts, text, rng) for text in texts]


def _another(texts: Sequence[str], own: str, rng: Generator) -> str:
    """A text of the split, as often as it occurs there, that is not `own`."""
    while True:
        text = texts[int(rng.integers(len(texts)))]
        if text != own:
            return text


def mistyped(text: str, rng: Generator) -> str:
    """The text with one slip of the fingers in every eight letters, and at least one.

    Two letters change places, a letter is left out, struck twice, or its neighbour on the keyboard is struck. The words
    "left" and "right" stay whole: with another word for the side, the true mask would no longer be known.
    """
    cells = list(text)
    words = [
        match.span() for match in re.finditer(r"[A-Za-z]+", text) if match.group().lower() not in ("left", "right")
    ]
    letters = [(position, end) for start, end in words for position in range(start, end)]
    for start in range(0, max(1, len(letters) - LETTERS_PER_TYPO + 1), LETTERS_PER_TYPO):
        # not the last of the eight, whose place a slip in the next eight letters could touch as well
        stretch = letters[start : start + LETTERS_PER_TYPO - 1]
        if stretch:
            position, end = stretch[int(rng.integers(len(stretch)))]
            _slip(cells, position, end, rng)
    return "".join(cells)


def _slip(cells: list[str], position: int, end: int, rng: Generator) -> None:
    """One typo at a letter, in place; `end` is where its word ends."""
    letter = cells[position]
    changes = [(position, ""), (position, letter * 2), (position, _beside(letter, rng))]
    if position + 1 < end and cells[position + 1] != letter:
        changes.append((position + 1, letter))
    place, change = changes[int(rng.integers(len(changes)))]
    if place != position:
        cells[position] = cells[place]
    cells[place] = change


def _beside(letter: str, rng: Generator) -> str:
    """A letter next to the given one on the keyboard, in the same case."""
    row = next(row for row in KEYBOARD if letter.lower() in row)
    place = row.index(letter.lower())
    near = [row[n] for n in (place - 1, place + 1) if 0 <= n < len(row)]
    key = near[int(rng.integers(len(near)))]
    return key.upper() if letter.isupper() else key


LESION_SENTENCE = re.compile(r"(?:bi|uni)lateral pulmonary infection, (\w+) infected areas?, (.+?)\.?", re.IGNORECASE)
"""LViT's sentence for chest X-rays and CT, with the number of areas and where they are."""
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
"""Other words for a whole text (regular expression, wording); none of the wordings is taught in training."""


def paraphrased(text: str, variant: int = 0) -> str:
    """The text in other words with the same meaning; as it is where no rule knows it.

    Args:
        text: LViT's sentence (QaTa-COV19, MosMedData+, MoNuSeg) after the loader's translation, or a single finding.
        variant: which of the wordings, where there are several.
    """
    sentence = LESION_SENTENCE.fullmatch(text)
    if sentence is not None and all(PLACE.fullmatch(place) for place in sentence.group(2).split(" and ")):
        return _reworded_lesions(sentence.group(1), sentence.group(2), variant)
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
    """For example "right top, base"; a side without a zone stands alone."""
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
"""Text modes by name: true texts of a split to what is asked for."""
