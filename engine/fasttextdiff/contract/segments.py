"""Rules about segments: names, tags, when a finding is present, and how masks are stored in NIfTI.

Knows texts and numbers; knows nothing about findings, models or file writing.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from typing import Any, NamedTuple
from urllib.parse import unquote

from .images import ACQUISITION, PLANES

# --- tags ------------------------------------------------------------------------------------------------------------

PREFIX = "FastTextDiff."
TERMINOLOGY_TAG = "TerminologyEntry"
ALGORITHM_TAG = "DICOM.SegmentAlgorithmType"
"""Segment Algorithm Type (0062,0008), one of the three below; without it Slicer exports a segment as MANUAL."""
ALGORITHM_NAME_TAG = "DICOM.SegmentAlgorithmName"
AUTOMATIC, SEMIAUTOMATIC, MANUAL = "AUTOMATIC", "SEMIAUTOMATIC", "MANUAL"
ALGORITHM_TYPES = (AUTOMATIC, SEMIAUTOMATIC, MANUAL)
FINDING_TAG = PREFIX + "Finding"
TYPED_TAG = PREFIX + "Typed"
"""The finding as typed, if it was read differently."""
UNTAUGHT_TAG = PREFIX + "Untaught"
"""Why an untaught finding is left empty or is a guess; only for untaught findings."""
PRESENCE_TAG = PREFIX + "Presence"
CONSISTENCY_TAG = PREFIX + "Consistency"
"""What was smoothed and left out, so that the finding holds together across slices and lies where it can be."""
SLICE_BY_SLICE = "slice by slice"
"""Its value where nothing was."""
CORRECTED_TAG = PREFIX + "CorrectedSlices"
"""Slices on which the user corrected the finding by strokes, as "first:end"."""
SEQUENCE_ITEM_TAG = PREFIX + "SequenceItem"
SLICES_TAG = PREFIX + "Slices"
"""Ranges "3:4 7:8" of slices; those of another plane than the acquisition's follow its name: "3:4 coronal 10:11"."""
REVIEW_TAG = PREFIX + "Review"
"""Which slices were listed for review, and which of them were accepted or corrected, numbered from 1."""
LOOKED_AT_TAG = PREFIX + "LookedAt"
"""How many of these slices were looked at."""
REVIEW_TAGS = (REVIEW_TAG, LOOKED_AT_TAG)
REGION_TAG = PREFIX + "Region"
"""The box outside of which nothing was segmented; only if there was one."""
THRESHOLD_TAG = PREFIX + "Threshold"
PROVENANCE_FIELDS = (
    *("slices", "plane", "window", "threshold", "model", "weights_sha256", "software"),
    *("seed", "samples", "timesteps", "device", "dtype", "created", "slice_by_slice", "runtime", "adapter", "kind"),
)
"""The fields of the provenance, one tag each: see :func:`provenance_tag`."""


def provenance_tag(field: str) -> str:
    """The tag of a provenance field: `FastTextDiff.WeightsSha256` for "weights_sha256"."""
    return PREFIX + field.title().replace("_", "")


TAG_NAMES = (
    *(TERMINOLOGY_TAG, ALGORITHM_TAG, ALGORITHM_NAME_TAG),
    *(
        FINDING_TAG,
        TYPED_TAG,
        UNTAUGHT_TAG,
        PRESENCE_TAG,
        CONSISTENCY_TAG,
        CORRECTED_TAG,
        SEQUENCE_ITEM_TAG,
        REGION_TAG,
    ),
    *REVIEW_TAGS,
    *map(provenance_tag, PROVENANCE_FIELDS),
)
"""Every tag that we may write."""

LESION_ENTRY = (
    "Segmentation category and type - DICOM master list~SCT^49755003^Morphologically Altered Structure"
    "~SCT^52988006^Lesion~^^~Anatomic codes - DICOM master list~^^~^^"
)
"""A terminology entry that fits any finding."""

CodeParts = tuple[str, str, str]
"""Scheme, value and meaning of a coded concept (DICOM PS3.3 section 8.8)."""


class EntryCodes(NamedTuple):
    """The codes of a terminology entry; None for codes that it does not have."""

    category: CodeParts
    type: CodeParts
    modifier: CodeParts | None
    region: CodeParts | None
    region_modifier: CodeParts | None


def entry_codes(entry: str) -> EntryCodes | None:
    """Read a terminology entry as Slicer writes it.

    A value and a scheme have at most 16 characters (DICOM PS3.3 section 8.1); a code with a missing or longer part is
    None.

    Returns:
        None if Slicer or DICOM could not read the entry: it does not have seven fields, or lacks a category or type.
    """
    fields = entry.split("~")
    if len(fields) != 7:
        return None
    category, kind, *others = (_code_parts(fields[index]) for index in (1, 2, 3, 5, 6))
    return EntryCodes(category, kind, *others) if category and kind else None


