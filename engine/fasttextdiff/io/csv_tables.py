"""Reads tables that a spreadsheet saved as CSV. Knows cells and columns; knows nothing about what they mean."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from fasttextdiff.errors import FastTextDiffError, UsageError, one_line

SEPARATORS = (",", ";", "\t")
"""Spreadsheets write semicolons where the comma is the decimal sign."""

Row = tuple[int, dict[str, str]]
"""The number of a row's last line, and its cells by lower-case column name."""


def read_csv_table(path: Path, columns: Sequence[str], filled: Sequence[str] = ()) -> list[Row]:
    """The rows of a table in UTF-8, with or without byte order mark, separated by commas, semicolons or tabs.

    Columns may have any case and order; spaces around cells are dropped. Empty rows are left out, and cells that a row
    lacks are empty.

    Args:
        path: the table.
        columns: columns that it must have.
        filled: those of them whose cells must not be empty.

    Raises:
        UsageError: the table does not exist.
        FastTextDiffError: it cannot be read, has no rows, lacks a column, or a row has an empty cell or too many cells.
    """
    if not path.is_file():
        raise UsageError(f"there is no table {path}")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = file.readlines()
    except UnicodeDecodeError as error:
        raise FastTextDiffError(f"{path} is not in UTF-8: save it as 'CSV UTF-8'") from error
    except OSError as error:
        raise FastTextDiffError(f"{path} cannot be read: {one_line(error)}") from error
    try:
        rows = _rows(path, lines, columns)
    except csv.Error as error:
        raise FastTextDiffError(f"{path} cannot be read as a CSV table: {one_line(error)}") from error
    for number, cells in rows:
        empty = [name for name in filled if not cells[name.lower()]]
        if empty:
            raise FastTextDiffError(f"{path}, line {number}: the cell of the column {empty[0]} is empty")
    if not rows:
        raise FastTextDiffError(f"the table {path} has no rows")
    return rows


def _rows(path: Path, lines: Sequence[str], columns: Sequence[str]) -> list[Row]:
    separator, header = _header(path, lines, columns)
    table = csv.reader(lines, delimiter=separator)
    next(table)
    rows = []
    for line in table:
        cells = [cell.strip() for cell in line]
        if any(cells[len(header) :]):
            raise FastTextDiffError(
                f"{path}, line {table.line_num}: {len(cells)} cells under {len(header)} columns; put a text that "
                f"contains '{separator}' in quotes"
            )
        if any(cells):
            padded = [*cells, *[""] * len(header)]
            rows.append((table.line_num, dict(zip(header, padded, strict=False))))
    return rows


def _header(path: Path, lines: Sequence[str], columns: Sequence[str]) -> tuple[str, list[str]]:
    """The separator and the lower-case column names; the separator is the first one that gives all columns."""
    wanted = {name.lower() for name in columns}
    headers: list[list[str]] = [
        [name.strip() for name in next(csv.reader(lines, delimiter=mark), [])] for mark in SEPARATORS
    ]
    for mark, header in zip(SEPARATORS, headers, strict=True):
        names = [name.lower() for name in header]
        if wanted <= set(names):
            return mark, names
    likely = max(headers, key=len)
    raise FastTextDiffError(f"{path} must have the columns {', '.join(columns)}; it has {', '.join(likely) or 'none'}")
