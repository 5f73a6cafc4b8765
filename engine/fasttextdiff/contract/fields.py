"""Converts typed messages to JSON fields and back; refuses wrong fields with a one-line error.

Knows dataclasses and JSON; knows nothing about the meaning of messages.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import lru_cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

Message = TypeVar("Message")
_LARGEST = 2**63 - 1
"""Largest whole number in a message: every field that takes one can hold it."""


class ContractError(ValueError):
    """A field is missing, unknown or of the wrong type; the one-line message names it."""


def to_fields(message: Any) -> dict[str, Any]:
    """A message as JSON fields."""
    return {field.name: _plain(getattr(message, field.name)) for field in fields(message)}


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return to_fields(value)
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(part) for part in value]
    return str(value) if isinstance(value, Path) else value


def from_fields(kind: type[Message], content: object) -> Message:
    """A message from JSON fields, made by :func:`to_fields` or by another process.

    Args:
        kind: a dataclass of texts, numbers, paths, tuples, mappings, dataclasses, and unions with None. Fields with a
            default may be missing.
        content: parsed JSON.

    Raises:
        ContractError: a field is missing, unknown or of the wrong type.
    """
    return _message(kind, content, "")


def _message(kind: type[Message], content: object, place: str) -> Message:
    if not isinstance(content, Mapping):
        raise ContractError(f"'{place}' must be an object, got {content!r:.60}")
    known, types = fields(kind), _types(kind)  # type: ignore[arg-type]
    prefix = f"{place}." if place else ""
    for name in content:
        if name not in types:
            raise ContractError(f"there is no field '{prefix}{name!s:.60}'")
    for field in known:
        if field.name not in content and not _has_default(field):
            raise ContractError(f"'{prefix}{field.name}' is missing")
    return kind(**{name: _value(types[name], value, f"{prefix}{name}") for name, value in content.items()})


@lru_cache(maxsize=64)
def _types(kind: type) -> dict[str, Any]:
    types = get_type_hints(kind)
    return {field.name: types[field.name] for field in fields(kind)}


def _has_default(field: Field[Any]) -> bool:
    return field.default is not MISSING or field.default_factory is not MISSING


def _value(kind: Any, value: object, place: str) -> Any:
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        [present] = [part for part in parts if part is not NoneType]
        return None if value is None else _value(present, value, place)
    if origin is tuple:
        return _tuple(parts, value, place)
    if origin is not None:
        return _mapping(parts[1], value, place)
    if isinstance(kind, type) and is_dataclass(kind):
        return _message(kind, value, place)
    is_right, words, convert = _PLAIN[kind]
    if not is_right(value):
        raise ContractError(f"'{place}' must be {words}, got {value!r:.60}")
    return convert(value)


def _tuple(parts: tuple[Any, ...], value: object, place: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise ContractError(f"'{place}' must be a list, got {value!r:.60}")
    if parts[-1] is not Ellipsis and len(parts) != len(value):
        raise ContractError(f"'{place}' must be a list of {len(parts)}, got {value!r:.60}")
    kinds = parts[:1] * len(value) if parts[-1] is Ellipsis else parts
    return tuple(_value(kind, part, f"{place}[{n}]") for n, (kind, part) in enumerate(zip(kinds, value, strict=True)))


def _mapping(kind: Any, value: object, place: str) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ContractError(f"'{place}' must be an object, got {value!r:.60}")
    return {key: _value(kind, part, f"{place}[{key!r:.60}]") for key, part in value.items()}


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _LARGEST


def _is_number(value: object) -> bool:
    """Whole numbers are accepted; NaN and Infinity, which Python's JSON parser reads, are not."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and abs(value) <= sys.float_info.max and math.isfinite(value)  # type: ignore[arg-type]


def _is_path(value: object) -> bool:
    return isinstance(value, (str, Path)) and str(value) not in ("", ".") and "\0" not in str(value)


_PLAIN: dict[type, tuple[Callable[[Any], bool], str, Callable[[Any], Any]]] = {
    str: (lambda value: isinstance(value, str), "a text", str),
    bool: (lambda value: isinstance(value, bool), "true or false", bool),
    int: (_is_whole, "a whole number", int),
    float: (_is_number, "a finite number", float),
    Path: (_is_path, "a path", Path),
}
