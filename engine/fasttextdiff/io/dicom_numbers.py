"""Reads numbers of DICOM headers, and refuses those that libraries would take for others. Knows no attributes."""

from __future__ import annotations

import math
import re
from typing import Any

from fasttextdiff.errors import FastTextDiffError

_LARGEST = 1e6
"""Larger than any distance in millimetres or rescale value."""


def counted(value: Any) -> int:
    """A number of images; 0 for a value that is none."""
    try:
        return max(0, int(value or 0))
    except (TypeError, ValueError):
        return 0


def decimal(name: str, value: Any) -> float:
    """A decimal string (PS3.5 section 6.2, DS) as a number; libraries read an invalid one as 1 or 0.

    Raises:
        FastTextDiffError: it is not a number. The message quotes it only if it has no words, which might be a name.
    """
    text = str(value)
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or abs(number) > _LARGEST:
        quoted = repr(text) if re.fullmatch(r"[\d\s.,+-]*(?:[eE][\d+-]*|nan|inf)?", text) else "is a text and"
        raise FastTextDiffError(f"its {name} {quoted} is not a valid number; export the image again")
    return number


def decimals(name: str, value: Any, count: int) -> tuple[float, ...] | None:
    """A multi-valued attribute as numbers; None if absent or empty.

    Raises:
        FastTextDiffError: one of them is not a number.
        ValueError: their count is wrong.
    """
    if value is None or value == "" or (not isinstance(value, str) and len(value) == 0):
        return None
    values = [value] if isinstance(value, str) else list(value)
    numbers = tuple(decimal(name, number) for number in values)
    if len(numbers) != count:
        raise ValueError(f"expected {count} numbers, got {value}")
    return numbers
