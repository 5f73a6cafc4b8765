"""Parses JSON that users and other programs have written. Knows nothing about what is in it."""

from __future__ import annotations

import json
from typing import Any


def parse_json(text: str | bytes) -> Any:
    """As `json.loads`, with one kind of error for everything that is wrong with the text.

    Raises:
        ValueError: it is no JSON, or nested more deeply than Python can follow (a RecursionError otherwise, which few
            think of).
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
