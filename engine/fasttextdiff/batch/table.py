"""Reads a job table: one image per row, with its findings and options. Does not look for the images."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fasttextdiff.batch.plan import CaseOptions
from fasttextdiff.batch.selection import Choice
from fasttextdiff.batch.tree import reason_of
from fasttextdiff.contract.fields import ContractError, from_fields
from fasttextdiff.contract.findings import distinct
from fasttextdiff.errors import UsageError
from fasttextdiff.image.volume import Modality
from fasttextdiff.io.json_files import parse_json
from fasttextdiff.model.info import require_findings, require_words
from fasttextdiff.paths import as_path

TABLE_ENDINGS = (".csv", ".json")


@dataclass(frozen=True)
class BatchInput:
    """One row or, without a table, the whole input.

    Attributes:
        where: row number for messages; empty without a table.
        path: a file, folder or DICOMDIR.
        findings: what to look for.
        options: how to read and segment.
        choice: which DICOM series to use.
    """

    where: str
    path: Path
    findings: tuple[str, ...]
    options: CaseOptions
    choice: Choice


@dataclass(frozen=True)
class _Row:
    """The columns of a row; see docs/batch.md."""

    path: str
    findings: tuple[str, ...] | None = None
    slices: tuple[int, int] | None = None
    plane: str | None = None
    samples: int | None = None
    seed: int | None = None
    threshold: float | None = None
    window: tuple[float, float] | None = None
    modality: str | None = None
    series: str | None = None


_OPTIONS = ("slices", "plane", "samples", "seed", "threshold", "window")


def checked_findings(findings: Sequence[str]) -> tuple[str, ...]:
    """Normalised findings, each once.

    Raises:
        UsageError: there are none, or one has no words.
    """
    require_findings(findings)
    for text in findings:
        require_words(text)
    return tuple(distinct(findings))


def pattern_of(text: str | None) -> re.Pattern[str] | None:
    """A case-insensitive regular expression for series.

    Raises:
        UsageError: the text is not a regular expression.
    """
    try:
        return None if text is None else re.compile(text, re.IGNORECASE)
    except re.error as problem:
        raise UsageError(f"the series '{text}' is not a regular expression: {problem}") from None


def read_table(path: Path, findings: Sequence[str], options: CaseOptions, choice: Choice) -> list[BatchInput]:
    """Read the rows of a CSV file with a header, or of a JSON list of objects.

    Args:
        path: `.csv` or `.json`; image paths in it are relative to its folder. In CSV, findings are separated by `;`,
            and the header is row 1; in JSON they are a list, and the first object is row 1.
        findings: for rows without findings.
        options: for rows that do not set them.
        choice: for rows that do not set it.

    Raises:
        UsageError: the table cannot be read, or a row is not valid; the message names the row.
    """
    numbered = _read_json(path) if path.suffix.lower() == ".json" else _read_csv(path)
    requests = []
    for number, row in numbered:
        try:
            _require_known(row)
            requests.append(_request(f"row {number}", row, path.parent, findings, options, choice))
        except UsageError as problem:
            raise UsageError(f"{path}, row {number}: {problem}") from None
    if not requests:
        raise UsageError(f"{path}: the table has no rows")
    return requests


def _require_known(row: Mapping[str, Any]) -> None:
    unknown = [str(name) for name in row if name not in _COLUMNS]
    if unknown:
        raise UsageError(f"unknown column '{unknown[0]}': use {', '.join(_COLUMNS)}, in CSV separated by commas")


def _request(
    where: str, row: Mapping[str, Any], folder: Path, findings: Sequence[str], options: CaseOptions, choice: Choice
) -> BatchInput:
    try:
        cells = from_fields(_Row, {name: value for name, value in row.items() if value is not None})
    except ContractError as problem:
        raise UsageError(str(problem)) from None
    modality, series = Modality.named(cells.modality), pattern_of(cells.series)
    given = {name: getattr(cells, name) for name in _OPTIONS if getattr(cells, name) is not None}
    return BatchInput(
        where=where,
        path=folder / as_path(cells.path),
        findings=checked_findings(findings if cells.findings is None else cells.findings),
        options=replace(options, **given, modality=modality or options.modality),
        choice=replace(choice, modality=modality or choice.modality, series=series or choice.series),
    )


# --- formats ---------------------------------------------------------------------------------------------------------


def _read_json(path: Path) -> list[tuple[int, dict[str, Any]]]:
    try:
        rows = parse_json(_text(path))
    except ValueError as problem:
        raise UsageError(f"{path}: not valid JSON: {problem}") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UsageError(f'{path}: a job table must be a list of objects, for example [{{"path": "a.nii.gz"}}]')
    return list(enumerate(rows, start=1))


def _read_csv(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """Rows with their numbers as in a spreadsheet; empty cells and rows are left out."""
    rows = []
    lines = csv.reader(_text(path).splitlines(keepends=True), strict=True)
    try:
        header = [name.strip() for name in next(lines, [])]
        for number, cells in enumerate(lines, start=2):
            if any(cell.strip() for cell in cells):
                rows.append((number, _typed(f"{path}, row {number}", header, cells)))
    except csv.Error as problem:
        raise UsageError(f"{path}, line {lines.line_num}: {problem}") from None
    return rows


def _typed(where: str, header: list[str], cells: list[str]) -> dict[str, Any]:
    """The cells that are not empty, with the types of JSON."""
    if len(cells) > len(header):
        raise UsageError(f"{where}: {len(cells)} cells under {len(header)} columns; put cells with commas in quotes")
    row: dict[str, Any] = {}
    for name, cell in zip(header, cells, strict=False):
        text = cell.strip()
        if name not in _COLUMNS:
            row[name] = text
        elif text:
            try:
                row[name] = _COLUMNS[name](text)
            except ValueError:
                raise UsageError(f"{where}: '{name}' cannot be '{text}'") from None
    return row


def _split(separator: str, kind: Callable[[str], Any]) -> Callable[[str], list[Any]]:
    return lambda text: [kind(part.strip()) for part in text.split(separator)]


_COLUMNS: dict[str, Callable[[str], Any]] = {
    "path": str,
    "findings": lambda text: [part for part in text.split(";") if part.strip()],
    "slices": _split(":", int),
    "plane": str,
    "samples": int,
    "seed": int,
    "threshold": float,
    "window": _split(",", float),
    "modality": str,
    "series": str,
}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"{path}: the table is not UTF-8; save it as 'CSV UTF-8'") from None
    except OSError as problem:
        raise UsageError(f"{path}: {reason_of(problem)}") from problem
