"""Parses JSON from users and other programs. Knows nothing about its content."""

from __future__ import annotations

import json
from typing import Any


def parse_json(text: str | bytes) -> Any:
    """Like `json.loads`, but with ValueError as the only exception.

    Raises:
        ValueError: it is not JSON, or is nested too deeply (a RecursionError in `json.loads`).
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
