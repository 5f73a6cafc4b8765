"""The live preview shows outlines and leaves no trace in the user's data."""

import numpy as np
import pytest

slicer = pytest.importorskip("slicer")
pytest.importorskip("PySide6")
pytest.importorskip("slicerhost").start()

from scene_volumes import SHAPE, addTransform, addVolume, bend, outputOf, randomMask  # noqa: E402

from FastTextDiffSegmentLib.scene.Geometry import SceneError  # noqa: E402
from FastTextDiffSegmentLib.scene.PreviewSegmentation import PreviewSegmentation  # noqa: E402
from FastTextDiffSegmentLib.scene.SegmentVoxels import segmentArray  # noqa: E402
from FastTextDiffSegmentLib.scene.SegmentWriter import SegmentWriter  # noqa: E402

pytestmark = pytest.mark.slicer


@pytest.fixture
def preview(scene):
    preview = PreviewSegmentation()
    yield preview
    preview.drop()


def shownMasks(preview, volume):
    segmentation = preview.node.GetSegmentation()
    ids = [segmentation.GetNthSegmentID(index) for index in range(segmentation.GetNumberOfSegments())]
    return [segmentArray(preview.node, each, volume) for each in ids]


def test_a_new_preview_replaces_the_old_one_and_follows_the_volume(preview):
    first, second = addVolume(), addVolume(shape=(3, 4, 5))
    addTransform(np.diag([1.0, 1, 1, 1]), second)
    preview.show(first, [outputOf(randomMask()[2:3], first=2), outputOf(randomMask(1)[2:3], 2, finding="opacity")])
    assert len(shownMasks(preview, first)) == 2
    mask = randomMask(2, (3, 4, 5))
    preview.show(second, [outputOf(mask)])
    (shown,) = shownMasks(preview, second)
    assert np.array_equal(shown, mask)
    assert preview.node.GetTransformNodeID() == second.GetTransformNodeID()
    assert (preview.volumeNode, preview.outputs[0].finding) == (second, "consolidation")


def test_the_preview_is_an_outline_that_is_neither_saved_nor_listed(preview, tmp_path):
    volume = addVolume()
    preview.show(volume, [outputOf(randomMask())])
    display = preview.node.GetDisplayNode()
    assert (display.GetVisibility2DFill(), display.GetVisibility2DOutline(), display.GetVisibility3D()) == (0, 1, 0)
    assert preview.node.GetHideFromEditors()
    assert not preview.node.GetSaveWithScene()
    path = str(tmp_path / "scene.mrb")
    assert slicer.mrmlScene.WriteToMRB(path)
    assert slicer.mrmlScene.ReadFromMRB(path, True)
    assert slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSegmentationNode") is None
    assert slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSegmentationDisplayNode") is None
    assert not preview.isShown


def test_dropping_the_preview_does_not_change_the_users_segments(preview):
    volume = addVolume()
    segmentation = SegmentWriter().newSegmentation(volume)
    (written,) = SegmentWriter().write(segmentation, volume, [outputOf(randomMask())])
    nodes = slicer.mrmlScene.GetNumberOfNodes()
    time = segmentation.GetSegmentation().GetMTime()
    preview.show(volume, [outputOf(randomMask(1))])
    assert preview.isShown
    preview.drop()
    assert (preview.isShown, preview.node, preview.outputs) == (False, None, ())
    assert slicer.mrmlScene.GetNumberOfNodes() == nodes
    assert segmentation.GetSegmentation().GetMTime() == time
    assert np.array_equal(segmentArray(segmentation, written.segmentId, volume), randomMask())


def test_nothing_found_is_shown_as_nothing(preview):
    volume = addVolume()
    preview.show(volume, [outputOf(randomMask())])
    preview.show(volume, [outputOf(np.zeros(SHAPE, np.uint8))])
    assert shownMasks(preview, volume) == []
    assert preview.isShown


@pytest.mark.parametrize("remove", ["node", "scene"])
def test_a_preview_that_was_removed_can_be_shown_again(preview, remove):
    preview.show(addVolume(), [outputOf(randomMask())])
    if remove == "node":
        slicer.mrmlScene.RemoveNode(preview.node)
    else:
        slicer.mrmlScene.Clear(False)
    assert not preview.isShown
    volume = addVolume()
    preview.show(volume, [outputOf(randomMask(1))])
    assert np.array_equal(shownMasks(preview, volume)[0], randomMask(1))


def test_a_bent_volume_gets_no_preview(preview):
    volume = addVolume()
    bend(volume)
    with pytest.raises(SceneError, match="non-linear"):
        preview.show(volume, [outputOf(randomMask())])
    assert not preview.isShown
