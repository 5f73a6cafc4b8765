"""The Batch section as users see it: real files, the real runner in its own process, killed, stopped, resumed."""

import csv
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from dicom_readers import with_uids
from module_panel import CHEST_CT, ROOT, SAMPLES, engineProcesses

FINDINGS = "left lung\nright lung"
LOOSE = ("timings-", "summary.", ".lock-", "failed.log", ".local.")
"""What may differ between runs: seconds, locks, addresses in a library's messages, and the paths of the folders."""


@pytest.fixture(scope="session")
def studies(tmp_path_factory):
    """Five images, one of them damaged, and a file that is not an image."""
    import nibabel
    import SimpleITK as sitk

    folder = tmp_path_factory.mktemp("studies")
    chest = np.asarray(nibabel.load(CHEST_CT).dataobj).astype(np.int16)
    for n, first in enumerate((40, 60, 80)):
        (folder / f"study {n}").mkdir()
        image = sitk.GetImageFromArray(chest[..., first : first + 2].transpose(2, 1, 0))
        sitk.WriteImage(image, str(folder / f"study {n}" / "DOE^JANE.nrrd"), useCompression=True)
    header, gap, voxels = (folder / "study 2" / "DOE^JANE.nrrd").read_bytes().partition(b"\n\n")
    (folder / "damaged.nrrd").write_bytes(header + gap + bytes(len(voxels)))
    series = with_uids(SAMPLES / "abdominal_ct_dicom", folder / "series")
    for file in sorted(series.iterdir())[2:]:
        file.unlink()
    (folder / "empty.dcm").touch()
    return folder


@pytest.fixture(scope="session")
def reference(studies, tmp_path_factory):
    """The command line's batch on the same input; [its process, its folder]."""
    output = tmp_path_factory.mktemp("reference")
    command = [sys.executable, "-m", "fasttextdiff", "batch", str(studies), "-o", str(output)]
    for finding in FINDINGS.split("\n"):
        command += ["-f", finding]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "engine"), "SOURCE_DATE_EPOCH": "1700000000"}
    silent = subprocess.DEVNULL
    process = subprocess.Popen(command, env=environment, stdout=silent, stderr=silent)
    yield process, output
    process.kill()
    process.wait()


