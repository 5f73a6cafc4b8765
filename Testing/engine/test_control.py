"""Control prompts count a side as found, missed or leaked like a person would, in words that training never uses."""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np
import pytest
from tiny_models import one_line

from fasttextdiff.errors import UsageError
from fasttextdiff.evaluation.datasets import Target
from fasttextdiff.evaluation.side_control import WORDINGS, ask_sides, summary
from fasttextdiff.image.volume import Modality
from fasttextdiff.training import prompts
from fasttextdiff.training.samples import Region, Sample

RIGHT, LEFT = np.s_[20:60, 10:30], np.s_[20:60, 70:90]


def target(*places):
    truth = np.zeros((100, 100), np.uint8)
    for place in places:
        truth[place] = 255
    image = np.arange(10000, dtype=np.uint32).reshape(100, 100) // 40
    return SimpleNamespace(
        image=SimpleNamespace(name="a.png"),
        modality=Modality.XRAY,
        load_image=lambda: image.astype(np.uint8),
        load_mask=lambda: truth > 0,
    )


class Answers:
    """A segmenter whose mask for a text is `answer(side)`; records the texts."""

    def __init__(self, answer):
        self.answer, self.asked = answer, []

    def prepare(self, volume):
        return volume

    def decode(self, _, findings, *, threshold, try_anyway=False):
        self.asked += findings
        masks = [self.answer(re.search("left|right", text).group()) for text in findings]
        return SimpleNamespace(
            findings=[
                SimpleNamespace(typed="", finding=text, mask=mask[None], presence=[float(mask.any())])
                for text, mask in zip(findings, masks, strict=True)
            ]
        )


def painted(*places):
    mask = np.zeros((100, 100), bool)
    for place in places:
        mask[place] = True
    return mask


OBEDIENT = Answers(lambda side: painted(LEFT if side == "left" else RIGHT))
DEAF = Answers(lambda side: painted(LEFT, RIGHT))


def test_an_ideal_model_scores_one_and_one_that_ignores_the_side_leaks_half_of_its_mask():
    both = [target(LEFT, RIGHT)]
    good = summary(list(ask_sides(OBEDIENT, both)))
    assert (good["n_there"], good["dice"], good["wrong_side"], good["n_absent"]) == (2, pytest.approx(1), 0, 0)
    bad = summary(list(ask_sides(DEAF, both)))
    assert bad["dice"] == pytest.approx(2 / 3)
    assert bad["wrong_side"] == 0.5


def test_a_side_without_lesions_requires_an_empty_mask():
    one_sided = [target(LEFT)]
    assert summary(list(ask_sides(DEAF, one_sided)))["absent_empty"] == 0
    knows = Answers(lambda side: painted(LEFT) if side == "left" else painted(np.s_[0:1, 0:15]))  # 0.15 %
    answers = list(ask_sides(knows, one_sided))
    found = summary(answers)
    assert (found["absent_empty"], found["n_absent"], found["n_there"]) == (1, 1, 1)
    assert [(answer.text.count("left"), answer.there, answer.presence) for answer in answers] == [
        (1, True, 1),
        (0, False, 1),
    ]


def test_a_tiny_lesion_is_not_asked_for():
    assert [a.there for a in ask_sides(DEAF, [target(LEFT, np.s_[5:7, 5:7])])] == [True]


def test_all_wordings_are_used_on_both_sides_and_none_occurs_in_training():
    asked = Answers(lambda _: painted(LEFT))
    list(ask_sides(asked, [target(LEFT, RIGHT)] * len(WORDINGS)))
    assert {re.sub("left|right", "{side}", text) for text in asked.asked} == set(WORDINGS)
    taught = {
        template.format(finding=word, side="{side}") for template in prompts.ON_SIDE for word in prompts.LESION_WORDS
    } | set(prompts.SICK_SIDE)
    assert not taught & set(WORDINGS)
    sick = Sample(np.zeros((32, 32), np.uint8), np.full((32, 32), 1, np.uint8), Modality.XRAY, Region.LESION)
    rng = np.random.default_rng(0)
    made = {re.sub(r"\b(left|right)\b", "{side}", prompts.steered_prompt(sick, rng).text) for _ in range(20_000)}
    assert len(made) > 5000  # some thousand wordings for a side
    assert not made & set(WORDINGS)


def test_images_with_unknown_sides_are_refused():
    with pytest.raises(UsageError) as caught:
        list(ask_sides(DEAF, [Target(None, None, "nuclei", Modality.HISTOLOGY)]))
    one_line(caught, "chest X-rays")
