"""SNOMED CT codes of anatomy, found by the wordings of findings. Knows words only."""

from __future__ import annotations

import re
from dataclasses import dataclass


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

# Codes are those of DICOM PS3.16, CID 4030 and 7151. Structures without one there are coded as anatomy in general.
_STRUCTURES: tuple[tuple[str, Code], ...] = (
    (r"lungs?|lung fields?|(?:lung|pulmonary) parenchyma", LUNG),
    (r"heart|cardiac silhouette|cor", HEART),
    (r"mediastinum", MEDIASTINUM),
    (r"nuclei|cell(?:ular)? nucle(?:i|us)", NUCLEUS),
    (r"kidneys?|renal parenchyma", KIDNEY),
    (r"clavicles?|collar ?bones?|clavicula", CLAVICLE),
    (r"liver|hepar|(?:liver|hepatic) parenchyma", Code("10200004", "SCT", "Liver")),
    (r"spleen|lien|splenic parenchyma", Code("78961009", "SCT", "Spleen")),
    (r"pancreas|pancreatic (?:gland|parenchyma)", Code("15776009", "SCT", "Pancreas")),
    (r"stomach|gaster", Code("69695003", "SCT", "Stomach")),
    (r"(?:urinary )?bladder|vesica urinaria", Code("89837001", "SCT", "Bladder")),
    (r"prostate(?: gland)?", Code("41216001", "SCT", "Prostate")),
    (r"(?:thoracic )?aorta", Code("15825003", "SCT", "Aorta")),
    (r"(?:main )?pulmonary (?:artery|arteries|trunk)|arteria pulmonalis", Code("81040000", "SCT", "Pulmonary artery")),
    (r"trachea|windpipe", Code("44567001", "SCT", "Trachea")),
    (
        r"left ventric(?:le|ular cavity)(?: of the heart)?|lv(?: cavity| blood pool)?",
        Code("87878005", "SCT", "Left ventricle"),
    ),
    (
        r"right ventric(?:le|ular cavity)(?: of the heart)?|rv(?: cavity| blood pool)?",
        Code("53085002", "SCT", "Right ventricle"),
    ),
    (r"left atri(?:um|al cavity)(?: of the heart)?|atrium sinistrum", Code("82471001", "SCT", "Left atrium")),
    (r"right atri(?:um|al cavity)(?: of the heart)?|atrium dextrum", Code("73829009", "SCT", "Right atrium")),
    (r"left ventricular myocardium|lv (?:myocardium|wall)", Code("49848007", "SCT", "Left Ventricle Myocardium")),
    (r"hippocamp(?:us|i)", HIPPOCAMPUS),
    (r"amygdalae?", AMYGDALA),
    (r"gr[ea]y matter", Code("389081007", "SCT", "Gray Matter")),
    (r"(?:cerebral )?white matter", Code("389080008", "SCT", "White Matter")),
    (r"cerebrospinal fluid|csf|liquor", Code("65216001", "SCT", "Cerebrospinal Fluid")),
    (r"skull|skull bone|cranium|calvarium", Code("89546000", "SCT", "Skull")),
    (r"vertebrae?|lumbar vertebrae|vertebral bod(?:y|ies)", Code("51282000", "SCT", "Vertebra")),
    (r"l1(?: vertebra(?:l body)?)?|vertebra l1|first lumbar vertebra", Code("66794005", "SCT", "L1 vertebra")),
    (r"l2(?: vertebra(?:l body)?)?|vertebra l2|second lumbar vertebra", Code("14293000", "SCT", "L2 vertebra")),
    (r"l3(?: vertebra(?:l body)?)?|vertebra l3|third lumbar vertebra", Code("36470004", "SCT", "L3 vertebra")),
    (r"l4(?: vertebra(?:l body)?)?|vertebra l4|fourth lumbar vertebra", Code("11994002", "SCT", "L4 vertebra")),
    (r"l5(?: vertebra(?:l body)?)?|vertebra l5|fifth lumbar vertebra", Code("49668003", "SCT", "L5 vertebra")),
    (
        r"bowel(?: loops)?|intestines?|gut|(?:lumbar |intervertebral )?dis[ck]s?|spinal canal|hepatic vessels",
        ANATOMY,
    ),
    (r"(?:prostate )?(?:central gland|transition zone)(?: of the prostate)?|myocardium|heart muscle", ANATOMY),
)
_FILLERS = re.compile(r"\b(?:the|patient's|whole|entire|all)\s+", re.I)
_SIDES = re.compile(r"\b(?:left and right|left|right|both|bilateral)\s+", re.I)


def structure_of(words: str) -> Code | None:
    """The code of the structure that a finding is; None if it is none: "mass in the heart" is not a heart.

    Args:
        words: a finding as the engine reads it. Sides are allowed before structures that have two.
    """
    name = _FILLERS.sub("", words).lower()
    without_side = _SIDES.sub("", name)
    for pattern, code in _STRUCTURES:
        if re.fullmatch(pattern, name) or (code in PAIRED and re.fullmatch(pattern, without_side)):
            return code
    return None
