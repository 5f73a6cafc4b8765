"""Teaching in Slicer: strokes, learning and the library, from scripts and from the panel, with the real engine."""

import re

import numpy as np
import pytest
from module_panel import ROOT, segmentNames

K = 60
"""A slice through both lungs."""
PAGE_BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "teaching.md").read_text(encoding="utf-8"), re.S)


@pytest.fixture
def logic(panel, tmp_path):
    logic = panel.widget.logic
    logic.teaching.useLibrary(tmp_path / "library")
    yield logic
    logic.teaching.useLibrary(None)


@pytest.fixture
def lungs(panel, logic, chestCt):
    """A segmentation with both lungs on two slices."""
    node = logic.newSegmentation(chestCt)
    logic.segment(chestCt, ["left lung", "right lung"], node, sliceRange=(K, K + 2))
    panel.ui.outputSelector.setCurrentNode(node)
    return node


@pytest.fixture
def blood(panel, chestCt):
    """What the user drew by hand: a segment of the blood pool of a CT with contrast, and its voxels."""
    truth = panel.slicer.util.arrayFromVolume(chestCt) > 250
    node = panel.widget.logic.newSegmentation(chestCt)
    segmentId = node.GetSegmentation().AddEmptySegment("", "blood pool")
    panel.slicer.util.updateSegmentBinaryLabelmapFromArray(truth.astype(np.uint8), node, segmentId, chestCt)
    panel.ui.outputSelector.setCurrentNode(node)
    return node, truth


def segmentOf(node, words):
    from FastTextDiffSegmentLib.scene import SegmentSlices

    return SegmentSlices.segmentOf(node, words)


def segmentSlice(node, segmentId, volume, k):
    from FastTextDiffSegmentLib.scene import SegmentSlices

    return SegmentSlices.segmentSlice(node, segmentId, volume, k)


def stroke(mask, row, first, last):
    mark = np.zeros(mask.shape, bool)
    mark[row, first:last] = True
    return mark


def inside(mask):
    """A short stroke in a mask."""
    row = int(np.argmax(mask.sum(1)))
    return stroke(mask, row, *np.flatnonzero(mask[row])[[0, 9]])


def tag(node, name, tag):
    from FastTextDiffSegmentLib.scene.SegmentWriter import tagOf

    segments = node.GetSegmentation()
    return tagOf(segments.GetSegment(segments.GetSegmentIdBySegmentName(name)), tag)


def test_strokes_from_a_script_change_one_slice_of_one_segment(panel, logic, lungs, chestCt):
    before = {name: panel.mask(name, chestCt) for name in panel.names}
    wrong, outside = inside(before["left lung"][K]), stroke(before["left lung"][K], 2, 5, 40)
    logic.correct(chestCt, "left lung", K, [(wrong, False), (outside, True)], lungs)
    after = {name: panel.mask(name, chestCt) for name in panel.names}
    assert not after["left lung"][K][wrong].any()
    assert after["left lung"][K][outside].all()
    changed = {(name, k) for name in after for k in np.flatnonzero((after[name] != before[name]).any((1, 2)))}
    assert changed == {("left lung", K)}
    assert tag(lungs, "left lung", "FastTextDiff.CorrectedSlices") == f"{K}:{K + 1}"
    assert tag(lungs, "left lung", "DICOM.SegmentAlgorithmType") == "SEMIAUTOMATIC"
    assert logic.revert(lungs, lungs.GetSegmentation().GetSegmentIdBySegmentName("left lung"))
    assert tag(lungs, "left lung", "FastTextDiff.CorrectedSlices") == ""
    logic.undo()
    assert tag(lungs, "left lung", "FastTextDiff.CorrectedSlices") == f"{K}:{K + 1}"
    assert logic.undo().endswith("corrected")
    np.testing.assert_array_equal(panel.mask("left lung", chestCt), before["left lung"])
    assert tag(lungs, "left lung", "FastTextDiff.CorrectedSlices") == ""


@pytest.mark.parametrize("sliceBySlice", [False, True])
def test_strokes_leave_nothing_out_where_each_slice_is_on_its_own(panel, logic, chestCt, sliceBySlice):
    from FastTextDiffSegmentLib.contract.segments import CONSISTENCY_TAG, SLICE_BY_SLICE

    found = logic.newSegmentation(chestCt)
    mark = np.zeros(panel.slicer.util.arrayFromVolume(chestCt)[K].shape, bool)
    mark[50:52, 20:24] = True
    logic.correct(chestCt, "infection", K, [(mark, True)], found, sliceBySlice=sliceBySlice)
    assert (tag(found, "infection", CONSISTENCY_TAG) == SLICE_BY_SLICE) == sliceBySlice


