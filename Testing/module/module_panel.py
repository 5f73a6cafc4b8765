"""A user of the module: samples, the panel's buttons and boxes, answers to its questions."""

import contextlib
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "FastTextDiffSegment" / "FastTextDiffSegment.py"
SAMPLES = ROOT / "Resources" / "samples"
CHEST_CT = SAMPLES / "chest_ct" / "chest_ct_cropped.nii.gz"
ENGINE_START = 400
"""Seconds; a busy machine takes long to import torch."""


def engineProcesses(*words):
    """Ids of running engine processes that this process started and whose command lines contain `words`."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = status.read_text().rpartition(")")[2].split()[1]
            command = (status.parent / "cmdline").read_text().split("\0")
        except OSError:  # ended in the meantime
            continue
        if int(parent) == os.getpid() and {"fasttextdiff", *words} <= set(command):
            found.append(int(status.parent.name))
    return found


def hasEnded(process):
    """Whether a child process has ended with all its threads; /proc shows it as dead too early."""
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


@contextlib.contextmanager
def packagesFrom(panel, monkeypatch, folder):
    """Restart the engine so that it finds the packages in a folder first; restart it as usual afterwards."""
    from FastTextDiffSegmentLib.Logic import engineEnvironment

    path = os.pathsep.join([str(folder), engineEnvironment()["PYTHONPATH"]])
    with engineWith(panel, monkeypatch, PYTHONPATH=path):
        yield


@contextlib.contextmanager
def engineWith(panel, monkeypatch, **variables):
    """Restart the engine with other environment variables; restart it as usual afterwards."""
    from FastTextDiffSegmentLib import Logic

    usual = Logic.engineEnvironment

    def changed():
        return {**usual(), **variables}

    with monkeypatch.context() as patch:
        patch.setattr(Logic, "engineEnvironment", changed)
        panel.widget.setupSection.checkAgain()
        try:
            yield
        finally:
            patch.undo()
            panel.widget.setupSection.checkAgain()


class Answers:
    """The user's answers to questions, and the questions."""

    def __init__(self):
        self.yes, self.asked, self.fileName, self.offersDicom, self.text = True, [], "", None, ""

    def confirm(self, text, title):
        self.asked.append(text)
        return self.yes

    def openFileName(self):
        return self.fileName

    def openLearned(self):
        return self.fileName

    def saveLearned(self, suggestion):
        return self.fileName

    def askText(self, question, text):
        self.asked.append(text)
        return self.text

    def saveFileName(self, suggestion, offersDicom):
        self.offersDicom = offersDicom
        return self.fileName

    saveMeasurements = saveFileName


