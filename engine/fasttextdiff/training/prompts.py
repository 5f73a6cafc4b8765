"""Generates prompts with true masks from the labels of a sample.

Knows the wording of findings and sides; knows nothing about files, augmentation or networks. Sides are the patient's.
Prompts without a known mask on a sample (an unmarked zone, ground-glass where only infection is labelled) are never
generated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from fasttextdiff.contract.answers import TaughtFinding
from fasttextdiff.image.volume import Modality
from fasttextdiff.model.taught import Taught
from fasttextdiff.training.retelling import pick, retold
from fasttextdiff.training.samples import LESION_CLASSES, LUNGS, ZONED_LUNG, Region, Sample

Mask = NDArray[np.bool_]

LESION_WORDS = (
    "infection", "pneumonia", "opacity", "opacities", "infiltrate", "infiltrates", "airspace disease", "lung infection",
    "pulmonary infection", "COVID-19 pneumonia", "airspace opacity", "lung opacity", "infected area", "infected areas",
    "pulmonary infiltrate", "lesion", "lung lesions", "inflammation", "lung inflammation", "infiltration",
    "airspace opacification", "patchy opacities", "shadowing", "diseased area", "inflamed area", "affected area",
    "abnormal area", "abnormality",
)  # fmt: skip
GROUND_GLASS_WORDS = (
    "ground-glass opacity", "ground-glass opacities", "ground glass opacity", "ground-glass", "GGO",
    "ground-glass opacification", "ground glass",
)  # fmt: skip
CONSOLIDATION_WORDS = ("consolidation", "consolidations", "lung consolidation", "airspace consolidation")
HEART_WORDS = ("heart", "cardiac silhouette", "heart and mediastinum", "heart shadow", "cardiomediastinal silhouette")
NUCLEI_WORDS = ("nuclei", "cell nuclei", "nucleus", "stained nuclei", "nuclei of the cells", "all nuclei")
LUNGS_WORDS = ("lungs", "both lungs", "lung fields", "left and right lung", "lung")
SIDE_LUNG_WORDS = (
    "{side} lung", "patient's {side} lung", "the {side} lung", "{side} lung field", "lung on the {side}",
    "the patient's {side} lung", "{side}-sided lung",
)  # fmt: skip
ON_SIDE = (
    "{finding} in the {side} lung", "{side} {finding}", "{side}-sided {finding}", "{finding} on the {side}",
    "{finding} of the {side} lung", "{finding} in the patient's {side} lung", "{side} lung {finding}",
    "{finding}, {side} lung", "unilateral {finding}, {side} lung", "find {finding} in the {side} lung",
    "{finding} in the {side} hemithorax", "{side} hemithorax: {finding}", "any {finding} on the {side}?",
    "segment {finding}, {side} side",
)  # fmt: skip
LEADS = (
    "", "", "mark", "outline", "highlight", "delineate", "please find", "label", "look for", "contour",
    "I want to see", "could you trace",
)  # fmt: skip
AMOUNTS = ("", "", "the", "any", "all", "areas of", "signs of", "regions with", "evidence of", "visible", "possible")
PLACES = (
    "in the {side} lung", "in the lung on the {side}", "inside the {side} lung", "throughout the {side} lung",
    "of the {side} lung field", "confined to the {side} lung", "on the patient's {side}", "to the {side}",
    "on the {side} side of the thorax", "in the {side} half of the thorax", "in the {side} pulmonary field",
    "involving the {side} lung", "seen in the {side} hemithorax", "over the {side} lung", "just in the {side} lung",
    "in the patient's {side}-sided lung", "projecting over the {side} thorax", "from the {side} lung",
)  # fmt: skip
"""Parts of composed prompts for one side, which are more varied than a list of templates."""
COMPOSED = 0.5
"""Share of composed prompts among those for a finding on a side."""
RETOLD_LUNG = ("{zone} {side} lung", "{zone} part of the {side} lung", "{side} lung ({zone})", "{side} {zone} lung")
RETOLD = 0.3
"""Share of LViT's sentences that are reworded."""
REORDERED = 0.3
"""Share of LViT's sentences that are reordered or lose their count."""
SICK_SIDE = (
    "affected part of the {side} lung", "diseased part of the {side} lung", "what is wrong in the {side} lung?",
    "is the {side} lung affected?", "inflamed parts of the patient's {side} lung", "abnormal {side} lung",
    "the {side} lung is diseased here", "sick areas, {side} lung",
)  # fmt: skip
"""Prompts for the lesions of a side without naming them; only an adjective distinguishes them from the lung itself."""
IN_ZONE = (
    "{finding} in the {zone} zone of the {side} lung", "{zone} {side} lung {finding}",
    "{finding} in the {zone} {side} lung",
    "{finding}, {zone} {side} lung", "{side} {zone} zone {finding}", "{finding} in the {side} {zone} lung",
)  # fmt: skip
DENSITIES = (
    "The nuclei are {spread} distributed.", "The nuclei density in the {part} is high.",
    "The nuclei density in the {part} is low.", "The nuclei density is higher around.",
)  # fmt: skip
SPREADS = ("evenly", "sparsely", "irregularly", "unevenly", "densely", "uniformly")
PARTS = ("left", "right", "upper", "lower", "middle", "upper left", "upper right", "lower left", "lower right")
"""Sentences on a tile describe density, but the mask is always all nuclei.

Tiles are cropped and rotated, which makes their own sentence wrong; and with only 24 sentences a model learns to find
less for "sparsely". Any sentence is therefore used with any tile.
"""
NEGATED = ("no {finding}", "no evidence of {finding}", "without {finding}", "no sign of {finding}")
EVERYWHERE = (
    "{finding}", "all {finding}", "{finding} in both lungs", "bilateral {finding}", "find all {finding}",
    "segment {finding}", "is there {finding}?",
)  # fmt: skip
NEVER_TAUGHT = ("fracture", "femur", "teeth", "gallbladder", "uterus", "thyroid", "eyeball", "tibia", "adrenal gland")
SIDES = {"left": Region.LEFT_LUNG, "right": Region.RIGHT_LUNG}
CRANIOCAUDAL = ("upper", "middle", "lower")
FINDINGS = {
    Region.LESION: LESION_WORDS,
    Region.GROUND_GLASS: GROUND_GLASS_WORDS,
    Region.CONSOLIDATION: CONSOLIDATION_WORDS,
    Region.HEART: HEART_WORDS,
    Region.NUCLEI: NUCLEI_WORDS,
}
ABSENT_BELOW = 0.0005
"""A region smaller than this share of the image counts as neither present nor absent; no prompt asks for it."""
KEPT_EMPTY = 0.25
"""Share of prompts for a class of lesions that are kept if the class is absent."""

