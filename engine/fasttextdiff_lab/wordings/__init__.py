"""Wordings of taught and untaught findings, written independently of the rules that they measure.

The rules were extended where they refused taught wordings, but not because of untaught ones. Knows texts only.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from fasttextdiff.model.taught import Taught
from fasttextdiff.model.untaught import explain_untaught

FOLDER = Path(__file__).parent


def wordings(name: str) -> list[tuple[str, str]]:
    """(modality, text) of the list `taught` or `untaught`."""
    with (FOLDER / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return [(row["modality"], row["text"]) for row in csv.DictReader(file)]


def mistaken(taught: Taught) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Taught wordings that are refused, and untaught ones that are accepted, for the taught findings of a model."""
    refused = [line for line in wordings("taught") if _is_refused(line, taught)]
    answered = [line for line in wordings("untaught") if not _is_refused(line, taught)]
    return refused, answered


def shares_right(taught: Taught) -> tuple[float, float]:
    """Share of taught wordings that are accepted, and of untaught ones that are refused."""
    refused, answered = mistaken(taught)
    return 1 - len(refused) / len(wordings("taught")), 1 - len(answered) / len(wordings("untaught"))


def _is_refused(line: Sequence[str], taught: Taught) -> bool:
    modality, text = line
    return bool(explain_untaught(text, taught.get(modality, ())))
