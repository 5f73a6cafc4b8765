"""Typos in training prompts. Knows letters only."""

from __future__ import annotations

import re
from string import ascii_lowercase

from numpy.random import Generator

LETTERS_A_SLIP = 10
MOST_SLIPS = 4
"""A misspelt word is read as many tokens, and the longest text of a batch sets the cost of its step."""
LONG_WORD = re.compile(r"[A-Za-z]{4,}")
"""Shorter words are kept, because a typo would turn "no" into another word."""


def with_slips(text: str, rng: Generator) -> str:
    """The text with one typo per ten letters of its longer words, at least one and at most :data:`MOST_SLIPS`.

    A typo drops a letter, doubles it, swaps it with the next or replaces it. A text without longer words is unchanged.
    """
    places = [n for word in LONG_WORD.finditer(text) for n in range(word.start(), word.end() - 1)]
    if not places:
        return text
    count = min(MOST_SLIPS, max(1, round(len(places) / LETTERS_A_SLIP)))
    letters = list(text)
    for place in sorted(rng.choice(places, size=count, replace=False), reverse=True):
        first, second = letters[place : place + 2]
        other = ascii_lowercase[int(rng.integers(len(ascii_lowercase)))]
        changed = ([second], [first, first, second], [second, first], [other, second])
        letters[place : place + 2] = changed[int(rng.integers(len(changed)))]
    return "".join(letters)
