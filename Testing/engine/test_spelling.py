"""Misspelt words are read as the words that were taught."""

import numpy as np
import pytest

from fasttextdiff.evaluation.texts import choose_texts
from fasttextdiff.image.volume import Modality
from fasttextdiff.model.info import BUNDLED_MODEL, read_info

INFO = read_info(BUNDLED_MODEL)
SENTENCES = [
    "Bilateral pulmonary infection, two infected areas, upper middle right lung and lower left lung.",
    "Unilateral pulmonary infection, one infected area, all left lung.",
]


@pytest.mark.parametrize(
    ("typed", "modality", "read"),
    [
        ("lfet lung", Modality.XRAY, "left lung"),
        ("consolidtion in teh lower right lugn", Modality.XRAY, "consolidation in the lower right lung"),
        ("Pneumonai", Modality.XRAY, "Pneumonia"),
        ("ground-galss opacity", Modality.CT, "ground-glass opacity"),
        ("livr", Modality.CT, "liver"),
        ("acute ischemic stoke", Modality.CT, "acute ischemic stroke"),  # "stone" is as near
        ("kidney stoke", Modality.CT, "kidney stone"),
        (
            "Nuclei desity in teh uupper right si high.",
            Modality.HISTOLOGY,
            "Nuclei density in the upper right si high.",
        ),
    ],
)
def test_typos_are_corrected(typed, modality, read):
    assert INFO.respelled(typed, modality) == read


@pytest.mark.parametrize(
    "text",
    ["left lung", "GGO", "RCC", "tumour", "tumor", "haemorrhage", "opacity in the left lower zone", "", "2 mm nodule"],
)
@pytest.mark.parametrize("modality", [Modality.XRAY, Modality.CT, Modality.MR])
def test_known_words_and_abbreviations_are_kept(text, modality):
    assert INFO.respelled(text, modality) == text


def test_a_text_in_another_language_is_kept():
    for text in ("Verschattung in der linken Lunge", "opacité du poumon gauche"):
        assert INFO.respelled(text, Modality.XRAY) == text


def test_most_misspelt_captions_are_restored():
    typed = [text for seed in range(40) for text in choose_texts(SENTENCES, "typos", seed)]
    read = [word.strip(",.") for text in typed for word in INFO.respelled(text, Modality.XRAY).lower().split()]
    wanted = [word.strip(",.") for text in SENTENCES * 40 for word in text.lower().split()]
    assert np.mean([one == other for one, other in zip(read, wanted, strict=True)]) > 0.9


def test_a_word_between_two_taught_ones_is_taught_by_its_neighbour():
    typed, meant = "ischemic stoke", "ischemic stroke"  # "stone" is as near
    assert not INFO.untaught(typed, Modality.CT)
    assert INFO.window(typed, Modality.CT) == INFO.window(meant, Modality.CT) != INFO.window("stone", Modality.CT)
    assert INFO.untaught("ischemic spoke", Modality.XRAY)
