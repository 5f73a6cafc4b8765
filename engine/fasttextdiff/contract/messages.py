"""The messages between the Slicer module and the engine's worker: one JSON object per line, arrays in files.

The module sends requests, `{"id": 7, "op": "segment", ...}`. The worker first sends "hello". It answers each request
under its id with any number of "progress" events, then exactly one "done", "error" or "cancelled". A line that is not
a request is answered by an "error" whose id is null. The worker exits at the end of its standard input.

Knows the form of messages; knows nothing about streams and processes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .fields import ContractError, from_fields, to_fields
from .requests import REQUESTS, Request

PROTOCOL = 5
"""Incremented whenever a message changes; a worker and a module with different protocols do not work together."""

USAGE, IMAGE, MODEL, MISSING, MEMORY, INTERNAL = "usage", "image", "model", "missing", "memory", "internal"
LOST = "lost"
ERROR_KINDS = {
    USAGE: "the request cannot be carried out",
    IMAGE: "the image cannot be segmented, read or referred to",
    MODEL: "the model folder cannot be used",
    MISSING: "Python packages are missing, damaged or too old",
    MEMORY: "there is too little memory",
    INTERNAL: "a bug, or an error of the operating system",
    LOST: "another computer cannot be reached or broke off; the worker ends",
}


@dataclass(frozen=True)
class Hello:
    """The worker's first line: it is running.

    Attributes:
        protocol: protocol version.
        version: engine version.
    """

    protocol: int
    version: str


@dataclass(frozen=True)
class Progress:
    """Progress of a job: `done` of `total` slices or steps."""

    done: int
    total: int


@dataclass(frozen=True)
class Error:
    """A request was refused or failed, or a line is not a request.

    Attributes:
        kind: one of `ERROR_KINDS`.
        message: one line for the user.
    """

    kind: str
    message: str


@dataclass(frozen=True)
class Cancelled:
    """The job was stopped; it left no files."""


DONE = "done"
"""Name of the event whose fields are the answer to the request."""
EVENTS: dict[str, type] = {"hello": Hello, "progress": Progress, "error": Error, "cancelled": Cancelled}
"""All other events by name."""


def require_hello(content: Mapping[str, Any]) -> None:
    """Check the first line of a worker.

    Raises:
        ContractError: it is not a hello, or the worker has another protocol.
    """
    protocol = content.get("protocol") if content.get("event") == "hello" else None
    if protocol != PROTOCOL:
        raise ContractError(
            f"the engine (version {content.get('version', 'unknown')!s:.20}, protocol {protocol!s:.20}) and the module "
            f"(protocol {PROTOCOL}) are of different versions"
        )


def request_fields(number: int, request: Request) -> dict[str, Any]:
    """A request as JSON fields."""
    return {"id": number, "op": request.op, **to_fields(request)}


def request_of(content: Mapping[str, Any]) -> Request:
    """The request in fields made by :func:`request_fields`.

    Raises:
        ContractError: the operation is unknown, or its fields are wrong.
    """
    op = content.get("op")
    if not isinstance(op, str) or op not in REQUESTS:
        raise ContractError(f"there is no operation {op!r:.60}: use {', '.join(REQUESTS)}")
    try:
        return from_fields(REQUESTS[op], _without(content, "id", "op"))
    except ContractError as error:
        raise ContractError(f"{op}: {error}") from None


def event_fields(number: int | None, event: Any) -> dict[str, Any]:
    """An event or an answer as JSON fields.

    Args:
        number: id of the request; None if the event belongs to no request.
        event: an instance of one of `EVENTS`, or an answer.
    """
    name = next((name for name, kind in EVENTS.items() if isinstance(event, kind)), DONE)
    return {"id": number, "event": name, **to_fields(event)}


def event_of(content: Mapping[str, Any], request: Request) -> Any:
    """The event or answer in fields made by :func:`event_fields`.

    Args:
        content: the parsed line.
        request: the request that it belongs to.

    Raises:
        ContractError: the event is unknown, or its fields are wrong.
    """
    name = content.get("event")
    kind = request.answer if name == DONE else EVENTS.get(str(name))
    if kind is None:
        raise ContractError(f"there is no event {name!r:.60}")
    try:
        return from_fields(kind, _without(content, "id", "event"))
    except ContractError as error:
        raise ContractError(f"{request.op}, {name}: {error}") from None


def _without(content: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in content.items() if name not in names}
