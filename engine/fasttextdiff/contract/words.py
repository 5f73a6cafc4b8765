"""Request and answer about the words of a finding. Knows nothing about how they are sent or carried out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from .answers import ArrayFile


@dataclass(frozen=True)
class WeighedWord:
    """One word of a finding.

    Attributes:
        word: as it was read.
        ignored: whether the result is the same without it; null for words that were not tried, such as "in".
    """

    word: str
    ignored: bool | None


@dataclass(frozen=True)
class WordsWeighed:
    """What the words of a finding do on one slice.

    Attributes:
        finding: the text as it was read.
        words: in order.
        text_free: (1, j, i) uint8, the mask without any text.
        note: what to know about the words, in one line; empty if there is nothing to say.
    """

    finding: str
    words: tuple[WeighedWord, ...]
    text_free: ArrayFile
    note: str


@dataclass(frozen=True)
class WeighWords:
    """Which words of a finding change its result on a slice, and what is the result without text?

    Attributes:
        volume: name given in `open_volume`.
        finding: its text.
        slice: number of the slice along the volume's first axis.
        output: an existing folder for the array of the answer.
        seed: of the noise.
        library: folder of learned findings; null for none.
    """

    op: ClassVar[str] = "weigh_words"
    answer: ClassVar[type] = WordsWeighed
    volume: str
    finding: str
    slice: int
    output: Path
    seed: int = 0
    library: Path | None = None
