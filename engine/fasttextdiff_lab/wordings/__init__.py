"""Wordings of taught and of untaught findings, written without a look at the rules that they are measured with.

The rules were extended where they refused taught wordings; the untaught ones have changed nothing. Knows texts only.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from fasttextdiff.model.taught import Taught
from fasttextdiff.model.untaught import explain_untaught

FOLDER = Path(__file__).parent


def wordings(name: str) -> list[tuple[str, str]]:
    """(modality, text) of `taught` or `untaught`."""
    with (FOLDER / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return [(row["modality"], row["text"]) for row in csv.DictReader(file)]


def mistaken(taught: Taught) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Taught wordings that are refused, and untaught ones that are not, for what a model was taught."""
    refused = [line for line in wordings("taught") if _is_refused(line, taught)]
    answered = [line for line in wordings("untaught") if not _is_refused(line, taught)]
    return refused, answered


def shares_right(taught: Taught) -> tuple[float, float]:
    """Share of taught wordings that pass, and of untaught ones that are refused."""
    refused, answered = mistaken(taught)
    return 1 - len(refused) / len(wordings("taught")), 1 - len(answered) / len(wordings("untaught"))


def _is_refused(line: Sequence[str], taught: Taught) -> bool:
    modality, text = line
    return bool(explain_untaught(text, taught.get(modality, ())))
