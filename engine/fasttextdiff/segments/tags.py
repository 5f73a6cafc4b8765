"""What a segment is named and tagged with, so that it says itself how it was made, in Slicer's terms.

Knows nothing about files and voxels; names of tags and limits of texts are in `contract.segments`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.contract.segments import (
    ALGORITHM_NAME_TAG,
    ALGORITHM_TAG,
    AUTOMATIC,
    FINDING_TAG,
    PRESENCE_TAG,
    TERMINOLOGY_TAG,
    TYPED_TAG,
    escape_tag,
    free_name,
    plain_line,
    provenance_tag,
    shorten,
    unescape_tag,
)
from fasttextdiff.result import FindingResult, Provenance
from fasttextdiff.segments.terminology import code_finding


def segment_names(findings: Sequence[str]) -> list[str]:
    """Names to show for findings: one line, at most 64 bytes, no two alike.

    Args:
        findings: texts in the order typed; the full text belongs in the tag `FastTextDiff.Finding`.
    """
    names: list[str] = []
    for finding in findings:
        names.append(free_name(finding, names))
    return names


def segment_tags(finding: FindingResult, provenance: Provenance) -> dict[str, str]:
    """Tags of one segment: terminology, DICOM algorithm identification, and `FastTextDiff.*` for everything else.

    Args:
        finding: the outcome; its text goes in whole, and additionally as `FastTextDiff.Typed` how that was typed if it
            was understood as something else.
        provenance: how the run was made, one tag a field, e.g. `FastTextDiff.WeightsSha256`.

    Returns:
        Tag name to value; values are escaped with :func:`escape_tag` where Slicer would cut them short on saving.
        DICOM.SegmentAlgorithmType and -Name become Segment Algorithm Type (0062,0008) and Name (0062,0009).
    """
    tags = {
        TERMINOLOGY_TAG: code_finding(finding.finding).slicer_entry,
        ALGORITHM_TAG: AUTOMATIC,
        ALGORITHM_NAME_TAG: algorithm_name(provenance.model).replace("|", "/"),
        FINDING_TAG: escape_tag(finding.finding),
        PRESENCE_TAG: presence_text(finding.presence),
    }
    if finding.typed:
        tags[TYPED_TAG] = escape_tag(finding.typed)
    for name, text in provenance_texts(provenance.of(finding)).items():
        tags[provenance_tag(name)] = escape_tag(text)
    return tags


def algorithm_name(model: str) -> str:
    """What made a segment, as Segment Algorithm Name (0062,0009)."""
    return shorten(plain_line(f"FastTextDiff {model}"))


def provenance_texts(provenance: Provenance) -> dict[str, str]:
    """Every field of the provenance by its name, as text; slices as "first:end", as 3D Slicer's segments have them."""
    texts = {field.name: _value_text(getattr(provenance, field.name)) for field in fields(provenance)}
    first, end = provenance.slices
    return {**texts, "slices": f"{first}:{end}"}


def texts_of_tags(tags: Mapping[str, str]) -> dict[str, str] | None:
    """What :func:`provenance_texts` gave, from the tags of a segment; None if they are not all there."""
    names = {field.name: provenance_tag(field.name) for field in fields(Provenance)}
    if any(tag not in tags for tag in names.values()):
        return None
    return {name: unescape_tag(tags[tag]) for name, tag in names.items()}


def presence_text(presence: NDArray[np.float32]) -> str:
    """Highest probability over the slices that the finding is there at all, e.g. "0.97"; "not asked" where none was."""
    asked = presence[np.isfinite(presence)]
    return f"{float(asked.max()):.2f}" if asked.size else "not asked"


def _value_text(value: object) -> str:
    """One provenance value as text; sequences have their items apart by a space, None is "none"."""
    if value is None:
        return "none"
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def escape_parameter(text: str) -> str:
    """Make text safe as a value in Algorithm Parameters (0066,0032), which readers split at `,` and `=`.

    Percent-encodes these two, the backslash, `%` and control characters; undone by :func:`unescape_tag`.
    """
    return escape_tag(text, ",=\\")
