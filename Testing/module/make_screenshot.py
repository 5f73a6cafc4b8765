"""Makes the README's picture of the module: the real panel in the test host's window, real data, the bundled model.

QT_QPA_PLATFORM=offscreen python Testing/module/make_screenshot.py Resources/screenshot.png
"""

import os
import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
SIZE = 1366, 768


def main(path):
    """Segment both lungs of the sample CT by typing, show them in 3D, then type another finding as a live preview."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    sys.path.insert(0, str(ROOT / "Testing" / "host"))
    import slicerhost

    host = slicerhost.start()
    slicer, qt = host.slicer, host.qt
    _python, widget = host.loadModule(str(ROOT / "FastTextDiffSegment" / "FastTextDiffSegment.py"))
    host.runEventLoop(until=lambda: widget.logic.session.isOpen, timeout=120)
    widget.setupSection.acceptLicence()
    volume = slicer.util.loadVolume(str(ROOT / "Resources" / "samples" / "chest_ct" / "chest_ct_cropped.nii.gz"))
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    widget.ui.inputSelector.setCurrentNode(volume)
    host.runEventLoop(until=lambda: widget.image.known.modality, timeout=60)
    host.window.show()
    host.window.activateWindow()
    host.runEventLoop(timeout=0.2)
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
    qt.QTest.keyClicks(widget.ui.findingsTextEdit, "kidney")
    host.runEventLoop(until=lambda: widget.preview.isShown, timeout=60)
    host.runEventLoop(timeout=1.0)
    host.screenshot(path, SIZE)
    shown = Image.open(path).convert("RGB")
    shown.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)  # git's history keeps every version
    host.unloadModule("FastTextDiffSegment")


if __name__ == "__main__":
    main(sys.argv[1])
