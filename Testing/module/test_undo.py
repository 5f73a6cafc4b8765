"""Undo and redo of the module's results in a real MRML scene, with the Segment Editor's edits in between."""

import numpy as np
import pytest

slicer = pytest.importorskip("slicer")
pytest.importorskip("PySide6")
pytest.importorskip("slicerhost").start()

from scene_volumes import SHAPE, outputOf, randomMask  # noqa: E402

from FastTextDiffSegmentLib.Findings import stepText  # noqa: E402
from FastTextDiffSegmentLib.scene import SegmentHistory as history_module  # noqa: E402
from FastTextDiffSegmentLib.scene.SegmentWriter import tagOf  # noqa: E402

pytestmark = pytest.mark.slicer
ALGORITHM = "DICOM.SegmentAlgorithmType"


def segments(session):
    return session.segmentation.GetSegmentation()


def test_twelve_steps_are_undone_and_redone_one_by_one(session):
    states = []
    for number in range(12):
        (segmentId,) = session.write(outputOf(randomMask(number)[number % 6 :][:1], first=number % 6))
        states.append((session.array(segmentId), tagOf(segments(session).GetSegment(segmentId), "FastTextDiff.Slices")))
    for voxels, slices in states[-2::-1]:
        assert session.history.undo()
        assert np.array_equal(session.array(segmentId), voxels)
        assert tagOf(segments(session).GetSegment(segmentId), "FastTextDiff.Slices") == slices
        assert not session.archive.isEdited(session.segmentation, segmentId)
    assert session.history.undo()
    assert segments(session).GetNumberOfSegments() == 0
    assert session.history.undo() is None
    for voxels, slices in states:
        assert session.history.redo()
        assert np.array_equal(session.array(segmentId), voxels)
        assert tagOf(segments(session).GetSegment(segmentId), "FastTextDiff.Slices") == slices
        assert not session.archive.isEdited(session.segmentation, segmentId)
    assert session.history.redo() is None


def test_strokes_between_the_steps_stay_through_undo_and_redo(session):
    (segmentId,) = session.write(outputOf(randomMask(1)[0:1], first=0))
    painted = session.paint(segmentId, k=0)
    erased = session.erase(segmentId, k=0)
    session.write(outputOf(randomMask(2)[3:4], first=3))
    for _round in range(2):
        session.history.undo()
        session.history.undo()
        expected = np.zeros(SHAPE, bool)
        expected[painted] = True
        assert np.array_equal(session.array(segmentId), expected)
        session.history.redo()
        session.history.redo()
        expected = np.zeros(SHAPE, bool)
        expected[0], expected[3] = randomMask(1)[0], randomMask(2)[3]
        expected[painted], expected[erased] = True, False
        assert np.array_equal(session.array(segmentId), expected)
    assert tagOf(segments(session).GetSegment(segmentId), ALGORITHM) == "SEMIAUTOMATIC"


def test_an_edit_that_a_step_replaced_comes_back(session):
    (segmentId,) = session.write(outputOf(randomMask(1)))
    painted = session.paint(segmentId, k=2)
    session.write(outputOf(randomMask(2)))
    assert tagOf(segments(session).GetSegment(segmentId), ALGORITHM) == "AUTOMATIC"
    session.history.undo()
    expected = randomMask(1) > 0
    expected[painted] = True
    assert np.array_equal(session.array(segmentId), expected)
    assert tagOf(segments(session).GetSegment(segmentId), ALGORITHM) == "SEMIAUTOMATIC"
    assert session.archive.isEdited(session.segmentation, segmentId, (2, 3), session.volume)


def test_the_users_own_segments_and_renamed_ones_are_never_touched(session):
    (ours,) = session.write(outputOf(randomMask(1)))
    segments(session).GetSegment(ours).SetName("Lunge")
    mine = segments(session).AddEmptySegment("mine", "mine")
    session.dab(mine, (1, 1, 1), "Add")
    session.history.undo()
    assert segments(session).GetSegment(ours) is None
    stranger = segments(session).AddEmptySegment(ours, "stranger")  # takes the id of the one that is gone
    session.dab(stranger, (2, 2, 2), "Add")
    session.history.redo()
    names = {segments(session).GetNthSegment(n).GetName(): n for n in range(3)}
    assert set(names) == {"mine", "stranger", "Lunge"}
    again = segments(session).GetNthSegmentID(names["Lunge"])
    assert np.array_equal(session.array(again), randomMask(1))
    assert not session.archive.isEdited(session.segmentation, again)
    session.history.undo()
    assert [session.array(each).sum() for each in (mine, stranger)] == [1, 1]


