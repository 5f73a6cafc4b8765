"""Retold sentences of LViT keep sides and zones."""

import re

import numpy as np

from fasttextdiff.evaluation.texts import LESION_REWORDINGS, paraphrased
from fasttextdiff.training import retelling
from fasttextdiff.training.retelling import retold

SENTENCE = "Bilateral pulmonary infection, four infected areas, upper middle right lung and lower left lung."


def told(sentence, count=400):
    return [retold(sentence, np.random.default_rng(seed)) for seed in range(count)]


def test_every_side_keeps_its_zones(monkeypatch):
    monkeypatch.setattr(retelling, "BETWEEN_PLACES", (" || ",))
    for text in told(SENTENCE):
        halves = text.lower().split(" || ")
        by_side = {side: half for half in halves for side in ("left", "right") if re.search(rf"\b{side}\b", half)}
        assert zones_in(by_side["right"]) == {"upper", "middle"}, text
        assert zones_in(by_side["left"]) == {"lower"}, text


def zones_in(text):
    return set(re.findall(r"\b(?:upper|middle|lower)\b", text))


def test_there_are_many_forms_and_none_is_a_paraphrase_of_the_evaluation():
    forms = told(SENTENCE)
    assert len(set(forms)) > 300
    assert not {paraphrased(SENTENCE, n) for n in range(len(LESION_REWORDINGS))} & set(forms)
    assert not any(re.search(r"\b(?:sites?|top|base|occup\w+|namely)\b", text.lower()) for text in forms)


def test_whole_lungs_stay_whole():
    for text in told("Unilateral pulmonary infection, two infected areas, all left lung.", 100):
        assert re.search(r"\b(?:all|entire|throughout)\b", text), text
        assert "right" not in text


def test_other_texts_are_unchanged():
    for text in ("", "ground-glass opacity", "The nuclei are evenly distributed."):
        assert retold(text, np.random.default_rng(0)) == text
