"""Compares words across plurals, British and American spelling, word forms and typos. Knows letters only."""

from __future__ import annotations

import re
from functools import lru_cache

ENDINGS = (
    "", "a", "al", "ar", "ary", "ation", "d", "e", "ed", "es", "i", "ic", "ing", "ion", "ions", "ive", "ous", "s", "um",
    "us", "y",
)  # fmt: skip
LONG = 7
"""Minimum length of a word whose first letter may be a typo."""
SHARED = 6
"""Words that share this many first letters and have one of these endings are forms of one word."""


def stem_of(word: str) -> str:
    """The same spelling for singular and plural, British and American English."""
    word = word.removesuffix("'s").replace("ae", "e").replace("oe", "e")
    word = re.sub(r"our(s?)$", r"or\1", word)
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


@lru_cache(maxsize=65536)
def is_like(word: str, other: str) -> bool:
    """Whether two words are forms of one word, or equal except for one or two typos.

    Short words that differ in their first letter are usually different words.
    """
    if word == other:
        return True
    shorter, longer = sorted((word, other), key=len)
    if word[0] != other[0]:
        return len(shorter) >= LONG and typos_between(word, other) == 1
    if len(longer) == 4:  # "lng", but not "leg"
        return len(shorter) == 3 and _is_part(shorter, longer)
    allowed = 0 if len(longer) < 5 else 1 if len(longer) < 9 else 2
    return _are_forms(word, other) or (len(shorter) > 3 and typos_between(word, other) <= allowed)


def is_misspelt(word: str, other: str) -> bool:
    """Whether two words of at least five letters differ in one letter, but not in the first, or not at all."""
    return word == other or (min(len(word), len(other)) > 4 and word[0] == other[0] and typos_between(word, other) <= 1)


def _is_part(shorter: str, longer: str) -> bool:
    """Whether the shorter word only lacks letters of the longer one."""
    letters = iter(longer)
    return all(letter in letters for letter in shorter)


def _are_forms(word: str, other: str) -> bool:
    shared = next((n for n, (one, two) in enumerate(zip(word, other, strict=False)) if one != two), None)
    shared = min(len(word), len(other)) if shared is None else shared
    return shared >= SHARED and word[shared:] in ENDINGS and other[shared:] in ENDINGS


def typos_between(word: str, other: str) -> int:
    """Number of dropped, added, changed or swapped letters (optimal string alignment distance)."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(word, start=1):
        last, before, row = before, row, [i]
        for j, wanted in enumerate(other, start=1):
            row.append(min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != wanted)))
            if i > 1 and j > 1 and letter == other[j - 2] and word[i - 2] == wanted:
                row[j] = min(row[j], last[j - 2] + 1)
    return row[-1]