_LUNGS = (TaughtFinding("left lung"), TaughtFinding("right lung"), TaughtFinding("lungs", ("lung", "lung fields")))
_HEART = TaughtFinding(HEART_WORDS[0], (*HEART_WORDS[1:], "cardiac shadow", "cardiac outline", "cardiac contour"))
_INFECTION = (*LESION_WORDS, "COVID-19 changes", "airspace shadow", "bronchopneumonia", "opacification", "LRTI")
_GROUND_GLASS = (*GROUND_GLASS_WORDS, "ground-glass attenuation")
_PULMONARY = tuple(TaughtFinding(words[0], words[1:]) for words in (_INFECTION, _GROUND_GLASS, CONSOLIDATION_WORDS))
TAUGHT: Taught = {
    "xray": (*_LUNGS, _HEART, *_PULMONARY),
    "ct": (*_LUNGS, *_PULMONARY),
    "histology": (TaughtFinding(NUCLEI_WORDS[0], NUCLEI_WORDS[1:]),),
}
"""Findings by modality, for the model card, completion and warnings."""


@dataclass(frozen=True)
class Prompt:
    """A finding text and its true mask on one image, (h, w) bool."""

    text: str
    mask: Mask


Maker = Callable[[], "Prompt | None"]
"""Makes one kind of prompt for a sample; None if the sample has no truth for it."""


