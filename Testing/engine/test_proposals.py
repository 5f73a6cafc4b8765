"""The slices most worth correcting come first."""

import numpy as np

from fasttextdiff.teaching.proposals import JUMP, UNLIKE, UNSURE, doubts, proposals, propose

TUBE = np.zeros((30, 20, 20), np.float32)
TUBE[:, 5:15, 5:15] = 0.98


def test_a_gap_a_doubt_and_a_jump_are_proposed_and_sure_slices_are_not():
    volume = TUBE.copy()
    volume[8] = 0  # a gap between equal neighbours
    volume[16, 5:15, 5:15] = 0.55  # unsure
    volume[24, :5] = 0.98  # suddenly larger
    assert sorted(propose(volume, 3)) == [8, 16, 24]
    assert sorted(propose(volume, 2, done=[8])) == [16, 24]


def test_each_proposal_says_why_and_of_which_finding():
    tube, lesion = TUBE.copy(), np.zeros_like(TUBE)
    tube[8] = 0
    tube[16, 5:15, 5:15] = 0.55
    lesion[24:, :10] = 0.99
    doubted = {"tube": doubts(tube, tube > 0.5), "lesion": doubts(lesion, lesion > 0.5)}
    found = {each.slice: (each.finding, each.reason) for each in proposals(doubted, 4)}
    assert found[8] == ("tube", UNLIKE)
    assert found[16] == ("tube", UNSURE)
    assert ("lesion", JUMP) in (found.get(23), found.get(24))


def test_nothing_is_proposed_without_doubt():
    assert propose(np.zeros((9, 8, 8), np.float32), 3) == []


def test_no_slice_is_proposed_twice():
    assert len(set(propose(TUBE, 40))) == 30
