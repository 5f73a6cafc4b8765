"""The texts of an evaluation: modes change them as documented, typos are realistic, paraphrases keep the meaning."""

from __future__ import annotations

import re

import numpy as np
import pytest
from tiny_models import one_line

from fasttextdiff.errors import UsageError
from fasttextdiff.evaluation.texts import TEXTS, choose_texts, mistyped, paraphrased
from fasttextdiff.training import prompts

SENTENCE = "Bilateral pulmonary infection, three infected areas, upper lower right lung and middle left lung."
ONE_SIDED = "Unilateral pulmonary infection, one infected area, lower left lung."


def test_text_modes_change_the_text_as_documented():
    texts = ["left lung", "Right lung", "heart", "heart"]
    assert choose_texts(texts, "true") == texts
    assert choose_texts(texts, "none") == [""] * 4
    assert choose_texts(texts, "flipped") == ["right lung", "Left lung", "heart", "heart"]
    for mode in TEXTS:
        assert len(choose_texts(texts, mode)) == 4


def test_shuffled_texts_come_from_the_split_and_are_repeatable():
    true = ["left lung"] * 20 + ["heart"] * 20 + ["nuclei"] * 2
    shuffled = choose_texts(true, "shuffled")
    assert all(text != own for text, own in zip(shuffled, true, strict=True))
    assert set(shuffled) == set(true)
    assert shuffled == choose_texts(true, "shuffled")
    assert shuffled != choose_texts(true, "shuffled", seed=1)


def test_unknown_text_modes_and_splits_with_one_text_are_refused():
    with pytest.raises(UsageError) as caught:
        choose_texts(["a", "b"], "wrong")
    one_line(caught, "wrong", *TEXTS)
    with pytest.raises(UsageError) as caught:
        choose_texts(["a", "a"], "shuffled")
    one_line(caught, "same text")


@pytest.mark.parametrize("seed", range(40))
def test_typos_change_one_letter_in_eight_but_no_sides_or_punctuation(seed):
    typed = mistyped(SENTENCE, np.random.default_rng(seed))
    assert re.findall("left|right", typed) == ["right", "left"]
    assert re.sub("[A-Za-z]", "", typed) == re.sub("[A-Za-z]", "", SENTENCE)
    changed = [(new, old) for new, old in zip(typed.split(), SENTENCE.split(), strict=True) if new != old]
    # 73 letters outside the side words: nine typos, in fewer words if one has two
    assert 5 <= len(changed) <= 9
    assert all(abs(len(new) - len(old)) <= 2 for new, old in changed)
    assert all(new[0].isupper() or old[0].islower() or new[0] == old[1] for new, old in changed)


def test_exactly_the_known_kinds_of_typos_occur_in_a_short_word():
    slips = {mistyped("heart", np.random.default_rng(seed)) for seed in range(400)}
    assert {"haert", "hart", "heaart", "heatt", "hesrt"} <= slips
    assert "heart" not in slips
    assert all(len(slip) in (4, 5, 6) for slip in slips)
    assert mistyped("left, right 12", np.random.default_rng(0)) == "left, right 12"


@pytest.mark.parametrize("variant", range(3))
def test_a_paraphrase_names_the_same_places_in_other_words(variant):
    text = paraphrased(SENTENCE, variant)
    assert "Bilateral" not in text
    assert "infected areas" not in text
    assert "three" in text.lower()
    if variant == 0:
        assert text == "Three sites of infection in both lungs: right top, base; left mid."
    else:
        assert "the upper and lower parts of the right lung and the middle part of the left lung" in text
    assert "right" not in paraphrased(ONE_SIDED, variant)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (ONE_SIDED, "One site of infection in the left lung: left base."),
        (
            "Bilateral pulmonary infection, nine infected areas, all right lung and posterior left lung.",
            "Nine sites of infection in both lungs: right whole; left back.",
        ),
        # an error in the original's templates: two lungs are "unilateral", and one of them has no zone
        (
            "Unilateral pulmonary infection, one infected areas, right lung and middle left lung.",
            "One site of infection in both lungs: right; left mid.",
        ),
        ("The nuclei density in the left is high.", "Nuclei crowd together in the left region of the tile."),
        ("patient's left lung", "lung on the patient's left-hand side"),
        ("Ground glass opacities", "ground-glass attenuation"),
        ("a text that no rule knows", "a text that no rule knows"),
    ],
)
def test_paraphrases_of_real_texts(text, expected):
    assert paraphrased(text) == expected


def test_a_sentence_with_an_unknown_place_is_not_changed():
    elsewhere = "Bilateral pulmonary infection, two infected areas, somewhere."
    assert paraphrased(elsewhere) == elsewhere


def test_no_paraphrase_is_a_training_wording():
    templates = (*prompts.ON_SIDE, *prompts.IN_ZONE, *prompts.EVERYWHERE, *prompts.SIDE_LUNG_WORDS)
    words = [word for region in prompts.FINDINGS.values() for word in region]
    taught = {
        template.format(finding=word, side=side, zone=zone).lower()
        for template in templates
        for word in words
        for side in prompts.SIDES
        for zone in prompts.CRANIOCAUDAL
    }
    texts = (SENTENCE, ONE_SIDED, "patient's right lung", "consolidation", "ground-glass opacities", "heart")
    assert not taught & {paraphrased(text, variant).lower() for text in texts for variant in range(3)}


def test_all_sentences_of_the_research_data_can_be_paraphrased(shared):
    from fasttextdiff.evaluation.datasets import load_targets

    for name in ("qata_cov19_v2_2", "MosMedDataPlus_bjorke"):
        texts = {target.text for target in load_targets(shared / "data" / name, "val")}
        assert not {text for text in texts if paraphrased(text) == text}
