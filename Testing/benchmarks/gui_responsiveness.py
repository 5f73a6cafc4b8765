"""How long Slicer's window freezes during a run, and how much time the module adds to the engine alone.

Runs the module in the test host, whose event loop keeps the GIL as Slicer's does, and then the engine directly in the
same process tree, on the same volume:

    QT_QPA_PLATFORM=offscreen python Testing/benchmarks/gui_responsiveness.py [--finding "left lung"]

Prints the longest gap between two timer events of the main thread while the volume is segmented; that of the final
write is separate. Prints the seconds for the whole volume through the module and the engine, and their ratio. Then
sends a volume of 512 x 512 x 300 voxels to the engine, as happens when it is chosen. Prints the same gap and the time
it takes.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VOLUME = ROOT / "Resources" / "samples" / "chest_ct" / "chest_ct_cropped.nii.gz"
_ALONE = """
import sys, time
from fasttextdiff import Segmenter, read_volume
segmenter = Segmenter()
volume = read_volume(sys.argv[1])
segmenter.segment(volume, [sys.argv[2]], slices=(0, 4))
segmenter.cache.clear()
start = time.perf_counter()
segmenter.segment(volume, [sys.argv[2]])
print(time.perf_counter() - start)
"""


class Pulse:
    """The pulse of the main thread: a timer that records how late it was."""

    def __init__(self, qt, interval=5):
        self.gaps = []
        self._last = time.perf_counter()
        self._timer = qt.QTimer()
        self._timer.setInterval(interval)
        self._timer.timeout.connect(self._beat)

    def start(self):
        self.gaps.clear()
        self._last = time.perf_counter()
        self._timer.start()

    def stop(self):
        self._timer.stop()

    def _beat(self):
        now = time.perf_counter()
        self.gaps.append(now - self._last)
        self._last = now


def throughModule(finding):
    """(longest gap while the engine works, write time, seconds, timer events) for a volume, and for sending it."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    sys.path[:0] = [str(ROOT / "Testing" / "host")]
    import slicerhost

    host = slicerhost.start()
    _python, widget = host.loadModule(str(ROOT / "FastTextDiffSegment" / "FastTextDiffSegment.py"))
    host.runEventLoop(until=lambda: widget.logic.session.isOpen, timeout=120)
    volume = host.slicer.util.loadVolume(str(VOLUME))
    widget.ui.inputSelector.setCurrentNode(volume)
    widget.ui.livePreviewCheckBox.checked = False
    widget.setupSection.acceptLicence()
    widget.ui.findingsTextEdit.setPlainText(finding)
    host.runEventLoop(until=lambda: widget.image.known.modality, timeout=60)
    pulse, writes, write = Pulse(host.qt), [], widget.results.control.write

    def timedWrite(*arguments):
        pulse.stop()
        start = time.perf_counter()
        written = write(*arguments)
        writes.append(time.perf_counter() - start)
        return written

    widget.results.control.write = timedWrite
    start = time.perf_counter()
    pulse.start()
    widget.ui.segmentVolumeButton.click()
    host.runEventLoop(until=lambda: bool(writes), timeout=1200)
    seconds = time.perf_counter() - start
    result = max(pulse.gaps), writes[0], seconds, len(pulse.gaps)
    sending = _send(host, widget, pulse)
    host.unloadModule("FastTextDiffSegment")
    return (*result, *sending)


def _send(host, widget, pulse):
    """(longest gap, seconds) while a large volume is sent."""
    import numpy as np

    voxels = np.random.default_rng(0).integers(-1000, 1000, (300, 512, 512), np.int16)
    volume = host.slicer.util.addVolumeFromArray(voxels, np.diag([0.7, 0.7, 1, 1]), "large")
    start = time.perf_counter()
    pulse.start()
    widget.ui.inputSelector.setCurrentNode(volume)
    host.runEventLoop(until=lambda: widget.image.known.modality, timeout=120)
    pulse.stop()
    return max(pulse.gaps), time.perf_counter() - start


def alone(finding):
    """Seconds of the engine in its own process, with the model loaded and warmed up."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "engine")}
    command = [sys.executable, "-c", _ALONE, str(VOLUME), finding]
    return float(subprocess.check_output(command, env=environment, text=True).split()[-1])


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--finding", default="left lung")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    options = parser.parse_args()
    engine = alone(options.finding)
    gap, write, run, beats, handOverGap, handOver = throughModule(options.finding)
    result = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "longest main-thread gap, ms": round(1000 * gap, 1),
        "timer events": beats,
        "final write, s": round(write, 3),
        "volume through the module, s": round(run, 2),
        "volume through the engine alone, s": round(engine, 2),
        "longest main-thread gap handing over 512x512x300, ms": round(1000 * handOverGap, 1),
        "handing over 512x512x300, s": round(handOver, 2),
        "speed of the module relative to the engine": round(engine / run, 3),
    }
    for name, value in result.items():
        print(f"{name}: {value}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
