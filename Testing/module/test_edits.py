"""Edits by hand of what the model made are noticed, kept and asked about, whoever made them and whenever."""

import pytest

slicer = pytest.importorskip("slicer")
pytest.importorskip("PySide6")
pytest.importorskip("slicerhost").start()

from scene_volumes import outputOf, randomMask  # noqa: E402

from FastTextDiffSegmentLib.EditedFindings import editedFindings  # noqa: E402
from FastTextDiffSegmentLib.Requests import SegmentationRequest  # noqa: E402
from FastTextDiffSegmentLib.scene.EditorMasking import Masking  # noqa: E402
from FastTextDiffSegmentLib.scene.OutputArchive import OutputArchive  # noqa: E402
from FastTextDiffSegmentLib.scene.SegmentWriter import SegmentWriter, Target, tagOf  # noqa: E402
from FastTextDiffSegmentLib.scene.SequenceItems import SequenceItems  # noqa: E402

pytestmark = pytest.mark.slicer
ALGORITHM = "DICOM.SegmentAlgorithmType"


def algorithm(node, segmentId):
    return tagOf(node.GetSegmentation().GetSegment(segmentId), ALGORITHM)


def asked(archive, node, volume, slices=None):
    """The findings about which a new run on some slices asks."""
    return editedFindings(archive, node, SegmentationRequest(volume, ("consolidation",), slices))


def reopened(session, path):
    """Save and open the scene, as a user does, while nothing is observed."""
    name = session.segmentation.GetName()
    session.history.close()
    session.archive.close()
    assert slicer.util.saveScene(str(path))
    slicer.mrmlScene.Clear(False)
    slicer.util.loadScene(str(path))
    session.segmentation, session.volume = slicer.util.getNode(name), slicer.util.getNode("CT")


def test_an_edit_made_while_nothing_was_observed_is_noticed(session, tmp_path):
    (segmentId,) = session.write(outputOf(randomMask(1)))
    reopened(session, tmp_path / "scene.mrb")
    session.paint(segmentId, k=5)
    archive = OutputArchive()
    assert asked(archive, session.segmentation, session.volume) == ["consolidation"]  # whatever the tag says
    assert asked(archive, session.segmentation, session.volume, (0, 5)) == []
    assert algorithm(session.segmentation, segmentId) == "AUTOMATIC"
    archive.attachAll()
    assert algorithm(session.segmentation, segmentId) == "SEMIAUTOMATIC"
    archive.close()


@pytest.mark.parametrize("way", ["scene", "file", "copy"])
def test_an_edit_of_what_was_loaded_or_copied_counts_before_the_panel_is_entered(panel, session, tmp_path, way):
    (segmentId,) = session.write(outputOf(randomMask(1)))
    panel.slicer.util.selectModule("SegmentEditor")
    if way == "scene":
        reopened(session, tmp_path / "scene.mrb")
    elif way == "file":
        storage = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
        storage.SetFileName(str(tmp_path / "file.seg.nrrd"))
        assert storage.WriteData(session.segmentation)
        session.segmentation = slicer.util.loadSegmentation(str(tmp_path / "file.seg.nrrd"))
    else:
        hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
        item = hierarchy.GetItemByDataNode(session.segmentation)
        clone = slicer.vtkSlicerSubjectHierarchyModuleLogic.CloneSubjectHierarchyItem(hierarchy, item, "copy")
        session.segmentation = hierarchy.GetItemDataNode(clone)
    panel.waitFor(lambda: panel.widget.logic.archive.node(session.segmentation))
    assert algorithm(session.segmentation, segmentId) == "AUTOMATIC"
    session.paint(segmentId, k=5)
    assert algorithm(session.segmentation, segmentId) == "SEMIAUTOMATIC"
    archive = panel.widget.logic.archive
    assert asked(archive, session.segmentation, session.volume) == ["consolidation"]


# --- segments that the model made in part ----------------------------------------------------------------------------


