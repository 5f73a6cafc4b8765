"""The review: which slices to review, and which were accepted or corrected, in a real MRML scene."""

import json

import numpy as np
import pytest

slicer = pytest.importorskip("slicer")
pytest.importorskip("PySide6")
pytest.importorskip("slicerhost").start()

from editing_session import Session  # noqa: E402
from FastTextDiffSegmentLib.contract.answers import ProposedSlice  # noqa: E402
from scene_volumes import GRIDS, SHAPE, addVolume, outputOf, randomMask  # noqa: E402

from FastTextDiffSegmentLib.ReviewList import ReviewedSlice, ReviewList  # noqa: E402
from FastTextDiffSegmentLib.scene.Geometry import SceneError, rotateViewToSlices, toArray  # noqa: E402
from FastTextDiffSegmentLib.scene.Reviews import Reviews  # noqa: E402
from FastTextDiffSegmentLib.scene.SegmentWriter import SegmentWriter, tagOf  # noqa: E402
from FastTextDiffSegmentLib.scene.SlicePicture import slicePicture  # noqa: E402

pytestmark = pytest.mark.slicer
PROPOSED = tuple(
    ProposedSlice(number, "consolidation", reason, pixels)
    for number, reason, pixels in ((4, "unsure", 9.0), (1, "sudden change of size", 5.0), (2, "unsure", 3.0))
)


@pytest.fixture
def session(scene):
    volume = addVolume()
    session = Session(SegmentWriter().newSegmentation(volume), volume)
    session.reviews = Reviews(session.archive)
    yield session
    session.history.close()
    session.archive.close()


def run(session, proposed=PROPOSED, slices=(0, SHAPE[0]), seed=1, finding="consolidation"):
    """A run and its proposals, as the logic writes them."""
    archive = session.archive.prepare(session.segmentation)
    with session.history.step("run", session.segmentation, archive):
        output = outputOf(randomMask(seed)[slice(*slices)], slices[0], finding)
        written = SegmentWriter().write(session.segmentation, session.volume, [output])
        session.archive.record(session.segmentation, written)
        session.reviews.begin(session.segmentation, session.volume, proposed, slices, [finding])
    return written[0].segmentId


def listed(session):
    known = session.reviews.of(session.segmentation, session.volume)
    return None if known is None else [(each.number, each.state) for each in known.slices]


def tag(session, segmentId):
    """The summary of a segment's review, whose first number is also a tag of its own."""
    segment = session.segmentation.GetSegmentation().GetSegment(segmentId)
    summary = tagOf(segment, "FastTextDiff.Review")
    assert tagOf(segment, "FastTextDiff.LookedAt") == summary.partition(" ")[0]
    return summary


def test_slices_are_accepted_or_corrected_as_the_voxels_say(session):
    segmentId = run(session)
    assert listed(session) == [(4, "unseen"), (1, "unseen"), (2, "unseen")]
    assert tag(session, segmentId) == "0 of 3 slices looked at: unseen 2 3 5"
    assert session.reviews.accept(session.segmentation, session.volume, 4) == "accepted"
    session.paint(segmentId, k=1)
    assert session.reviews.accept(session.segmentation, session.volume, 1) == "corrected"
    assert tag(session, segmentId) == "2 of 3 slices looked at: accepted 5, corrected 2, unseen 3"
    session.paint(segmentId, k=4)
    session.reviews.refresh(session.segmentation, session.volume)
    assert dict(listed(session))[4] == "corrected"
    with pytest.raises(SceneError, match="Slice 4 is not in the review list"):
        session.reviews.accept(session.segmentation, session.volume, 3)


def test_segmenting_again_opens_its_slices_and_undo_brings_the_list_back(session):
    segmentId = run(session)
    for number in (4, 1, 2):
        session.reviews.accept(session.segmentation, session.volume, number)
    run(session, (), (4, 5), seed=2)
    assert listed(session) == [(4, "unseen"), (1, "accepted"), (2, "accepted")]
    run(session, PROPOSED[1:2], (0, 3), seed=3)
    assert listed(session) == [(4, "unseen"), (1, "unseen")]
    session.history.undo()
    session.history.undo()
    session.reviews.retag()
    assert listed(session) == [(4, "accepted"), (1, "accepted"), (2, "accepted")]
    assert tag(session, segmentId).startswith("3 of 3 slices looked at")
    session.history.undo()
    assert listed(session) is None
    session.history.redo()
    assert [state for _number, state in listed(session)] == ["accepted"] * 3


