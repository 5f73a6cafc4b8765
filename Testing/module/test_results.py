"""The table of results, and which segmentation a result belongs to, whatever the user has chosen in the meantime."""

import json
import shutil

import numpy as np
import pytest

slicer = pytest.importorskip("slicer")
pytest.importorskip("PySide6")
pytest.importorskip("slicerhost").start()

from module_panel import segmentNames  # noqa: E402
from scene_volumes import SHAPE, addVolume, grid, outputOf  # noqa: E402
from test_several import part  # noqa: E402

from fasttextdiff.model.info import BUNDLED_MODEL  # noqa: E402
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


@pytest.fixture
def volume(panel, chestCt):
    """One slice with lungs."""
    panel.ui.livePreviewCheckBox.checked = False
    return panel.open(part(chestCt, slice(60, 61), "one slice"))


def segmentations(panel, volume):
    nodes = [panel.widget.logic.newSegmentation(volume) for _each in range(2)]
    panel.ui.outputSelector.setCurrentNode(nodes[0])
    return nodes


def test_a_result_goes_to_the_segmentation_that_was_chosen_at_the_start(panel, volume):
    first, second = segmentations(panel, volume)
    panel.type("left lung")
    panel.click("segmentVolumeButton")
    panel.ui.outputSelector.setCurrentNode(second)
    panel.finishRun()
    assert (segmentNames(first), segmentNames(second)) == (["left lung"], [])
    assert panel.message.startswith(f"Written to {first.GetName()}: 1 of 1 findings segmented")
    assert panel.segmentation is second
    panel.ui.outputSelector.setCurrentNode(None)
    panel.click("segmentVolumeButton")
    panel.ui.outputSelector.setCurrentNode(second)
    panel.finishRun()
    assert (segmentNames(second), panel.segmentation is second) == ([], True)
    (new,) = {*slicer.util.getNodesByClass("vtkMRMLSegmentationNode")} - {first, second} - stored()
    assert segmentNames(new) == ["left lung"]
    panel.click("segmentVolumeButton")
    slicer.mrmlScene.RemoveNode(second)
    panel.finishRun()
    assert panel.message == "The segmentation was removed in the meantime; nothing was written."


@pytest.fixture
def careful(tmp_path):
    """The bundled model with another threshold."""
    folder = shutil.copytree(BUNDLED_MODEL, tmp_path / "careful")
    index = json.loads((folder / "model_index.json").read_text())
    index["info"]["threshold"] = 0.333
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def test_the_slider_starts_at_the_threshold_of_the_model_until_the_user_moves_it(panel, volume, careful):
    segmentations(panel, volume)
    panel.type("left lung")

    def shown():
        return panel.tag("left lung", "FastTextDiff.Threshold"), int(panel.mask("left lung", volume).sum())

    def segmented():
        panel.click("segmentVolumeButton")
        panel.finishRun()
        return shown()

    bundled = segmented()
    own = panel.ui.thresholdSlider.value
    assert float(bundled[0]) == own == panel.widget.setupSection.model.threshold
    use(panel, str(careful))
    assert panel.ui.thresholdSlider.value == 0.33
    threshold, area = segmented()
    assert threshold == "0.333"
    assert area > bundled[1]
    panel.ui.thresholdSlider.value = 0.9
    use(panel, "")
    assert panel.ui.thresholdSlider.value == 0.9
    assert segmented()[0] == "0.9"
    panel.ui.thresholdSlider.value = own
    assert shown() == bundled


def use(panel, folder):
    panel.ui.modelPathLineEdit.currentPath = folder
    panel.waitFor(lambda: not panel.widget.setupSection.isReady)
    panel.waitFor(lambda: panel.widget.setupSection.isReady and panel.widget.logic.session.isOpen)


def stored():
    return {node for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode") if node.GetHideFromEditors()}


def test_the_slider_and_the_uncertainty_act_on_the_chosen_segmentation_and_image_only(panel, volume, chestCt):
    first, second = segmentations(panel, volume)
    panel.ui.thresholdSlider.value = 0.5
    panel.type("left lung")
    panel.click("segmentVolumeButton")
    panel.finishRun()
    panel.ui.uncertaintyCheckBox.checked = True
    layer = panel.widget.results.uncertainty
    panel.waitFor(lambda: layer.node is not None)
    before = panel.mask("left lung", volume)
    for choose, back in ((second, first), (chestCt, volume)):
        selector = panel.ui.outputSelector if choose is second else panel.ui.inputSelector
        selector.setCurrentNode(choose)
        assert layer.node is None
        assert not panel.ui.leastCertainButton.enabled
        panel.ui.thresholdSlider.value = 0.97
        selector.setCurrentNode(back)
        np.testing.assert_array_equal(panel.mask("left lung", volume), before)
        panel.waitFor(lambda: layer.node is not None)
        panel.ui.thresholdSlider.value = 0.5
    panel.ui.thresholdSlider.value = 0.97
    assert panel.mask("left lung", volume).sum() < before.sum()
    panel.ui.uncertaintyCheckBox.checked = False
    panel.ui.thresholdSlider.value = 0.5
