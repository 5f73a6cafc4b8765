"""Prompts without images, with their meanings, and hard negatives: similar words with another meaning.

A text encoder must distinguish a prompt from one with a swapped side, a negation or another finding. Knows the wordings
of training; knows nothing about images, tokens or networks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from numpy.random import Generator

from fasttextdiff.training.prompts import EVERYWHERE, FINDINGS, IN_ZONE, LUNGS_WORDS, NEGATED, NEVER_TAUGHT, ON_SIDE
from fasttextdiff.training.samples import PULMONARY as PULMONARY_REGIONS

PULMONARY = {str(region.name): words for region, words in FINDINGS.items() if region & PULMONARY_REGIONS}
CLASSES: dict[str, Sequence[str]] = {
    **{str(region.name): words for region, words in FINDINGS.items()},
    "LUNGS": LUNGS_WORDS,
    **{word: (word,) for word in NEVER_TAUGHT},
}
"""Classes of findings with synonyms."""
LVIT_IN_ZONE = ("Unilateral {finding}, one infected area, {zone} {side} lung.",)
LVIT_BILATERAL = tuple(
    f"Bilateral {{finding}}, {count} infected areas, all left lung and all right lung."
    for count in ("two", "three", "four")
)
"""Sentences in LViT's form (Li et al. 2024)."""
BILATERAL = (*LVIT_BILATERAL, *(t for t in EVERYWHERE if "both" in t or "bilateral" in t), "{finding} on both sides")
ANYWHERE = tuple(t for t in EVERYWHERE if t not in BILATERAL)
ZONES = ("upper", "middle", "lower", "upper middle", "middle lower", "anterior", "posterior")
ONE_SIDE = ("left", "right")
SIDE_WORDS = re.compile(r"\b(left|right|both|bilateral)\b", re.IGNORECASE)

Span = tuple[int, int]


@dataclass(frozen=True)
class Statement:
    """A prompt and its meaning; equal finding, side, zone and negation mean the same.

    Attributes:
        template: with `{finding}`, `{side}` for left or right, and `{zone}` if there is one.
        word: a synonym of the finding.
        finding: name of a class in :data:`CLASSES`.
        side: the patient's left, right or both; empty without a side.
        zone: zone of the lung on that side, or empty.
        denied: whether it says that the finding is absent.
    """

    template: str
    word: str
    finding: str
    side: str
    zone: str
    denied: bool

    @property
    def text(self) -> str:
        """The prompt."""
        return self.template.format(finding=self.word, side=self.side, zone=self.zone)

    @property
    def meaning(self) -> tuple[str, str, str, bool]:
        """Equal for prompts with the same meaning."""
        return self.finding, self.side, self.zone, self.denied

    @property
    def finding_span(self) -> Span:
        """Characters (first, last + 1) of the finding's words."""
        start = self.text.index(self.word)
        return start, start + len(self.word)

    @property
    def side_span(self) -> Span | None:
        """Characters of the word for the side."""
        found = SIDE_WORDS.search(self.text) if self.side else None
        return found.span() if found else None


def family(rng: Generator) -> list[Statement]:
    """A prompt, a paraphrase, and hard negatives: negated or affirmed, another finding, side and zone."""
    base = _drawn(rng)
    paraphrase = _reworded(replace(base, word=_pick(CLASSES[base.finding], rng)), rng)
    members = [base, paraphrase, _negation(base, rng), _with_another_finding(base, rng)]
    if base.finding in PULMONARY:
        members.append(_on_another_side(base, rng))
    if base.zone:
        members.append(replace(base, zone=_pick([zone for zone in ZONES if zone != base.zone], rng)))
    return members


def _drawn(rng: Generator) -> Statement:
    """A random statement; most are about a lesion on one side, where the words matter."""
    side = zone = ""
    if rng.random() < 0.2:
        finding = _pick([name for name in CLASSES if name not in PULMONARY], rng)
    else:
        finding, side = _pick(list(PULMONARY), rng), _pick(("left", "left", "right", "right", "both", ""), rng)
    if side in ONE_SIDE and rng.random() < 0.4:
        zone = _pick(ZONES, rng)
    word = _pick(CLASSES[finding], rng)
    return _reworded(Statement("", word, finding, side, zone, denied=bool(rng.random() < 0.25)), rng)


def _reworded(statement: Statement, rng: Generator) -> Statement:
    """The statement in another random template."""
    unzoned: dict[str, Sequence[str]] = {"": ANYWHERE, "both": BILATERAL}
    templates = (*IN_ZONE, *LVIT_IN_ZONE) if statement.zone else unzoned.get(statement.side, ON_SIDE)
    if statement.denied:
        template = _pick(NEGATED, rng).replace("{finding}", _pick([t for t in templates if _is_noun_phrase(t)], rng))
    else:
        template = _pick(templates, rng)
    return replace(statement, template=template)


def _negation(base: Statement, rng: Generator) -> Statement:
    """The negation of the statement, or its affirmation; in the same template if possible."""
    if not base.denied and _is_noun_phrase(base.template):
        return replace(base, template=_pick(NEGATED, rng).replace("{finding}", base.template), denied=True)
    return _reworded(replace(base, denied=not base.denied), rng)


def _with_another_finding(base: Statement, rng: Generator) -> Statement:
    names = PULMONARY if base.finding in PULMONARY else CLASSES
    finding = _pick([name for name in names if name != base.finding], rng)
    return replace(base, finding=finding, word=_pick(CLASSES[finding], rng))


def _on_another_side(base: Statement, rng: Generator) -> Statement:
    if base.side in ONE_SIDE:
        return replace(base, side="left" if base.side == "right" else "right")
    return _reworded(replace(base, side=_pick(ONE_SIDE, rng)), rng)


def _is_noun_phrase(template: str) -> bool:
    """Whether it can follow "no ..."."""
    return template.startswith("{") and ":" not in template and "?" not in template


def _pick(words: Sequence[str], rng: Generator) -> str:
    return words[int(rng.integers(len(words)))]