def test_a_run_for_another_finding_leaves_what_was_looked_at_and_claims_nothing(session):
    first = run(session)
    session.reviews.accept(session.segmentation, session.volume, 4)
    proposed = [ProposedSlice(number, "nodule", "unsure", 7.0) for number in (4, 0)]
    second = run(session, proposed, seed=2, finding="nodule")
    assert tag(session, first) == "1 of 3 slices looked at: accepted 5, unseen 2 3"
    assert tag(session, second) == "0 of 2 slices looked at: unseen 1 5"
    session.paint(second, k=4)
    assert session.reviews.accept(session.segmentation, session.volume, 4) == "corrected"
    assert tag(session, first) == "1 of 3 slices looked at: accepted 5, unseen 2 3"
    assert tag(session, second) == "1 of 2 slices looked at: corrected 5, unseen 1"
    known = session.reviews.of(session.segmentation, session.volume)
    assert known.summary() == "1 of 4 slices looked at: accepted 5, corrected 5, unseen 1 2 3"
    assert known.beside(4).number == 0
    third = run(session, (), seed=3, finding="effusion")
    assert tag(session, third) == ""
    assert tag(session, second) == "1 of 2 slices looked at: corrected 5, unseen 1"


def test_the_list_is_saved_with_the_scene_and_belongs_to_its_image(session, tmp_path):
    run(session)
    session.reviews.accept(session.segmentation, session.volume, 2)
    same = addVolume(name="T2", array=np.arange(np.prod(SHAPE))[::-1].astype(np.int16))
    with pytest.raises(SceneError, match="belongs to another image, 'CT'"):
        session.reviews.of(session.segmentation, same)
    other = addVolume(GRIDS["oblique"], name="MR")
    with pytest.raises(SceneError, match="belongs to another image, 'CT'"):
        session.reviews.of(session.segmentation, other)
    with pytest.raises(SceneError, match="belongs to another image"):
        session.reviews.accept(session.segmentation, other, 2)
    name = session.segmentation.GetName()
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear(False)
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    known = session.reviews.of(slicer.util.getNode(name), slicer.util.getNode("CT"))
    assert {each.number: each.state for each in known.slices} == {4: "unseen", 1: "unseen", 2: "accepted"}


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"image": {}, "slices": [{"number": 1}]}', '{"image": {}, "slices": 3}', "null"],
)
def test_a_damaged_list_is_none_and_a_new_run_makes_a_new_one(session, text):
    run(session)
    session.segmentation.SetAttribute("FastTextDiff.Review", text)
    assert listed(session) is None
    run(session, seed=2)
    assert len(listed(session)) == 3


def test_the_next_slice_is_the_next_unseen_one():
    slices = tuple(ReviewedSlice(number, "a", "unsure", 9.0 - number) for number in range(4))
    known = ReviewList({}, slices).marked(slices[1], "accepted").marked(slices[0], "corrected")
    assert known.beside(None).number == 2
    assert known.beside(0).number == 2
    assert known.beside(3, -1).number == 2
    assert known.beside(2, -1).number == 1
    assert known.beside(3) is None
    assert ReviewList({}).beside(None) is None
    assert ReviewList.fromJson(known.toJson()) == known
    assert json.loads(known.toJson())["slices"][1]["state"] == "accepted"


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("plane", ["acquisition", "coronal", "sagittal"])
def test_a_picture_shows_a_slice_as_the_rotated_view_does(scene, name, plane):
    from FastTextDiffSegmentLib.scene.Geometry import inSliceOrder, sliceShape, slicesToWorld

    volume = addVolume(GRIDS[name])
    node = SegmentWriter().newSegmentation(volume)
    picture = slicePicture(volume, node, [], 2, plane, None, 100)
    view = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceNode")
    rotateViewToSlices(view, volume, plane)
    right, up = toArray(view.GetSliceToRAS())[:3, 0], toArray(view.GetSliceToRAS())[:3, 1]
    _slices, rows, columns = sliceShape(volume, plane)
    corners = [(slicesToWorld(volume, plane) @ (c, r, 2, 1))[:3] for c in (0, columns - 1) for r in (0, rows - 1)]
    values = [
        inSliceOrder(volume, slicer.util.arrayFromVolume(volume), plane)[2][r, c] for c in (0, -1) for r in (0, -1)
    ]
    upperLeft = values[int(np.argmax([point @ up - point @ right for point in corners]))]
    shown = np.clip((upperLeft - min(values)) / (max(values) - min(values)), 0, 1)
    assert picture.shape[:2] in {(rows, columns), (columns, rows)}
    assert abs(int(picture[0, 0, 0]) - int(shown * 255)) <= 1


