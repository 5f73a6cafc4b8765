"""The uncertainty layer in the real panel: entropy, switching on and off without a trace, the least certain slice."""

import numpy as np
import pytest
from scipy.special import entr


@pytest.fixture
def segmented(panel, chestCt):
    """Four slices, one result."""
    panel.type("left lung\nopacity")
    panel.segmentRange(40, 44)
    yield chestCt
    panel.ui.uncertaintyCheckBox.checked = False


def composites(panel):
    return panel.slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")


def volumes(panel):
    """Images in the scene, and how they are shown."""
    classes = ("vtkMRMLVolumeNode", "vtkMRMLScalarVolumeDisplayNode")
    return {node.GetID() for each in classes for node in panel.slicer.util.getNodesByClass(each)}


def test_the_layer_shows_the_entropy_of_the_last_result_and_leaves_no_trace(panel, segmented):
    from FastTextDiffSegmentLib.engine.SegmentationOutput import probabilityOf

    slicer, view = panel.slicer, panel.widget.results.uncertainty
    other = slicer.util.addVolumeFromArray(np.ones((2, 8, 8), np.int16), np.eye(4), "theirs")
    composites(panel)[0].SetForegroundVolumeID(other.GetID())
    composites(panel)[0].SetForegroundOpacity(0.25)
    nodes = volumes(panel)
    before = slicer.util.arrayFromVolume(segmented).copy(), [panel.mask(name, segmented) for name in panel.names]
    panel.ui.uncertaintySlider.value = 0.7
    panel.ui.uncertaintyCheckBox.checked = True
    panel.waitFor(lambda: view.node is not None)
    shown = slicer.util.arrayFromVolume(view.node)
    found = panel.widget.results.lastRun.output.findings
    probabilities = [probabilityOf(each) for each in found]
    bits = np.max([(entr(p) + entr(1 - p)) / np.log(2) for p in probabilities], axis=0)
    np.testing.assert_allclose(shown[40:44], bits, atol=1e-5)
    assert not np.delete(shown, slice(40, 44), axis=0).any()
    assert 0.5 < shown.max() <= 1
    assert {each.GetForegroundVolumeID() for each in composites(panel)} == {view.node.GetID()}
    assert {each.GetForegroundOpacity() for each in composites(panel)} == {0.7}
    assert not view.node.GetSaveWithScene()
    assert not view.node.GetDisplayNode().GetSaveWithScene()

    first = view.node.GetID()
    panel.ui.findingsTextEdit.setPlainText("right lung")
    panel.click("segmentSliceButton")
    panel.finishRun()
    index = panel.shownIndex
    panel.waitFor(lambda: slicer.util.arrayFromVolume(view.node)[index].any())
    assert not slicer.util.arrayFromVolume(view.node)[40:44].any()  # only the last result
    assert view.node.GetID() == first

    panel.ui.uncertaintyCheckBox.checked = False
    assert volumes(panel) == nodes
    assert composites(panel)[0].GetForegroundVolumeID() == other.GetID()
    assert composites(panel)[0].GetForegroundOpacity() == 0.25
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(segmented), before[0])
    for name, mask in zip(("left lung", "opacity"), before[1], strict=False):
        np.testing.assert_array_equal(panel.mask(name, segmented), mask)


def test_the_least_certain_slice_has_a_mask_and_the_view_jumps_there(panel, segmented):
    from FastTextDiffSegmentLib.contract.images import entropy

    from FastTextDiffSegmentLib.engine.SegmentationOutput import maskOf, probabilityOf

    run = panel.widget.results.lastRun
    bits = np.max([entropy(probabilityOf(found), np.log2) for found in run.output.findings], axis=0).mean(axis=(1, 2))
    marked = np.any([maskOf(found, run.threshold).any(axis=(1, 2)) for found in run.output.findings], axis=0)
    assert marked.any()
    expected = 40 + int(np.argmax(np.where(marked, bits, -1)))
    panel.ui.uncertaintyCollapsibleButton.collapsed = False
    panel.click("leastCertainButton")
    panel.waitFor(lambda: panel.message.startswith("Slice"))
    assert panel.shownIndex == expected
    assert panel.message.startswith(f"Slice {expected + 1} is the least certain one: {bits[expected - 40]:.3f} bits")
    view = panel.widget.results.uncertainty
    assert view.node is None  # it is shown only on request
    panel.ui.uncertaintyCheckBox.checked = True
    panel.waitFor(lambda: view.node is not None)
    panel.click("undoButton")
    assert view.node is None
    assert not panel.ui.leastCertainButton.enabled


def test_the_uncertainty_of_a_single_finding_can_be_shown(panel, segmented):
    from FastTextDiffSegmentLib.contract.images import entropy

    from FastTextDiffSegmentLib.engine.SegmentationOutput import probabilityOf

    box, view = panel.ui.uncertaintyFindingComboBox, panel.widget.results.uncertainty
    assert [box.itemText(n) for n in range(box.count)] == ["All findings", "left lung", "opacity"]
    panel.ui.uncertaintyCheckBox.checked = True
    panel.waitFor(lambda: view.node is not None)
    for index, found in enumerate(panel.widget.results.lastRun.output.findings, 1):
        box.setCurrentIndex(index)
        box.activated.emit(index)
        panel.finishJobs()
        shown = panel.slicer.util.arrayFromVolume(view.node)[40:44]
        np.testing.assert_allclose(shown, entropy(probabilityOf(found), np.log2), atol=1e-5)
