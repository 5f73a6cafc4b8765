"""Changes of voxels as numbers: two of them as one are taken back like both, whatever was edited in between."""

import numpy as np
import pytest

pytest.importorskip("slicer")
pytest.importorskip("PySide6")
pytest.importorskip("slicerhost").start()

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from hypothesis.extra.numpy import arrays  # noqa: E402

from FastTextDiffSegmentLib.scene.VoxelChange import VoxelChange  # noqa: E402

pytestmark = pytest.mark.slicer
voxels = arrays(bool, (1, 2, 4))


@given(st.tuples(voxels, voxels, voxels, voxels))
def test_two_changes_as_one_bring_back_what_was_before_each(states):
    before, written, edited, again = states
    changes = [VoxelChange.of(np.eye(4), (0, 0, 0), a != b, b) for a, b in ((before, written), (edited, again))]
    if None in changes:
        return
    joined, undone = changes[0].then(changes[1]), again.copy()
    if joined is not None:
        changed, wanted = joined.inverse().voxels()
        i, j, k = joined.start
        box = undone[k : k + changed.shape[0], j : j + changed.shape[1], i : i + changed.shape[2]]
        box[changed] = wanted[changed]
    expected = np.where(before != written, before, edited)
    np.testing.assert_array_equal(undone, expected)
