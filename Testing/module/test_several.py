"""Several images of the scene, and all items of a sequence, in one run with the real engine."""

import numpy as np
import pytest

slicer = pytest.importorskip("slicer")
pytest.importorskip("PySide6")
pytest.importorskip("slicerhost").start()

from module_panel import segmentNames  # noqa: E402
from scene_volumes import addVolume  # noqa: E402

pytestmark = pytest.mark.slicer


@pytest.fixture
def logic(panel):
    panel.ui.livePreviewCheckBox.checked = False
    return panel.widget.logic


def part(chestCt, slices, name, fill=None):
    """A few slices of the chest CT as a volume of its own."""
    from FastTextDiffSegmentLib.scene.Geometry import ijkToRas

    voxels = slicer.util.arrayFromVolume(chestCt)[slices].copy()
    if fill is not None:
        voxels[:] = fill
    matrix = ijkToRas(chestCt)
    matrix[:3, 3] += matrix[:3, 2] * slices.start
    return addVolume(matrix, voxels.shape, name=name, array=voxels)


def nodes():
    """Everything in the scene that a user could find, and the hidden nodes of ours."""
    scene = slicer.mrmlScene
    return sorted(scene.GetNthNode(n).GetID() for n in range(scene.GetNumberOfNodes()))


def mask(node, name, volume):
    segmentId = node.GetSegmentation().GetSegmentIdBySegmentName(name)
    return slicer.util.arrayFromSegmentBinaryLabelmap(node, segmentId, volume) > 0


@pytest.fixture
def two(logic, chestCt):
    return part(chestCt, slice(60, 62), "first"), part(chestCt, slice(64, 65), "second")


def test_two_images_get_segmentations_of_their_own(panel, logic, chestCt, two):
    reports = []
    results = logic.segmentImages(two, ["left lung"], progress=lambda *report: reports.append(report) or True)
    assert reports[-1] == (3, 3)
    for volume, result in zip(two, results, strict=True):
        assert result.segmentationNode.GetName() == f"{volume.GetName()} findings"
        (alone,) = logic.segment(volume, ["left lung"], other := logic.newSegmentation(volume))
        expected = mask(other, "left lung", volume)
        assert alone.found
        assert expected.any()
        np.testing.assert_array_equal(mask(result.segmentationNode, "left lung", volume), expected)
        slicer.mrmlScene.RemoveNode(other)
    again = logic.segmentImages(two, ["right lung"])
    assert [each.segmentationNode for each in again] == [each.segmentationNode for each in results]
    assert segmentNames(results[0].segmentationNode) == ["left lung", "right lung"]


def test_a_script_can_apply_the_editors_masking_to_several_images(logic, two):
    from FastTextDiffSegmentLib.scene.EditorMasking import Masking
    from FastTextDiffSegmentLib.scene.Geometry import SceneError

    editor = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")
    editor.SetOverwriteMode(editor.OverwriteNone)
    editor.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedInsideSingleSegment)
    editor.SetMaskSegmentID("of another image")
    before = nodes()
    with pytest.raises(SceneError, match="editable area is a segment that 'a new segmentation' does not have"):
        logic.segmentImages(two, ["left lung"], masking=Masking(editor))
    assert nodes() == before
    assert not logic.history.canUndo
    editor.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedEverywhere)
    editor.SourceVolumeIntensityMaskOn()
    editor.SetSourceVolumeIntensityMaskRange(-850, -700)
    for volume, result in zip(two, logic.segmentImages(two, ["left lung"], masking=Masking(editor)), strict=True):
        voxels = slicer.util.arrayFromVolume(volume)[mask(result.segmentationNode, "left lung", volume)]
        assert voxels.size
        assert -850 <= voxels.min() <= voxels.max() <= -700


def test_one_bad_image_among_several_is_named_and_nothing_is_written(logic, two):
    from FastTextDiffSegmentLib.scene.Geometry import SceneError

    before = nodes()
    with pytest.raises(SceneError, match=r"^second: Slices 2 to 2 are not in the image"):
        logic.segmentImages(two, ["left lung"], sliceRange=(1, 2))
    assert nodes() == before


def test_cancelling_in_the_second_image_leaves_no_trace(logic, chestCt, two):
    from FastTextDiffSegmentLib.engine.Jobs import JobCancelled

    long = two[0], part(chestCt, slice(20, 80), "long")  # so that much is left to do when it is cancelled
    before = nodes()
    with pytest.raises(JobCancelled):
        logic.segmentImages(long, ["left lung"], progress=lambda done, total: done < 3)
    assert nodes() == before
    assert not logic.history.canUndo
    assert not list(logic.session.folder.path.glob("output-*"))


def segmentBoth(panel, two):
    panel.choose(two[0])
    panel.type("left lung")
    panel.ui.scopeCollapsibleButton.collapsed = False
    box = panel.ui.imagesListWidget
    (row,) = [n for n in range(box.count) if box.item(n).text() == "second"]
    box.item(row).setCheckState(panel.qt.Qt.Checked)
    assert panel.ui.costLabel.text.startswith("3 slices")
    panel.click("segmentVolumeButton")
    panel.finishRun()