def content(folder):
    """Bytes by file of everything that must be equal in all runs."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(loose in path.name for loose in LOOSE)
    }


class Batch:
    """What a user does in the section."""

    def __init__(self, panel):
        self.panel, self.ui, self.section = panel, panel.ui, panel.widget.batch
        self.ui.batchCollapsibleButton.collapsed = False

    def choose(self, source, output):
        self.ui.batchInputPathLineEdit.currentPath = str(source)
        self.ui.batchOutputPathLineEdit.currentPath = str(output)

    def press(self, name):
        button = getattr(self.ui, f"batch{name}Button")
        assert button.enabled, self.line
        button.click()

    @property
    def line(self):
        return self.ui.batchLabel.text

    @property
    def rows(self):
        """(image, state) as the table shows them."""
        table = self.ui.batchTable
        return [tuple(table.item(row, column).text() for column in (1, 2)) for row in range(table.rowCount)]

    def states(self):
        return sorted(state.partition(":")[0] for _, state in self.rows)

    def waitFor(self, condition):
        self.panel.waitFor(condition)

    def finish(self):
        self.waitFor(lambda: not self.ui.batchStopButton.enabled)
        self.panel.finishJobs()  # the check of the folder

    def processes(self):
        """Ids of the processes of this section."""
        return engineProcesses("batch", "--until-eof")

    def select(self, image):
        names = [name for name, _ in self.rows]
        self.ui.batchTable.selectRow(names.index(image))


@pytest.fixture
def batch(panel, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    batch = Batch(panel)
    yield batch
    batch.section.run.stop()
    batch.finish()
    batch.choose("", "")
    batch.ui.batchFindingsLineEdit.text = ""


ENDED = ["done"] * 4 + ["failed", "skipped"]


def test_a_folder_used_by_another_process_is_shown_and_not_touched(batch, reference):
    process, folder = reference
    batch.waitFor(lambda: (folder / "request.local.json").exists())
    batch.choose("", folder)
    batch.waitFor(lambda: "Another process" in batch.line and len(batch.rows) == 6)
    assert not batch.ui.batchStartButton.enabled
    assert batch.ui.batchFindingsLineEdit.text == "left lung; right lung"
    batch.waitFor(lambda: batch.states() == ENDED and batch.ui.batchStartButton.enabled)
    assert process.wait(10) == 1  # one case failed
    assert batch.ui.batchProgressBar.text == "4 of 5 done, 1 failed"


def test_a_killed_batch_resumes_and_gives_the_bytes_of_the_command_line(batch, panel, studies, reference, tmp_path):
    assert "Choose what to segment" in batch.line
    batch.choose(studies, "")
    assert "Type a finding" in batch.line
    panel.type(FINDINGS)
    batch.press("Check")
    batch.finish()
    assert batch.states() == ["skipped"] + ["waiting"] * 5
    assert ("empty.dcm", "skipped: the file is empty") in batch.rows
    assert "Choose an output folder" in batch.line

    batch.choose(studies, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    batch.press("Start")
    assert not batch.ui.batchStartButton.enabled
    batch.waitFor(lambda: "done" in batch.states())
    assert "an hour" in batch.ui.batchProgressBar.text
    (process,) = batch.processes()
    os.kill(process, signal.SIGKILL)
    batch.finish()
    assert "stopped unexpectedly" in batch.line
    assert "\n" not in batch.line
    batch.press("Start")
    batch.finish()
    assert (batch.states(), batch.line) == (ENDED, "")
    assert any(name == "damaged.nrrd" and "damaged" in state.partition(":")[2] for name, state in batch.rows)
    reference[0].wait()
    assert content(tmp_path / "out") == content(reference[1])

    batch.select("series")
    batch.press("Load")
    panel.finishRun()
    assert panel.message.startswith("Loaded ct-")
    volume = panel.ui.inputSelector.currentNode()
    with (tmp_path / "out" / "names.local.csv").open() as file:
        case = next(row["case"] for row in csv.DictReader(file) if row["path"].endswith("series"))
    assert (volume.GetName(), panel.names) == (case, FINDINGS.split("\n"))
    import SimpleITK as sitk

    written = sitk.ReadImage(str(tmp_path / "out" / case / f"{case}.seg.nrrd"))
    masks = [panel.mask(name, volume) for name in panel.names]
    labels = sitk.GetArrayFromImage(written).reshape(*masks[0].shape, -1)
    assert [int(mask.sum()) for mask in masks] == [int((labels == n).sum()) for n in (1, 2)]
    assert volume.GetImageData().GetDimensions()[2] == 2
    batch.select("DOE^JANE.nrrd")  # a chest, so there are voxels to be edited
    batch.press("Load")
    panel.finishRun()
    volume = panel.ui.inputSelector.currentNode()
    edited = (~panel.mask("left lung", volume)).astype(np.uint8)
    segmentId = panel.segmentation.GetSegmentation().GetNthSegmentID(0)
    panel.slicer.util.updateSegmentBinaryLabelmapFromArray(edited, panel.segmentation, segmentId, volume)
    assert panel.ui.resultsTable.item(0, 0).text().endswith("(edited)")

    broken = (studies / "damaged.nrrd").read_bytes()
    try:
        (studies / "damaged.nrrd").write_bytes((studies / "study 2" / "DOE^JANE.nrrd").read_bytes())
        batch.press("Retry")
        batch.finish()
    finally:
        (studies / "damaged.nrrd").write_bytes(broken)
    assert batch.states() == ["done"] * 5 + ["skipped"]
    assert not batch.ui.batchRetryButton.enabled


def test_closing_slicer_or_the_scene_asks_and_stops_the_batch(batch, panel, host, studies, tmp_path):
    panel.type(FINDINGS)
    batch.choose(studies, tmp_path / "out")
    batch.press("Start")
    batch.waitFor(lambda: "done" in batch.states())
    panel.answers.yes = False
    assert not host.window.close()
    assert panel.answers.asked == ["A batch is running. Stop it? Finished cases are kept; Start resumes it."]
    assert host.window.visible
    assert batch.section.isRunning
    panel.answers.yes = True
    host.closeScene()
    assert batch.processes() == []
    batch.finish()
    assert batch.line == "Stopped; Start resumes it."
    folders = [path for path in (tmp_path / "out").iterdir() if path.is_dir()]
    assert folders
    assert all((case / "case.json").exists() or (case / "failed.log").exists() for case in folders)
    assert panel.widget.batch.mayStop()  # nothing is running, so there is no question
    assert len(panel.answers.asked) == 2
