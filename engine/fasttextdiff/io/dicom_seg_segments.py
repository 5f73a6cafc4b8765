"""One segment of a DICOM Segmentation and its Segment Description (PS3.3 section C.8.20.4).

Knows nothing about frames, files or source images.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.contract.colors import Rgb
from fasttextdiff.contract.segments import AUTOMATIC, MANUAL, plain_line, shorten
from fasttextdiff.segments.anatomy import Code
from fasttextdiff.segments.tags import algorithm_name, escape_parameter
from fasttextdiff.segments.terminology import CodedFinding

FULL = 255
"""Maximum Fractional Value (0062,000E): the stored value of probability 1."""
# Our namespace, so that no other software derives the same UIDs from the same series (RFC 9562, section 5.5).
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "fasttextdiff")
# Segment Description (0062,0006) is an ST; Algorithm Parameters (0066,0032) are an LT of 10,240 characters, where an
# escaped byte takes three.
_DESCRIPTION_LENGTH = 1024
_EDITED, _REVIEW, _REVIEW_LENGTH = " (edited by hand)", "; review: ", 500
_PARAMETER_LENGTH = 3000


@dataclass(frozen=True)
class DicomSegment:
    """One segment to write, edited or as the model made it.

    Attributes:
        text: the finding as typed; for a segment not made by the model, its name.
        name: Segment Label (0062,0005), unique.
        color: display colour.
        codes: coded description.
        frames: (k, j, i), bool; or float32 probabilities in [0, 1].
        made: `Provenance` fields as text, by name; None if the model did not make it.
        presence: text from `presence_text`.
        algorithm: Segment Algorithm Type (0062,0008): "AUTOMATIC", "SEMIAUTOMATIC" if edited, or "MANUAL".
        algorithm_name: Segment Algorithm Name (0062,0009), if another algorithm made it.
        review: which of its slices were listed for review, and which were accepted or corrected; empty if none were.
    """

    text: str
    name: str
    color: Rgb
    codes: CodedFinding
    frames: NDArray[Any]
    made: Mapping[str, str] | None
    presence: str = "not asked"
    algorithm: str = AUTOMATIC
    algorithm_name: str = ""
    review: str = ""

    @property
    def is_fractional(self) -> bool:
        """Whether it holds probabilities."""
        return self.frames.dtype.kind == "f"

    def pixels(self, k: int) -> NDArray[Any]:
        """Stored pixels of slice k, (j, i): bool, or probabilities as uint8 in steps of 1/255."""
        return np.rint(self.frames[k] * np.float32(FULL)).astype(np.uint8) if self.is_fractional else self.frames[k]


def derived_uid(made_from: Any) -> str:
    """A UUID-based UID (PS3.5 annex B.2), the same for the same values; they must have a JSON form."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, json.dumps(made_from)).int}"


def options_of(segment: DicomSegment) -> dict[str, str]:
    """All settings that determine the result; of the device only its type, because its index does not matter."""
    texts = dict(segment.made or {})
    texts.pop("created", None)
    return {name: text.partition(":")[0] if name == "device" else text for name, text in texts.items()}


def long_string(text: str) -> str:
    """Text for an LO (PS3.5 section 6.2) that must not be empty."""
    return shorten(plain_line(text)) or "unknown"


def describe(number: int, segment: DicomSegment, series_uid: str) -> Any:
    """Segment Description of a segment of an image series, with its number in the object."""
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentDescription

    codes, text = segment.codes, plain_line(segment.text) or segment.name
    described = SegmentDescription(
        segment_number=number,
        segment_label=segment.name,
        segmented_property_category=_concept(codes.category),
        segmented_property_type=_concept(codes.type),
        algorithm_type=segment.algorithm if segment.made else MANUAL,
        algorithm_identification=_identify_algorithm(segment, segment.made) if segment.made else None,
        tracking_uid=derived_uid([series_uid, segment.text]),
        tracking_id=text,
        anatomic_regions=None if codes.region is None else [_concept(codes.region)],
        display_color=CIELabColor.from_rgb(*segment.color),
    )
    if segment.algorithm != MANUAL and not segment.made:  # only the name of another program's algorithm is known
        described.SegmentAlgorithmType = segment.algorithm
        described.SegmentAlgorithmName = long_string(segment.algorithm_name)
    described.SegmentDescription = _description(segment, text)
    if codes.modifier is not None:
        kind = described.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [_concept(codes.modifier)]
    if codes.region_modifier is not None:
        described.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = [_concept(codes.region_modifier)]
    return described


def _description(segment: DicomSegment, text: str) -> str:
    """Segment Description (0062,0006): the finding, whether it was edited, and the review of its slices."""
    is_edited = segment.made and segment.algorithm != AUTOMATIC
    review = f"{_REVIEW}{shorten(plain_line(segment.review), _REVIEW_LENGTH)}" if segment.review else ""
    more = (_EDITED if is_edited else "") + review
    return shorten(text, _DESCRIPTION_LENGTH - max(len(_EDITED), len(more.encode()))) + more


def _concept(code: Code) -> Any:
    from highdicom.sr import CodedConcept

    return CodedConcept(code.value, code.scheme, code.meaning)


def _identify_algorithm(segment: DicomSegment, made: Mapping[str, str]) -> Any:
    """Algorithm Identification (PS3.3 section 10.16): everything needed to reproduce the segment."""
    from highdicom import AlgorithmIdentificationSequence
    from pydicom.sr.codedict import codes

    parameters = {
        **options_of(segment),
        "presence": segment.presence,
        "finding": shorten(segment.text, _PARAMETER_LENGTH),
    }
    return AlgorithmIdentificationSequence(
        name=algorithm_name(made["model"]),
        family=codes.cid7162.ArtificialIntelligence,
        version=long_string(made["software"]),
        parameters={name: escape_parameter(text) for name, text in parameters.items()},
    )
