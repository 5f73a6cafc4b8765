"""The Segment Editor's effect "Text finding": writes into the selected segment only, within the editor's rules."""

import re

import numpy as np
import pytest
from module_panel import ROOT, segmentNames

SLICE = 41


@pytest.fixture(scope="module")
def registered(module):
    from slicerhost import editor

    factory = editor.install()
    from FastTextDiffSegmentLib.effect.Registration import registerEffect

    registerEffect()
    assert list(factory.effects) == ["Text finding"]
    return editor


@pytest.fixture
def editor(panel, chestCt, registered):
    """An editor with two segments, the first selected, and the Red view on a slice with lungs."""
    from FastTextDiffSegmentLib.scene.Geometry import jumpToSlice

    jumpToSlice(panel.view, chestCt, SLICE)
    segmentation = panel.widget.logic.newSegmentation(chestCt)
    for name in ("mine", "other"):
        segmentation.GetSegmentation().AddEmptySegment(name, name)
    opened = registered.Editor("Text finding")
    opened.choose(segmentation, chestCt, "mine")
    opened.node.SetOverwriteMode(opened.node.OverwriteNone)
    opened.volume, opened.segmentation, opened.panel = chestCt, segmentation, panel
    opened.form = opened.effect.self().form
    opened.activate()
    panel.finishJobs()
    yield opened
    panel.finishJobs()
    opened.close()


def mask(editor, segmentId="mine"):
    read = editor.panel.slicer.util.arrayFromSegmentBinaryLabelmap
    return read(editor.segmentation, segmentId, editor.volume) > 0


def draw(editor, segmentId, drawn):
    change = editor.panel.slicer.util.updateSegmentBinaryLabelmapFromArray
    change(drawn.astype(np.uint8), editor.segmentation, segmentId, editor.volume)


def apply(editor, text="left lung", button="slice"):
    editor.form.text.setText(text)
    button = getattr(editor.form, button)
    assert button.enabled, button.toolTip
    button.click()
    editor.panel.finishRun()
    editor.panel.finishJobs()
    return editor.form.message.text


def expected(editor, text="left lung"):
    """What the panel's logic gives on the slice."""
    panel = editor.panel
    node = panel.widget.logic.newSegmentation(editor.volume)
    (found,) = panel.widget.logic.segment(editor.volume, [text], node, (SLICE, SLICE + 1))
    return panel.slicer.util.arrayFromSegmentBinaryLabelmap(node, found.segmentId, editor.volume) > 0


def tag(editor, name, segmentId="mine"):
    from FastTextDiffSegmentLib.scene.SegmentTags import tagOf

    return tagOf(editor.segmentation.GetSegmentation().GetSegment(segmentId), name)


def test_a_finding_is_added_to_the_selected_segment_and_undone_by_the_editor(editor):
    drawn = np.zeros(mask(editor, "other").shape, bool)
    drawn[20:22, 50:60, 50:60] = drawn[SLICE, :4, :4] = True
    draw(editor, "mine", drawn)
    draw(editor, "other", np.roll(drawn, 30, axis=2))
    lung, others = expected(editor), mask(editor, "other")
    assert "voxels changed" in apply(editor)
    assert np.array_equal(mask(editor), lung | drawn)
    assert np.array_equal(mask(editor, "other"), others)
    assert segmentNames(editor.segmentation) == ["mine", "other"]
    assert tag(editor, "DICOM.SegmentAlgorithmType") == "SEMIAUTOMATIC"
    assert tag(editor, "FastTextDiff.Finding") == "left lung"
    assert tag(editor, "FastTextDiff.WeightsSha256")
    apply(editor, "right lung")
    assert tag(editor, "FastTextDiff.Finding") == "left lung; right lung"
    editor.undo()
    editor.undo()
    assert np.array_equal(mask(editor), drawn)


def test_replacing_changes_only_the_slice_and_an_empty_segment_is_the_models_own(editor):
    lung = expected(editor)
    apply(editor)
    assert np.array_equal(mask(editor), lung)
    assert tag(editor, "DICOM.SegmentAlgorithmType") == "AUTOMATIC"
    drawn = mask(editor)
    drawn[SLICE - 3 : SLICE + 4, :9, :9] = True
    draw(editor, "mine", drawn)
    editor.form.replaces.setChecked(True)
    apply(editor)
    drawn[SLICE] = lung[SLICE]
    assert np.array_equal(mask(editor), drawn)