def test_a_reviewer_works_by_keys_in_the_slice_view(panel, chestCt, tmp_path):
    qt, ui = panel.qt, panel.ui
    ui.livePreviewCheckBox.checked = False
    panel.type("left lung")
    ui.scopeComboBox.setCurrentIndex(1)
    ui.firstSliceSpinBox.setValue(58)
    ui.lastSliceSpinBox.setValue(62)
    panel.click("segmentVolumeButton")
    panel.finishRun()
    ui.reviewCollapsibleButton.collapsed = False
    table, window = ui.reviewTable, panel.slicer.util.mainWindow()
    numbers = [int(table.item(row, 0).text()) for row in range(table.rowCount)]
    assert 0 < len(numbers) <= 5
    assert set(numbers) <= set(range(58, 63))
    assert all(not table.item(row, 0).icon().isNull() for row in range(table.rowCount))
    window.setFocus()
    for key, shown in (("N", 0), ("N", 1), ("Shift+N", 0)):
        modifier = qt.Qt.ShiftModifier if "Shift" in key else qt.Qt.NoModifier
        qt.QTest.keyClick(window, qt.Qt.Key_N, modifier)
        assert panel.shownIndex + 1 == numbers[shown]
    qt.QTest.keyClick(window, qt.Qt.Key_A)
    assert table.item(0, 3).text() == "✓ accepted"
    assert panel.shownIndex + 1 == numbers[1]
    assert panel.tag("left lung", "FastTextDiff.Review").startswith(f"1 of {len(numbers)} slices looked at")
    edited = panel.mask("left lung", chestCt).astype(np.uint8)
    edited[numbers[1] - 1, :5] = 1
    segmentId = panel.segmentation.GetSegmentation().GetSegmentIdBySegmentName("left lung")
    slicer.util.updateSegmentBinaryLabelmapFromArray(edited, panel.segmentation, segmentId, chestCt)
    qt.QTest.keyClick(window, qt.Qt.Key_A)
    assert table.item(1, 3).text() == "✎ corrected"
    ui.findingsTextEdit.setFocus()
    panel.type("an")
    assert ui.findingsTextEdit.toPlainText().endswith("an")
    panel.answers.fileName = str(tmp_path / "out.seg.nrrd")
    panel.click("saveButton")
    assert b"slices looked at: accepted" in (tmp_path / "out.seg.nrrd").read_bytes()[:20000]
    qt.QTest.mouseClick(
        table.viewport(), qt.Qt.LeftButton, qt.Qt.NoModifier, table.visualItemRect(table.item(0, 1)).center()
    )
    assert panel.shownIndex + 1 == numbers[0]
    assert "N: go to the next slice" in ui.keysButton.toolTip


SLICER_KEYS = {
    *(f"Ctrl+{key}" for key in ("F", "O", "S", "W", "H", "0", "1", "2", "3", "4", "5", "`", "B")),
    *("B", "F", "G", "R", "T", "V", "[", "]", "{", "}", "+", "-"),
    *(
        f"{shift}{key}"
        for shift in ("", "Shift+")
        for key in ("Left", "Right", "Up", "Down", "Home", "End", "PgDown", "Ins")
    ),
}
"""From Slicer's user guide, "Mouse & Keyboard Shortcuts": window, slice views and 3D views."""


def test_the_keys_are_none_of_slicers_own_and_work_only_while_the_panel_is_shown(panel):
    window = panel.slicer.util.mainWindow()

    def active():
        return [each.key.toString() for each in window.findChildren(panel.qt.QShortcut)]

    keys = active()
    assert {"N", "Shift+N", "A", "Ctrl+Return", "Ctrl+Z", "Ctrl+Y"} <= set(keys)
    assert SLICER_KEYS.isdisjoint(keys)
    assert len(keys) == len(set(keys))  # Qt calls neither of two equal ones
    panel.slicer.util.selectModule("SegmentEditor")
    assert set(active()).isdisjoint(keys)
    panel.slicer.util.selectModule("FastTextDiffSegment")
    assert sorted(active()) == sorted(keys)
