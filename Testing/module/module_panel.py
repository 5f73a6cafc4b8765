"""What a user of the module has: samples, the panel's buttons and boxes, answers to its questions."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "FastTextDiffSegment" / "FastTextDiffSegment.py"
SAMPLES = ROOT / "Resources" / "samples"
CHEST_CT = SAMPLES / "chest_ct" / "chest_ct_cropped.nii.gz"
ENGINE_START = 400
"""Seconds; a loaded machine needs long to import torch."""


class Answers:
    """The user's answers to questions, and the questions."""

    def __init__(self):
        self.yes, self.asked, self.fileName, self.offersDicom = True, [], "", None

    def confirm(self, text, title):
        self.asked.append(text)
        return self.yes

    def openFileName(self):
        return self.fileName

    def saveFileName(self, suggestion, offersDicom):
        self.offersDicom = offersDicom
        return self.fileName


class Panel:
    """What a user does with the panel."""

    def __init__(self, host, widget):
        self.host, self.widget, self.ui = host, widget, widget.ui
        self.slicer, self.qt = host.slicer, host.qt
        self.answers = widget.dialogs = Answers()

    def open(self, volume):
        self.slicer.util.setSliceViewerLayers(background=volume, fit=True)
        self.widget._parameters.inputVolume = volume
        self.waitFor(lambda: "modality" in self.widget._known)
        return volume

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
        self.qt.QTest.mouseClick(button, self.qt.Qt.LeftButton)

    def waitFor(self, condition, timeout=ENGINE_START):
        assert self.host.runEventLoop(until=condition, timeout=timeout), self.message

    def finishRun(self):
        self.waitFor(lambda: not self.widget.run.isRunning)

    @property
    def message(self):
        return self.ui.messageLabel.text

    @property
    def segmentation(self):
        return self.widget._parameters.outputSegmentation

    @property
    def names(self):
        segments = self.segmentation.GetSegmentation()
        return [segments.GetNthSegment(n).GetName() for n in range(segments.GetNumberOfSegments())]

    def mask(self, name, volume):
        segments = self.segmentation.GetSegmentation()
        segmentId = segments.GetSegmentIdBySegmentName(name)
        return self.slicer.util.arrayFromSegmentBinaryLabelmap(self.segmentation, segmentId, volume) > 0

    def tag(self, name, tag):
        from FastTextDiffSegmentLib.scene.SegmentWriter import tagOf

        segments = self.segmentation.GetSegmentation()
        return tagOf(segments.GetSegment(segments.GetSegmentIdBySegmentName(name)), tag)


def loadedAsByTheDicomModule(slicer, files):
    """A volume from files in the order of their slices, as Slicer's DICOM module hands them over."""
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
    """The files of a series sorted along the patient: by name they would give another volume."""
    import pydicom

    files = [path for path in folder.rglob("*") if path.is_file()]
    return sorted(files, key=lambda file: pydicom.dcmread(file, stop_before_pixels=True).ImagePositionPatient[2])