def test_editable_area_intensity_range_and_overwriting_are_honoured(editor):
    slicer, lung = editor.panel.slicer, expected(editor)
    area = np.zeros(lung.shape, bool)
    area[SLICE, :, lung[SLICE].nonzero()[1].min() : int(lung[SLICE].nonzero()[1].mean())] = True
    draw(editor, "other", area)
    editor.node.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedInsideSingleSegment)
    editor.node.SetMaskSegmentID("other")
    apply(editor)
    assert np.array_equal(mask(editor), lung & area)
    editor.undo()
    editor.node.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedEverywhere)
    editor.node.SourceVolumeIntensityMaskOn()
    editor.node.SetSourceVolumeIntensityMaskRange(-850, -700)
    voxels = slicer.util.arrayFromVolume(editor.volume)
    apply(editor)
    assert np.array_equal(mask(editor), lung & (voxels >= -850) & (voxels <= -700))
    editor.undo()
    editor.node.SourceVolumeIntensityMaskOff()
    editor.node.SetOverwriteMode(editor.node.OverwriteAllSegments)
    apply(editor)
    assert np.array_equal(mask(editor), lung)
    assert np.array_equal(mask(editor, "other"), area & ~lung)


def test_a_preview_is_an_outline_that_goes_when_the_effect_does(editor):
    panel = editor.panel
    before = mask(editor)
    editor.form.text.setText("left lung")
    panel.waitFor(lambda: panel.preview is not None)
    assert np.array_equal(mask(editor), before)
    outline = panel.slicer.util.arrayFromSegmentBinaryLabelmap(
        panel.preview, panel.preview.GetSegmentation().GetNthSegmentID(0), editor.volume
    )
    assert np.array_equal(outline > 0, expected(editor))
    editor.deactivate()
    assert panel.preview is None
    editor.activate()


def test_what_cannot_be_done_is_said_and_nothing_is_changed(editor):
    panel, form = editor.panel, editor.form
    assert form.slice.toolTip == "Type a finding, one per line."
    drawn = np.zeros(mask(editor).shape, bool)
    drawn[SLICE, 10:20, 10:20] = True
    draw(editor, "mine", drawn)
    form.replaces.setChecked(True)
    assert "nothing was changed" in apply(editor, "gallbladder")
    assert np.array_equal(mask(editor), drawn)

    def refused(*chosen):
        editor.choose(*chosen)
        panel.finishJobs()
        assert not form.slice.enabled
        return form.volume.toolTip

    segmentation, volume = editor.segmentation, editor.volume
    form.text.setText("left lung")
    assert "Choose a source volume" in refused(segmentation, None, "mine")
    assert "Select a segment" in refused(segmentation, volume, "")
    assert "Choose a segmentation" in refused(None, volume, "")
    elsewhere = panel.slicer.util.addVolumeFromArray(np.zeros((4, 8, 8), np.int16), np.diag([3.0, 3, 3, 1]), "small")
    assert "on another grid" in refused(segmentation, elsewhere, "mine")
    editor.choose(segmentation, volume, "mine")
    panel.finishJobs()
    form.slice.click()
    assert "A run is under way" in form.volume.toolTip
    form.cancel.click()
    panel.finishRun()
    panel.finishJobs()
    assert form.message.text == "Cancelled; nothing was changed"
    form.slice.click()
    segmentation.GetSegmentation().RemoveSegment("mine")
    panel.finishRun()
    assert form.message.text == "The segment was removed in the meantime; nothing was written."
    assert segmentNames(segmentation) == ["other"]


def test_the_slice_is_that_of_the_view_that_was_used_last(editor):
    from FastTextDiffSegmentLib.scene.Geometry import jumpToSlice

    panel, view = editor.panel, editor.panel.slicer.util.getNode("Green")
    view.SetOrientation("Axial")
    jumpToSlice(view, editor.volume, SLICE + 7)
    assert apply(editor).startswith(f"left lung, slice {SLICE + 8}: ")
    assert np.flatnonzero(mask(editor).any(axis=(1, 2))).tolist() == [SLICE + 7]
    layout = panel.slicer.vtkMRMLLayoutNode
    panel.slicer.app.layoutManager().setLayout(layout.SlicerLayoutOneUpRedSliceView)
    assert apply(editor).startswith(f"left lung, slice {SLICE + 1}: ")
    panel.slicer.app.layoutManager().setLayout(layout.SlicerLayoutFourUpView)
    jumpToSlice(panel.view, editor.volume, SLICE + 2)
    assert apply(editor).startswith(f"left lung, slice {SLICE + 3}: ")


def test_the_documented_script_writes_into_a_segment(editor):
    page = (ROOT / "docs" / "segment_editor.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.S)
    editor.volume.SetName("chest")
    editor.segmentation.SetName("my findings")
    exec(code, {"slicer": editor.panel.slicer})
    assert mask(editor)[SLICE].sum() > 1000


def test_help_and_icon_are_there(editor):
    python = editor.effect.self()
    assert not python.icon().isNull()
    page = (ROOT / "docs" / "segment_editor.md").read_text(encoding="utf-8")
    for button in re.findall(r"\*(Apply[^*]+)\*", page):
        assert button in (editor.form.slice.text, editor.form.volume.text)
    assert "Not for diagnosis" in python.helpText()
