"""Names and tags of segments in Slicer, with the provenance.

Knows nothing about files or voxels; tag names and length limits are in `contract.segments`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.contract.segments import (
    ALGORITHM_NAME_TAG,
    ALGORITHM_TAG,
    AUTOMATIC,
    CONSISTENCY_TAG,
    FINDING_TAG,
    PRESENCE_TAG,
    TERMINOLOGY_TAG,
    TYPED_TAG,
    UNTAUGHT_TAG,
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
    """Segment names for findings: one line, at most 64 bytes, all different.

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
        finding: the result; its full text becomes a tag, and `FastTextDiff.Typed` holds the typed text if it was read
            differently.
        provenance: how the run was made, one tag per field, e.g. `FastTextDiff.WeightsSha256`.

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
        CONSISTENCY_TAG: escape_tag(finding.consistency),
    }
    if finding.untaught:
        tags[UNTAUGHT_TAG] = escape_tag(finding.untaught)
    if finding.typed:
        tags[TYPED_TAG] = escape_tag(finding.typed)
    for name, text in provenance_texts(provenance.of(finding)).items():
        tags[provenance_tag(name)] = escape_tag(text)
    return tags


def algorithm_name(model: str) -> str:
    """The Segment Algorithm Name (0062,0009) of a model."""
    return shorten(plain_line(f"FastTextDiff {model}"))


def provenance_texts(provenance: Provenance) -> dict[str, str]:
    """Every provenance field by name, as text; slices as "first:end"."""
    texts = {field.name: _value_text(getattr(provenance, field.name)) for field in fields(provenance)}
    first, end = provenance.slices
    return {**texts, "slices": f"{first}:{end}"}


def texts_of_tags(tags: Mapping[str, str]) -> dict[str, str] | None:
    """The texts of :func:`provenance_texts` from the tags of a segment; None if any is missing.

    A field that earlier versions did not write has its default.
    """
    names = {field.name: provenance_tag(field.name) for field in fields(Provenance)}
    tags = {**{names[f.name]: _value_text(f.default) for f in fields(Provenance) if f.default is not MISSING}, **tags}
    if any(tag not in tags for tag in names.values()):
        return None
    return {name: unescape_tag(tags[tag]) for name, tag in names.items()}


def presence_text(presence: NDArray[np.float32]) -> str:
    """Highest presence of all slices, e.g. "0.97"; "not asked" if it was not computed."""
    asked = presence[np.isfinite(presence)]
    return f"{float(asked.max()):.2f}" if asked.size else "not asked"


def _value_text(value: object) -> str:
    """A provenance value as text; sequences are separated by spaces, None is "none"."""
    if value is None:
        return "none"
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def escape_parameter(text: str) -> str:
    """Make text safe as a value in Algorithm Parameters (0066,0032), which readers split at `,` and `=`.

    Percent-encodes these two, the backslash, `%` and control characters; undone by :func:`unescape_tag`.
    """
    return escape_tag(text, ",=\\")