class Panel:
    """What a user does with the panel."""

    def __init__(self, host, widget):
        self.host, self.widget, self.ui = host, widget, widget.ui
        self.slicer, self.qt = host.slicer, host.qt
        self.answers = widget.context.dialogs = Answers()

    def open(self, volume):
        self.slicer.util.setSliceViewerLayers(background=volume, fit=True)
        self.choose(volume)
        self.waitFor(lambda: self.kind)
        return volume

    def choose(self, volume):
        self.ui.inputSelector.setCurrentNode(volume)

    @property
    def kind(self):
        """The kind of image that the engine chose, as the panel shows it; empty until it is known."""
        return self.ui.modalityComboBox.itemText(0).partition(": ")[2]

    @property
    def view(self):
        """The slice view whose slice is segmented."""
        return self.ui.viewSelector.currentNode()

    @property
    def shownIndex(self):
        """The slice in this view, from 0, as the panel shows it."""
        return int(self.ui.sliceLabel.text.partition(" of ")[0].split()[-1]) - 1

    @property
    def lines(self):
        """The lines of the text box."""
        return self.ui.findingsTextEdit.toPlainText().split("\n")

    @property
    def preview(self):
        """The segmentation node of the preview, which is neither listed nor saved; None if there is none."""
        nodes = self.slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
        return next((node for node in nodes if node.GetHideFromEditors() and not node.GetSaveWithScene()), None)

    def type(self, text):
        self.ui.findingsTextEdit.setFocus()
        for line, words in enumerate(text.split("\n")):
            if line:
                self.key(self.qt.Qt.Key_Return)
            self.qt.QTest.keyClicks(self.ui.findingsTextEdit, words)

    def key(self, key, modifier=None):
        self.qt.QTest.keyClick(self.ui.findingsTextEdit, key, modifier or self.qt.Qt.NoModifier)

    def click(self, name):
        button = getattr(self.ui, name)
        assert button.enabled, f"{name}: {button.toolTip}"
        around = button.parentWidget()
        while around is not None:  # a user opens the section first; a click on what is hidden may be lost
            if getattr(around, "collapsed", False):
                around.collapsed = False
            around = around.parentWidget()
        self.qt.QTest.mouseClick(button, self.qt.Qt.LeftButton)

    def waitFor(self, condition, timeout=ENGINE_START):
        assert self.host.runEventLoop(until=condition, timeout=timeout), self.message

    def finishRun(self):
        self.waitFor(lambda: not self.widget.run.isRunning)

    def segmentRange(self, first, end):
        """Segment slices [first, end), from 0, as a user chooses them."""
        self.ui.scopeComboBox.setCurrentIndex(1)
        self.ui.lastSliceSpinBox.setValue(end)
        self.ui.firstSliceSpinBox.setValue(first + 1)
        self.click("segmentVolumeButton")
        self.finishRun()
        self.ui.scopeComboBox.setCurrentIndex(0)

    def waitForPreview(self):
        self.waitFor(lambda: self.ui.keepButton.visible)

    def finishJobs(self):
        """Wait until no request is open."""
        self.waitFor(lambda: not self.widget.logic.runner.timer.active)

    @property
    def message(self):
        return self.ui.messageLabel.text

    @property
    def segmentation(self):
        return self.ui.outputSelector.currentNode()

    @property
    def names(self):
        return segmentNames(self.segmentation)

    def mask(self, name, volume):
        segments = self.segmentation.GetSegmentation()
        segmentId = segments.GetSegmentIdBySegmentName(name)
        return self.slicer.util.arrayFromSegmentBinaryLabelmap(self.segmentation, segmentId, volume) > 0

    def tag(self, name, tag):
        from FastTextDiffSegmentLib.scene.SegmentWriter import tagOf

        segments = self.segmentation.GetSegmentation()
        return tagOf(segments.GetSegment(segments.GetSegmentIdBySegmentName(name)), tag)


def segmentNames(node):
    """Names of a segmentation node's segments, in order."""
    segments = node.GetSegmentation()
    return [segments.GetNthSegment(n).GetName() for n in range(segments.GetNumberOfSegments())]


def loadedAsByTheDicomModule(slicer, files):
    """A volume from files in the order of their slices, as Slicer's DICOM module loads them."""
    import vtk

    names = vtk.vtkStringArray()
    for file in files:
        names.InsertNextValue(str(file))
    return slicer.modules.volumes.logic().AddArchetypeVolume(str(files[0]), "series", 0, names)


def chestSeries(folder, slices):
    """Slices of the chest CT, a range, as the files of a DICOM series."""
    import nibabel
    import numpy as np
    from dicom_files import write_stack

    chest, toFirst = nibabel.load(CHEST_CT), np.eye(4)
    toFirst[2, 3] = slices.start
    voxels = np.asarray(chest.dataobj)[..., slices].transpose(2, 1, 0).astype(np.int16)
    return write_stack(folder, voxels, chest.affine @ toFirst)


def inSliceOrder(folder):
    """The files of a series, sorted by slice position; sorted by name they would give another volume."""
    import pydicom

    files = [path for path in folder.rglob("*") if path.is_file()]
    return sorted(files, key=lambda file: pydicom.dcmread(file, stop_before_pixels=True).ImagePositionPatient[2])
