"""Codes are valid and match the text; colours distinguish findings."""

from __future__ import annotations

import pytest

from fasttextdiff.segments import anatomy
from fasttextdiff.segments.anatomy import ANATOMY, CLAVICLE, HEART
from fasttextdiff.segments.terminology import LEFT, LESION, MORPHOLOGY, assign_colors, code_finding
from fasttextdiff_lab.vocabulary import STRUCTURES

pydicom_codes = pytest.importorskip("pydicom.sr.codedict").codes

CODED = {
    "left lung": ("Lung", "Left", None, None),
    "The right lung.": ("Lung", "Right", None, None),
    "both lungs": ("Lung", "Bilateral", None, None),
    "lung": ("Lung", None, None, None),
    "Heart": ("Heart", None, None, None),
    "mediastinum": ("Mediastinum", None, None, None),
    "cell nuclei": ("Nucleus", None, None, None),
    "ground-glass opacity in the left lung": ("Ground glass opacity", None, "Lung", "Left"),
    "consolidation": ("Lung consolidation", None, "Lung", None),
    "bilateral pneumonia": ("Pneumonia", None, "Lung", "Bilateral"),
    "infiltrate in the right\nlung": ("Infiltrate", None, "Lung", "Right"),
    "opacity": ("Opacity", None, None, None),
    "infection of the right lung": ("Lesion", None, "Lung", "Right"),
    "tumour in the heart": ("Lesion", None, None, None),
    "pneumonia right of the heart": ("Pneumonia", None, "Lung", None),
    "caudate nucleus": ("Lesion", None, None, None),
    "liver": ("Liver", None, None, None),
    "the left kidney": ("Kidney", "Left", None, None),
    "left and right kidney": ("Kidney", "Bilateral", None, None),
    "right clavicle": ("Clavicle", "Right", None, None),
    "left atrium": ("Left atrium", None, None, None),
    "left hippocampus": ("Hippocampus", "Left", None, None),
    "bowel": ("Anatomical Structure", None, None, None),
    "liver tumour": ("Lesion", None, None, None),
    "": ("Lesion", None, None, None),
    "~^|\n肺炎": ("Lesion", None, None, None),
}


@pytest.mark.parametrize(("text", "expected"), CODED.items())
def test_a_finding_gets_the_matching_code(text, expected):
    coded = code_finding(text)
    parts = (coded.type, coded.modifier, coded.region, coded.region_modifier)
    assert tuple(code and code.meaning for code in parts) == expected


@pytest.mark.parametrize("text", CODED)
def test_slicers_entry_always_has_seven_parts_and_three_in_each_code(text):
    parts = code_finding(text).slicer_entry.split("~")
    assert len(parts) == 7
    assert all(part.count("^") == 2 for number, part in enumerate(parts) if number not in (0, 4))
    assert "Tissue" not in code_finding(text).slicer_entry


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("cardiac outline", "Heart"),
        ("aortic lumen", "Aorta"),
        ("left ventricle of the heart", "Left ventricle"),
        ("myocardium of the left ventricle", "Left Ventricle Myocardium"),
        ("trachea and main bronchi", "Anatomical Structure"),
        ("left heart", "Anatomical Structure"),
        ("left and right ventricle", "Anatomical Structure"),
    ],
)
def test_a_structure_is_coded_in_any_wording(text, code):
    coded = code_finding(text)
    assert (coded.category, coded.type.meaning) == (ANATOMY, code)


@pytest.mark.parametrize("words", [structure.words for structure in STRUCTURES.values()], ids=list(STRUCTURES))
def test_all_words_for_a_taught_structure_are_anatomy_or_none_is(words):
    assert len({code_finding(word).category for word in words}) == 1


def test_a_side_after_a_structure_is_its_modifier():
    coded = code_finding("clavicle on the left")
    assert (coded.type, coded.modifier) == (CLAVICLE, LEFT)


def test_the_fallback_is_a_lesion_among_altered_structures():
    coded = code_finding("something nobody has a code for")
    assert (coded.category, coded.type) == (MORPHOLOGY, LESION)
    assert str(coded.type) == "SCT^52988006^Lesion"


@pytest.mark.parametrize(
    ("text", "group", "name"),
    [
        ("heart", "cid7151", "Heart"),
        ("lung", "cid7151", "Lung"),
        ("mediastinum", "cid7151", "Mediastinum"),
        ("cell nuclei", "cid8135", "Nucleus"),
        ("lesion", "cid7159", "Lesion"),
        ("ground glass", "cid6104", "GroundGlassOpacity"),
        ("infiltrate", "cid6104", "Infiltrate"),
        ("opacity", "cid6104", "Opacity"),
    ],
)
def test_types_are_in_the_dicom_context_groups(text, group, name):
    expected = getattr(getattr(pydicom_codes, group), name)
    coded = code_finding(text).type
    assert (coded.value, coded.scheme) == (expected.value, expected.scheme_designator)


def test_codes_of_anatomy_are_those_of_dicom():
    known = {code.value for _, code, _ in anatomy.STRUCTURES} - {"123037004"}
    for _, code, _ in anatomy.STRUCTURES:
        if code.value in known:
            name = "".join(word.capitalize() for word in code.meaning.split())
            assert getattr(pydicom_codes.SCT, name).value == code.value


def test_sides_and_categories_are_in_the_dicom_context_groups():
    assert pydicom_codes.cid244.Left.value == LEFT.value
    assert pydicom_codes.cid7150.MorphologicallyAbnormalStructure.value == MORPHOLOGY.value
    assert pydicom_codes.SCT.Heart.value == HEART.value


def test_no_two_of_many_findings_share_a_colour():
    findings = ["left lung", "right lung", "lung", "heart", "heart", *(f"finding {n}" for n in range(300))]
    assert len(set(assign_colors(findings))) == len(findings)


def test_colours_are_the_same_for_the_same_findings_and_anatomy_keeps_its_own():
    assert assign_colors(["opacity", "heart"]) == assign_colors(["opacity", "heart"])
    assert assign_colors(["heart"])[0] == assign_colors(["opacity", "nodule", "heart"])[2]
