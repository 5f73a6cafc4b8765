"""Reads misspelt words as words that the model was taught. Knows words only.

The text encoder has seen few typos, and the pieces of a misspelt word are those of other words. Recognition in
`model.naming` tolerates typos as well, but only to find out what is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

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
    words = _vocabulary(tuple(term for finding in findings for term in finding.terms))
    typed = _WORD.findall(text)
    neighbours = zip(["", *typed], [*typed[1:], ""], strict=False)
    corrected = _WORD.sub(lambda word: _corrected(word[0], *(side.lower() for side in next(neighbours)), words), text)
    if corrected == text:
        return text
    most = STRANGE * len(typed)
    return text if len(strange_words(corrected, findings)) > most else corrected


def is_word(word: str, findings: Sequence[TaughtFinding]) -> bool:
    """Whether a word in lower case is one of taught findings, or describes, locates or names an organ."""
    return word in _vocabulary(tuple(term for finding in findings for term in finding.terms)).known


class _Words(NamedTuple):
    """Words in lower case.

    Attributes:
        common: those of taught terms and of training captions.
        known: all.
        pairs: words next to each other in a taught term.
    """

    common: frozenset[str]
    known: frozenset[str]
    pairs: frozenset[tuple[str, str]]


@lru_cache(maxsize=32)
def _vocabulary(terms: tuple[str, ...]) -> _Words:
    taught = [_WORD.findall(term.lower()) for term in terms]
    common = frozenset([*(word for term in taught for word in term), *COMMON.split()])
    others = " ".join((ASKING, PLACES, LOOKS, COUNTS, DISEASED, ORGANS, RELATIONS, *SYNONYMS))
    pairs = frozenset(pair for term in taught for pair in pairwise(term))
    return _Words(common, common | frozenset(_WORD.findall(others.lower())), pairs)


@lru_cache(maxsize=4096)
def _corrected(typed: str, before: str, after: str, words: _Words) -> str:
    """A word, corrected; of words with as many typos, the one that makes a taught term with its neighbours is meant."""
    word = typed.lower()
    if word in words.known or len(word) < SHORTEST or typed.isupper():  # capitals are an abbreviation
        return typed
    near = [
        (
            typos,
            words.pairs.isdisjoint({(before, other), (other, after)}),
            other not in words.common,
            other[0] != word[0],
            other,
        )
        for other in words.known
        if abs(len(other) - len(word)) <= 2 and (typos := typos_between(word, other)) <= _allowed(other)
    ]
    best = min(near)[-1] if near else word
    return best.capitalize() if typed[0].isupper() else best


def _allowed(word: str) -> int:
    return 0 if len(word) < SHORTEST else 1 if len(word) < LONG else 2