def drawn(session):
    """A segment drawn by hand on slices 0 and 3, to which a run then adds on slice 3 what it finds."""
    segmentId = session.segmentation.GetSegmentation().AddEmptySegment("mine", "mine")
    voxels = [session.paint(segmentId, k) for k in (0, 3)]
    archive = session.archive.prepare(session.segmentation)
    with session.history.step("add", session.segmentation, archive):
        output, target = outputOf(randomMask(1)[3:4], first=3), Target(segmentId, adds=True)
        written = SegmentWriter().write(session.segmentation, session.volume, [output], into=target)
        session.archive.record(session.segmentation, written)
    return segmentId, voxels


def test_reverting_what_the_model_made_in_part_keeps_the_rest(session, tmp_path):
    segmentId, voxels = drawn(session)
    assert asked(session.archive, session.segmentation, session.volume, (3, 4)) == ["mine"]
    before = session.array(segmentId)
    session.history.undo()
    assert session.array(segmentId).sum() == 2
    session.history.redo()
    assert (session.array(segmentId) == before).all()
    reopened(session, tmp_path / "scene.mrb")
    session.paint(segmentId, k=5)
    expected = randomMask(1) > 0
    expected[[0, 1, 2, 4, 5]] = session.array(segmentId)[[0, 1, 2, 4, 5]]
    assert OutputArchive().restore(session.segmentation, segmentId)
    assert (session.array(segmentId) == expected).all()
    assert expected[voxels[0]]
    assert algorithm(session.segmentation, segmentId) == "SEMIAUTOMATIC"


def test_edits_in_an_edited_file_are_kept_by_a_run_on_another_slice_and_a_revert(session, tmp_path):
    """The file has no stored output, and what is in it is not the model's alone."""
    (segmentId,) = session.write(outputOf(randomMask(1)))
    session.paint(segmentId, k=5)
    session.archive.close()
    session.segmentation.RemoveNodeReferenceIDs("FastTextDiffOutput")
    expected = session.array(segmentId)
    session.write(outputOf(randomMask(2)[1:2], first=1))
    expected[1] = randomMask(2)[1]
    assert asked(session.archive, session.segmentation, session.volume, (5, 6)) == ["consolidation"]
    assert asked(session.archive, session.segmentation, session.volume, (1, 2)) == []
    session.erase(segmentId, k=1)
    session.archive.restore(session.segmentation, segmentId)
    assert (session.array(segmentId) == expected).all()


def test_a_whole_run_whose_masking_keeps_drawn_voxels_is_no_automatic_result(session):
    (segmentId,) = session.write(outputOf(randomMask(1)))
    *place, i = session.paint(segmentId, k=2)
    voxels = slicer.util.arrayFromVolume(session.volume)
    voxels[:] = 0
    voxels[(*place, i)] = 1
    editor = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")
    editor.SetSourceVolumeIntensityMask(True)
    editor.SetSourceVolumeIntensityMaskRange(-0.5, 0.5)
    output = outputOf(randomMask(2) & (voxels == 0))
    with session.archive.ownEdit():
        written = SegmentWriter().write(session.segmentation, session.volume, [output], Masking(editor))
        session.archive.record(session.segmentation, written)
    assert session.array(segmentId)[(*place, i)]
    assert algorithm(session.segmentation, segmentId) == "SEMIAUTOMATIC"


# --- sequences --------------------------------------------------------------------------------------------------------


@pytest.fixture
def show(session):
    """The session's segmentation is that of a sequence of two items with two findings each; shows another item."""
    logic, scans = slicer.modules.sequences.logic(), slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "scans")
    segmentations = []
    for number in (0, 1):
        scans.SetDataNodeAtValue(session.volume, str(number))
        segmentations.append(SegmentWriter().newSegmentation(session.volume))
        outputs = [outputOf(randomMask(number)), outputOf(randomMask(number + 2), finding="nodule")]
        SegmentWriter().write(segmentations[-1], session.volume, outputs)
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "browser")
    browser.SetAndObserveMasterSequenceNodeID(scans.GetID())
    logic.UpdateAllProxyNodes()
    session.volume = browser.GetProxyNode(scans)
    session.segmentation = SequenceItems.of(session.volume).addSegmentations(segmentations, "findings")

    def show(number):
        browser = slicer.util.getNode("browser")
        browser.SetSelectedItemNumber(number)
        logic.UpdateProxyNodesFromSequences(browser)

    return show


