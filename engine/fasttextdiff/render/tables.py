"""Prints tables to a terminal or as plain text. Knows nothing about their content."""

from __future__ import annotations

import os
from collections.abc import Sequence

COLUMNS_OF_FILES = 160
"""Width of a table that is written to a file or another program."""


def show_table(title: str, header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print a table; a header of empty texts is left out."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, box=box.SIMPLE, title_justify="left", show_header=any(header))
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = COLUMNS_OF_FILES
    console.print(table)