def test_ticked_images_are_segmented_with_the_chosen_one(panel, two):
    segmentBoth(panel, two)
    assert panel.message.startswith("2 images: 2 of 2 findings segmented")
    assert panel.segmentation.GetName() == "first findings"
    assert "left lung" in panel.ui.undoButton.text


def test_the_editors_masking_is_applied_to_all_images(panel, two):
    panel.ui.editorMaskingCheckBox.checked = True
    node = slicer.mrmlScene.GetSingletonNode("SegmentEditor", "vtkMRMLSegmentEditorNode")
    node.SourceVolumeIntensityMaskOn()
    node.SetSourceVolumeIntensityMaskRange(-850, -700)
    segmentBoth(panel, two)
    node.SourceVolumeIntensityMaskOff()
    for volume in two:
        (result,) = slicer.util.getNodes(f"{volume.GetName()} findings").values()
        voxels = slicer.util.arrayFromVolume(volume)[mask(result, "left lung", volume)]
        assert voxels.size
        assert -850 <= voxels.min() <= voxels.max() <= -700


# --- sequences --------------------------------------------------------------------------------------------------------


@pytest.fixture
def sequence(logic, chestCt):
    """Four items: two slices; missing; other geometry; a constant image of the first geometry."""
    images = [part(chestCt, slice(60, 62), "a"), None, part(chestCt, slice(64, 65), "b"), None]
    scans = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "scans")
    clock = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "clock")
    for value, image in enumerate(images):
        clock.SetDataNodeAtValue(slicer.vtkMRMLTextNode(), str(value))
        if image is not None:
            scans.SetDataNodeAtValue(image, str(value))
            slicer.mrmlScene.RemoveNode(image)
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode")
    browser.SetAndObserveMasterSequenceNodeID(clock.GetID())
    browser.AddSynchronizedSequenceNode(scans)
    slicer.modules.sequences.logic().UpdateAllProxyNodes()
    return browser, scans


def show(browser, number):
    browser.SetSelectedItemNumber(number)
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)


def test_all_items_are_segmented_whatever_is_shown_and_missing_ones_are_named(panel, logic, sequence):
    browser, scans = sequence
    show(browser, 2)
    volume = browser.GetProxyNode(scans)
    panel.choose(volume)
    panel.type("left lung")
    panel.ui.scopeCollapsibleButton.collapsed = False
    panel.ui.itemsCheckBox.checked = True
    panel.ui.editorMaskingCheckBox.checked = True
    assert not panel.ui.segmentVolumeButton.enabled
    assert "masking cannot be applied to all items" in panel.ui.segmentVolumeButton.toolTip
    panel.ui.editorMaskingCheckBox.checked = False
    voxels = [scans.GetDataNodeAtValue(value, True).GetImageData().GetMTime() for value in ("0", "2")]
    panel.click("segmentVolumeButton")
    panel.finishRun()
    assert panel.message.startswith("left lung on 2 items. without an image, so left out: item 2, 4")
    assert browser.GetSelectedItemNumber() == 2
    assert [scans.GetDataNodeAtValue(value, True).GetImageData().GetMTime() for value in ("0", "2")] == voxels
    shown = panel.segmentation
    for number, slices in ((2, 1), (0, 2)):
        show(browser, number)
        found = mask(shown, "left lung", volume)
        assert found.shape[0] == slices
        assert panel.tag("left lung", "FastTextDiff.SequenceItem") == str(number)
        output = logic.newSegmentation(volume)
        logic.segment(volume, ["left lung"], output)
        np.testing.assert_array_equal(found, mask(output, "left lung", volume))
    show(browser, 1)
    assert segmentNames(shown) == []
    hidden = [node for node in slicer.util.getNodesByClass("vtkMRMLVolumeNode") if node.GetHideFromEditors()]
    assert hidden == []


def test_cancelling_a_sequence_leaves_no_trace_and_the_browser_where_it_was(logic, sequence):
    from FastTextDiffSegmentLib.engine.Jobs import JobCancelled

    browser, scans = sequence
    show(browser, 2)
    before = nodes()
    with pytest.raises(JobCancelled):
        logic.segmentSequence(browser.GetProxyNode(scans), ["left lung"], progress=lambda done, total: False)
    assert nodes() == before
    assert browser.GetSelectedItemNumber() == 2
    assert browser.GetNumberOfSynchronizedSequenceNodes() == 1


def test_an_item_that_cannot_be_segmented_and_an_image_without_sequence_are_refused(logic, sequence, chestCt):
    from FastTextDiffSegmentLib.engine.EngineClient import EngineError
    from FastTextDiffSegmentLib.scene.Geometry import SceneError

    browser, scans = sequence
    before = nodes()
    with pytest.raises(SceneError, match="item 3: Slices 2 to 2 are not in the image"):
        logic.segmentSequence(browser.GetProxyNode(scans), ["left lung"], sliceRange=(1, 2))
    with pytest.raises(SceneError, match="belongs to no sequence"):
        logic.segmentSequence(chestCt, ["left lung"])
    blank = part(chestCt, slice(60, 61), "blank", fill=7)
    scans.SetDataNodeAtValue(blank, "3")
    slicer.mrmlScene.RemoveNode(blank)
    with pytest.raises(EngineError, match=r"item 4.*nothing to segment"):
        logic.segmentSequence(browser.GetProxyNode(scans), ["left lung"])
    assert nodes() == before