@pytest.mark.parametrize("change", ["remove the segment", "replace by another of its id", "delete node", "close scene"])
def test_what_is_gone_cannot_be_undone(session, change):
    (segmentId,) = session.write(outputOf(randomMask()))
    assert session.history.undoText == "consolidation"

    def replaced():
        segments(session).RemoveSegment(segmentId)
        session.dab(segments(session).AddEmptySegment(segmentId, "other"), (3, 3, 3), "Add")

    {
        "remove the segment": lambda: segments(session).RemoveSegment(segmentId),
        "replace by another of its id": replaced,
        "delete node": lambda: slicer.mrmlScene.RemoveNode(session.segmentation),
        "close scene": lambda: slicer.mrmlScene.Clear(False),
    }[change]()
    assert not session.history.canUndo
    assert session.changes[-1] is False
    assert session.history.undo() is None


def test_surfaces_saving_and_merged_layers_do_not_disturb_undo(session, tmp_path):
    first, second = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    first[1:3, 2:5, 2:5] = second[4, 2:5, 2:5] = 1
    (segmentId,) = session.write(outputOf(first))
    session.write(outputOf(second), outputOf(first, finding="opacity"))
    session.segmentation.CreateClosedSurfaceRepresentation()
    storage = slicer.vtkMRMLSegmentationStorageNode()
    storage.SetFileName(str(tmp_path / "a.seg.nrrd"))
    assert storage.WriteData(session.segmentation)
    assert segments(session).GetNumberOfLayers() == 1  # saving has merged the layers
    session.history.undo()
    assert np.array_equal(session.array(segmentId), first)
    assert segments(session).GetNumberOfSegments() == 1


def test_a_moved_threshold_is_one_step_with_its_run(session):
    run = object()
    (segmentId,) = session.write(outputOf(randomMask(1)))
    for seed in (2, 3):
        session.write(outputOf(randomMask(seed)), key=run)
    session.history.undo()
    assert np.array_equal(session.array(segmentId), randomMask(1))
    session.history.redo()
    assert np.array_equal(session.array(segmentId), randomMask(3))


def test_an_edit_without_effect_is_no_step_and_memory_is_bounded(session, monkeypatch):
    monkeypatch.setattr(history_module, "STEPS_KEPT", 3)
    session.write(outputOf(np.zeros(SHAPE, np.uint8)))
    assert not session.history.canUndo
    for seed in range(6):
        session.write(outputOf(randomMask(seed)))
    assert [bool(session.history.undo()) for _ in range(4)] == [True, True, True, False]
    monkeypatch.setattr(history_module, "BYTES_KEPT", 1)
    session.write(outputOf(randomMask(8)))
    session.write(outputOf(randomMask(9)))
    assert [bool(session.history.undo()) for _ in range(2)] == [True, False]


def test_a_failed_write_is_no_step(session):
    session.write(outputOf(randomMask()))
    with pytest.raises(ValueError, match="grid"):
        session.write(outputOf(randomMask()[:2], first=5))
    assert session.history.undo() == "consolidation"
    assert session.history.undo() is None


@pytest.mark.parametrize(
    ("findings", "slices", "total", "text"),
    [
        (["left lung"], (56, 57), 112, "left lung, slice 57"),
        (["left lung", "heart"], (0, 112), 112, "left lung, heart, all slices"),
        (["a", "b", "c"], (9, 20), 112, "a and 2 more, slices 10 to 20"),
        (["nuclei"], (0, 1), 1, "nuclei"),
    ],
)
def test_a_step_is_named_as_the_user_would(findings, slices, total, text):
    assert stepText(findings, slices, total) == text
