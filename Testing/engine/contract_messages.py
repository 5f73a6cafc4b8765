"""All messages of the contract, and strategies for their values, made from their types. No assertions."""

from dataclasses import fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Union, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from fasttextdiff.contract import answers, batch, messages, requests, teaching, words

KINDS = [
    kind
    for module in (answers, batch, messages, requests, teaching, words)
    for kind in vars(module).values()
    if isinstance(kind, type) and is_dataclass(kind) and kind.__module__ == module.__name__
]
"""All dataclasses of the contract that are sent."""


def values_of(kind):
    """Values of a type that a message may have."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return st.one_of([st.none() if part is NoneType else values_of(part) for part in parts])
    if origin is tuple and parts[-1] is Ellipsis:
        return st.lists(values_of(parts[0]), max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*map(values_of, parts))
    if origin is not None:
        return st.dictionaries(st.text(max_size=5), values_of(parts[1]), max_size=2)
    return messages_of(kind) if is_dataclass(kind) else _PLAIN[kind]


def messages_of(kind):
    types = get_type_hints(kind)
    return st.builds(kind, **{field.name: values_of(types[field.name]) for field in fields(kind)})


_PLAIN = {
    str: st.text(max_size=9),
    bool: st.booleans(),
    int: st.integers(-(2**63) + 1, 2**63 - 1),
    float: st.floats(allow_nan=False, allow_infinity=False),
    Path: st.text("abc/ é肺", max_size=9).map(lambda text: Path(f"/nowhere-{text}")),
}
