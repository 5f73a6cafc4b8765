"""Makes pictures of the module: the real panel in the test host's window, real data, the bundled model.

QT_QPA_PLATFORM=offscreen python Testing/module/make_screenshot.py Resources/screenshot.png
QT_QPA_PLATFORM=offscreen python Testing/module/make_screenshot.py --teach docs/teaching.png
"""

import os
import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
SIZE, SMALL = (1366, 768), (940, 720)


def main(path):
    """Segment both lungs of the sample CT by typing, show them in 3D, then type another finding as a live preview."""
    host, widget, _volume = start()
    slicer, qt = host.slicer, host.qt
    widget.ui.findingsTextEdit.setPlainText("left lung\nright lung")
    widget.ui.segmentVolumeButton.click()
    host.runEventLoop(until=lambda: not widget.run.isRunning, timeout=1200)
    view = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLViewNode")
    view.SetBoxVisible(False)
    view.SetAxisLabelsVisible(False)
    widget.ui.show3DButton.click()
    widget.ui.findingsTextEdit.setFocus()
    qt.QTest.keyClick(widget.ui.findingsTextEdit, qt.Qt.Key_End, qt.Qt.ControlModifier)
    qt.QTest.keyClick(widget.ui.findingsTextEdit, qt.Qt.Key_Return)
    qt.QTest.keyClicks(widget.ui.findingsTextEdit, "lungs")
    host.runEventLoop(until=lambda: widget.preview.isShown, timeout=60)
    host.runEventLoop(timeout=1.0)
    save(host, path, SIZE)


def teach(path):
    """Teach the blood pool from two slices of the sample CT, and show it before and after on another one."""
    host, widget, volume = start()
    from FastTextDiffSegmentLib.scene.Geometry import jumpToSlice

    slicer, ui = host.slicer, widget.ui
    node = widget.logic.newSegmentation(volume)
    segmentId = node.GetSegmentation().AddEmptySegment("", "blood pool")
    blood = (slicer.util.arrayFromVolume(volume) > 250).astype("uint8")
    slicer.util.updateSegmentBinaryLabelmapFromArray(blood, node, segmentId, volume)
    node.GetDisplayNode().SetVisibility(False)
    ui.outputSelector.setCurrentNode(node)
    slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView)
    ui.teachCollapsibleButton.checked = True
    ui.teachFindingLineEdit.text = "blood pool"
    for k in (40, 70):
        jumpToSlice(ui.viewSelector.currentNode(), volume, k)
        ui.addExampleButton.click()
    for button in (ui.learnButton, ui.beforeAfterButton):
        button.click()
        host.runEventLoop(until=lambda: not widget.run.isRunning, timeout=1200)
    area = host.window.findChildren(host.qt.QScrollArea)[0]
    host.window.resize(*SMALL)
    host.runEventLoop(timeout=0.5)
    area.ensureWidgetVisible(ui.removeLearnedButton, 0, 10)
    area.horizontalScrollBar().value = 0
    save(host, path, SMALL, colors=128, method=Image.Quantize.MAXCOVERAGE)


def start():
    """The host, the panel and the sample CT in it."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    sys.path.insert(0, str(ROOT / "Testing" / "host"))
    import slicerhost

    host = slicerhost.start()
    slicer = host.slicer
    _python, widget = host.loadModule(str(ROOT / "FastTextDiffSegment" / "FastTextDiffSegment.py"))
    host.runEventLoop(until=lambda: widget.logic.session.isOpen, timeout=600)
    widget.setupSection.acceptLicence()
    volume = slicer.util.loadVolume(str(ROOT / "Resources" / "samples" / "chest_ct" / "chest_ct_cropped.nii.gz"))
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    widget.ui.inputSelector.setCurrentNode(volume)
    host.runEventLoop(until=lambda: widget.image.known.modality, timeout=600)
    host.window.show()
    host.window.activateWindow()
    host.runEventLoop(timeout=0.2)
    return host, widget, volume


def save(host, path, size, colors=256, method=None):
    """The window as a small PNG; git's history keeps every version."""
    host.screenshot(path, size)
    shown = Image.open(path).convert("RGB")
    shown.quantize(colors, method, dither=Image.Dither.NONE).save(path, optimize=True)
    host.unloadModule("FastTextDiffSegment")


if __name__ == "__main__":
    (teach if "--teach" in sys.argv else main)(sys.argv[-1])
