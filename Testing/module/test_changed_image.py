"""Results of an image are not used once it shows something else, and edits made during a run are asked about."""

import numpy as np
import pytest

slicer = pytest.importorskip("slicer")
pytest.importorskip("PySide6")
pytest.importorskip("slicerhost").start()

from module_panel import segmentNames  # noqa: E402
from test_several import part  # noqa: E402

from FastTextDiffSegmentLib.scene.Geometry import SceneError  # noqa: E402

pytestmark = pytest.mark.slicer


@pytest.fixture
def volume(panel, chestCt):
    """Two slices with lungs."""
    return panel.open(part(chestCt, slice(60, 62), "two slices"))


def change(volume):
    """Another content, as a sequence shows when its browser moves, or a filter makes in place."""
    voxels = slicer.util.arrayFromVolume(volume)
    voxels[:] = np.roll(voxels, 3, axis=2)
    slicer.util.arrayFromVolumeModified(volume)


def edit(panel, name, volume, mask):
    segments = panel.segmentation.GetSegmentation()
    segmentId = segments.GetSegmentIdBySegmentName(name)
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask.astype(np.uint8), panel.segmentation, segmentId, volume)


def test_preview_threshold_and_measurements_of_a_former_content_are_dropped(panel, volume):
    ui = panel.ui
    panel.type("left lung")
    panel.click("segmentVolumeButton")
    panel.finishRun()
    found = panel.mask("left lung", volume)
    panel.click("measureButton")
    panel.waitFor(lambda: panel.widget.measurements.isCurrent)
    ui.findingsTextEdit.setPlainText("right lung")
    panel.waitForPreview()
    run, request = panel.widget.results.lastRun, panel.widget.preview.live.request
    change(volume)
    assert not panel.widget.preview.isShown
    assert panel.widget.results.lastRun is None
    assert not panel.widget.measurements.isCurrent
    with pytest.raises(SceneError, match="changed since it was segmented"):
        panel.widget.logic.write(run.output, request, panel.segmentation)
    panel.waitForPreview()  # asked anew
    assert (panel.mask("left lung", volume) == found).all()
    assert segmentNames(panel.segmentation) == ["left lung"]


def test_examples_of_an_image_that_changed_are_refused(panel, volume):
    from FastTextDiffSegmentLib.scene.Examples import absentExample, byVolume

    panel.ui.teachFindingLineEdit.text = "left lung"
    examples = panel.widget.teach.examples
    examples.add(absentExample(volume, 0))
    change(volume)
    words = "'two slices' was changed since slice 1 became an example"
    with pytest.raises(SceneError, match=words):
        examples.add(absentExample(volume, 1))
    with pytest.raises(SceneError, match=words):
        byVolume(examples.all)
    examples.clear()


def test_of_several_images_none_is_written_if_one_changed(panel, volume, chestCt):
    other = part(chestCt, slice(64, 65), "other")
    before = slicer.mrmlScene.GetNumberOfNodes()

    def progress(done, total):
        if done == total:
            change(volume)
        return True

    with pytest.raises(SceneError, match="nothing was written"):
        panel.widget.logic.segmentImages([volume, other], ["left lung"], progress=progress)
    assert slicer.mrmlScene.GetNumberOfNodes() == before


def test_edits_made_during_a_run_are_asked_about(panel, volume):
    panel.ui.livePreviewCheckBox.checked = False
    panel.type("left lung")
    panel.click("segmentVolumeButton")
    panel.finishRun()
    mine = panel.mask("left lung", volume)
    mine[0] = False
    panel.answers.yes, panel.answers.asked = False, []
    panel.click("segmentVolumeButton")
    edit(panel, "left lung", volume, mine)
    panel.finishRun()
    assert [text.partition(".")[0] for text in panel.answers.asked] == ["You edited left lung in the meantime"]
    assert panel.message == "Nothing was written."
    assert (panel.mask("left lung", volume) == mine).all()
    panel.answers.yes, panel.answers.asked = True, []
    panel.click("segmentVolumeButton")
    panel.finishRun()
    assert len(panel.answers.asked) == 1  # not again when it is written
    assert not (panel.mask("left lung", volume) == mine).all()


def test_a_result_that_cannot_be_written_fails_in_one_line(panel, volume):
    node = panel.widget.logic.newSegmentation(volume)
    node.GetSegmentation().SetSourceRepresentationName("Closed surface")
    panel.ui.outputSelector.setCurrentNode(node)
    panel.ui.livePreviewCheckBox.checked = False
    panel.type("left lung")
    panel.click("segmentVolumeButton")
    panel.finishRun()
    assert "consists of surfaces" in panel.message
    assert panel.ui.progressBar.format == "Failed"
    assert not panel.widget.results.control.lastRun
