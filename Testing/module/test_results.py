"""The table of results, and which segmentation a result belongs to, whatever the user has chosen meanwhile."""

import numpy as np
import pytest

slicer = pytest.importorskip("slicer")
pytest.importorskip("PySide6")
pytest.importorskip("slicerhost").start()

from scene_volumes import SHAPE, addVolume, grid, outputOf  # noqa: E402

from FastTextDiffSegmentLib.scene.SegmentWriter import SegmentWriter  # noqa: E402

pytestmark = pytest.mark.slicer


def test_amounts_are_those_of_the_segment_whatever_image_is_chosen(scene):
    from FastTextDiffSegmentLib.panels.ResultRows import resultRows

    mask = np.zeros(SHAPE, np.uint8)
    mask[2, 1:5, 1:6] = 1
    volume = addVolume(grid(np.diag([-1.0, -1, 1]), spacing=(10, 10, 20)))
    node, writer = SegmentWriter().newSegmentation(volume), SegmentWriter()
    writer.write(node, volume, [outputOf(mask[2:3], first=2)])
    other = addVolume(grid(np.diag([-1.0, -1, 1]), spacing=(1, 1, 1)), (60, 7, 9), name="other")
    for image, isPlanar, amount in (
        (volume, False, "40.0 ml on 1 of 6 slices"),
        (volume, True, "2,000 mm² on 1 of 6 slices"),
        (other, False, "40.0 ml"),
        (other, True, "40.0 ml"),
    ):
        (row,) = resultRows(node, image, isPlanar)
        assert row.amount == amount
