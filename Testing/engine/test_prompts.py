"""Prompts are correct: over many draws, every mask is what the text names, and nothing unknown is asked for."""

from __future__ import annotations

import re

import numpy as np
import pytest

from fasttextdiff.image.volume import Modality
from fasttextdiff.training import prompts
from fasttextdiff.training.prompts import lung_third, on_side, steered_prompt, whole_prompt
from fasttextdiff.training.samples import LESION_CLASSES, LUNGS, Region, Sample, single_zones

DRAWS = 1600
SIZE = 96
LEFT, RIGHT = slice(52, 90), slice(6, 44)  # columns of the patient's lungs: the right one is on the picture's left
SENTENCE = "Bilateral pulmonary infection, three infected areas, upper right lung and middle lower left lung."
GENERIC = re.compile(
    r"infect|pneumonia|opacit(y|ies)|infiltrat|airspace (disease|opacif)|lesion|inflam|shadowing|diseased"
    r"|affected|abnormal|sick|what is wrong"
)
GROUND_GLASS = re.compile(r"ground.glass|ggo")


def sample(annotated, sentence="", modality=Modality.XRAY, **boxes):
    """Regions painted as boxes; the patient's left half is the picture's right one."""
    regions = np.zeros((SIZE, SIZE), np.uint8)
    regions[:, SIZE // 2 :] |= np.uint8(Region.PATIENT_LEFT)
    for name, places in boxes.items():
        for rows, columns in places:
            regions[rows, columns] |= np.uint8(Region[name.upper()])
    image = np.zeros((SIZE, SIZE), np.uint8)
    return Sample(image, regions, modality, annotated, sentence, single_zones(sentence))


LESIONS = {"lesion": [(slice(20, 30), slice(10, 20)), (slice(50, 80), slice(60, 75))]}
CLASSES = {
    "ground_glass": [(slice(20, 30), slice(10, 20)), (slice(50, 60), slice(60, 75))],
    "consolidation": [(slice(60, 80), slice(60, 75))],
}
BOTH_LUNGS = {"left_lung": [(slice(12, 84), LEFT)], "right_lung": [(slice(12, 84), RIGHT)]}
HEART = {"heart": [(slice(55, 80), slice(40, 66))]}

QATA = sample(Region.LESION, SENTENCE, **LESIONS)
STRUCTURES = sample(Region.LESION | LESION_CLASSES | LUNGS | Region.HEART, **LESIONS, **CLASSES, **BOTH_LUNGS, **HEART)
CT = sample(
    Region.LESION | LESION_CLASSES | LUNGS,
    "Bilateral pulmonary infection, three infected areas, anterior right lung and middle posterior left lung.",
    Modality.CT,
    **LESIONS,
    **CLASSES,
    **BOTH_LUNGS,
)
UNLABELLED_CT = sample(LUNGS, modality=Modality.CT, **BOTH_LUNGS)
NUCLEI = sample(
    Region.NUCLEI,
    "The nuclei are evenly distributed.",
    Modality.HISTOLOGY,
    nuclei=[(slice(0, 9), slice(0, 9)), (slice(40, 60), slice(70, 80))],
)
HEALTHY = sample(Region.LESION | LESION_CLASSES | LUNGS | Region.HEART, **BOTH_LUNGS, **HEART)
SAMPLES = {
    "qata": QATA,
    "structures": STRUCTURES,
    "ct": CT,
    "unlabelled_ct": UNLABELLED_CT,
    "nuclei": NUCLEI,
    "healthy": HEALTHY,
}


def drawn(source):
    """(text, mask) of many general and targeted prompts."""
    rng = np.random.default_rng(7)
    made = [make(source, rng) for _ in range(DRAWS // 2) for make in (whole_prompt, steered_prompt)]
    return [(p.text, p.mask) for p in made]


DRAWN = {name: drawn(source) for name, source in SAMPLES.items()}
everywhere = pytest.mark.parametrize("name", SAMPLES)


def one_side(text):
    """The only side that a text asks for, or None; the place of dense nuclei is a description, not a question."""
    if text.startswith("The nuclei"):
        return None
    sides = set(re.findall(r"\b(left|right)\b", text.lower()))
    return sides.pop() if len(sides) == 1 else None


def is_description(text):
    """Whether it is LViT's sentence about both lungs, in any order or retold."""
    return {"left", "right"} <= set(re.findall(r"\w+", text.lower())) and text not in prompts.LUNGS_WORDS


def bits(source, region):
    return (source.regions & np.uint8(region)) > 0


def named_region(text):
    """The region that a prompt's text asks for, read independently of how it was made."""
    text = text.lower()
    if GROUND_GLASS.search(text):
        return Region.GROUND_GLASS
    if "consolidation" in text:
        return Region.CONSOLIDATION
    if GENERIC.search(text):
        return Region.LESION
    if re.search(r"heart|cardi", text):
        return Region.HEART
    if "nucle" in text:
        return Region.NUCLEI
    if "lung" in text:
        return {"left": Region.LEFT_LUNG, "right": Region.RIGHT_LUNG, None: LUNGS}[one_side(text)]
    return None


def absent(text):
    """Whether a text denies its finding or names something that chest images and stains never show."""
    return bool(re.match(r"(no|without) ", text)) or text in prompts.NEVER_TAUGHT


@everywhere
def test_a_prompt_for_one_side_has_its_mask_only_on_that_side(name):
    sided = [(one_side(text), mask) for text, mask in DRAWN[name] if one_side(text)]
    for side, mask in sided:
        wrong = mask[:, : SIZE // 2] if side == "left" else mask[:, SIZE // 2 :]
        assert not wrong.any()
    if name != "nuclei":
        assert {side for side, mask in sided if mask.any()} == {"left", "right"}


@everywhere
def test_every_mask_is_exactly_the_named_region_on_the_named_side(name):
    source = SAMPLES[name]
    checked = set()
    for text, mask in DRAWN[name]:
        region = named_region(text)
        if not text or region is None or absent(text) or is_description(text) or not (region & source.annotated):
            continue
        expected = bits(source, region)
        if one_side(text):
            expected = expected & (bits(source, Region.PATIENT_LEFT) == (one_side(text) == "left"))
        zone = re.search(r"upper|middle|lower", text)
        if zone and LUNGS & source.annotated and source.modality is Modality.XRAY:
            rows = np.arange(SIZE)[:, None]
            first = 12 + 24 * prompts.CRANIOCAUDAL.index(zone.group())  # lungs are in rows 12 to 84
            expected = expected & (rows >= first) & (rows < first + 24)
        assert np.array_equal(mask, expected), text
        checked.add(region)
    teachable = (*prompts.FINDINGS, Region.LEFT_LUNG, Region.RIGHT_LUNG, LUNGS)
    assert checked == {region for region in teachable if region & source.annotated}


@everywhere
def test_negated_and_foreign_prompts_are_empty(name):
    source = SAMPLES[name]
    negated = [mask for text, mask in DRAWN[name] if absent(text)]
    foreign = [
        mask
        for text, mask in DRAWN[name]
        if text and not (absent(text) or is_description(text) or (named_region(text) or 0) & source.annotated)
    ]
    assert len(negated) > 10
    assert len(foreign) > 5
    assert not any(mask.any() for mask in negated + foreign)


@pytest.mark.parametrize("name", ["qata", "ct"])
def test_a_description_has_the_mask_of_all_lesions(name):
    described = [mask for text, mask in DRAWN[name] if is_description(text)]
    assert len(described) > 10
    assert all(np.array_equal(mask, bits(SAMPLES[name], Region.LESION)) for mask in described)


def test_infection_labels_are_not_asked_for_other_findings():
    for text, mask in DRAWN["qata"]:
        if absent(text) or is_description(text):
            continue
        region = named_region(text)
        assert region in (None, Region.LESION, Region.NUCLEI), text
        assert region is Region.LESION or not text or not mask.any()


def test_unlabelled_slices_are_never_asked_for_a_present_lesion():
    lesions = [t for t, _ in DRAWN["unlabelled_ct"] if named_region(t) in (*prompts.FINDINGS,) and not absent(t)]
    assert all("nucle" in text for text in lesions)


def test_zones_come_from_captions_that_name_one_zone_on_that_side():
    zoned = [t for t, _ in DRAWN["qata"] if re.search(r"upper|middle|lower", t) and not is_description(t)]
    assert len(zoned) > 10
    assert all("upper" in text and one_side(text) == "right" for text in zoned)


def test_captioned_slices_use_the_zones_of_the_caption_never_cranio_caudal_ones():
    words = r"upper|middle|lower|anterior|posterior"
    zoned = [t for t, _ in DRAWN["ct"] if re.search(words, t) and not is_description(t)]
    assert len(zoned) > 10
    assert all("anterior" in t and one_side(t) == "right" and named_region(t) is Region.LESION for t in zoned)


def test_lung_masks_allow_all_zones_on_both_sides():
    found = {
        (zone.group(), one_side(text))
        for text, _ in DRAWN["structures"]
        if (zone := re.search(r"upper|middle|lower", text))
    }
    assert found == {(zone, side) for zone in prompts.CRANIOCAUDAL for side in ("left", "right")}


def test_without_lung_masks_or_caption_no_zone_is_named():
    for source in (sample(Region.LESION, **LESIONS), UNLABELLED_CT):
        assert not any(re.search(r"\b(upper|middle|lower|zone)\b", text) for text, _ in drawn(source))


def test_sentences_about_density_mean_all_nuclei():
    descriptions = [(text, mask) for text, mask in DRAWN["nuclei"] if text.startswith("The nuclei")]
    assert {NUCLEI.sentence, "The nuclei density in the lower left is high."} <= {text for text, _ in descriptions}
    assert all(np.array_equal(mask, bits(NUCLEI, Region.NUCLEI)) for _, mask in descriptions)


@pytest.mark.parametrize(
    ("name", "region"), [("qata", Region.LESION), ("structures", Region.LESION), ("nuclei", Region.NUCLEI)]
)
def test_the_empty_prompt_and_the_sentence_mean_everything(name, region):
    source = SAMPLES[name]
    for wanted in {"", source.sentence}:
        masks = [mask for text, mask in DRAWN[name] if text == wanted]
        assert len(masks) > 5
        assert all(np.array_equal(mask, bits(source, region)) for mask in masks)


def test_a_tiny_lesion_on_a_side_is_neither_asked_for_nor_denied():
    tiny = sample(Region.LESION, lesion=[(slice(20, 40), slice(10, 20)), (slice(30, 32), slice(70, 72))])
    assert 0 < on_side(tiny, Region.LESION, "left").mean() < prompts.ABSENT_BELOW
    sides = {one_side(text) for text, _ in drawn(tiny) if text}
    assert "right" in sides
    assert "left" not in sides


@pytest.mark.parametrize("region", [Region.GROUND_GLASS, Region.HEART, Region.NUCLEI, Region.LEFT_LUNG])
def test_a_tiny_region_is_never_asked_for(region):
    tiny = sample(region, **{region.name.lower(): [(slice(30, 32), slice(70, 72))]})
    assert not any(mask.any() for _, mask in drawn(tiny))


def test_lung_thirds_divide_a_lung_without_gap_or_overlap():
    lung = bits(STRUCTURES, Region.LEFT_LUNG)
    thirds = [lung_third(lung, zone) & lung for zone in prompts.CRANIOCAUDAL]
    assert np.array_equal(np.sum(thirds, axis=0), lung)
    tops = [np.nonzero(third.any(axis=1))[0][0] for third in thirds]
    assert tops == sorted(tops)


def test_the_same_seed_draws_the_same_prompts():
    again = drawn(STRUCTURES)
    assert [text for text, _ in again] == [text for text, _ in DRAWN["structures"]]
    assert len({text for text, _ in again}) > 100


@pytest.mark.parametrize(
    ("sentence", "zones"),
    [
        (SENTENCE, {"right": "upper"}),
        ("Infection, two infected areas, lower right lung and lower left lung.", {"right": "lower", "left": "lower"}),
        ("Infection, right lung and all left lung.", {}),
        ("Infection, posterior left lung.", {"left": "posterior"}),
        ("Infection, upper left lung and lower left lung.", {}),
        ("Infection, upper left lung, lower right lung and all left lung.", {"right": "lower"}),
    ],
)
def test_single_zones_are_read_from_a_sentence(sentence, zones):
    assert single_zones(sentence) == zones


def test_taught_terms_include_every_finding_of_their_modality():
    terms = {kind: {term for finding in found for term in finding.terms} for kind, found in prompts.TAUGHT.items()}
    assert {*prompts.LESION_WORDS, *prompts.GROUND_GLASS_WORDS, "left lung"} <= terms["ct"]
    assert not {*prompts.HEART_WORDS} & terms["ct"]
    assert terms["histology"] == set(prompts.NUCLEI_WORDS)


def test_a_reordered_sentence_keeps_its_sides_and_zones(monkeypatch):
    monkeypatch.setattr(prompts, "RETOLD", 0)
    texts = {whole_prompt(QATA, np.random.default_rng(seed)).text for seed in range(800)}
    descriptions = {text for text in texts if is_description(text)}
    assert SENTENCE in descriptions
    assert len(descriptions) > 10
    for text in descriptions:
        places = re.search(r"(.*(?:upper|right).*) and (.*(?:middle lower|left).*)", text.lower())
        assert places is not None, text
        right, left = (part.split(",")[-1] if n == 0 else part.split(",")[0] for n, part in enumerate(places.groups()))
        assert re.search("upper", right), text
        assert one_side(right) == "right", text
        assert re.search("middle lower", left), text
        assert one_side(left) == "left", text