def test_the_script_of_the_page_learns_a_finding_uses_and_corrects_it(panel, logic, blood, chestCt, tmp_path):
    drawn, truth = blood
    lung = maskOn(logic, chestCt, "left lung", K)
    mark = np.zeros(truth[K].shape, bool)
    mark[5, 5:20] = True
    names = {"logic": logic, "volume": chestCt, "drawn": drawn, "stroke": mark, "folder": tmp_path / "library"}
    (block,) = (text for text in PAGE_BLOCKS if "teaching.learn" in text)
    exec(block, names)
    found = segmentSlice(names["found"], segmentOf(names["found"], ["contrast-filled heart"]), chestCt, K)
    assert 2 * (truth[K] & found).sum() / (truth[K].sum() + found.sum()) > 0.5
    assert not found[mark].any()
    assert tag(names["found"], "contrast-filled heart", "FastTextDiff.Adapter").startswith("blood pool from 2 slices")
    np.testing.assert_array_equal(maskOn(logic, chestCt, "left lung", K), lung)  # bit for bit
    logic.teaching.enable("blood pool", False)
    (untaught,) = logic.segment(chestCt, ["blood pool"], names["found"], sliceRange=(K, K + 1))
    assert not untaught.isAsked
    exported = tmp_path / "learned.safetensors"
    logic.teaching.export("blood pool", exported)
    assert logic.teaching.remove("blood pool") == ()
    assert [one.finding for one in logic.teaching.importFile(exported)] == ["blood pool"]


def maskOn(logic, volume, finding, k):
    node = logic.newSegmentation(volume)
    logic.segment(volume, [finding], node, sliceRange=(k, k + 1))
    return segmentSlice(node, segmentOf(node, [finding]), volume, k)


# --- the panel -----------------------------------------------------------------------------------------------------


def scratch(panel):
    """The layer that the user paints on, and the editor node of Slicer's Paint."""
    nodes = panel.slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    layer = next((node for node in nodes if "temporary" in node.GetName()), None)
    editors = panel.slicer.util.getNodesByClass("vtkMRMLSegmentEditorNode")
    editor = next((node for node in editors if layer is not None and node.GetSegmentationNode() is layer), None)
    return layer, editor


def paint(panel, volume, mark, k):
    """Paint as Slicer's effect does: it adds voxels to the editor's segment, with its overwriting and masking."""
    from FastTextDiffSegmentLib.scene.SegmentVoxels import gridInSegmentation, toImage

    layer, editor = scratch(panel)
    assert editor.GetActiveEffectName() == "Paint"
    logic = panel.slicer.vtkSlicerSegmentEditorLogic()
    logic.SetMRMLScene(panel.slicer.mrmlScene)
    logic.SetSegmentEditorNode(editor)
    image = toImage(mark[np.newaxis].astype(np.uint8), (0, 0, k), gridInSegmentation(layer, volume))
    segmentId = editor.GetSelectedSegmentID()
    logic.ModifySegmentByLabelmap(layer, segmentId, image, logic.ModificationModeAdd, image.GetExtent(), False, False)
    logic.SetSegmentEditorNode(None)
    logic.SetMRMLScene(None)


def show(panel, volume, k):
    from FastTextDiffSegmentLib.scene.Geometry import jumpToSlice

    jumpToSlice(panel.view, volume, k)


def outlined(panel, volume, k):
    """The outlined mask on a slice; None without an outline."""
    node = panel.preview
    return None if node is None else segmentSlice(node, node.GetSegmentation().GetNthSegmentID(0), volume, k)


