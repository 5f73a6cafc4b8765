"""Teaching in Slicer: strokes, learning and the library, from scripts and from the panel, with the real engine."""

import numpy as np
import pytest

K = 60
"""A slice through both lungs."""


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
def bones(panel, chestCt):
    """What the user drew by hand: a segment of everything as dense as bone, and its voxels."""
    truth = panel.slicer.util.arrayFromVolume(chestCt) > 250
    node = panel.widget.logic.newSegmentation(chestCt)
    segmentId = node.GetSegmentation().AddEmptySegment("", "bone")
    panel.slicer.util.updateSegmentBinaryLabelmapFromArray(truth.astype(np.uint8), node, segmentId, chestCt)
    panel.ui.outputSelector.setCurrentNode(node)
    return node, truth


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
    assert logic.undo().endswith("corrected")
    np.testing.assert_array_equal(panel.mask("left lung", chestCt), before["left lung"])
    assert tag(lungs, "left lung", "FastTextDiff.CorrectedSlices") == ""


def test_a_finding_is_learned_tried_accepted_and_used(panel, logic, bones, chestCt, tmp_path):
    from FastTextDiffSegmentLib.scene.SegmentSlices import segmentOf

    node, truth = bones
    lung = maskOn(logic, chestCt, "left lung", K)
    examples = [logic.teaching.example(chestCt, k, node, "bone") for k in (40, 70)]
    candidate = logic.teaching.learn("bone", examples, synonyms=["osseous structures"], folder=tmp_path / "kept")
    trial = logic.teaching.tryOn(candidate, chestCt, K)
    assert trial.after.findings[0].tags["FastTextDiff.Adapter"].startswith("bone from 2 slices")
    assert trial.before.findings[0].tags["FastTextDiff.Adapter"] == ""
    trial.release()
    assert logic.teaching.findings() == ()
    (learned,) = logic.teaching.accept(candidate)
    assert (learned.finding, learned.examples, learned.enabled) == ("bone", 2, True)
    found = logic.newSegmentation(chestCt)
    logic.segment(chestCt, ["Osseous structures"], found, sliceRange=(K, K + 1))
    mask = panel.slicer.util.arrayFromSegmentBinaryLabelmap(found, segmentOf(found, ["osseous structures"]), chestCt)[K]
    assert 2 * (truth[K] & (mask > 0)).sum() / (truth[K].sum() + (mask > 0).sum()) > 0.5
    assert tag(found, "Osseous structures", "FastTextDiff.Adapter").startswith("bone from 2 slices")
    np.testing.assert_array_equal(maskOn(logic, chestCt, "left lung", K), lung)  # bit for bit
    logic.teaching.enable("bone", False)
    (untaught,) = logic.segment(chestCt, ["bone"], found, sliceRange=(K, K + 1))
    assert not untaught.isAsked
    exported = tmp_path / "bone.safetensors"
    logic.teaching.export("bone", exported)
    assert logic.teaching.remove("bone") == ()
    assert [one.finding for one in logic.teaching.importFile(exported)] == ["bone"]
    assert len(list((tmp_path / "kept").glob("*.mask.nrrd"))) == 2


def maskOn(logic, volume, finding, k):
    from FastTextDiffSegmentLib.scene.SegmentSlices import segmentOf, segmentSlice

    node = logic.newSegmentation(volume)
    logic.segment(volume, [finding], node, sliceRange=(k, k + 1))
    return segmentSlice(node, segmentOf(node, [finding]), volume, k)


def test_cancelling_half_way_leaves_no_trace(panel, logic, bones, chestCt, tmp_path):
    from FastTextDiffSegmentLib.engine.Jobs import JobCancelled

    node, _truth = bones
    examples = [logic.teaching.example(chestCt, 40, node, "bone")]
    files = set(tmp_path.rglob("*"))
    scene = panel.slicer.mrmlScene.GetNumberOfNodes()
    with pytest.raises(JobCancelled):
        logic.teaching.learn("bone", examples, folder=tmp_path / "kept", progress=lambda done, total: done < 2)
    assert set(tmp_path.rglob("*")) == files
    assert logic.teaching.findings() == ()
    assert panel.slicer.mrmlScene.GetNumberOfNodes() == scene
    assert not list(logic.session.folder.path.glob("learned-*"))