def whole_prompt(sample: Sample, rng: Generator) -> Prompt:
    """A prompt without a side: the full sentence, a generic word, one of the structures, or no text (the union)."""
    makers: list[tuple[float, Maker]] = [(0.05, lambda: _foreign(sample, rng))]  # the only kind that always has a truth
    main = Region.NUCLEI if sample.modality is Modality.HISTOLOGY else Region.LESION
    if main & sample.annotated:
        mask = has(sample, main)
        makers.append((1.2, lambda: Prompt(_everywhere(main, rng), mask)))
        makers.append((0.8, lambda: Prompt("", mask)))
        if sample.sentence:
            makers.append((2.0, lambda: Prompt(_described(sample, rng), mask)))
    for region, weight in ((Region.HEART, 1.0), (Region.GROUND_GLASS, 0.5), (Region.CONSOLIDATION, 0.5)):
        if region & sample.annotated:
            makers.append((weight, _bind(_whole_region, sample, region, rng)))
    if LUNGS & sample.annotated:
        makers.append((0.6, lambda: Prompt(pick(LUNGS_WORDS, rng), has(sample, LUNGS))))
        makers.append((1.5, lambda: _side_lung(sample, rng)))
    return _draw(makers, rng)


def steered_prompt(sample: Sample, rng: Generator) -> Prompt:
    """A prompt where words matter: one side, one zone, another structure, a negation, or something absent."""
    makers: list[tuple[float, Maker]] = [
        (0.35, lambda: _negated(sample, rng)),
        (0.45, lambda: _foreign(sample, rng)),
    ]
    for region, weight in ((Region.LESION, 3.0), (Region.GROUND_GLASS, 1.0), (Region.CONSOLIDATION, 0.8)):
        if region & sample.annotated:
            makers.append((weight, _bind(_on_side, sample, region, rng)))
            makers.append((weight / 3, _bind(_in_zone, sample, region, rng)))
    if LUNGS & sample.annotated:
        makers.append((3.0, lambda: _side_lung(sample, rng)))
    for region in (Region.HEART, Region.NUCLEI):
        if region & sample.annotated:
            makers.append((1.5, _bind(_whole_region, sample, region, rng)))
    return _draw(makers, rng)


def has(sample: Sample, region: Region) -> Mask:
    """Mask of the pixels with any bit of the region."""
    return (sample.regions & np.uint8(region)) > 0


def on_side(sample: Sample, region: Region, side: str) -> Mask:
    """The part of a region on one of the patient's sides."""
    left = has(sample, Region.PATIENT_LEFT)
    return has(sample, region) & (left if side == "left" else ~left)


def _draw(makers: list[tuple[float, Maker]], rng: Generator) -> Prompt:
    """A prompt from a weighted choice of makers; without a truth, or with a tiny one, another is drawn."""
    weights = np.array([weight for weight, _ in makers])
    while True:
        index = int(rng.choice(len(makers), p=weights / weights.sum()))
        prompt = makers[index][1]()
        if prompt is not None and not 0 < prompt.mask.mean() < ABSENT_BELOW:
            return prompt


def _bind(function: Callable[..., Prompt | None], *args: object) -> Maker:
    return lambda: function(*args)


def _everywhere(region: Region, rng: Generator) -> str:
    word = pick(FINDINGS[region], rng)
    if region is Region.NUCLEI or rng.random() < 0.6:
        return word
    return pick(EVERYWHERE, rng).format(finding=word)


def _whole_region(sample: Sample, region: Region, rng: Generator) -> Prompt | None:
    word = pick(FINDINGS[region], rng) if region is Region.HEART else _everywhere(region, rng)
    return _rarely_empty(Prompt(word, has(sample, region)), region, rng)


def _rarely_empty(prompt: Prompt, region: Region, rng: Generator) -> Prompt | None:
    """A prompt for a class of lesions; most prompts with an empty mask are dropped.

    Only 16 of 56 X-rays show consolidation. Without this, a model learned that the mask for the word is always empty.
    """
    if region & LESION_CLASSES and not prompt.mask.any() and rng.random() > KEPT_EMPTY:
        return None
    return prompt


def _side_lung(sample: Sample, rng: Generator) -> Prompt:
    side = pick(list(SIDES), rng)
    return Prompt(pick(SIDE_LUNG_WORDS, rng).format(side=side), has(sample, SIDES[side]))


