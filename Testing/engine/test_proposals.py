"""The slices most worth correcting come first."""

import numpy as np

from fasttextdiff.teaching.proposals import propose

TUBE = np.zeros((30, 20, 20), np.float32)
TUBE[:, 5:15, 5:15] = 0.98


def test_a_gap_a_doubt_and_a_jump_are_proposed_and_sure_slices_are_not():
    volume = TUBE.copy()
    volume[8] = 0  # a gap between equal neighbours
    volume[16, 5:15, 5:15] = 0.55  # unsure
    volume[24, :5] = 0.98  # suddenly larger
    assert sorted(propose(volume, 3)) == [8, 16, 24]
    assert sorted(propose(volume, 2, done=[8])) == [16, 24]


def test_nothing_is_proposed_without_doubt():
    assert propose(np.zeros((9, 8, 8), np.float32), 3) == []


def test_no_slice_is_proposed_twice():
    assert len(set(propose(TUBE, 40))) == 30
