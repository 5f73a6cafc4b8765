"""Recognises untaught findings from their words, so that the model does not guess.

A finding is taught if it names a taught term, and if each of its other words only describes, locates or requests.
"Tumour of the liver" names "liver tumour"; "pleural effusion in the left lung" names "left lung", but "effusion" is
neither taught nor descriptive; "lesion of the liver" names "lesion", which was taught for another organ. Does not
import torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher

from fasttextdiff.contract.abnormalities import PATCHY
from fasttextdiff.contract.answers import TaughtFinding
from fasttextdiff.contract.findings import shortened, understood
from fasttextdiff.model.naming import (
    PART_STEMS,
    Named,
    Word,
    content,
    is_like_any,
    is_neutral,
    named,
    stems,
    terms_words,
    words_of,
)
from fasttextdiff.model.neutral_words import ELSEWHERE, RELATIONS
from fasttextdiff.model.words import stem_of

NEAREST = 3
"""Maximum number of taught findings in an explanation."""
ALIKE = 0.6
"""A finding is near a text if they share a word, or at least this share of letters."""
_DISTANCE = 3
""""Behind the heart": at most this many words from a relation to the organ."""
_RELATIONS = stems(RELATIONS)
_LUNGS = {"left", "right", "lung"}


def explain_untaught(text: str, findings: Sequence[TaughtFinding], where: str = "") -> str:
    """Why a text is untaught, in one line; empty if it names a taught finding.

    Args:
        text: a finding as typed.
        findings: taught findings for the image's modality.
        where: text for that modality in the message, such as " for ct".
    """
    strange = strange_words(text, findings)
    if not strange:
        return ""
    if sides := _taught_by_side(text, findings):
        return f"'{shortened(understood(text))}' was taught{where} by side only: ask for {sides}"
    unknown = "" if len(strange) == len(words_of(text)) else f" because of '{strange[0]}'"
    near = ", ".join(f"'{finding.name}'" for finding in nearest(text, findings))
    return f"'{shortened(understood(text))}' was not taught{where}{unknown}{f'; nearest: {near}' if near else ''}"


def strange_words(text: str, findings: Iterable[TaughtFinding]) -> list[str]:
    """Words of a text, as typed, that no taught finding explains; all words if the text names none.

    Words of an organ explain nothing next to an abnormality that was taught elsewhere, unless they only tell where it
    is ("opacity behind the heart").

    Args:
        text: a finding as typed.
        findings: taught findings.
    """
    words, found = words_of(text), named(text, findings)
    if not found:
        return [word.typed for word in words]
    abnormal = [one for one in found if one.is_abnormality]
    explained = _explained(abnormal, found)
    located = {n for one in found for n in one.words if abnormal and _is_relative(words, n)}
    return [
        word.typed
        for n, word in enumerate(words)
        if _means_another(word, found) or not (n in located or _is_explained(word, explained, bool(abnormal)))
    ]


def unlearned_part(text: str, findings: Iterable[TaughtFinding]) -> str:
    """A warning if a text asks for a part or a side that was not taught, in one line; empty if it does not.

    Parts and sides of the lungs, and of what is in them, were taught.

    Args:
        text: a finding as typed, which was taught.
        findings: taught findings for the image's modality.
    """
    found = named(text, findings)
    known = {word for one in found for word in terms_words(one.finding)}
    if any(_is_of_lungs(one.finding) for one in found):
        return ""
    part = next((word.typed for word in words_of(text) if word.plain in PART_STEMS and word.plain not in known), "")
    if not part or not found:
        return ""
    return f"'{part}' was not taught for '{found[0].finding.name}': the mask may show all of it"


def nearest(text: str, findings: Sequence[TaughtFinding]) -> list[TaughtFinding]:
    """At most :data:`NEAREST` taught findings that share a word with a text or are spelled alike, nearest first."""
    words, spelled = [word.plain for word in words_of(text)], understood(text).lower()

    def likeness(finding: TaughtFinding) -> float:
        shared = max(sum(is_like_any(word.plain, words) for word in words_of(term)) for term in finding.terms)
        matchers = [SequenceMatcher(None, spelled, term.lower()) for term in finding.terms]
        if not shared:  # most findings: the upper bound is ten times as fast
            matchers = [matcher for matcher in matchers if matcher.quick_ratio() >= ALIKE]
        return shared + max((matcher.ratio() for matcher in matchers), default=0.0)

    near = [(likeness(finding), n) for n, finding in enumerate(findings)]
    return [findings[n] for value, n in sorted(near, key=lambda pair: (-pair[0], pair[1]))[:NEAREST] if value >= ALIKE]


def _explained(abnormal: Sequence[Named], found: Sequence[Named]) -> set[str]:
    """Words of the terms of findings; of an organ next to an abnormality, only if that was taught in it."""
    words = {word for one in abnormal or found for word in terms_words(one.finding)}
    homes = [one for one in found if any(is_like_any(word, words) for word in content(one.finding.name))]
    return words.union(*(terms_words(one.finding) for one in homes))


def _is_explained(word: Word, explained: set[str], beside_abnormality: bool) -> bool:
    return is_like_any(word.plain, explained) or is_neutral(word, beside_abnormality=beside_abnormality)


def _is_relative(words: Sequence[Word], place: int) -> bool:
    before = words[max(0, place - _DISTANCE) : place]
    return any(word.plain in _RELATIONS for word in before)


def _means_another(word: Word, found: Iterable[Named]) -> bool:
    """Whether a word turns the name of a finding into that of another structure."""
    return any(
        word.plain in ELSEWHERE[part].split()
        for one in found
        for part in ELSEWHERE
        if not one.is_abnormality and part in one.finding.name and word.plain not in terms_words(one.finding)
    )


def _is_of_lungs(finding: TaughtFinding) -> bool:
    words = {word.plain for word in words_of(finding.name)}
    return bool(PATCHY.search(finding.name.lower())) or words <= _LUNGS


def _taught_by_side(text: str, findings: Sequence[TaughtFinding]) -> str:
    """For "clavicles": "'left clavicle' and 'right clavicle'", if these were taught; else empty."""
    name = re.sub(r"\b(?:both|left and right|right and left|bilateral|the)\b", " ", understood(text).lower())
    wanted = [f"{side} {stem_of(' '.join(name.split()))}" for side in ("left", "right")]
    terms = {stem_of(term.lower()) for finding in findings for term in finding.terms}
    return " and ".join(f"'{one}'" for one in wanted) if terms.issuperset(wanted) else ""
