"""Anatomical structures: their wordings, their SNOMED CT codes, and how many parts they have. Knows words only."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto


@dataclass(frozen=True)
class Code:
    """A coded concept (DICOM PS3.3 section 8.8: code value, coding scheme designator, code meaning)."""

    value: str
    scheme: str
    meaning: str

    def __str__(self) -> str:
        """Slicer's form of one code: `scheme^code^meaning`."""
        return f"{self.scheme}^{self.value}^{self.meaning}"


# 123037004 is 91723000 in newer editions; code and meaning follow Slicer's term lists, so that its selector finds them.
ANATOMY = Code("123037004", "SCT", "Anatomical Structure")
LUNG = Code("39607008", "SCT", "Lung")
HEART = Code("80891009", "SCT", "Heart")
MEDIASTINUM = Code("72410000", "SCT", "Mediastinum")
NUCLEUS = Code("84640000", "SCT", "Nucleus")
KIDNEY = Code("64033007", "SCT", "Kidney")
CLAVICLE = Code("51299004", "SCT", "Clavicle")
HIPPOCAMPUS = Code("5366008", "SCT", "Hippocampus")
AMYGDALA = Code("4958002", "SCT", "Amygdala")
PAIRED = (LUNG, KIDNEY, CLAVICLE, HIPPOCAMPUS, AMYGDALA)
"""Structures whose side is a modifier of the code."""


def _vertebra(number: int, ordinal: str) -> str:
    return rf"l{number}(?: vertebra(?:l body)?)?|vertebra l{number}|{ordinal} lumbar vertebra"


class Build(Enum):
    """How many parts a structure has, and whether it is too thin for its narrow places to be cut."""

    OTHER = auto()
    """Any number."""
    COMPACT = auto()
    COMPACT_PAIR = auto()
    """One part on each side."""
    SLENDER = auto()
    SLENDER_PAIR = auto()


