"""The taught findings of a model: reads them from `model_index.json`, gives their quality.

Knows words and numbers; does not import torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fasttextdiff.contract.answers import TaughtFinding
from fasttextdiff.contract.fields import ContractError, from_fields, to_fields

Taught = Mapping[str, tuple[TaughtFinding, ...]]
"""Taught findings by modality."""

FEW_SLICES = 20
"""A finding with fewer training images is weak."""
LOW_DICE = 0.5
"""A finding with a lower validation Dice is weak."""


def taught_from(index: Mapping[str, Sequence[Any]]) -> dict[str, tuple[TaughtFinding, ...]]:
    """Read `taught` of `model_index.json`: an entry is a term, or an object with the fields of a `TaughtFinding`.

    Raises:
        ContractError: an entry is neither.
    """
    return {kind: tuple(map(_entry, entries)) for kind, entries in index.items()}


def _entry(entry: Any) -> TaughtFinding:
    if not isinstance(entry, (str, Mapping)):
        raise ContractError(f"'taught' holds {entry!r:.60}, which is neither a text nor an object")
    return TaughtFinding(entry) if isinstance(entry, str) else from_fields(TaughtFinding, entry)


def taught_to(taught: Taught) -> dict[str, list[Any]]:
    """The inverse of :func:`taught_from`; fields at their default are left out."""
    return {kind: [_plain(finding) for finding in findings] for kind, findings in taught.items()}


def _plain(finding: TaughtFinding) -> Any:
    default = to_fields(TaughtFinding(finding.name))
    stated = {name: value for name, value in to_fields(finding).items() if value != default[name]}
    return {"name": finding.name, **stated} if stated else finding.name


def joined(*sources: Taught) -> dict[str, tuple[TaughtFinding, ...]]:
    """Findings of several sources by modality; of equal names, the last one counts.

    A bare term that is a synonym of another finding is not listed with it.
    """
    kinds = dict.fromkeys(kind for source in sources for kind in source)
    return {kind: _named_once(finding for source in sources for finding in source.get(kind, ())) for kind in kinds}


def _named_once(findings: Iterable[TaughtFinding]) -> tuple[TaughtFinding, ...]:
    known = {finding.name: finding for finding in findings}
    synonyms = {term for finding in known.values() for term in finding.synonyms}
    return tuple(finding for name, finding in known.items() if name not in synonyms or finding != TaughtFinding(name))


def quality_line(finding: TaughtFinding, kind: str) -> str:
    """The recorded quality of a finding, e.g. "liver on ct: Dice 0.91 (n 8), 40 training slices of 12 patients".

    Empty if nothing is recorded.
    """
    facts = []
    if finding.dice is not None:
        facts.append(f"Dice {finding.dice:.2f} (n {finding.validation_slices})")
    if finding.slices is not None:
        patients = f" of {finding.patients:,} patients" if finding.patients else ""
        facts.append(f"{finding.slices:,} training slices{patients}")
    if not facts:
        return ""
    return f"{finding.name} on {kind}: {', '.join(facts)}{'; weak' if is_weak(finding) else ''}"


def listed(findings: Sequence[TaughtFinding], kind: str) -> str:
    """Findings with their recorded quality, one per line; only their terms, in one line, where nothing is recorded."""
    if not any(quality_line(finding, kind) for finding in findings):
        return ", ".join(term for finding in findings for term in finding.terms)
    synonyms = [f" ({', '.join(finding.synonyms)})" if finding.synonyms else "" for finding in findings]
    lines = [quality_line(finding, kind) or finding.name for finding in findings]
    return "\n".join(line + words for line, words in zip(lines, synonyms, strict=True))


def is_weak(finding: TaughtFinding) -> bool:
    """Whether a finding has few training images or a low validation Dice."""
    few = finding.slices is not None and finding.slices < FEW_SLICES
    return few or (finding.dice is not None and finding.dice < LOW_DICE)
