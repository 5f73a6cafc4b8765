"""Retells LViT's sentences as a report might put them: same sides and zones, other words. Knows wording only.

The published captions have one form, so a model that is trained on them alone reads the form and not the words. The
paraphrases of `evaluation.texts` are kept out of here, because they measure this.
"""

from __future__ import annotations

from collections.abc import Sequence

from numpy.random import Generator

from fasttextdiff.evaluation.texts import LESION_SENTENCE
from fasttextdiff.training.samples import ZONED_LUNG

NOUNS = (
    "infection", "pneumonia", "opacity", "opacities", "infiltrates", "airspace disease", "pulmonary infection",
    "COVID-19 pneumonia", "airspace opacities", "lung lesions", "inflammation", "airspace opacification",
    "patchy opacities", "consolidated or hazy lung", "infective change", "viral pneumonia", "parenchymal opacities",
)  # fmt: skip
COUNTED = (
    "{count} infected areas", "{count} areas of {noun}", "{count} foci of {noun}", "{count} patches of {noun}",
    "{count} regions of {noun}", "{noun} in {count} places", "{count} foci", "multiple areas of {noun}",
)  # fmt: skip
FORMS = (
    "{what} in {where}", "{what}: {where}", "{where}: {what}", "{lateral} {noun}, {where}", "{what} involving {where}",
    "{what} affecting {where}", "{what}, located in {where}", "{where} show {what}", "there is {what} in {where}",
    "{lateral} lung disease with {what} in {where}", "findings of {noun} within {where}", "{where} are affected",
    "{what} seen over {where}",
)  # fmt: skip
WHOLE = ("{side} lung", "the {side} lung")
ALL = ("all of the {side} lung", "the entire {side} lung", "the {side} lung throughout", "the {side} lung, all of it")
ZONED = (
    "{zones} {side} lung", "the {zones} {side} lung", "{side} {zones} zone", "the {zones} third of the {side} lung",
    "the {side} lung ({zones})", "the {side} lung, {zones}", "the {zones} zones of the {side} lung",
    "the {zones} field of the {side} lung", "the {side} {zones} lung zones", "{side} lung {zones} zone",
    "the {zones} portion of the {side} lung", "the {side} {zones} hemithorax", "{zones} lung on the {side}",
)  # fmt: skip
BETWEEN_ZONES = (" and ", ", ", "/", " ", " & ")
BETWEEN_PLACES = (" and ", ", ", "; ", " as well as ", " plus ", ", also ")
COUNT_KEPT = 0.5
"""Share of retold sentences that keep the count, which does not change the mask."""


def retold(sentence: str, rng: Generator) -> str:
    """A sentence of LViT's form in other words and another order; any other text is unchanged."""
    found = LESION_SENTENCE.fullmatch(sentence.strip())
    if found is None:
        return sentence
    lateral, count, where = found.groups()
    places = [_retold_place(*place, rng=rng) for place in ZONED_LUNG.findall(where.lower())]
    if rng.random() < 0.5:
        places.reverse()
    noun = pick(NOUNS, rng)
    counted = pick(COUNTED, rng).format(count=count.lower(), noun=noun)
    text = pick(FORMS, rng).format(
        what=counted if rng.random() < COUNT_KEPT else noun,
        where=pick(BETWEEN_PLACES, rng).join(places),
        noun=noun,
        lateral=f"{lateral.lower()}lateral",
    )
    return text[0].upper() + text[1:] + "." if rng.random() < 0.5 else text


def _retold_place(zones: str, side: str, *, rng: Generator) -> str:
    names = zones.split()
    if not names:
        return pick(WHOLE, rng).format(side=side)
    if names == ["all"]:
        return pick(ALL, rng).format(side=side)
    return pick(ZONED, rng).format(zones=pick(BETWEEN_ZONES, rng).join(names), side=side)


def pick(words: Sequence[str], rng: Generator) -> str:
    """One of some words or templates, all equally likely."""
    return words[int(rng.integers(len(words)))]