# Codes are those of DICOM PS3.16, CID 4030 and 7151. Structures without one there are coded as anatomy in general.
STRUCTURES: tuple[tuple[str, Code, Build], ...] = (
    (r"lungs?|(?:lung|pulmonary) fields?|(?:lung|pulmonary) parenchyma", LUNG, Build.COMPACT_PAIR),
    (r"heart|(?:cardiac|heart) (?:silhouette|shadow|outline|contour)|cor", HEART, Build.COMPACT),
    (r"mediastinum", MEDIASTINUM, Build.OTHER),
    (r"nuclei|cell(?:ular)? nucle(?:i|us)", NUCLEUS, Build.OTHER),
    (r"kidneys?|renal parenchyma", KIDNEY, Build.COMPACT_PAIR),
    (r"clavicles?|collar ?bones?|clavicula", CLAVICLE, Build.SLENDER_PAIR),
    (r"liver|hepar|(?:liver|hepatic) parenchyma", Code("10200004", "SCT", "Liver"), Build.COMPACT),
    (r"spleen|lien|splenic parenchyma", Code("78961009", "SCT", "Spleen"), Build.COMPACT),
    (r"pancreas|pancreatic (?:gland|parenchyma)", Code("15776009", "SCT", "Pancreas"), Build.SLENDER),
    (r"stomach|gaster|ventriculus|gastric lumen", Code("69695003", "SCT", "Stomach"), Build.SLENDER),
    (r"(?:urinary )?bladder|vesica urinaria", Code("89837001", "SCT", "Bladder"), Build.COMPACT),
    (r"prostate(?: gland)?", Code("41216001", "SCT", "Prostate"), Build.SLENDER),
    (r"(?:thoracic |ascending descending )?aorta|aortic lumen", Code("15825003", "SCT", "Aorta"), Build.SLENDER),
    (
        r"(?:main )?pulmonary (?:artery|arteries|trunk)|arteria pulmonalis",
        Code("81040000", "SCT", "Pulmonary artery"),
        Build.OTHER,
    ),
    (r"trachea|windpipe", Code("44567001", "SCT", "Trachea"), Build.SLENDER),
    (
        r"left ventric(?:le|ular cavity)(?: of heart)?|lv(?: cavity| blood pool)?",
        Code("87878005", "SCT", "Left ventricle"),
        Build.SLENDER,
    ),
    (
        r"right ventric(?:le|ular cavity)(?: of heart)?|rv(?: cavity| blood pool)?",
        Code("53085002", "SCT", "Right ventricle"),
        Build.SLENDER,
    ),
    (
        r"left atri(?:um|al cavity)(?: of heart)?|atrium sinistrum|la(?: cavity| blood pool)?",
        Code("82471001", "SCT", "Left atrium"),
        Build.SLENDER,
    ),
    (
        r"right atri(?:um|al cavity)(?: of heart)?|atrium dextrum|ra(?: cavity| blood pool)?",
        Code("73829009", "SCT", "Right atrium"),
        Build.SLENDER,
    ),
    (
        r"left ventricular myocardium|lv (?:myocardium|wall)|myocardium of left ventricle",
        Code("49848007", "SCT", "Left Ventricle Myocardium"),
        Build.SLENDER,
    ),
    (r"hippocamp(?:us|i|al formation)", HIPPOCAMPUS, Build.OTHER),
    (r"amygdalae?|amygdaloid body", AMYGDALA, Build.OTHER),
    (r"gr[ea]y matter|gm|cortex deep gr[ea]y matter", Code("389081007", "SCT", "Gray Matter"), Build.OTHER),
    (r"(?:cerebral )?white matter|wm", Code("389080008", "SCT", "White Matter"), Build.OTHER),
    (r"cerebrospinal fluid|csf|liquor", Code("65216001", "SCT", "Cerebrospinal Fluid"), Build.OTHER),
    (r"skull|skull bone|cranial bone|cranium|calvarium", Code("89546000", "SCT", "Skull"), Build.OTHER),
    (r"vertebrae?|lumbar vertebrae|vertebral bod(?:y|ies)", Code("51282000", "SCT", "Vertebra"), Build.OTHER),
    (_vertebra(1, "first"), Code("66794005", "SCT", "L1 vertebra"), Build.OTHER),
    (_vertebra(2, "second"), Code("14293000", "SCT", "L2 vertebra"), Build.OTHER),
    (_vertebra(3, "third"), Code("36470004", "SCT", "L3 vertebra"), Build.OTHER),
    (_vertebra(4, "fourth"), Code("11994002", "SCT", "L4 vertebra"), Build.OTHER),
    (_vertebra(5, "fifth"), Code("49668003", "SCT", "L5 vertebra"), Build.OTHER),
    (
        r"(?:small large )?bowel(?: loops)?|intestines?|gut|(?:lumbar |intervertebral )?dis[ck]s?|dis[ck] spaces?|spine"
        r"|vertebral column|(?:spinal|vertebral) canal|canalis vertebralis|thecal sac|cerebral cortex|ventricles sulci"
        r"|(?:hepatic|liver) vessels|hepatic portal veins|vessels of liver"
        r"|(?:prostate )?(?:central (?:gland|zone)|transition zone)(?: of prostate)?",
        ANATOMY,
        Build.OTHER,
    ),
    (
        r"(?:atrium|ventricle)(?: of heart)?|(?:atrial|ventricular) cavity|[lr][av] (?:myocardium|wall)|heart muscle"
        r"|(?:ventricular )?myocardium(?: of ventricle)?|trachea main bronchi|airway|central airways",
        ANATOMY,
        Build.SLENDER,
    ),
)
"""Regular expression for the whole name, without "the" and "and"; code; build."""
_FILLERS = re.compile(r"\b(?:the|patient's|whole|entire|all|on|and)\b", re.I)
_SIDES = re.compile(r"\b(left|right|both|bilateral)(?: ?-?sided?\b)?", re.I)


def structure_of(words: str) -> Code | None:
    """The code of the structure that a finding is; None if it is none: "mass in the heart" is not a heart.

    Args:
        words: a finding as the engine reads it. A side of a structure that has no code for its sides makes it anatomy
            in general: "left heart" is not the heart.
    """
    found = _found(words)
    return None if found is None else found[0]


def build_of(words: str) -> Build:
    """The build of the structure that a finding is, on whichever side; :attr:`Build.OTHER` if it is none.

    Args:
        words: a finding as the engine reads it.
    """
    found = _found(words)
    return Build.OTHER if found is None else found[1]


def sides_in(words: str) -> set[str]:
    """The words for sides in a finding: "left", "right", "both" or "bilateral"."""
    return set(_SIDES.findall(words.lower()))


def _found(words: str) -> tuple[Code, Build] | None:
    name = " ".join(_FILLERS.sub(" ", words.lower()).split())
    without_side = " ".join(_SIDES.sub(" ", name).split())
    for pattern, code, build in STRUCTURES:
        if re.fullmatch(pattern, name):
            return code, build
    for pattern, code, build in STRUCTURES:
        if re.fullmatch(pattern, without_side):
            return code if code in PAIRED else ANATOMY, build
    return None