def test_painted_strokes_move_the_outline_until_they_are_accepted(panel, logic, lungs, chestCt):
    panel.ui.findingsTextEdit.setPlainText("left lung")
    show(panel, chestCt, K)
    before = {name: panel.mask(name, chestCt) for name in panel.names}
    nodes, strokes = panel.slicer.mrmlScene.GetNumberOfNodes(), panel.widget.teach.strokes
    panel.ui.teachCollapsibleButton.checked = True

    def counted(number):
        panel.waitFor(
            lambda: (
                f": {number} strokes" in panel.ui.strokesLabel.text
                and (panel.ui.acceptStrokesButton.enabled if number else panel.preview is not None)
            )
        )

    panel.click("plusButton")
    counted(0)
    own = outlined(panel, chestCt, K)
    paint(panel, chestCt, stroke(own, 2, 5, 40), K)
    counted(1)
    assert outlined(panel, chestCt, K)[2, 5:40].all()
    panel.qt.QTest.keyClick(panel.slicer.util.mainWindow(), panel.qt.Qt.Key_Minus, panel.qt.Qt.ControlModifier)
    paint(panel, chestCt, stroke(own, 2, 30, 45), K)
    panel.waitFor(lambda: "10 pixels are marked as finding and as background" in panel.message)
    counted(1)
    paint(panel, chestCt, stroke(own, 9, 5, 40), K + 1)
    panel.waitFor(lambda: panel.message.startswith(f"Strokes correct slice {K + 1} only"))
    paint(panel, chestCt, inside(own), K)
    counted(2)
    panel.click("undoStrokeButton")
    counted(1)
    panel.click("discardStrokesButton")
    panel.finishJobs()
    panel.waitFor(lambda: panel.preview is None)
    assert scratch(panel) == (None, None)
    assert panel.slicer.mrmlScene.GetNumberOfNodes() == nodes
    assert all((panel.mask(name, chestCt) == before[name]).all() for name in before)
    strokes.draw(True)
    counted(0)
    assert not panel.ui.acceptStrokesButton.enabled  # without a stroke it would be the model's own answer
    paint(panel, chestCt, stroke(own, 9, 5, 40), K)
    panel.waitFor(lambda: ": 1 strokes" in panel.ui.strokesLabel.text)
    panel.click("undoStrokeButton")  # while the engine works on it
    paint(panel, chestCt, stroke(own, 2, 5, 40), K)
    counted(1)
    assert outlined(panel, chestCt, K)[2, 5:40].all()
    wanted = outlined(panel, chestCt, K)
    panel.qt.QTest.keyClick(
        panel.slicer.util.mainWindow(),
        panel.qt.Qt.Key_Return,
        panel.qt.Qt.ControlModifier | panel.qt.Qt.ShiftModifier,
    )
    assert not strokes.isActive
    np.testing.assert_array_equal(panel.mask("left lung", chestCt)[K], wanted)
    assert (panel.mask("right lung", chestCt) == before["right lung"]).all()
    assert (panel.mask("left lung", chestCt)[K + 1] == before["left lung"][K + 1]).all()
    panel.click("undoButton")
    assert (panel.mask("left lung", chestCt) == before["left lung"]).all()