def _on_side(sample: Sample, region: Region, rng: Generator) -> Prompt | None:
    side = pick(list(SIDES), rng)
    mask = on_side(sample, region, side)
    finding = pick(FINDINGS[region], rng)
    templates = (*ON_SIDE, *SICK_SIDE) if region is Region.LESION else ON_SIDE
    template = _composed(rng) if rng.random() < COMPOSED else pick(templates, rng)
    return _rarely_empty(Prompt(template.format(finding=finding, side=side), mask), region, rng)


def _composed(rng: Generator) -> str:
    """A template for a finding on a side, composed of random parts; the location may come first."""
    what = " ".join(filter(None, (pick(LEADS, rng), pick(AMOUNTS, rng), "{finding}")))
    place = pick(PLACES, rng)
    return f"{place}: {what}" if rng.random() < 0.2 else f"{what} {place}"


def _described(sample: Sample, rng: Generator) -> str:
    if sample.modality is Modality.HISTOLOGY:
        return pick(DENSITIES, rng).format(spread=pick(SPREADS, rng), part=pick(PARTS, rng))
    return _varied(sample.sentence, rng)


def _varied(sentence: str, rng: Generator) -> str:
    """A sentence of LViT's form, sometimes in other words, with clauses reordered or dropped, or locations reworded."""
    form = rng.random()
    if form < RETOLD:
        return retold(sentence, rng)
    if form >= RETOLD + REORDERED:
        return sentence
    clauses = sentence.rstrip(".").split(", ")
    if len(clauses) > 2 and rng.random() < 0.5:
        del clauses[1]  # the count does not affect the location
    if rng.random() < 0.5:
        clauses.reverse()
    lung = pick(RETOLD_LUNG, rng)
    varied = ZONED_LUNG.sub(lambda m: lung.format(zone=m[1].strip(), side=m[2]) if m[1] else m[0], ", ".join(clauses))
    return varied.lower() if rng.random() < 0.5 else varied


def _in_zone(sample: Sample, region: Region, rng: Generator) -> Prompt | None:
    """A prompt for a zone, if the caption names one zone on that side, or there are lung masks to divide."""
    side = pick(list(SIDES), rng)
    mask = on_side(sample, region, side)
    if side in sample.zones and region is Region.LESION:
        zone = sample.zones[side]
    elif sample.modality is Modality.XRAY and LUNGS & sample.annotated and has(sample, SIDES[side]).any():
        zone = pick(CRANIOCAUDAL, rng)
        mask = mask & lung_third(has(sample, SIDES[side]), zone)
    else:
        return None
    text = pick(IN_ZONE, rng).format(finding=pick(FINDINGS[region], rng), side=side, zone=zone)
    return _rarely_empty(Prompt(text, mask), region, rng)


def lung_third(lung: Mask, zone: str) -> Mask:
    """Rows of the upper, middle or lower third of a lung's height."""
    rows = np.nonzero(lung.any(axis=1))[0]
    first, height = rows[0], rows[-1] + 1 - rows[0]
    third = CRANIOCAUDAL.index(zone)
    row = np.arange(lung.shape[0])[:, None]
    return np.broadcast_to((row >= first + third * height / 3) & (row < first + (third + 1) * height / 3), lung.shape)


def _negated(sample: Sample, rng: Generator) -> Prompt:
    regions = [r for r in FINDINGS if r & sample.annotated] or [Region.LESION]
    word = pick(FINDINGS[regions[rng.integers(len(regions))]], rng)
    return Prompt(pick(NEGATED, rng).format(finding=word), np.zeros(sample.regions.shape, bool))


def _foreign(sample: Sample, rng: Generator) -> Prompt:
    """A prompt for something that this modality never shows, or that is labelled in no image."""
    if rng.random() < 0.3:
        word = pick(NEVER_TAUGHT, rng)
    elif sample.modality is Modality.HISTOLOGY:
        word = pick((*LESION_WORDS, *LUNGS_WORDS, *CONSOLIDATION_WORDS, *HEART_WORDS, "left lung", "right lung"), rng)
    else:
        word = pick(NUCLEI_WORDS, rng)
    return Prompt(word, np.zeros(sample.regions.shape, bool))
