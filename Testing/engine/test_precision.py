"""Two precisions of one model are compared by their masks and presences."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from fasttextdiff.image.volume import Modality
from fasttextdiff_lab.precision import Question, agreements


class Model:
    """Answers with a square whose side depends on the precision."""

    def __init__(self, side, presence):
        self.side, self.presence = side, presence
        self.info = SimpleNamespace(presence_threshold=0.4)

    def prepare(self, volume):
        return volume

    def decode(self, volume, findings, *, try_anyway):
        assert try_anyway
        mask = np.zeros(volume.array.shape, bool)
        mask[:, : self.side, : self.side] = True
        return SimpleNamespace(findings=[SimpleNamespace(mask=mask, presence=np.array([self.presence]))])


@pytest.fixture
def question(samples):
    return Question("xrays", samples / "cxr_hannover" / "18017511.png", Modality.XRAY, "left lung")


def test_equal_answers_agree_in_full(question):
    (found,) = agreements(Model(20, 0.9), Model(20, 0.41), [question, replace(question, text="heart")])
    assert (found.group, found.n, found.dice, found.lowest, found.same_presence) == ("xrays", 2, 1, 1, 1)


def test_other_masks_and_presences_on_the_other_side_of_the_threshold_count(question):
    (found,) = agreements(Model(20, 0.41), Model(10, 0.39), [question])
    assert found.dice == pytest.approx(2 * 100 / 500)
    assert found.same_presence == 0
    assert "Dice 0.4000, lowest 0.4000; same presence 0.0%" in str(found)


def test_groups_are_kept_apart(question):
    found = agreements(Model(20, 0.9), Model(20, 0.9), [question, replace(question, group="others")])
    assert [(one.group, one.n) for one in found] == [("xrays", 1), ("others", 1)]
