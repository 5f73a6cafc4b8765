"""What may be given to ssh as another computer. Knows nothing about connections."""

from __future__ import annotations

import re

_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@:%\[\]-]*")
"""Nothing that ssh or a shell would take for an option or a command."""


def host_problem(host: str) -> str:
    """Why a text is not HOST or USER@HOST, in one line; empty if it is."""
    return "" if _HOST.fullmatch(host) else f"'{host:.60}' is not the name of a computer: use HOST or USER@HOST"
