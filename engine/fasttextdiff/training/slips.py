"""Slips of the fingers in training prompts. Knows letters only."""

from __future__ import annotations

import re

from numpy.random import Generator

LETTERS_A_SLIP = 10
LONG_WORD = re.compile(r"[A-Za-z]{4,}")
"""Short words stay as they are: a slip makes "no" another word."""


def with_slips(text: str, rng: Generator) -> str:
    """The text with one letter in ten of its longer words lost, doubled or exchanged with the next, and at least one.

    A text without longer words comes back as it is.
    """
    places = [n for word in LONG_WORD.finditer(text) for n in range(word.start(), word.end() - 1)]
    if not places:
        return text
    count = max(1, round(len(places) / LETTERS_A_SLIP))
    letters = list(text)
    for place in sorted(rng.choice(places, size=count, replace=False), reverse=True):
        first, second = letters[place : place + 2]
        letters[place : place + 2] = [[second], [first, first, second], [second, first]][int(rng.integers(3))]
    return "".join(letters)