def test_a_finding_is_taught_in_the_panel(panel, logic, blood, chestCt, tmp_path):
    ui = panel.ui
    ui.teachCollapsibleButton.checked = True
    ui.teachFindingLineEdit.text = "blood pool"
    ui.teachSynonymsLineEdit.text = "contrast-filled heart; lumen"
    assert ui.learnButton.toolTip == "Add an example: a slice with a mask of the finding."
    for k, button in ((40, "addExampleButton"), (70, "addAbsentButton"), (70, "addExampleButton")):
        show(panel, chestCt, k)
        panel.click(button)
    states = [ui.examplesTable.item(row, 1).text() for row in range(ui.examplesTable.rowCount)]
    assert states == ["edited", "edited"]
    assert not ui.examplesTable.item(0, 0).icon().isNull()
    ui.teachFindingLineEdit.text = "gallbladder"
    for button in ("learnButton", "addAbsentButton"):
        panel.click(button)
        assert "The examples are of 'blood pool', not of 'gallbladder': type 'blood pool' again" in panel.message
    ui.teachFindingLineEdit.text = "blood pool"
    ui.teachFolderPathLineEdit.currentPath = str(tmp_path / "kept")
    nodes = panel.slicer.mrmlScene.GetNumberOfNodes()
    panel.click("learnButton")
    panel.waitFor(lambda: ui.teachProgressBar.value > 0)
    panel.click("cancelLearnButton")
    panel.finishRun()
    assert not ui.acceptLearnedButton.enabled
    assert not (tmp_path / "kept").exists()
    assert not list(logic.session.folder.path.glob("learned-*"))
    assert panel.slicer.mrmlScene.GetNumberOfNodes() == nodes
    panel.click("learnButton")
    panel.finishRun()
    assert "'blood pool' was learned from 2 slices" in panel.message
    assert panel.shownIndex not in (40, 70)
    panel.click("beforeAfterButton")
    panel.finishRun()
    assert "pixels before (grey)" in panel.message
    assert [name.split(", ")[1] for name in outlineNames(panel)][-1] == "after"
    panel.click("acceptLearnedButton")
    panel.waitFor(lambda: ui.libraryTable.rowCount == 1)
    assert ui.libraryTable.item(0, 1).text() == "learned here from 2 slices, ct"
    assert len(list((tmp_path / "kept").glob("blood-pool/*.mask.nrrd"))) == 2
    ui.outputSelector.setCurrentNode(None)
    panel.type("lumen")
    panel.waitFor(lambda: ui.findingsTable.visible and "learned here" in ui.findingsTable.item(0, 1).text())
    panel.waitForPreview()
    panel.click("keepButton")
    assert panel.tag("lumen", "FastTextDiff.Adapter").startswith("blood pool from 2 slices")
    assert batchOptions(panel.widget)["adapters"] == [str(tmp_path / "library" / "blood-pool" / "v0001.safetensors")]
    panel.type("\nBlod pool")
    panel.waitFor(lambda: ui.findingsTable.rowCount == 2 and "learned here" in ui.findingsTable.item(1, 1).text())
    ui.libraryTable.setCurrentCell(0, 0)
    panel.answers.text = "blood; lumen"
    panel.click("renameLearnedButton")
    panel.waitFor(lambda: ui.libraryTable.item(0, 0).text() == "blood; lumen")
    ui.libraryTable.item(0, 0).setCheckState(panel.qt.Qt.Unchecked)
    panel.waitFor(lambda: not logic.teaching.session.inUse)
    panel.finishJobs()
    panel.answers.yes = True
    ui.libraryTable.setCurrentCell(0, 0)
    panel.click("removeLearnedButton")
    panel.waitFor(lambda: ui.libraryTable.rowCount == 0)
    assert not list((tmp_path / "library").iterdir())


def test_a_candidate_and_the_examples_stay_until_something_takes_their_place(panel, logic, chestCt):
    from FastTextDiffSegmentLib.contract.teaching import LearnedFinding

    from FastTextDiffSegmentLib.engine.TeachingSession import Candidate

    ui, teach = panel.ui, panel.widget.teach
    ui.teachCollapsibleButton.checked = True
    ui.teachFindingLineEdit.text = "blood pool"
    ui.teachFolderPathLineEdit.currentPath = ""  # examples kept there by another test would be learned from, too
    panel.click("addAbsentButton")
    folder = logic.session.folder.newFolder("learned")
    file = folder / "learned.safetensors"  # is not there: the library will refuse it
    candidate = Candidate(LearnedFinding("blood pool", (), "ct", 2, None, "compact", 1, True, file, "0"), folder)
    teach.candidate = candidate
    teach.update()
    for isCancelled in (True, False):
        panel.click("learnButton")
        if isCancelled:
            panel.click("cancelLearnButton")
        panel.finishRun()
        assert teach.candidate is candidate
        assert folder.is_dir()
    assert "all masks of the examples are empty" in panel.message
    panel.click("acceptLearnedButton")
    panel.finishJobs()
    assert "it is missing or damaged" in panel.message
    assert teach.candidate is candidate
    assert ui.examplesTable.rowCount == 1
    panel.click("discardLearnedButton")
    assert not folder.exists()


def test_images_without_a_patient_are_groups_of_their_own_in_every_session(panel, logic, chestCt, host):
    from FastTextDiffSegmentLib.scene.Examples import byVolume

    def group(volume):
        (one,) = byVolume([logic.teaching.absent(volume, 0)])
        return one.patient

    name, other = chestCt.GetID(), panel.slicer.modules.volumes.logic().CloneVolume(chestCt, "other")
    first = group(chestCt)
    assert len({first, group(other), name}) == 3
    del chestCt
    assert group(panel.slicer.mrmlScene.GetNodeByID(name)) == first
    host.closeScene()
    again = panel.slicer.util.loadVolume(str(ROOT / "Resources/samples/chest_ct/chest_ct_cropped.nii.gz"))
    assert group(again) != first


def batchOptions(widget):
    """What a new batch gets from the panel."""
    from FastTextDiffSegmentLib.panels.BatchLink import BatchLink

    link = BatchLink(widget.context, widget.setupSection, widget.settings, widget.findings, widget.run)
    return link.hooks().options()


def outlineNames(panel):
    return segmentNames(panel.preview)
