"""Which learned finding answers a text. Knows words only; loads no torch.

Its own words in any spelling always; else a text is the model's own if the model was taught it, however misspelt. Any
other text is a learned finding's if it is its word in another number, or with one wrong letter in a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from fasttextdiff.contract.findings import same_key
from fasttextdiff.image.volume import Modality
from fasttextdiff.model.info import ModelInfo
from fasttextdiff.model.words import stem_of, typos_between

SHORTEST, LONG = 5, 6
"""Letters of the shortest word that may have one too few or too many, and a wrong one: "ilium" is not the "ileum"."""
_SIDES = ("left", "right")


class Words(Protocol):
    """The words of a learned finding."""

    @property
    def words(self) -> tuple[str, ...]:
        """Its name and its synonyms."""

    @property
    def modality(self) -> str:
        """Modality of its examples."""


Known = TypeVar("Known", bound=Words)


def answering(
    text: str, learned: Sequence[Known], info: ModelInfo, modality: Modality | None
) -> tuple[Known, str] | None:
    """The learned finding that answers a text, and which of its words the text is.

    What was learned on another modality does not answer what the model was taught on this one.

    Args:
        text: a finding as typed.
        learned: those in use; no word is of two.
        info: of the model.
        modality: of the image; None if not known yet.

    Returns:
        None if the model answers, also if a misspelt text may be a word of two learned findings.
    """
    if not learned:
        return None
    taught = info.knows(text, modality)
    spellings = [text]
    if taught and modality is not None:
        spellings.append(info.respelled(text, modality))
    for spelling in spellings:
        if own := _exact(spelling, learned):
            is_elsewhere = taught and modality is not None and own[0].modality != modality.value
            return None if is_elsewhere else own
    if taught or not info.taught:  # a model without a list may know any text
        return None
    near = [(one, word) for one in learned for word in one.words if _is_spelt(text, word, info, modality)]
    return near[0] if near and all(one is near[0][0] for one, _ in near) else None


def learned_elsewhere(text: str, learned: Words, modality: Modality | None) -> str:
    """Why what was learned does not fit an image, in one line; empty if it does, or if its modality is not known."""
    if modality is None or modality.value == learned.modality:
        return ""
    return f"'{text}' was learned on {learned.modality}, and this image is {modality.value}"


def _exact(text: str, learned: Iterable[Known]) -> tuple[Known, str] | None:
    key = same_key(text)
    return next(((one, word) for one in learned for word in one.words if same_key(word) == key), None)


def _is_spelt(text: str, word: str, info: ModelInfo, modality: Modality | None) -> bool:
    """Whether a text is a word of a learned finding in another number, or with a wrong letter."""
    typed, own = (re.findall(r"[^\W_]+", same_key(each)) for each in (text, word))
    return len(typed) == len(own) and all(
        stem_of(one) == stem_of(other) or (_is_near(one, other) and not info.is_word(one, modality))
        for one, other in zip(typed, own, strict=True)
    )


def _is_near(typed: str, word: str) -> bool:
    """Whether one letter but the first was dropped, added, changed or swapped with the next."""
    fewest = LONG if len(typed) == len(word) else SHORTEST
    is_long = len(word) >= fewest or word in _SIDES
    return is_long and typed[0] == word[0] and typos_between(typed, word) == 1
