"""What the words of a finding do on one slice: the result without each word, and without any text.

Knows the segmenter; knows nothing about how the answer is shown.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.contract.findings import distinct, understood
from fasttextdiff.errors import UsageError
from fasttextdiff.image.slices import PreparedImage
from fasttextdiff.model.info import require_words
from fasttextdiff.model.neutral_words import ASKING
from fasttextdiff.result import FindingResult
from fasttextdiff.segmenter import Segmenter
from fasttextdiff.segments.terminology import MORPHOLOGY, code_finding

IGNORED = 0.05
"""A word is ignored if its removal moves less than this share of the probability, and the presence by less."""
DISAGREE = 0.5
"""Dice of the masks with and without text below which they disagree strongly."""
_GRAMMAR = frozenset(ASKING.split())


@dataclass(frozen=True)
class WordEffect:
    """One word of a finding.

    Attributes:
        word: as it was read.
        change: share of the probability that moves if the word is removed, from 0 to 1; None for words such as
            "in" and "the", which were not tried, and where nothing was found.
    """

    word: str
    change: float | None

    @property
    def is_ignored(self) -> bool:
        """Whether removing the word changes nothing."""
        return self.change is not None and self.change < IGNORED


@dataclass(frozen=True)
class WordEffects:
    """What the words of a finding do on one slice.

    Attributes:
        finding: the text as it was read.
        words: in order.
        found: whether the finding has any voxel there; if not, nothing can be said about its words.
        presence: probability that it is there at all.
        text_free: the mask without any text, (k, j, i) of the slice.
        agreement: Dice of the masks with and without text; None if both are empty.
    """

    finding: str
    words: tuple[WordEffect, ...]
    found: bool
    presence: float
    text_free: NDArray[np.bool_]
    agreement: float | None

    @property
    def note(self) -> str:
        """What to know about the words, in one line; empty if there is nothing to say."""
        if not self.found:
            return f"'{self.finding}' is not found on this slice (presence {self.presence:.0%})"
        is_lesion = code_finding(self.finding).category == MORPHOLOGY  # without words, the model marks lesions
        if is_lesion and self.agreement is not None and self.agreement < DISAGREE:
            return (
                f"without words, the model marks something else than '{self.finding}' "
                f"(Dice {self.agreement:.2f}): compare both outlines"
            )
        ignored = [each.word for each in self.words if each.is_ignored]
        return f"the model ignores {', '.join(map(repr, ignored))} on this slice" if ignored else ""


def weigh_words(segmenter: Segmenter, image: PreparedImage, finding: str) -> WordEffects:
    """Segment a finding without each of its words, and without text, on one slice.

    All of these use the window of the finding, so that only the words differ.

    Args:
        segmenter: the model.
        image: from :meth:`Segmenter.prepare`, with one slice requested.
        finding: the text.

    Raises:
        UsageError: not exactly one slice is requested, or the finding has no words.
    """
    if len(image.slices) != 1:
        raise UsageError("the words of a finding are tried on one slice: request one")
    require_words(finding)
    text = understood(finding)
    words = text.split()
    tried = {n: " ".join([*words[:n], *words[n + 1 :]]) for n, word in enumerate(words) if word.lower() not in _GRAMMAR}
    ((shown, _),) = segmenter.windows(image, [text])
    asked = list(distinct([text, "", *tried.values()]))
    results = segmenter.decode_slices(replace(shown, by_finding=False), asked, slice_by_slice=True, try_anyway=True)
    found = {one.finding.casefold(): one for one in results.findings}
    whole, free = found[text.casefold()], found[""]
    is_found = bool(whole.mask.any())
    effects = tuple(
        WordEffect(word, _change(whole, _of(found, tried[n])) if n in tried and is_found else None)
        for n, word in enumerate(words)
    )
    return WordEffects(text, effects, is_found, float(whole.presence[0]), free.mask, _agreement(whole.mask, free.mask))


def _of(found: dict[str, FindingResult], text: str) -> FindingResult:
    return found[(understood(text) or text).casefold()]


def _change(whole: FindingResult, other: FindingResult) -> float:
    """The larger of the changes of probability (1 - soft Dice) and of presence."""
    both = float(whole.probability.sum(dtype=np.float64) + other.probability.sum(dtype=np.float64))
    shared = float(np.minimum(whole.probability, other.probability).sum(dtype=np.float64))
    moved = 0.0 if both == 0 else 1 - 2 * shared / both
    return max(moved, abs(float(whole.presence[0]) - float(other.presence[0])))


def _agreement(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float | None:
    total = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / total if total else None
