"""Turns a finding into token numbers with the model's own tokenizer, without transformers, and keeps states of texts.

Knows texts only.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from fasttextdiff.contract.findings import shortened, understood
from fasttextdiff.errors import ModelError, UsageError, one_line
from fasttextdiff.model.info import require_words

TEXTS_KEPT = 4096
"""Texts whose states are kept: at 64 tokens of 256 float32 channels at most 256 MB, usually 1/8 of it."""

T = TypeVar("T")


class RecentTexts(Generic[T]):
    """States of the texts used last, each computed once."""

    def __init__(self) -> None:
        self._states: OrderedDict[str, T] = OrderedDict()

    def of(self, finding: str, compute: Callable[[str], T]) -> T:
        """The states of a finding in any spelling; `compute` takes the spelling that is read."""
        text = understood(finding)
        if text not in self._states:
            self._states[text] = compute(text)
        self._states.move_to_end(text)
        if len(self._states) > TEXTS_KEPT:
            self._states.popitem(last=False)
        return self._states[text]

    def clear(self) -> None:
        """Forget all texts."""
        self._states.clear()


class Tokens:
    """The tokenizer in a model folder.

    Args:
        file: `tokenizer.json` of the Hugging Face tokenizers library.
        max_tokens: longest finding, including [CLS] and [SEP].

    Raises:
        ModelError: the file cannot be read.
    """

    def __init__(self, file: Path, max_tokens: int) -> None:
        from tokenizers import Tokenizer

        try:
            self._tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises a plain Exception
            raise ModelError(f"the tokenizer {file} cannot be read: {one_line(error)}") from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.max_tokens = max_tokens

    def ids(self, finding: str) -> list[int]:
        """Token numbers of a finding, with [CLS] and [SEP]."""
        numbers: list[int] = self._tokenizer.encode(understood(finding)).ids
        return numbers

    def check(self, finding: str) -> None:
        """Refuse a text that cannot be a finding for this model; see :func:`require_readable`."""
        require_readable(finding, self.max_tokens, lambda text: len(self.ids(text)))


def require_readable(finding: str, max_tokens: int, count: Callable[[str], int]) -> None:
    """Refuse a text that cannot be a finding for a text encoder.

    Args:
        finding: the text as typed.
        max_tokens: longest finding, including [CLS] and [SEP].
        count: tokens of a text, including [CLS] and [SEP].

    Raises:
        UsageError: it is empty, has no Latin letters, or has more than `max_tokens` tokens.
    """
    require_words(finding)
    text = understood(finding)
    # a token has at least one character, so short texts need not be tokenized here
    if len(text) + 2 > max_tokens and (n := count(text)) > max_tokens:
        raise UsageError(f"the finding '{shortened(text)}' has {n} tokens, the model reads {max_tokens}: shorten it")