def tagged(session):
    """Of the finding and of the other one, whether the user edited them."""
    return [algorithm(session.segmentation, each) == "SEMIAUTOMATIC" for each in segmentIds(session)]


def segmentIds(session):
    segmentation = session.segmentation.GetSegmentation()
    return [segmentation.GetNthSegmentID(n) for n in range(segmentation.GetNumberOfSegments())]


def test_edits_and_runs_on_an_item_of_a_sequence_stay_with_this_item(session, show):
    segmentId, _ = segmentIds(session)
    session.paint(segmentId, k=2)
    session.write(outputOf(randomMask(7)[4:5], first=4))
    assert session.archive.node(session.segmentation) is None
    edited = session.array(segmentId)
    show(1)
    assert (session.array(segmentId) == randomMask(1)).all()
    session.history.undo()
    session.archive.attachAll()
    assert (session.array(segmentId) == randomMask(1)).all()
    assert tagged(session) == [False, False]
    show(0)
    assert (session.array(segmentId) == edited).all()
    assert not (edited == randomMask(0)).all()


def test_edited_items_of_a_sequence_are_marked_and_asked_about(session, show):
    """A run, its undo, and a look at other items are no edits."""
    session.archive.adopt(session.segmentation)
    segmentId, other = segmentIds(session)
    show(1)
    show(0)
    assert tagged(session) == [False, False]
    session.paint(segmentId, k=2)
    assert tagged(session) == [True, False]
    assert session.edited == [segmentId]
    assert asked(session.archive, session.segmentation, session.volume) == ["consolidation"]
    show(1)
    assert tagged(session) == [False, False]
    assert asked(session.archive, session.segmentation, session.volume) == []
    session.write(outputOf(randomMask(7)[4:5], first=4))
    session.history.undo()
    session.erase(other, k=3)
    assert tagged(session) == [False, True]
    session.paint(segmentId, k=1)
    assert tagged(session) == [True, True]
    show(0)
    assert tagged(session) == [True, False]
    session.write(outputOf(randomMask(7)))  # the whole item again
    assert tagged(session) == [False, False]
    session.paint(segmentId, k=1)
    assert tagged(session) == [True, False]


def test_edits_of_an_item_of_a_sequence_that_was_loaded_are_marked(session, show, tmp_path):
    session.segmentation.SetName("shown findings")
    reopened(session, tmp_path / "scene.mrb")
    session.archive.attachAll()
    assert tagged(session) == [False, False]
    show(1)
    session.paint(segmentIds(session)[1], k=2)
    assert tagged(session) == [False, True]
    show(0)
    assert tagged(session) == [False, False]
    show(1)
    assert tagged(session) == [False, True]


# --- the Segment Editor's own history ---------------------------------------------------------------------------------


def test_the_editors_own_undo_takes_back_one_thing_at_a_time(session):
    editor = slicer.modules.SegmentEditorWidget.editor
    (segmentId,) = session.write(outputOf(randomMask(1)))
    editor.setSegmentationNode(session.segmentation)
    editor.saveStateForUndo()
    session.paint(segmentId, k=2)
    states = [session.array(segmentId)]
    session.write(outputOf(randomMask(2)[4:5], first=4))
    states.append(session.array(segmentId))
    session.history.undo()
    session.write(outputOf(randomMask(3)[5:6], first=5), key=states)
    session.write(outputOf(randomMask(4)[5:6], first=5), key=states)  # the slider goes on
    for expected in (states[0], states[1], states[0], randomMask(1) > 0):
        editor.undo()
        assert (session.array(segmentId) == expected).all()
    editor.setSegmentationNode(None)
