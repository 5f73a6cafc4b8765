"""Codes (SNOMED CT, DICOM) and colours of findings.

A finding that is not in the small table gets a general code that fits any finding. Knows nothing about images, files or
models.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from fasttextdiff.contract.colors import BLUISH_GREEN, SKY_BLUE, VERMILION, YELLOW, Rgb, next_color
from fasttextdiff.contract.findings import understood
from fasttextdiff.contract.segments import CodeParts, entry_codes
from fasttextdiff.segments.anatomy import (
    ANATOMY,
    HEART,
    LUNG,
    MEDIASTINUM,
    NUCLEUS,
    PAIRED,
    Code,
    structure_of,
)

# Names of the term lists in Slicer's Terminologies module.
SEGMENT_CONTEXT = "Segmentation category and type - DICOM master list"
REGION_CONTEXT = "Anatomic codes - DICOM master list"


# Values from DICOM PS3.16: category CID 7150, types CID 7151, 7159, 6104 and 8135, laterality CID 244. The meanings of
# the categories follow Slicer's term lists, so that Slicer's terminology selector finds the entry.
MORPHOLOGY = Code("49755003", "SCT", "Morphologically Altered Structure")
LESION = Code("52988006", "SCT", "Lesion")
# SNOMED CT disorders, used as types because no DICOM context group has them.
PNEUMONIA = Code("233604007", "SCT", "Pneumonia")
CONSOLIDATION = Code("95436008", "SCT", "Lung consolidation")
GROUND_GLASS = Code("112120", "DCM", "Ground glass opacity")
INFILTRATE = Code("112121", "DCM", "Infiltrate")
OPACITY = Code("112001", "DCM", "Opacity")
LEFT = Code("7771000", "SCT", "Left")
RIGHT = Code("24028007", "SCT", "Right")
BILATERAL = Code("51440002", "SCT", "Bilateral")


@dataclass(frozen=True)
class CodedFinding:
    """What a segment is, as DICOM SEG and Slicer record it (DICOM PS3.3 section C.8.20.4).

    Attributes:
        category: Segmented Property Category (0062,0003).
        type: Segmented Property Type (0062,000F).
        modifier: Segmented Property Type Modifier (0062,0011), the side of a paired organ; None if there is none.
        region: Anatomic Region (0008,2218) of an abnormality; None if not named, or if the finding is anatomy.
        region_modifier: Anatomic Region Modifier (0008,2220), the side of the region; None if there is none.
    """

    category: Code = MORPHOLOGY
    type: Code = LESION
    modifier: Code | None = None
    region: Code | None = None
    region_modifier: Code | None = None

    @property
    def slicer_entry(self) -> str:
        """Slicer's `context~category~type~modifier~regionContext~region~regionModifier` (tag `TerminologyEntry`)."""
        codes = [self.category, self.type, self.modifier, self.region, self.region_modifier]
        texts = ["^^" if code is None else str(code) for code in codes]
        return "~".join([SEGMENT_CONTEXT, *texts[:3], REGION_CONTEXT, *texts[3:]])


def coded_entry(entry: str) -> CodedFinding | None:
    """Parse a terminology entry written by :attr:`CodedFinding.slicer_entry` or chosen in Slicer; None if not valid."""
    codes = entry_codes(entry)
    if codes is None:
        return None
    region, modifier = (None if parts is None else _code(parts) for parts in (codes.region, codes.modifier))
    region_modifier = _code(codes.region_modifier) if region and codes.region_modifier else None
    return CodedFinding(_code(codes.category), _code(codes.type), modifier, region, region_modifier)


def _code(parts: CodeParts) -> Code:
    """A code with its meaning cut to 64 characters, the limit of DICOM (PS3.5 section 6.2, LO)."""
    return Code(parts[1], parts[0], parts[2][:64])


# The most specific wording comes first, since a ground-glass opacity is also an opacity.
_MORPHOLOGY = (
    (re.compile(r"\bground[\s-]*glass\b|\bggos?\b", re.I), GROUND_GLASS),
    (re.compile(r"\bconsolidations?\b", re.I), CONSOLIDATION),
    (re.compile(r"\bpneumonias?\b", re.I), PNEUMONIA),
    (re.compile(r"\binfiltrates?\b", re.I), INFILTRATE),
    (re.compile(r"\bopacit(?:y|ies)\b", re.I), OPACITY),
)
_LUNG_ONLY = (GROUND_GLASS, CONSOLIDATION, PNEUMONIA)
_LUNG_WORDS = re.compile(r"\blungs?\b|\bpulmonary\b", re.I)
_LEFT_WORDS = re.compile(r"\bleft\b(?!\s+of\b)|\bboth\b|\bbilateral\b", re.I)
_RIGHT_WORDS = re.compile(r"\bright\b(?!\s+of\b)|\bboth\b|\bbilateral\b", re.I)


def code_finding(text: str) -> CodedFinding:
    """Code exactly what the text says.

    Args:
        text: a finding as typed, in English, e.g. "ground-glass opacity in the left lung".

    Returns:
        Always a valid entry; SCT 52988006 Lesion for wordings that are not in the table.
    """
    words = understood(text)
    if structure := structure_of(words):
        return CodedFinding(ANATOMY, structure, modifier=_side(words) if structure in PAIRED else None)
    kind = next((code for pattern, code in _MORPHOLOGY if pattern.search(words)), LESION)
    if kind in _LUNG_ONLY or _LUNG_WORDS.search(words):
        return CodedFinding(MORPHOLOGY, kind, region=LUNG, region_modifier=_side(words))
    return CodedFinding(MORPHOLOGY, kind)


def _side(words: str) -> Code | None:
    """The side in the text; a text with both sides is bilateral."""
    left, right = bool(_LEFT_WORDS.search(words)), bool(_RIGHT_WORDS.search(words))
    if left and right:
        return BILATERAL
    return LEFT if left else RIGHT if right else None


# Neighbours in the chest get very different colours: sky blue and yellow lungs, a vermilion heart.
_PREFERRED: dict[tuple[Code, Code | None], Rgb] = {
    (LUNG, None): SKY_BLUE,
    (LUNG, BILATERAL): SKY_BLUE,
    (LUNG, RIGHT): SKY_BLUE,
    (LUNG, LEFT): YELLOW,
    (HEART, None): VERMILION,
    (MEDIASTINUM, None): BLUISH_GREEN,
    (NUCLEUS, None): BLUISH_GREEN,
}


def assign_colors(findings: Sequence[str]) -> list[Rgb]:
    """Give every finding of a run a different colour; the same list always gets the same colours.

    Args:
        findings: texts in the order typed.

    Returns:
        One (red, green, blue) per finding, 0 to 255, all different.
    """
    colors: dict[int, Rgb] = {}
    for index, coded in enumerate(map(code_finding, findings)):
        preferred = _PREFERRED.get((coded.type, coded.modifier))
        if preferred is not None and preferred not in colors.values():
            colors[index] = preferred
    for index in range(len(findings)):
        if index not in colors:
            colors[index] = next_color(set(colors.values()))
    return [colors[index] for index in range(len(findings))]