def _code_parts(text: str) -> CodeParts | None:
    parts = text.split("^")
    if len(parts) != 3 or not all(parts) or max(len(parts[0]), len(parts[1])) > 16:
        return None
    return parts[0], parts[1], parts[2]


def escape_tag(text: str, special: str = "|") -> str:
    """Make text safe as a tag: Slicer's `.seg.nrrd` ends a tag at every `|`.

    Percent-encodes only the special characters, `%`, line breaks and other control characters, so that tags stay
    readable.
    """
    safe = text.encode("utf-8", "replace").decode("utf-8")  # lone surrogates cannot be written to any file
    return re.sub(rf"[{re.escape(special)}%\x00-\x1f\x7f\x85\u2028\u2029]", lambda match: _percent(match.group()), safe)


def _percent(char: str) -> str:
    """`%XX` for each byte of the character in UTF-8 (RFC 3986)."""
    return "".join(f"%{byte:02X}" for byte in char.encode("utf-8"))


def unescape_tag(text: str) -> str:
    """Undo :func:`escape_tag`."""
    return unquote(text)


# --- names -----------------------------------------------------------------------------------------------------------

# Segment Label (0062,0005) is an LO: at most 64 characters, no backslash (DICOM PS3.5 section 6.2). We count bytes of
# UTF-8, as validators (dciodvfy) and older readers do.
NAME_LENGTH = 64


def plain_line(text: str) -> str:
    """Text without line breaks, control characters and backslashes, which DICOM does not allow in names."""
    printable = "".join(" " if unicodedata.category(char) in ("Cc", "Cs") else char for char in text)
    return " ".join(printable.replace("\\", "/").split())


def shorten(text: str, length: int = NAME_LENGTH) -> str:
    """The text, cut with an ellipsis if it is longer than `length` bytes of UTF-8."""
    encoded, ellipsis = text.encode("utf-8", "replace"), "…"
    if len(encoded) <= length:
        return text
    return encoded[: length - len(ellipsis.encode())].decode("utf-8", "ignore").rstrip() + ellipsis


def free_name(text: str, taken: Collection[str]) -> str:
    """A segment name from a text: one line of at most 64 bytes, numbered if the name is taken, e.g. "lung (2)"."""
    line = plain_line(text) or "finding"
    name, count = shorten(line), 1
    while name in taken:
        count += 1
        suffix = f" ({count})"
        name = shorten(line, NAME_LENGTH - len(suffix)) + suffix
    return name


# --- slices ----------------------------------------------------------------------------------------------------------


def slice_ranges(text: str) -> dict[str, list[tuple[int, int]]]:
    """The (first, end) ranges of slices in a tag `SLICES_TAG`, by plane."""
    ranges: dict[str, list[tuple[int, int]]] = {}
    plane = ACQUISITION
    for word in text.split():
        first, colon, end = word.partition(":")
        if word in PLANES:
            plane = word
        elif colon and first.isdecimal() and end.isdecimal():
            ranges.setdefault(plane, []).append((int(first), int(end)))
    return ranges


def joined_slices(text: str, added: tuple[int, int], plane: str = ACQUISITION) -> str:
    """The text of a tag `SLICES_TAG` with one more range, merged where ranges of a plane touch."""
    ranges = slice_ranges(text)
    ranges.setdefault(plane, []).append(added)
    words: list[str] = []
    for name in sorted(ranges, key=PLANES.index):
        words += [] if name == ACQUISITION else [name]
        words += [f"{first}:{end}" for first, end in _merged(ranges[name])]
    return " ".join(words)


def _merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for first, end in sorted(ranges):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((first, end))
    return merged


# --- presence --------------------------------------------------------------------------------------------------------


def is_there(presence: Any, threshold: float) -> Any:
    """Whether a finding is present on a slice; if not, its mask there is empty.

    Args:
        presence: probability that it is there, a number or an array; NaN (not computed) counts as absent.
        threshold: the model's presence threshold; an equal presence counts as present.
    """
    return presence >= threshold


# --- masks in NIfTI, where labels cannot overlap ---------------------------------------------------------------------

LABEL_MAP = "label map"
"""Segment n has the value n; used if no two segments overlap."""
VOLUME_EACH = "one volume per finding"
"""4D, volume n - 1 holds segment n as 0 and 1; used if two overlap, so that no segment hides part of another."""
_BYTE_LABELS = 255


def label_bits(count: int) -> int:
    """Bits of the smallest unsigned type for labels 1 to `count`: 8 or 16."""
    return 8 if count <= _BYTE_LABELS else 16
