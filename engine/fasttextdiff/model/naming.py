"""Finds which taught findings a text names, in any order, spelling or number and with small typos. Knows words only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from fasttextdiff.contract.abnormalities import is_abnormality
from fasttextdiff.contract.answers import TaughtFinding
from fasttextdiff.contract.findings import understood
from fasttextdiff.model.neutral_words import ASKING, DISEASED, LOOKS, ORGANS, PARTS, PLACES, SYNONYMS
from fasttextdiff.model.words import is_like, is_misspelt, stem_of

COUNTS = "zero one two three four five six seven eight nine ten first second third fourth"
_ADJECTIVE = re.compile(r"\w{3,}(?:al|ic|ar|ous|ive)")


@dataclass(frozen=True)
class Word:
    """A word of a text.

    Attributes:
        typed: as it was typed, in lower case.
        plain: the same for singular and plural and for all synonyms, such as "kidney" for "renal".
    """

    typed: str
    plain: str


@dataclass(frozen=True)
class Named:
    """A taught finding that a text names.

    Attributes:
        finding: the taught finding.
        words: positions in the text of the words of its term.
    """

    finding: TaughtFinding
    words: frozenset[int]

    @property
    def is_abnormality(self) -> bool:
        """Whether it is an abnormality, not anatomy."""
        return is_abnormality(self.finding.name.lower())


def named(text: str, findings: Iterable[TaughtFinding]) -> tuple[Named, ...]:
    """The findings that a text names, without those whose words all belong to a longer one.

    "Left kidney stone" names "kidney stone" and "left kidney", but not "kidneys".

    Args:
        text: as typed.
        findings: to choose from.
    """
    return _named(text, tuple(findings))


@lru_cache(maxsize=1024)  # asked several times for each finding
def _named(text: str, findings: tuple[TaughtFinding, ...]) -> tuple[Named, ...]:
    words = words_of(text)
    places: dict[str, frozenset[int]] = {}
    found = [Named(finding, where) for finding in findings if (where := _where(words, finding, places))]
    return tuple(one for one in found if not any(one.words < other.words for other in found))


def named_in(text: str, findings: Iterable[TaughtFinding]) -> TaughtFinding | None:
    """The finding that a text is about: an abnormality before its place, then the longest one, then the first.

    Args:
        text: as typed.
        findings: to choose from.

    Returns:
        None if the text names none.
    """
    found = named(text, findings)
    return max(found, key=lambda one: (one.is_abnormality, len(one.words))).finding if found else None


def whole_named(text: str, findings: Iterable[TaughtFinding]) -> TaughtFinding | None:
    """The one finding that a text names as a whole; None for several findings, or a part or side of one."""
    found = named(text, findings)
    if len(found) != 1:
        return None
    parts = {word.plain for word in words_of(text)} & PART_STEMS
    return found[0].finding if parts <= terms_words(found[0].finding) else None


def terms_words(finding: TaughtFinding) -> set[str]:
    """The plain words of all terms of a finding."""
    return {word.plain for term in finding.terms for word in words_of(term)}


@lru_cache(maxsize=4096)  # like words_of
def content(term: str) -> tuple[str, ...]:
    """The plain words of a term without "of" and "the"."""
    words = tuple(word.plain for word in words_of(term))
    return tuple(word for word in words if word not in _ASKING) or words


def is_like_any(word: str, known: Iterable[str]) -> bool:
    """Whether a plain word is a form of one of some others, or a misspelling."""
    return any(is_like(word, other) for other in known)


def is_neutral(word: Word, *, beside_abnormality: bool) -> bool:
    """Whether a word only requests, locates or describes.

    Args:
        word: of a text.
        beside_abnormality: whether the text names an abnormality, which "infected" describes; of an organ it makes
            something else.
    """
    if word.plain in _DISEASED:
        return beside_abnormality
    if word.plain in _NEUTRAL or len(word.plain) == 1:
        return True
    if word.plain in _ORGANS or word.plain in _SAME.values():
        return False
    looks_descriptive = bool(_ADJECTIVE.fullmatch(word.plain)) and not is_like_any(word.plain, _ORGANS)
    return looks_descriptive or any(is_misspelt(word.plain, known) for known in _NEUTRAL)


@lru_cache(maxsize=4096)  # every question asks for the words of all taught terms
def words_of(text: str) -> tuple[Word, ...]:
    """The words of a text, without numbers."""
    words = re.findall(r"[^\W_]+(?:'s)?", understood(text).lower())
    return tuple(Word(word, _plain(word)) for word in words if not word.isdigit())


def _where(words: Sequence[Word], finding: TaughtFinding, places: dict[str, frozenset[int]]) -> frozenset[int]:
    """Positions of the words of the longest of a finding's terms that is in a text; empty if none is.

    Args:
        words: of the text.
        finding: whose terms are looked for.
        places: positions of the words looked for before, added to; terms have many words in common.
    """
    longest: frozenset[int] = frozenset()
    for term in finding.terms:
        where: frozenset[int] = frozenset()
        for part in content(term):
            if part not in places:
                places[part] = frozenset(n for n, word in enumerate(words) if is_like(part, word.plain))
            if not places[part]:
                break
            where |= places[part]
        else:
            longest = max(longest, where, key=len)
    return longest


@lru_cache(maxsize=4096)
def _plain(word: str) -> str:
    stem = stem_of(word)
    if stem in _SAME or stem in _KNOWN:  # "malignant" describes; it is not a misspelt "malignancy"
        return _SAME.get(stem, stem)
    return next((_SAME[known] for known in _SAME if is_misspelt(stem, known)), stem)


def stems(words: str) -> frozenset[str]:
    """The stems of a list of words."""
    return frozenset(map(stem_of, words.split()))


_SAME = {stem_of(word): words.split()[0] for words in SYNONYMS for word in words.split()}
_KNOWN = stems(f"{ASKING} {PLACES} {LOOKS} {COUNTS} {DISEASED} {ORGANS}")
_DISEASED = stems(DISEASED)
_ORGANS = stems(ORGANS)
_NEUTRAL = frozenset(_SAME.get(stem, stem) for stem in stems(f"{ASKING} {PLACES} {LOOKS} {COUNTS}"))
_ASKING = stems(ASKING)
PART_STEMS = stems(PARTS)
