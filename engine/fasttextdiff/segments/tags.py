"""What a segment is named and tagged with, so that it says itself how it was made, in Slicer's terms.

Knows nothing about files and voxels; the Slicer module tags the segments it creates in a scene with the same functions.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import fields
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.result import FindingResult, Provenance
from fasttextdiff.segments.terminology import code_finding

PREFIX = "FastTextDiff."
# Segment Label (0062,0005) is an LO: 64 characters and no backslash (DICOM PS3.5 section 6.2). Counted in bytes of
# UTF-8, as validators (dciodvfy) and older readers do.
NAME_LENGTH = 64


def segment_names(findings: Sequence[str]) -> list[str]:
    """Names to show for findings: one line, at most 64 bytes, no two alike.

    Args:
        findings: texts in the order typed; the full text belongs in the tag `FastTextDiff.Finding`.
    """
    names: list[str] = []
    for finding in findings:
        text = plain_line(finding) or "finding"
        name, count = _shortened(text, ""), 1
        while name in names:
            count += 1
            name = _shortened(text, f" ({count})")
        names.append(name)
    return names


def plain_line(text: str) -> str:
    """Text without line breaks, control characters and backslashes, which names in DICOM cannot have."""
    printable = "".join(" " if unicodedata.category(char) in ("Cc", "Cs") else char for char in text)
    return " ".join(printable.replace("\\", "/").split())


def _shortened(text: str, suffix: str) -> str:
    """The text cut so that it ends in the suffix within the length allowed."""
    return shorten(text, NAME_LENGTH - len(suffix)) + suffix


def shorten(text: str, length: int) -> str:
    """The text, cut with an ellipsis where it takes up more bytes of UTF-8 than allowed."""
    encoded, ellipsis = text.encode("utf-8", "replace"), "…"
    if len(encoded) <= length:
        return text
    return encoded[: length - len(ellipsis.encode())].decode("utf-8", "ignore").rstrip() + ellipsis


def segment_tags(finding: FindingResult, provenance: Provenance) -> dict[str, str]:
    """Tags of one segment: terminology, DICOM algorithm identification, and `FastTextDiff.*` for everything else.

    Args:
        finding: the outcome; its text goes in whole, and beside it as `FastTextDiff.Typed` how that was typed if it
            was understood as something else.
        provenance: how the run was made, one tag a field, e.g. `FastTextDiff.WeightsSha256`.

    Returns:
        Tag name to value; values are escaped with :func:`escape_tag` where Slicer would cut them short on saving.
        DICOM.SegmentAlgorithmType and -Name become Segment Algorithm Type (0062,0008) and Name (0062,0009).
    """
    tags = {
        "TerminologyEntry": code_finding(finding.finding).slicer_entry,
        "DICOM.SegmentAlgorithmType": "AUTOMATIC",
        "DICOM.SegmentAlgorithmName": algorithm_name(provenance.model).replace("|", "/"),
        PREFIX + "Finding": escape_tag(finding.finding),
        PREFIX + "Presence": presence_text(finding.presence),
    }
    if finding.typed:
        tags[PREFIX + "Typed"] = escape_tag(finding.typed)
    for name, text in provenance_texts(provenance).items():
        tags[_provenance_tag(name)] = escape_tag(text)
    return tags


def algorithm_name(model: str) -> str:
    """What made a segment, as Segment Algorithm Name (0062,0009)."""
    return shorten(plain_line(f"FastTextDiff {model}"), NAME_LENGTH)


def provenance_texts(provenance: Provenance) -> dict[str, str]:
    """Every field of the provenance by its name, as text; slices as "first:end", as 3D Slicer's segments have them."""
    texts = {field.name: _value_text(getattr(provenance, field.name)) for field in fields(provenance)}
    first, end = provenance.slices
    return {**texts, "slices": f"{first}:{end}"}


def texts_of_tags(tags: Mapping[str, str]) -> dict[str, str] | None:
    """What :func:`provenance_texts` gave, from the tags of a segment; None if they are not all there."""
    names = {field.name: _provenance_tag(field.name) for field in fields(Provenance)}
    if any(tag not in tags for tag in names.values()):
        return None
    return {name: unescape_tag(tags[tag]) for name, tag in names.items()}


def _provenance_tag(field: str) -> str:
    return PREFIX + field.title().replace("_", "")


def presence_text(presence: NDArray[np.float32]) -> str:
    """Highest probability over the slices that the finding is there at all, e.g. "0.97"; "not asked" where none was."""
    asked = presence[np.isfinite(presence)]
    return f"{float(asked.max()):.2f}" if asked.size else "not asked"


def _value_text(value: object) -> str:
    """One provenance value as text; sequences have their items apart by a space, None is "none"."""
    if value is None:
        return "none"
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def escape_tag(text: str) -> str:
    """Make text safe as a tag: Slicer's `.seg.nrrd` ends a tag at `|`, whatever stands around it.

    Percent-encodes `|`, `%`, line breaks and other control characters, and nothing else, so that tags stay readable.
    """
    return _escape(text, "|")


def escape_parameter(text: str) -> str:
    """Make text safe as a value in Algorithm Parameters (0066,0032), which readers split at `,` and `=`.

    Percent-encodes these two, the backslash, `%` and control characters; undone by :func:`unescape_tag`.
    """
    return _escape(text, ",=\\")


def _escape(text: str, special: str) -> str:
    """Percent-encode the special characters, `%` and control characters."""
    safe = text.encode("utf-8", "replace").decode("utf-8")  # lone surrogates cannot be written to any file
    return re.sub(rf"[{re.escape(special)}%\x00-\x1f\x7f\x85\u2028\u2029]", lambda match: _percent(match.group()), safe)


def _percent(char: str) -> str:
    """`%XX` for each byte of the character in UTF-8 (RFC 3986)."""
    return "".join(f"%{byte:02X}" for byte in char.encode("utf-8"))


def unescape_tag(text: str) -> str:
    """Give back what :func:`escape_tag` was given."""
    return unquote(text)
