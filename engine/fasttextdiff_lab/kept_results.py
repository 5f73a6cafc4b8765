"""Keeps the results of a study, one per line, so that it can be resumed. Knows nothing about what they mean."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")


class KeptResults(Generic[Result]):
    """The results in a file that were made in the same way; those made in another way stay in it, and are not used.

    Args:
        path: one JSON object per line.
        kind: dataclass of a result.
        made: what a result depends on, e.g. the hash of the model's weights, as JSON values; stored in each line.
            Nothing is taken from the file if one of them is empty, since it is not known then.
    """

    def __init__(self, path: Path, kind: type[Result], made: Mapping[str, Any]) -> None:
        self.path, self.kind, self.made = path, kind, dict(made)

    def read(self) -> list[Result]:
        """The results made in the same way; a line that a crash cut off is ignored."""
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else []
        stored = [content for line in lines if (content := _content(line)) is not None]
        return [
            self.kind(**{name: value for name, value in one.items() if name not in self.made})
            for one in stored
            if all(value and one.get(name) == value for name, value in self.made.items())
        ]

    def add(self, result: Result) -> None:
        """Write a result at once."""
        is_cut = self.path.is_file() and self.path.read_bytes()[-1:] not in (b"", b"\n")
        with self.path.open("a", encoding="utf-8") as file:
            content = {**self.made, **asdict(result)}  # type: ignore[call-overload]
            file.write("\n" * is_cut + json.dumps(content) + "\n")


def _content(line: str) -> dict[str, Any] | None:
    try:
        content = json.loads(line)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None
