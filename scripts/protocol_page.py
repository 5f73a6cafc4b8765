"""Writes docs/protocol.md from the contract, so that it is always up to date: python scripts/protocol_page.py.

Knows dataclasses and their docstrings; knows nothing about the meaning of messages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from inspect import cleandoc
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from fasttextdiff.contract import answers, batch, messages, teaching, words
from fasttextdiff.contract.requests import JOBS, REQUESTS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "protocol.md"
_NAMES = {str: "text", int: "whole number", float: "number", bool: "true or false", Path: "path"}


def protocol_page() -> str:
    """The page in Markdown."""
    intro = cleandoc(messages.__doc__ or "").rpartition("\n\n")[0]
    parts = [
        "# Protocol between the Slicer module and the engine's worker",
        f"Version {messages.PROTOCOL}. Written by `scripts/protocol_page.py` from `engine/fasttextdiff/contract`.",
        intro,
        "Unknown and missing fields and wrong types are refused. Fields with a default may be omitted. Text is UTF-8.",
        "## Requests",
        *(_request(op, kind) for op, kind in REQUESTS.items()),
        "## Answers",
        *(
            _section(kind)
            for kind in (*_classes(answers), *_classes(teaching), *_classes(words))
            if not hasattr(kind, "op")
        ),
        "## Events",
        *(_section(kind, f'"{name}"') for name, kind in messages.EVENTS.items()),
        "## Kinds of errors",
        "\n".join(f"* `{kind}`: {meaning}" for kind, meaning in messages.ERROR_KINDS.items()),
        "## Events of `fasttextdiff batch --json`",
        "One JSON object per line; the keys `event` and, for a case, `state` give its type. The module reads them too.",
        *(_section(kind, _event_title(*key)) for key, kind in batch.EVENTS.items()),
        *(_section(kind) for kind in (batch.PlannedCase, batch.SkippedImage, batch.Seconds, batch.CaseFinding)),
    ]
    return "\n\n".join(parts) + "\n"


def _request(op: str, kind: Any) -> str:
    when = "A job: carried out after earlier jobs" if kind in JOBS else "Answered immediately"
    return _section(kind, f'"{op}"') + f"\n\n{when}. Answer: `{kind.answer.__name__}`."


def _event_title(name: str, state: str) -> str:
    return f'"{name}"' + (f', state "{state}"' if state else "")


def _classes(module: Any) -> Iterator[type]:
    for kind in vars(module).values():
        if isinstance(kind, type) and is_dataclass(kind) and kind.__module__ == module.__name__:
            yield kind


def _section(kind: Any, title: str = "") -> str:
    text, _, attributes = cleandoc(kind.__doc__).partition("\n\nAttributes:")
    meanings = dict(re.findall(r"^ +(\w+): (.+(?:\n {8}.+)*)$", attributes, re.M))
    rows = [
        f"| `{field.name}` | {_type(kind, field)} | {' '.join(meanings.get(field.name, '').split())} |"
        for field in fields(kind)
    ]
    table = ["| field | type | meaning |", "|---|---|---|", *rows] if rows else []
    return "\n\n".join(filter(None, (f"### {title or kind.__name__}", text, "\n".join(table))))


def _type(kind: Any, field: Any) -> str:
    text = _type_text(get_type_hints(kind)[field.name])
    default = "null" if field.default is None else repr(field.default).replace("'", '"')
    return text if repr(field.default).startswith("<") else f"{text}, else {default}"


def _type_text(kind: Any) -> str:
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return " or ".join("null" if part is NoneType else _type_text(part) for part in parts)
    if origin is tuple:
        length = "" if parts[-1] is Ellipsis else f"{len(parts)} "
        return f"list of {length}{_type_text(parts[0])}"
    if origin is not None:
        return f"object (text to {_type_text(parts[1])})"
    return _NAMES.get(kind) or f"`{kind.__name__}`"


if __name__ == "__main__":
    PAGE.write_text(protocol_page(), encoding="utf-8")
