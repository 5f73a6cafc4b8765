"""Examples one click away, words that the model ignores, the result without words, absent and misplaced findings."""

import re

import numpy as np
from module_panel import ROOT

SLICE = 52


def show(panel, volume):
    from FastTextDiffSegmentLib.scene.Geometry import jumpToSlice

    jumpToSlice(panel.view, volume, SLICE)
    panel.waitFor(lambda: panel.shownIndex == SLICE)


def test_an_example_is_one_click_away(panel, chestCt):
    ui = panel.ui
    panel.waitFor(lambda: ui.examplesLabel.visible)
    names = re.findall(r'href="([^"]+)"', ui.examplesLabel.text)
    assert "left lung" in names
    assert "infection" in names
    assert "lungs" not in names  # says nothing new after "left lung"
    assert "cell nuclei" not in names
    ui.examplesLabel.linkActivated.emit("left lung")
    ui.examplesLabel.linkActivated.emit("left lung")
    assert panel.lines == ["left lung"]


def test_words_are_checked_on_the_slice_and_forgotten_with_it(panel, chestCt):
    from FastTextDiffSegmentLib.Logic import SegmentationRequest

    ui, segmenting = panel.ui, panel.widget.logic
    show(panel, chestCt)
    ui.livePreviewCheckBox.checked = False
    panel.type("left lung infection")
    panel.click("checkWordsButton")
    panel.finishRun()
    assert re.sub(r"<[^>]+>", "", ui.wordsLabel.text) == "left lung infection"
    outline = panel.preview
    shown = panel.slicer.util.arrayFromSegmentBinaryLabelmap(
        outline, outline.GetSegmentation().GetNthSegmentID(0), chestCt
    )
    request = SegmentationRequest(chestCt, ("left lung infection",), (SLICE, SLICE + 1))
    (weighed,) = segmenting.examining.weighWords(request)
    assert weighed.textFree.any()
    assert np.array_equal(shown[SLICE] > 0, weighed.textFree[0])
    assert panel.segmentation is None  # nothing was written
    for word in weighed.answer.words:
        isGrey = bool(re.search(rf"<span[^>]*>{word.word}</span>", ui.wordsLabel.text))
        assert isGrey == bool(word.ignored)
    assert "Grey outline: the result without words." in panel.message
    panel.view.SetSliceOffset(panel.view.GetSliceOffset() + 10)
    panel.waitFor(lambda: not ui.wordsLabel.visible)
    assert panel.preview is None
    ui.livePreviewCheckBox.checked = True


def test_an_absent_finding_and_one_of_another_kind_of_image_are_said_so(panel, chestCt):
    panel.type("ischaemic stroke\ncell nuclei")
    panel.segmentRange(SLICE, SLICE + 1)
    assert re.search(r"not found: ischaemic stroke \(presence \d+%\)", panel.message)
    assert "it was taught for histology images" in panel.message


def test_the_documented_script_names_words(panel, chestCt, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "words.md").read_text(encoding="utf-8"), re.S)
    chestCt.SetName("chest")
    exec(code, {"slicer": panel.slicer})
    assert "('huge', " in capsys.readouterr().out
