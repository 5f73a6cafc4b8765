"""Segmenting on another computer: the Test button, the consent, equal results, and trouble in one line."""

import numpy as np
import pytest

pytest.importorskip("slicer")
pytest.importorskip("PySide6")

from fake_ssh import HOST, FakeSsh

pytestmark = pytest.mark.slicer
FINDING = "left lung"
WITH_IMAGES = ("open_volume", "check_findings", "segment", "measure", "weigh_words", "correct")


class Elsewhere:
    """What a user does in the rows of Set-up."""

    def __init__(self, panel, ssh):
        self.panel, self.ui, self.ssh = panel, panel.ui, ssh
        self.yes, self.isRemembered, self.asked = True, False, []
        panel.answers.confirmAndRemember = self._answer

    def _answer(self, text, box, title):
        self.asked.append(text)
        return self.yes, self.yes and self.isRemembered

    def choose(self, host):
        self.ui.hostLineEdit.text = host
        self.ui.placeComboBox.setCurrentIndex(1)
        self.ui.placeComboBox.activated.emit(1)

    def chooseThis(self):
        self.ui.placeComboBox.setCurrentIndex(0)
        self.ui.placeComboBox.activated.emit(0)

    def waitUntilReady(self):
        self.panel.waitFor(lambda: self.panel.widget.logic.session.isOpen)
        self.panel.waitFor(lambda: "Ready" in self.panel.widget.setupSection.stage)

    def test(self):
        self.panel.click("testHostButton")
        self.panel.waitFor(lambda: self.ui.testHostButton.text == "Test")
        return self.ui.hostStateLabel.text

    @property
    def nothingWithImages(self):
        return not any(map(self.ssh.hasSent, WITH_IMAGES))


@pytest.fixture
def elsewhere(panel, tmp_path, monkeypatch):
    panel.ui.livePreviewCheckBox.checked = False
    panel.ui.setupCollapsibleButton.collapsed = False
    elsewhere = Elsewhere(panel, FakeSsh(tmp_path, monkeypatch))
    yield elsewhere
    elsewhere.ssh.trouble = ""
    panel.widget.settings.setHostAllowed(HOST, False)
    panel.widget.logic.session.place.allow(HOST, False)
    elsewhere.ui.hostLineEdit.text = ""
    elsewhere.chooseThis()
    elsewhere.waitUntilReady()


def segmentSlice(panel):
    panel.click("segmentSliceButton")
    panel.finishRun()


def test_images_go_to_another_computer_only_with_consent_and_give_the_same_mask(panel, chestCt, elsewhere):
    ui, widget, ssh = panel.ui, panel.widget, elsewhere.ssh
    panel.type(FINDING)
    segmentSlice(panel)
    here = panel.mask(FINDING, chestCt)
    assert here.any()
    assert "Nothing leaves this computer" in ui.researchLabel.text
    assert not ui.placeLabel.visible

    elsewhere.choose(HOST)
    panel.waitFor(lambda: widget.logic.session.isOpen)
    line = elsewhere.test()
    assert line.startswith(f"{HOST}: connected; engine ")
    assert "cpu" in line or "cuda" in line
    assert ui.placeLabel.visible
    assert HOST in ui.placeLabel.text
    assert HOST in ui.setupCollapsibleButton.text
    assert "Nothing leaves" not in ui.researchLabel.text
    assert "only on this computer" in widget.batch.whyNoCheck()
    assert "only on this computer" in ui.learnButton.toolTip

    elsewhere.yes = False
    segmentSlice(panel)
    assert len(elsewhere.asked) == 1
    assert HOST in elsewhere.asked[0]
    assert "DICOM headers" in elsewhere.asked[0]
    assert panel.message.startswith(f"Nothing was sent to {HOST}")
    panel.finishJobs()
    assert ssh.hasSent("check_environment")
    assert elsewhere.nothingWithImages
    assert FINDING.encode() not in ssh.sent
    assert np.array_equal(panel.mask(FINDING, chestCt), here)

    elsewhere.yes = True
    segmentId = panel.segmentation.GetSegmentation().GetSegmentIdBySegmentName(FINDING)
    panel.segmentation.GetSegmentation().RemoveSegment(segmentId)
    segmentSlice(panel)
    segmentSlice(panel)
    assert len(elsewhere.asked) == 2
    assert ssh.sent.count(b'"op": "open_volume"') == 1
    assert ssh.hasSent("segment")
    assert chestCt.GetName().encode() not in ssh.sent
    assert np.array_equal(panel.mask(FINDING, chestCt), here)
    assert f"sent to {HOST}" in ui.researchLabel.text

    panel.click("withdrawButton")
    elsewhere.waitUntilReady()
    assert not widget.logic.session.place.isAllowed
    elsewhere.isRemembered = True
    ssh.trouble = "break"
    widget.setupSection.checkAgain()
    elsewhere.waitUntilReady()
    segmentSlice(panel)
    assert len(elsewhere.asked) == 3
    assert panel.message.startswith(f"{HOST}: the connection broke off; try again")
    assert np.array_equal(panel.mask(FINDING, chestCt), here)
    assert widget.settings.isHostAllowed(HOST)
    ssh.trouble = ""
    elsewhere.waitUntilReady()


