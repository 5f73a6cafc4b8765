"""The module as users see it: the real panel in a window, real MRML, the real engine with the bundled weights."""

import itertools
import os
import signal
import subprocess
import sys
import unittest
from types import SimpleNamespace

import numpy as np
import pytest
from FastTextDiffSegmentLib.contract.answers import CheckedFinding
from module_panel import (
    CHEST_CT,
    MODULE,
    ROOT,
    SAMPLES,
    chestSeries,
    engineProcesses,
    hasEnded,
    inSliceOrder,
    loadedAsByTheDicomModule,
    packagesFrom,
    segmentNames,
)


@pytest.fixture(scope="session")
def directly():
    """The engine in its own process, as the command line runs it: (file, finding) -> mask."""

    def segment(path, finding, output):
        command = [
            sys.executable,
            "-m",
            "fasttextdiff",
            "segment",
            str(path),
            "-f",
            finding,
            "-o",
            str(output),
        ]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT / "engine")})
        import nibabel

        return np.asarray(nibabel.load(output).dataobj).transpose(2, 1, 0) > 0

    return segment


OPENED = """
import sys
sys.path.insert(0, sys.argv[1])
import slicerhost
host = slicerhost.start()
python, widget = host.loadModule(sys.argv[2])
host.runEventLoop(until=lambda: widget.logic.session.isOpen, timeout=90)
print("folded", widget.ui.setupCollapsibleButton.collapsed)
print("loaded", sorted({"torch", "transformers", "diffusers", "fasttextdiff"} & set(sys.modules)))
host.unloadModule("FastTextDiffSegment")
"""


