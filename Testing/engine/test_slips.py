"""Typos in training prompts."""

from string import ascii_lowercase

import numpy as np

from fasttextdiff.training.slips import with_slips

SENTENCE = "Bilateral pulmonary infection, two infected areas, upper left lung and lower right lung."


def test_only_a_few_letters_of_long_words_get_typos():
    made = [with_slips(SENTENCE, np.random.default_rng(seed)) for seed in range(50)]
    assert len(set(made)) == 50
    assert SENTENCE not in made
    for text in made:
        assert abs(len(text) - len(SENTENCE)) <= 7  # one typo in ten letters of longer words
        assert set(text) <= {*SENTENCE, *ascii_lowercase}
        assert text.count(" ") == SENTENCE.count(" ")
        assert " two " in text
        assert " and " in text


def test_short_words_that_change_the_meaning_get_no_typos():
    for text in ("", "no GGO", "is it?"):
        assert with_slips(text, np.random.default_rng(0)) == text
    assert all(with_slips("no lung", np.random.default_rng(seed)).startswith("no ") for seed in range(20))


def test_the_same_generator_gives_the_same_typos():
    assert with_slips(SENTENCE, np.random.default_rng(3)) == with_slips(SENTENCE, np.random.default_rng(3))