@pytest.mark.parametrize(
    ("computer", "trouble", "words"),
    [
        ("gpu2", "", "gpu2: it cannot be reached: check name and network"),
        (HOST, "password", "it asks for a password: set up a key with 'ssh-copy-id doctor@gpu'"),
        (HOST, "key", "its key is not known: connect once in a terminal with 'ssh doctor@gpu'"),
        (HOST, "absent", "the engine is not installed there"),
    ],
)
def test_trouble_of_the_test_is_one_line(panel, elsewhere, computer, trouble, words):
    from FastTextDiffSegmentLib.engine.EngineClient import EngineError

    elsewhere.ssh.trouble = trouble
    with pytest.raises(EngineError) as refused:
        panel.widget.logic.computer.test(computer)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_test_that_hangs_can_be_stopped(panel, elsewhere):
    elsewhere.ssh.trouble = "hang"
    panel.widget.settings.host = HOST
    panel.widget.place.test()
    assert panel.ui.hostStateLabel.text == f"Connecting to {HOST}..."
    assert panel.ui.testHostButton.text == "Stop"
    panel.widget.place.test()
    panel.waitFor(lambda: panel.ui.testHostButton.text == "Test")
    assert panel.ui.hostStateLabel.text == "Stopped."


@pytest.mark.parametrize(("name", "words"), [("", "Type the host"), ("a b", "'a b' is not the name of a computer")])
def test_a_missing_or_wrong_name_leaves_segmenting_here_and_says_so(panel, elsewhere, name, words):
    elsewhere.choose(name)
    assert panel.ui.hostStateLabel.text.startswith(words)
    assert "this computer segments" in panel.ui.hostStateLabel.text
    assert panel.widget.logic.computer.host == ""
    assert "Nothing leaves this computer" in panel.ui.researchLabel.text


def test_a_script_has_to_give_its_consent(panel, chestCt, elsewhere):
    from FastTextDiffSegmentLib.engine.EngineClient import EngineError
    from FastTextDiffSegmentLib.scene.Geometry import SceneError

    logic = panel.widget.logic
    with pytest.raises(SceneError, match=r"Segmenting on doctor@gpu .* sendImages=True"):
        logic.computer.use(HOST)
    assert logic.computer.host == ""
    elsewhere.choose(HOST)  # the consent is not asked for before the user segments
    elsewhere.waitUntilReady()
    before = panel.slicer.mrmlScene.GetNumberOfNodes()
    with pytest.raises(EngineError, match="Nothing was sent to doctor@gpu"):
        logic.segment(chestCt, [FINDING], sliceRange=(56, 57))
    assert panel.slicer.mrmlScene.GetNumberOfNodes() == before
    assert elsewhere.nothingWithImages


def test_strokes_and_measurements_work_there_and_tags_are_not_sent(panel, chestCt, elsewhere):
    logic, util = panel.widget.logic, panel.slicer.util
    node = logic.newSegmentation(chestCt)
    segmentId = node.GetSegmentation().AddEmptySegment("", FINDING)
    dense = (util.arrayFromVolume(chestCt) > 250).astype(np.uint8)
    util.updateSegmentBinaryLabelmapFromArray(dense, node, segmentId, chestCt)
    node.GetSegmentation().GetSegment(segmentId).SetTag("Patient", "DOE^JANE")
    here = logic.examining.measure(node, chestCt)
    elsewhere.choose(HOST)
    elsewhere.waitUntilReady()
    logic.session.place.allow(HOST)
    assert logic.examining.measure(node, chestCt) == here
    assert elsewhere.ssh.hasSent("measure")
    assert b"DOE^JANE" not in elsewhere.ssh.sent
    stroke = np.zeros(dense.shape[1:], np.uint8)
    stroke[60, 100:110] = 1
    corrected = logic.newSegmentation(chestCt)
    logic.correct(chestCt, FINDING, 56, [(stroke, True)], corrected)
    assert elsewhere.ssh.hasSent("correct")
    segmentId = corrected.GetSegmentation().GetSegmentIdBySegmentName(FINDING)
    assert util.arrayFromSegmentBinaryLabelmap(corrected, segmentId, chestCt)[56][stroke > 0].all()
    logic.undo()


@pytest.mark.parametrize(("button", "answer"), [("Yes", (True, True)), ("No", (False, False))])
def test_the_question_has_no_as_its_default_and_remembers_only_a_yes(panel, button, answer):
    from FastTextDiffSegmentLib.panels.Dialogs import Dialogs

    qt, defaults = panel.qt, []

    def press():
        dialog = qt.QApplication.activeModalWidget()
        dialog.findChild(qt.QCheckBox).checked = True
        buttons = dialog.findChild(qt.QDialogButtonBox)
        defaults.append(buttons.button(qt.QDialogButtonBox.No).default)
        buttons.button(getattr(qt.QDialogButtonBox, button)).click()

    qt.QTimer.singleShot(0, press)
    assert Dialogs().confirmAndRemember("Send?", "Remember", "Question") == answer
    assert defaults == [True]
