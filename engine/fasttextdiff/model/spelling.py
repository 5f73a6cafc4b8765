"""Reads misspelt words as words that the model was taught. Knows words only.

The text encoder has seen few typos, and the pieces of a misspelt word are those of other words. Recognition in
`model.naming` tolerates typos as well, but only to find out what is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from fasttextdiff.contract.answers import TaughtFinding
from fasttextdiff.model.naming import COUNTS
from fasttextdiff.model.neutral_words import ASKING, DISEASED, LOOKS, ORGANS, PLACES, RELATIONS, SYNONYMS
from fasttextdiff.model.untaught import strange_words
from fasttextdiff.model.words import typos_between

SHORTEST = 3
"""Letters of the shortest word that is corrected."""
LONG = 8
"""Letters of a word that may have two typos."""
STRANGE = 0.34
"""Share of strange words up to which a text is taken for misspelt English."""
COMMON = """
left right upper middle lower anterior posterior lung lungs bilateral unilateral pulmonary infection infected area areas
zone all and of the in one two three four five six seven eight nine nuclei density distributed
"""
"""Words of the training captions, which come before rarer words with as many typos."""
_WORD = re.compile(r"[A-Za-z]+")


def respelled(text: str, findings: Sequence[TaughtFinding]) -> str:
    """A text with its misspelt words corrected; unchanged if many words are strange, as in another language.

    Args:
        text: a finding, normalised.
        findings: taught findings for the image's modality.
    """
    common, known = _vocabulary(tuple(term for finding in findings for term in finding.terms))
    corrected = _WORD.sub(lambda word: _corrected(word[0], common, known), text)
    if corrected == text:
        return text
    most = STRANGE * len(_WORD.findall(text))
    return text if len(strange_words(corrected, findings)) > most else corrected


def is_word(word: str, findings: Sequence[TaughtFinding]) -> bool:
    """Whether a word in lower case is one of taught findings, or describes, locates or names an organ."""
    return word in _vocabulary(tuple(term for finding in findings for term in finding.terms))[1]


@lru_cache(maxsize=32)
def _vocabulary(terms: tuple[str, ...]) -> tuple[frozenset[str], frozenset[str]]:
    """The common words, and all known words."""
    common = frozenset(_WORD.findall(f"{' '.join(terms)} {COMMON}".lower()))
    others = " ".join((ASKING, PLACES, LOOKS, COUNTS, DISEASED, ORGANS, RELATIONS, *SYNONYMS))
    return common, common | frozenset(_WORD.findall(others.lower()))


@lru_cache(maxsize=4096)
def _corrected(typed: str, common: frozenset[str], known: frozenset[str]) -> str:
    word = typed.lower()
    if word in known or len(word) < SHORTEST or typed.isupper():  # capitals are an abbreviation
        return typed
    near = [
        (typos, other not in common, other[0] != word[0], other)
        for other in known
        if abs(len(other) - len(word)) <= 2 and (typos := typos_between(word, other)) <= _allowed(other)
    ]
    best = min(near)[-1] if near else word
    return best.capitalize() if typed[0].isupper() else best


def _allowed(word: str) -> int:
    return 0 if len(word) < SHORTEST else 1 if len(word) < LONG else 2