def test_opening_the_panel_loads_neither_torch_nor_the_engine(host):
    command = [sys.executable, "-c", OPENED, str(ROOT / "Testing" / "host"), str(MODULE)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "folded True" in printed
    assert "loaded []" in printed


def test_typing_shows_a_preview_and_leaves_the_users_scene_alone(panel, chestCt, tmp_path):
    panel.type("left lung")
    panel.waitForPreview()
    assert segmentNames(panel.preview) == ["left lung"]  # neither listed nor saved
    assert panel.segmentation is None
    panel.click("dropButton")
    assert panel.preview is None
    assert not panel.ui.keepButton.visible


def test_a_kept_preview_becomes_a_segment_on_that_slice_only(panel, chestCt):
    panel.type("left lung")
    panel.waitForPreview()
    segmentId = panel.preview.GetSegmentation().GetNthSegmentID(0)
    shown = panel.slicer.util.arrayFromSegmentBinaryLabelmap(panel.preview, segmentId, chestCt) > 0
    assert set(np.nonzero(shown)[0]) == {panel.shownIndex}
    panel.click("keepButton")
    np.testing.assert_array_equal(panel.mask("left lung", chestCt), shown)
    assert panel.preview is None


def test_ctrl_enter_segments_the_shown_slice_and_ctrl_z_undoes_it(panel, chestCt):
    panel.type("left lung\nright lung")
    panel.key(panel.qt.Qt.Key_Return, panel.qt.Qt.ControlModifier)
    panel.finishRun()
    assert panel.names == ["left lung", "right lung"]
    left, right = (panel.mask(name, chestCt) for name in panel.names)
    assert left.any()
    assert right.any()
    # an axial slice in RAS with patient left towards lower i or higher i: the matrix decides
    i = [np.nonzero(mask)[2].mean() for mask in (left, right)]
    towardsLeft = -np.sign(slicerMatrix(panel, chestCt)[0, 0])
    assert (i[0] - i[1]) * towardsLeft > 0
    label = f"left lung, right lung, slice {panel.shownIndex + 1}"
    assert label in panel.ui.undoButton.toolTip
    window, control = panel.slicer.util.mainWindow(), panel.qt.Qt.ControlModifier
    panel.qt.QTest.keyClick(window, panel.qt.Qt.Key_Z, control)
    assert panel.names == []
    assert not panel.ui.undoButton.enabled
    assert panel.message == f"Undone: {label}"
    panel.qt.QTest.keyClick(window, panel.qt.Qt.Key_Y, control)
    assert panel.names == ["left lung", "right lung"]
    assert np.array_equal(panel.mask("left lung", chestCt), left)
    assert not panel.ui.redoButton.enabled


def slicerMatrix(panel, volume):
    from FastTextDiffSegmentLib.scene.Geometry import ijkToRas

    return ijkToRas(volume)


def test_only_what_is_not_segmented_yet_is_previewed(panel, chestCt):
    panel.type("left lung")
    panel.click("segmentSliceButton")
    panel.finishRun()
    panel.key(panel.qt.Qt.Key_Return)
    panel.type("right lung")
    panel.waitForPreview()
    assert segmentNames(panel.preview) == ["right lung"]
    panel.ui.findingsTextEdit.setPlainText("left lung\nright lung\nnuclei")
    panel.waitFor(lambda: panel.message == "Not taught: nuclei")
    assert segmentNames(panel.preview) == ["right lung"]
    panel.click("keepButton")
    assert panel.names == ["left lung", "right lung"]


def test_a_finding_of_the_history_is_added_as_a_line(panel, chestCt):
    panel.type("left lung")
    panel.click("segmentSliceButton")
    panel.finishRun()
    panel.ui.findingsTextEdit.setPlainText("right lung")
    box = panel.ui.historyComboBox
    for index in range(box.count):
        box.activated.emit(index)
    assert panel.lines == ["right lung", "left lung"]


def test_ctrl_z_in_the_text_box_undoes_typing_only(panel, chestCt):
    panel.type("left lung")
    panel.click("segmentSliceButton")
    panel.finishRun()
    panel.ui.findingsTextEdit.setFocus()
    panel.key(panel.qt.Qt.Key_Z, panel.qt.Qt.ControlModifier)
    assert panel.names == ["left lung"]
    assert panel.ui.findingsTextEdit.toPlainText() != "left lung"


def test_cancelling_a_volume_leaves_no_trace(panel, chestCt):
    before = [node.GetID() for node in panel.slicer.util.getNodesByClass("vtkMRMLSegmentationNode")]
    panel.type("left lung")
    panel.click("segmentVolumeButton")
    panel.waitFor(lambda: "/" in panel.ui.progressBar.text)
    assert not panel.ui.segmentVolumeButton.enabled
    panel.click("cancelButton")
    panel.finishRun()
    assert "nothing was changed" in panel.ui.progressBar.text
    after = [node.GetID() for node in panel.slicer.util.getNodesByClass("vtkMRMLSegmentationNode")]
    assert after == before
    assert not list(panel.widget.logic.session.folder.path.glob("output-*"))
    assert panel.ui.segmentVolumeButton.enabled


def test_a_second_run_is_refused_while_one_is_under_way(panel, chestCt):
    panel.type("left lung")
    panel.click("segmentVolumeButton")
    panel.key(panel.qt.Qt.Key_Return, panel.qt.Qt.ControlModifier)
    assert "under way" in panel.message
    panel.click("cancelButton")
    panel.finishRun()
    assert panel.segmentation is None


def test_a_killed_engine_is_reported_in_one_line_and_the_next_run_works(panel, chestCt):
    panel.type("left lung")
    panel.click("segmentVolumeButton")
    panel.waitFor(lambda: "/" in panel.ui.progressBar.text)
    (engine,) = engineProcesses("worker")
    os.kill(engine, signal.SIGKILL)
    panel.finishRun()
    assert "stopped unexpectedly" in panel.message
    assert "\n" not in panel.message
    assert panel.segmentation is None
    panel.waitFor(lambda: panel.ui.segmentSliceButton.enabled and panel.widget.logic.session.isOpen)
    panel.click("segmentSliceButton")
    panel.finishRun()
    assert panel.names == ["left lung"]


def test_an_engine_killed_while_idle_only_delays_the_next_run(panel, chestCt):
    panel.ui.livePreviewCheckBox.checked = False
    panel.type("left lung")
    panel.finishJobs()
    (engine,) = engineProcesses("worker")
    os.kill(engine, signal.SIGKILL)
    panel.waitFor(lambda: hasEnded(engine))
    panel.click("segmentSliceButton")
    panel.finishRun()
    assert panel.names == ["left lung"]


def test_an_image_removed_during_a_run_is_reported_and_nothing_is_written(panel, chestCt):
    panel.type("left lung")
    panel.click("segmentVolumeButton")
    panel.waitFor(lambda: "/" in panel.ui.progressBar.text)
    panel.slicer.mrmlScene.RemoveNode(chestCt)
    panel.click("cancelButton")
    panel.finishRun()
    assert panel.segmentation is None
    assert "Choose an image" in panel.ui.segmentSliceButton.toolTip


def test_an_image_removed_just_before_its_result_arrives_is_reported(panel, chestCt):
    panel.type("left lung")
    panel.click("segmentSliceButton")
    panel.slicer.mrmlScene.RemoveNode(chestCt)
    panel.finishRun()
    assert "removed" in panel.message or "no longer" in panel.message
    assert panel.segmentation is None


def test_an_image_is_not_sent_after_its_scene_was_closed(panel, host, monkeypatch):
    client, sent = panel.widget.logic.session.client, []
    send = client.send
    monkeypatch.setattr(client, "send", lambda request: sent.append(request.op) or send(request))
    panel.choose(panel.slicer.util.loadVolume(str(CHEST_CT)))
    assert panel.widget.logic.runner.timer.active
    host.closeScene()
    panel.finishJobs()
    assert "open_volume" not in sent
    assert not list(panel.widget.logic.session.folder.path.glob("volume-*"))


def test_closing_the_scene_during_a_run_ends_it(panel, host, chestCt):
    panel.type("left lung")
    panel.click("segmentVolumeButton")
    panel.waitFor(lambda: "/" in panel.ui.progressBar.text)
    host.closeScene()
    panel.finishRun()
    assert panel.slicer.util.getNodesByClass("vtkMRMLSegmentationNode") == []
    assert not list(panel.widget.logic.session.folder.path.glob("*-*"))


def test_other_segments_and_other_slices_are_not_changed(panel, chestCt):
    panel.type("left lung")
    panel.click("segmentSliceButton")
    panel.finishRun()
    segments = panel.segmentation.GetSegmentation()
    mine = segments.AddEmptySegment("mine", "mine")
    drawn = np.zeros(panel.slicer.util.arrayFromVolume(chestCt).shape, np.uint8)
    drawn[:, 40:60, 40:60] = 1
    panel.slicer.util.updateSegmentBinaryLabelmapFromArray(drawn, panel.segmentation, mine, chestCt)
    first = panel.mask("left lung", chestCt)
    node = panel.view
    node.SetSliceOffset(node.GetSliceOffset() + 15)
    panel.click("segmentSliceButton")
    panel.finishRun()
    both = panel.mask("left lung", chestCt)
    written = sorted(set(np.nonzero(both)[0]))
    assert len(written) == 2
    kept = int(np.nonzero(first)[0][0])
    np.testing.assert_array_equal(both[kept], first[kept])
    np.testing.assert_array_equal(panel.mask("mine", chestCt), drawn > 0)
    assert panel.tag("left lung", "FastTextDiff.Slices").count(":") == 2


def test_the_threshold_changes_the_last_result_at_once_but_not_edited_segments(panel, chestCt):
    panel.type("left lung")
    panel.click("segmentSliceButton")
    panel.finishRun()
    before = panel.mask("left lung", chestCt).sum()
    panel.ui.thresholdSlider.value = 0.9
    assert panel.mask("left lung", chestCt).sum() < before
    assert panel.tag("left lung", "FastTextDiff.Threshold") == "0.9"
    output = panel.mask("left lung", chestCt)
    edited = output.copy()
    edited[:, :40] = True
    segmentId = panel.segmentation.GetSegmentation().GetSegmentIdBySegmentName("left lung")
    panel.slicer.util.updateSegmentBinaryLabelmapFromArray(
        edited.astype(np.uint8), panel.segmentation, segmentId, chestCt
    )
    assert panel.tag("left lung", "DICOM.SegmentAlgorithmType") == "SEMIAUTOMATIC"
    panel.answers.yes = False
    panel.ui.thresholdSlider.value = 0.3
    assert any("You edited left lung" in question for question in panel.answers.asked)
    np.testing.assert_array_equal(panel.mask("left lung", chestCt), edited)
    panel.click("revertButton")
    np.testing.assert_array_equal(panel.mask("left lung", chestCt), edited)
    panel.click("segmentSliceButton")
    assert not panel.widget.run.isRunning
    np.testing.assert_array_equal(panel.mask("left lung", chestCt), edited)
    panel.answers.yes = True
    panel.click("revertButton")
    np.testing.assert_array_equal(panel.mask("left lung", chestCt), output)
    assert panel.tag("left lung", "DICOM.SegmentAlgorithmType") == "AUTOMATIC"
    assert not panel.ui.revertButton.enabled
    panel.click("undoButton")
    np.testing.assert_array_equal(panel.mask("left lung", chestCt), edited)
    assert panel.tag("left lung", "DICOM.SegmentAlgorithmType") == "SEMIAUTOMATIC"
    panel.click("undoButton")
    edited &= ~output  # strokes outside the result stay
    np.testing.assert_array_equal(panel.mask("left lung", chestCt), edited)


def test_every_segment_records_its_provenance(panel, chestCt):
    finding = (
        "consolidation | 50 % in the lower lobe of the left lung, with Ödem and a very long further description of it"
    )
    panel.ui.findingsTextEdit.setPlainText(finding)
    panel.click("segmentSliceButton")
    panel.finishRun()
    if not panel.names:
        pytest.skip("the model found nothing to be named")
    name = panel.names[0]
    assert len(name) <= 64
    from urllib.parse import unquote

    assert "|" not in panel.tag(name, "FastTextDiff.Finding")
    assert unquote(panel.tag(name, "FastTextDiff.Finding")) == finding
    for tag in ("Model", "WeightsSha256", "Software", "Seed", "Samples", "Timesteps", "Window", "Threshold", "Device"):
        assert panel.tag(name, f"FastTextDiff.{tag}"), tag
    assert panel.tag(name, "DICOM.SegmentAlgorithmType") == "AUTOMATIC"
    assert panel.tag(name, "DICOM.SegmentAlgorithmName").startswith("FastTextDiff")
    assert "Tissue" not in panel.tag(name, "TerminologyEntry")


def test_a_finding_the_model_was_not_trained_on_is_marked_before_running(panel, chestCt):
    panel.type("gallbladder")
    panel.waitFor(lambda: panel.ui.findingsTable.visible)
    assert panel.ui.findingsTable.item(0, 1).text() == "not trained on this"
    panel.ui.findingsTextEdit.setPlainText("left lung")
    panel.waitFor(lambda: not panel.ui.findingsTable.visible)
    assert not panel.ui.findingsCheckLabel.visible


def test_a_finding_that_was_not_taught_is_left_empty_until_it_is_tried_anyway(panel, chestCt):
    panel.type("gallbladder")
    panel.click("segmentSliceButton")
    panel.finishRun()
    assert panel.message.startswith("0 of 1 findings segmented")
    assert "was not taught for ct" in panel.message
    assert "left empty" in panel.message
    assert "not found" not in panel.message
    assert panel.names == []
    panel.ui.tryAnywayCheckBox.checked = True
    panel.click("segmentSliceButton")
    panel.finishRun()
    assert "a guess" in panel.message
    for name in panel.names:
        assert "was not taught" in panel.tag(name, "FastTextDiff.Untaught")


def test_a_finding_that_is_weakly_known_is_marked_and_the_box_says_how_well_each_is_known(panel):
    panel.type("liver\nspleen")
    panel.finishJobs()
    spleen = CheckedFinding("spleen", "", "spleen on ct: Dice 0.31 (n 4); weak", True)
    panel.widget.findings.box.setChecked(
        {"liver": CheckedFinding("liver", "", "liver on ct: Dice 0.91 (n 8)"), "spleen": spleen}
    )
    table = panel.ui.findingsTable
    assert (table.rowCount, table.item(0, 0).text(), table.item(0, 1).text()) == (1, "spleen", "weak")
    assert table.item(0, 1).toolTip() == spleen.quality
    assert str(panel.ui.findingsTextEdit.toolTip).splitlines() == ["liver on ct: Dice 0.91 (n 8)", spleen.quality]


def test_the_box_completes_taught_terms(panel, chestCt):
    panel.type("ground")
    popup = panel.qt.QApplication.activePopupWidget()
    offered = [popup.model().index(row, 0).data() for row in range(popup.model().rowCount())]
    panel.qt.QTest.keyClick(popup, panel.qt.Qt.Key_Down)
    panel.qt.QTest.keyClick(popup, panel.qt.Qt.Key_Return)
    assert panel.lines[0].startswith("ground")
    assert panel.lines == offered[:1]


def test_a_pasted_report_becomes_one_line_per_sentence_with_negations_unticked(panel):
    report = "FINDINGS: Ground-glass opacity in the left lung. No pleural effusion. Heart size is normal."
    panel.qt.QApplication.clipboard().setText(report)
    panel.ui.findingsTextEdit.setFocus()
    panel.ui.findingsTextEdit.paste()
    assert panel.lines == ["Ground-glass opacity in the left lung", "No pleural effusion", "Heart size is normal"]
    box = panel.widget.findings.box
    assert not any("pleural effusion" in line for line in box.findings)
    table = panel.ui.findingsTable
    row = next(n for n in range(table.rowCount) if "pleural effusion" in table.item(n, 0).text())
    assert table.item(row, 1).text() == "not segmented"
    table.item(row, 0).setCheckState(panel.qt.Qt.Checked)
    assert any("pleural effusion" in line for line in box.findings)
    panel.finishJobs()
    assert not any(table.item(n, 1).text() == "not segmented" for n in range(table.rowCount))


def test_a_report_pasted_among_typed_findings_does_not_change_them(panel):
    panel.type("left lung\nright lung\n")
    panel.qt.QApplication.clipboard().setText("Nodule in the right apex. No pleural effusion.")
    panel.ui.findingsTextEdit.paste()
    expected = ["left lung", "right lung", "Nodule in the right apex", "No pleural effusion"]
    assert panel.lines == expected


def test_pasting_a_report_and_adding_from_the_history_are_one_undo_step_each(panel):
    report = "FINDINGS: Ground-glass opacity in the left lung. No pleural effusion."
    panel.type("nodule\n")
    panel.qt.QApplication.clipboard().setText(report)
    panel.ui.findingsTextEdit.paste()
    assert panel.lines == ["nodule", "Ground-glass opacity in the left lung", "No pleural effusion"]
    panel.key(panel.qt.Qt.Key_Z, panel.qt.Qt.ControlModifier)
    assert panel.lines == ["nodule", ""]
    panel.widget.findings.box.add("mass")
    assert panel.lines == ["nodule", "mass"]
    assert panel.widget.logic.getParameterNode().findings == "nodule\nmass"
    panel.key(panel.qt.Qt.Key_Z, panel.qt.Qt.ControlModifier)
    assert panel.lines == ["nodule", ""]


def test_a_view_across_the_slices_can_be_rotated(panel, chestCt):
    panel.type("left lung")
    panel.ui.viewSelector.setCurrentNode(panel.slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNodeYellow"))
    assert not panel.ui.segmentSliceButton.enabled
    assert "rotate" in panel.ui.segmentSliceButton.toolTip
    panel.click("rotateViewButton")
    assert not panel.ui.rotateViewButton.visible
    panel.click("segmentSliceButton")
    panel.finishRun()
    assert panel.names == ["left lung"]


def test_a_non_linear_transform_is_reported_and_nothing_is_written(panel, chestCt):
    transform = panel.slicer.mrmlScene.AddNewNodeByClass("vtkMRMLBSplineTransformNode")
    chestCt.SetAndObserveTransformNodeID(transform.GetID())
    panel.type("left lung")
    assert not panel.ui.segmentVolumeButton.enabled
    assert "non-linear" in panel.ui.segmentVolumeButton.toolTip
    chestCt.SetAndObserveTransformNodeID(None)


def test_the_window_of_the_model_is_applied_only_on_request(panel, chestCt):
    display = chestCt.GetDisplayNode()
    display.SetAutoWindowLevel(False)
    display.SetWindowLevel(80, 40)
    panel.type("left lung")
    panel.click("segmentSliceButton")
    panel.finishRun()
    assert (display.GetLevel(), display.GetWindow()) == (40, 80)
    assert panel.tag("left lung", "FastTextDiff.Window") == "-400.0 1200.0"
    panel.ui.advancedCollapsibleButton.collapsed = False
    panel.click("windowButton")
    assert (display.GetLevel(), display.GetWindow()) == (-400, 1200)


def test_a_picture_gets_an_area_and_its_own_view(panel):
    from PIL import Image

    picture = np.asarray(Image.open(SAMPLES / "histology" / "4d14a3629b6af6de.png").convert("RGB"))
    volume = panel.slicer.util.addVolumeFromArray(
        picture[np.newaxis], np.diag([-1.0, -1, 1, 1]), "tile", "vtkMRMLVectorVolumeNode"
    )
    volume.CreateDefaultDisplayNodes()
    panel.open(volume)
    assert panel.kind == "Histology"
    panel.click("oneViewButton")
    panel.type("nuclei")
    panel.click("segmentSliceButton")
    panel.finishRun()
    assert panel.names == ["nuclei"]
    assert "pixels" in panel.ui.resultsTable.item(0, 1).text()
    assert not panel.ui.windowButton.enabled


def test_bad_images_are_refused_in_one_line(panel):
    np.random.seed(0)
    noise = np.random.default_rng(0).normal(size=(3, 32, 32)).astype(np.float32)
    noise[1, 4, 5] = np.nan
    panel.type("left lung")
    for array, nodeClass, expected in (
        (noise, "vtkMRMLScalarVolumeNode", "NaN"),
        (np.zeros((2, 32, 32, 5), np.uint8), "vtkMRMLVectorVolumeNode", "5 values"),
        (np.zeros((2, 32, 32), np.int16), "vtkMRMLScalarVolumeNode", "nothing to segment"),
        (np.arange(48, dtype=np.int16).reshape(3, 4, 4), "vtkMRMLScalarVolumeNode", "too small"),
    ):
        volume = panel.slicer.util.addVolumeFromArray(array, np.eye(4), "bad", nodeClass)
        panel.choose(volume)
        if panel.ui.segmentVolumeButton.enabled:
            panel.click("segmentVolumeButton")
            panel.finishRun()
            message = panel.message
        else:
            message = panel.ui.segmentVolumeButton.toolTip
        assert expected in message, message
        assert "\n" not in message
        assert panel.segmentation is None
        panel.slicer.mrmlScene.RemoveNode(volume)


def test_an_image_without_voxels_or_no_image_is_refused(panel):
    panel.type("left lung")
    assert "Choose an image" in panel.ui.segmentVolumeButton.toolTip
    panel.choose(panel.slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty"))
    assert "no voxels" in panel.ui.segmentVolumeButton.toolTip


def test_writing_to_another_images_segmentation_asks_and_never_shifts(panel, chestCt):
    other = panel.slicer.util.addVolumeFromArray(np.ones((4, 20, 20), np.int16), np.diag([3.0, 3, 3, 1]), "other")
    segmentation = panel.widget.logic.newSegmentation(other)
    segmentation.GetSegmentation().AddEmptySegment("theirs", "theirs")
    panel.ui.outputSelector.setCurrentNode(segmentation)
    panel.type("left lung")
    panel.answers.yes = False
    panel.click("segmentSliceButton")
    panel.finishRun()
    assert any("another image" in question for question in panel.answers.asked)
    assert panel.names == ["theirs"]


def test_the_history_is_in_the_scene_and_never_in_the_settings(panel, chestCt):
    panel.type("left lung")
    panel.click("segmentSliceButton")
    panel.finishRun()
    box = panel.ui.historyComboBox
    assert [box.itemText(row) for row in range(1, box.count)] == ["left lung"]
    settings = panel.qt.QSettings()
    assert not any("lung" in str(settings.value(key)) for key in settings.allKeys())


def test_a_saved_scene_keeps_segments_tags_and_findings(panel, host, chestCt, tmp_path):
    panel.type("left lung\nÖdem | links")
    panel.click("segmentSliceButton")
    panel.finishRun()
    before, text = panel.mask("left lung", chestCt), panel.ui.findingsTextEdit.toPlainText()
    assert panel.slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    host.closeScene()
    assert panel.ui.findingsTextEdit.toPlainText() == ""
    panel.slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    assert panel.ui.findingsTextEdit.toPlainText() == text
    volume = panel.slicer.util.getNode("chest_ct_cropped")
    np.testing.assert_array_equal(panel.mask("left lung", volume), before)
    assert panel.tag("left lung", "FastTextDiff.WeightsSha256")
    assert panel.ui.resultsTable.rowCount >= 1
    panel.waitFor(lambda: panel.ui.segmentSliceButton.enabled)
    panel.click("segmentSliceButton")
    panel.finishRun()
    assert panel.names.count("left lung") == 1


def test_surfaces_are_made_only_on_request_and_follow_the_segment(host, panel, chestCt):
    panel.type("left lung")
    panel.click("segmentSliceButton")
    panel.finishRun()
    segments = panel.segmentation.GetSegmentation()
    assert not segments.ContainsRepresentation("Closed surface")
    panel.click("show3DButton")
    assert segments.ContainsRepresentation("Closed surface")
    panel.ui.thresholdSlider.value = 0.8
    assert segments.ContainsRepresentation("Closed surface")
    assert panel.ui.show3DButton.checked
    panel.click("show3DButton")
    assert not segments.ContainsRepresentation("Closed surface")
    panel.click("show3DButton")
    host.closeScene()
    assert not panel.ui.show3DButton.checked


def test_edit_opens_the_segment_editor_on_this_segment_and_image(panel, chestCt):
    panel.type("left lung")
    panel.click("segmentSliceButton")
    panel.finishRun()
    segmentation = panel.segmentation
    panel.click("editButton")
    assert panel.slicer.util.selectedModule() == "SegmentEditor"
    editor = panel.slicer.modules.segmenteditor.widgetRepresentation().self().editor
    assert editor.segmentationNode() is segmentation
    assert editor.sourceVolumeNode() is chestCt
    assert editor.currentSegmentID() == segmentation.GetSegmentation().GetNthSegmentID(0)


def test_save_writes_files_that_slicer_reads(panel, chestCt, tmp_path):
    panel.type("left lung")
    panel.click("segmentSliceButton")
    panel.finishRun()
    panel.answers.fileName = str(tmp_path / "lung.seg.nrrd")
    panel.click("saveButton")
    assert "lung.seg.nrrd" in panel.message
    loaded = panel.slicer.util.loadSegmentation(str(tmp_path / "lung.seg.nrrd"))
    segmentId = loaded.GetSegmentation().GetNthSegmentID(0)
    mask = panel.slicer.util.arrayFromSegmentBinaryLabelmap(loaded, segmentId, chestCt) > 0
    np.testing.assert_array_equal(mask, panel.mask("left lung", chestCt))


def test_the_licence_must_be_accepted_once(panel, chestCt):
    panel.type("left lung")
    panel.ui.licenceCheckBox.click()
    assert not panel.widget.setupSection.isLicenceAccepted
    panel.answers.yes = False
    panel.click("segmentSliceButton")
    assert "licence" in panel.message
    assert panel.segmentation is None
    panel.answers.yes = True
    panel.click("segmentSliceButton")
    panel.finishRun()
    assert panel.names == ["left lung"]
    panel.answers.asked.clear()
    panel.click("segmentSliceButton")
    panel.finishRun()
    assert panel.answers.asked == []


@pytest.mark.parametrize("way", ["button", "delete"])
def test_a_broken_model_folder_is_reported_and_can_be_reset(panel, chestCt, tmp_path, way):
    (tmp_path / "model_index.json").write_text("{")
    panel.ui.modelPathLineEdit.currentPath = str(tmp_path)
    panel.waitFor(lambda: "model_index.json" in panel.message)
    assert "\n" not in panel.message
    assert "model_index.json" in panel.ui.setupLabel.text
    assert "cannot be used" in panel.ui.setupCollapsibleButton.text
    assert not panel.ui.segmentSliceButton.enabled
    if way == "button":
        panel.click("bundledModelButton")
    else:
        line = panel.slicer.util.findChildren(panel.ui.modelPathLineEdit, className="QLineEdit")[0]
        line.selectAll()
        panel.qt.QTest.keyClick(line, panel.qt.Qt.Key_Delete)
        panel.qt.QTest.keyClick(line, panel.qt.Qt.Key_Return)
    assert panel.widget.settings.modelFolder == ""
    panel.waitFor(lambda: panel.widget.logic.session.isOpen)
    assert not panel.ui.bundledModelButton.enabled
    panel.type("left lung")
    panel.waitFor(lambda: panel.ui.segmentSliceButton.enabled)
    panel.click("segmentSliceButton")
    panel.finishRun()
    assert panel.names == ["left lung"]


def test_a_model_folder_is_checked_only_when_typing_has_ended(panel, tmp_path):
    line = panel.slicer.util.findChildren(panel.ui.modelPathLineEdit, className="QLineEdit")[0]
    panel.ui.setupCollapsibleButton.collapsed = False
    panel.qt.QTest.keyClicks(line, str(tmp_path / "none"))
    assert panel.widget.settings.modelFolder == ""
    assert panel.widget.logic.session.isOpen
    panel.qt.QTest.keyClick(line, panel.qt.Qt.Key_Return)
    assert panel.widget.settings.modelFolder == str(tmp_path / "none")
    panel.click("bundledModelButton")
    panel.waitFor(lambda: panel.widget.logic.session.isOpen)


def test_the_self_test_runs_by_reload_and_test(panel):
    from FastTextDiffSegmentLib import SelfTest

    ran = []
    SelfTest.FastTextDiffSegmentTest.delayDisplay = lambda self, text: ran.append(text)
    try:
        panel.slicer.modules.fasttextdiffsegment.selfTest()
    finally:
        del SelfTest.FastTextDiffSegmentTest.delayDisplay
    assert len(ran) == 2
    assert not any("Not run" in text for text in ran)


def slicersTestRunner():
    """Like slicer_add_python_unittest: unittest's loader and runner, on the module by its name."""
    suite = unittest.defaultTestLoader.loadTestsFromName("FastTextDiffSegment")
    return suite.run(unittest.TestResult())


def test_the_self_test_runs_as_a_ctest(panel):
    result = slicersTestRunner()
    assert result.testsRun == 2
    assert result.wasSuccessful(), result.errors + result.failures
    assert not result.skipped


def test_the_self_test_is_skipped_where_packages_are_missing(panel, brokenRuntime):
    result = slicersTestRunner()
    assert result.wasSuccessful()
    assert len(result.skipped) == 2
    assert all("openvino" in reason for _test, reason in result.skipped)
    panel.slicer.modules.fasttextdiffsegment.selfTest()


CLOSED = """
import sys
sys.path[:0] = [sys.argv[1], sys.argv[4]]
import slicerhost
from module_panel import engineProcesses
host = slicerhost.start()
_python, widget = host.loadModule(sys.argv[2])
host.runEventLoop(until=lambda: widget.logic.session.isOpen, timeout=90)
widget.ui.inputSelector.setCurrentNode(host.slicer.util.loadVolume(sys.argv[3]))
widget.setupSection.acceptLicence()
widget.ui.findingsTextEdit.setPlainText("left lung")
host.runEventLoop(until=lambda: widget.ui.segmentVolumeButton.enabled, timeout=60)
widget.ui.segmentVolumeButton.click()
host.runEventLoop(until=lambda: "/" in widget.ui.progressBar.text, timeout=60)
before, folder = engineProcesses("worker"), widget.logic.session.folder.path
host.unloadModule("FastTextDiffSegment")
print("engines", len(before), len(engineProcesses("worker")))
print("folder gone", not folder.exists())
"""


def test_closing_slicer_during_a_run_ends_the_engine_and_leaves_no_patient_data(host):
    folders = [str(ROOT / "Testing" / name) for name in ("host", "module")]
    command = [sys.executable, "-c", CLOSED, folders[0], str(MODULE), str(CHEST_CT), folders[1]]
    ended = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "engines 1 0" in ended.stdout
    assert "folder gone True" in ended.stdout


@pytest.fixture
def brokenRuntime(panel, monkeypatch, tmp_path):
    """Packages that are installed but cannot be imported, as after an interrupted installation."""
    for name in ("openvino", "torch"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise OSError('lib.so: cannot open shared object file')")
    with packagesFrom(panel, monkeypatch, tmp_path):
        yield
    panel.waitFor(lambda: panel.widget.logic.session.isOpen)


def test_a_half_installed_package_is_named_and_reinstalled_only_with_consent(host, panel, brokenRuntime):
    panel.waitFor(lambda: panel.widget.setupSection.missing)
    assert not panel.ui.setupCollapsibleButton.collapsed
    assert "openvino" in panel.ui.setupLabel.text
    panel.type("left lung")
    assert "packages are missing" in panel.ui.segmentSliceButton.toolTip
    host.setTestingEnabled(False)
    questions = []

    def decline():
        box = next(w for w in host.slicer.app.topLevelWidgets() if w.className() == "ctkMessageBox" and w.visible)
        questions.append(box.text)
        box.button(panel.qt.QMessageBox.No).click()

    panel.qt.QTimer.singleShot(50, decline)
    host.call(panel.ui.installButton.click)
    assert "openvino" in questions[0]
    assert "Continue?" in questions[0]


def test_a_failed_installation_says_what_to_do_and_checking_again_is_not_misleading(panel, brokenRuntime, monkeypatch):
    panel.waitFor(lambda: panel.widget.setupSection.missing)
    panel.click("checkSetupButton")
    assert panel.message == "The engine is starting..."
    panel.waitFor(lambda: panel.widget.setupSection.missing)
    assert "missing" in panel.ui.setupCollapsibleButton.text
    assert panel.message.startswith("Python packages are missing")
    monkeypatch.setattr(panel.slicer.util, "confirmYesNoDisplay", lambda text, **options: True)

    def fail(*_requirements, **_options):
        raise RuntimeError("ERROR: [Errno 28] No space left on device")

    monkeypatch.setattr(panel.slicer, "packaging", SimpleNamespace(pip_install=fail), raising=False)
    panel.click("installButton")
    panel.waitFor(lambda: panel.widget.setupSection.missing)
    for text in (panel.message, panel.ui.setupLabel.text):
        assert "the disk is full" in text
        assert "Internal error" not in text


RELOADED = """
import gc, sys
NAME = "FastTextDiffSegment"
sys.path.insert(0, sys.argv[1])
import slicerhost
host = slicerhost.start()
host.loadModule(sys.argv[2])
node = host.slicer.modules.FastTextDiffSegmentWidget.logic.getParameterNode().parameterNode.GetID()
for act, *names in ((host.reloadModule, NAME), (host.closeScene,), (host.unloadModule, NAME)):
    act(*names)
    gc.collect()
    host.slicer.mrmlScene.GetNodeByID(node).Modified()
print("alive")
"""


def test_reloading_closing_and_unloading_leave_no_observer_that_crashes(host):
    command = [sys.executable, "-c", RELOADED, str(ROOT / "Testing" / "host"), str(MODULE)]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "alive" in ended.stdout


def test_a_reloaded_module_works_with_existing_segments(host, panel, chestCt):
    panel.type("left lung")
    panel.click("segmentSliceButton")
    panel.finishRun()
    segmentation = panel.segmentation
    (before,) = engineProcesses("worker")
    _python, widget = host.reloadModule("FastTextDiffSegment")
    assert before not in engineProcesses("worker")
    assert widget.ui.resultsTable.rowCount == 1
    assert widget.ui.outputSelector.currentNode() is segmentation


def test_a_dicom_series_gives_the_same_mask_through_panel_and_command_line(panel, directly, tmp_path):
    series = chestSeries(tmp_path / "series", range(60, 66))
    volume = panel.open(loadedAsByTheDicomModule(panel.slicer, inSliceOrder(series)))
    assert panel.kind == "CT"
    panel.type("left lung")
    panel.click("segmentVolumeButton")
    panel.finishRun()
    expected = directly(series, "left lung", tmp_path / "cli.nii.gz")
    assert expected.any()
    np.testing.assert_array_equal(panel.mask("left lung", volume), expected)


def test_an_inverted_x_ray_gives_the_same_mask_through_panel_and_command_line(panel, directly, tmp_path):
    from PIL import Image

    dicom_files = pytest.importorskip("dicom_files", reason="runs with the engine's tests on the path")
    film = 255 - np.asarray(Image.open(SAMPLES / "cxr_hannover" / "1d40779e.png").convert("L").resize((300, 280)))
    unplaced = dict.fromkeys(("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"))
    path = dicom_files.write_slice(
        tmp_path / "film.dcm", film, Modality="DX", PhotometricInterpretation="MONOCHROME1", **unplaced
    )
    volume = panel.open(loadedAsByTheDicomModule(panel.slicer, [path]))
    assert panel.kind == "X-ray"
    assert panel.ui.oneViewButton.visible  # it is planar
    panel.type("right lung")
    panel.click("segmentSliceButton")
    panel.finishRun()
    expected = directly(path, "right lung", tmp_path / "cli.nii.gz")
    assert expected.any()
    np.testing.assert_array_equal(panel.mask("right lung", volume), expected)


def test_each_slice_on_its_own_holds_for_runs_and_new_batches(panel, chestCt, monkeypatch):
    from FastTextDiffSegmentLib.panels.BatchLink import BatchLink
    from FastTextDiffSegmentLib.scene.Geometry import SceneError

    asked = []

    def steps(request, *_):
        asked.append(request.sliceBySlice)
        raise SceneError("enough is known")
        yield

    monkeypatch.setattr(panel.widget.logic, "segmentationSteps", steps)
    panel.type("left lung")
    for isTicked in (False, True):
        panel.ui.sliceBySliceCheckBox.checked = isTicked
        panel.click("segmentVolumeButton")
        panel.finishRun()
        assert asked[-1] == isTicked
    widget = panel.widget
    link = BatchLink(widget.context, widget.setupSection, widget.settings, widget.findings, widget.run)
    assert link.hooks().options()["slice_by_slice"] is True


def test_a_script_segments_without_the_panel_and_can_cancel(panel, chestCt):
    from FastTextDiffSegment import FastTextDiffSegmentLogic
    from FastTextDiffSegmentLib.engine.Jobs import JobCancelled
    from FastTextDiffSegmentLib.scene.Geometry import SceneError
    from FastTextDiffSegmentLib.scene.SegmentWriter import tagOf

    logic = FastTextDiffSegmentLogic()
    folder = logic.session.folder.path
    progress = []
    found = logic.segment(
        chestCt, ["left lung", "left lung"], sliceRange=(60, 62), progress=lambda *at: progress.append(at) or True
    )
    assert [each.finding for each in found] == ["left lung"]
    assert found[0].found
    assert progress[-1] == (2, 2)
    node = panel.slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSegmentationNode")
    mask = panel.slicer.util.arrayFromSegmentBinaryLabelmap(node, found[0].segmentId, chestCt)
    assert set(np.nonzero(mask)[0]) == {60, 61}
    with pytest.raises(JobCancelled):
        logic.segment(chestCt, ["right lung"], node, progress=lambda done, total: False)
    assert node.GetSegmentation().GetNumberOfSegments() == 1
    for wrong in ((None, ["left lung"]), (chestCt, []), (chestCt, ["  "])):
        with pytest.raises(SceneError):
            logic.segment(*wrong)
    for isAlone, tag in ((False, "smoothed by 3 mm; largest part"), (True, "slice by slice")):
        [found] = logic.segment(chestCt, ["left lung"], node, sliceRange=(60, 62), sliceBySlice=isAlone)
        assert tagOf(node.GetSegmentation().GetSegment(found.segmentId), "FastTextDiff.Consistency").startswith(tag)
    logic.close()
    assert not folder.exists()


def test_the_panel_works_without_a_main_window(host, panel, chestCt):
    with host.withoutWindow():
        panel.widget.exit()
        panel.widget.enter()
        panel.ui.findingsTextEdit.setPlainText("left lung")
        panel.ui.segmentSliceButton.click()
        panel.finishRun()
        assert panel.names == ["left lung"]
        assert not panel.ui.oneViewButton.visible


def test_the_current_sequence_item_is_segmented_and_recorded(panel, chestCt):
    slicer = panel.slicer
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "frames")
    for value in ("0", "1"):
        sequence.SetDataNodeAtValue(chestCt, value)
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    slicer.modules.sequences.logic().UpdateAllProxyNodes()
    browser.SetSelectedItemNumber(1)
    proxy = browser.GetProxyNode(sequence)
    panel.open(proxy)
    panel.type("left lung")
    panel.click("segmentSliceButton")
    panel.finishRun()
    assert panel.tag("left lung", "FastTextDiff.SequenceItem") == "1"


def test_everything_needed_for_a_result_fits_on_a_small_screen(panel, chestCt):
    # at 1366 x 768 some 470 pixels of a module's panel are seen in Slicer, below its help and above its data probe
    panel.type("left lung\nright lung")
    panel.click("segmentSliceButton")
    panel.finishRun()
    panel.ui.findingsTextEdit.append("opacity\ngallbladder")
    panel.waitFor(lambda: panel.ui.keepButton.visible and panel.ui.findingsTable.visible)
    whole = panel.ui.setupCollapsibleButton.parentWidget()
    assert whole.minimumSizeHint.width() < 390
    names = ("segmentSliceButton", "messageLabel", "keepButton", "thresholdSlider", "undoButton", "saveButton")
    widgets = {name: getattr(panel.ui, name) for name in names}

    def outside():
        whole.resize(390, whole.minimumSizeHint.height())  # anew each time: the preview still changes what is shown
        bottoms = {name: each.mapTo(whole, panel.qt.QPoint(0, each.height)).y() for name, each in widgets.items()}
        return {name: bottom for name, bottom in bottoms.items() if not 0 < bottom <= 470}

    panel.host.runEventLoop(until=lambda: not outside(), timeout=60)
    parts = vars(panel.ui).items()
    heights = {name: part.height for name, part in parts if getattr(part, "visible", False) and hasattr(part, "mapTo")}
    assert outside() == {}, heights


def test_disabled_buttons_say_why_and_ready_means_ready(panel):
    assert panel.message == "Choose an image."
    assert panel.ui.progressBar.text != "Ready"
    panel.open(panel.slicer.util.loadVolume(str(CHEST_CT)))
    assert panel.message == "Type a finding, one per line."
    panel.type("left lung")
    assert panel.ui.progressBar.text == "Ready"
    panel.ui.licenceCheckBox.click()
    assert "live preview starts once you accept the licence" in panel.message
    panel.ui.licenceCheckBox.click()
    assert "licence" not in panel.message
    panel.widget.setupSection.checkAgain()
    assert panel.message == "The engine is starting..."
    assert panel.ui.progressBar.text != "Ready"
    assert "Ready" not in panel.ui.setupCollapsibleButton.text
    assert "nothing to undo" in panel.ui.undoButton.toolTip
    panel.waitFor(lambda: panel.widget.logic.session.isOpen)


def test_guesses_about_the_image_and_the_slices_of_an_amount_are_shown(panel, chestCt):
    from FastTextDiffSegmentLib.scene.Geometry import shownSlice

    assert panel.ui.modalityComboBox.itemText(0) == "Automatic: CT"
    assert panel.ui.sliceLabel.text == f"axial {shownSlice(chestCt, panel.view).index + 1} of 112"
    panel.type("left lung")
    panel.click("segmentSliceButton")
    panel.finishRun()
    assert panel.ui.resultsTable.item(0, 1).text().endswith(" ml on 1 of 112 slices")
    assert panel.ui.resultsTable.item(0, 2).text() == "> 99 %"


def test_neighbouring_segments_have_distinct_colours(panel, chestCt):
    from FastTextDiffSegmentLib.contract.colors import color_distance

    for finding in ("left lung", "right lung", "heart", "opacity"):  # one by one: the engine knows only one of them
        panel.ui.findingsTextEdit.setPlainText(finding)
        panel.click("segmentSliceButton")
        panel.finishRun()
    segments = panel.segmentation.GetSegmentation()
    colors = [[255 * part for part in segments.GetSegment(i).GetColor()] for i in segments.GetSegmentIDs()]
    assert len(colors) >= 3
    pairs = itertools.combinations(colors, 2)
    assert min(color_distance(*pair) for pair in pairs) > 150
