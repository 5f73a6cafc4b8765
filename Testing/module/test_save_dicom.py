"""Save... as DICOM Segmentation: the same bytes as the command line, edits are marked, refusals are one line."""

import os
import subprocess
import sys
import types

import numpy as np
import pydicom
import pytest
from dicom_readers import errors_found_by_dciodvfy, read_with_dcmqi, world
from module_panel import ROOT, chestSeries, inSliceOrder, loadedAsByTheDicomModule, packagesFrom

pytest.importorskip("highdicom", reason="needs highdicom")

AT_THAT_TIME = """
import sys
from datetime import datetime
import fasttextdiff.outcomes
that_time = sys.argv.pop(1)
class Clock(datetime):
    now = classmethod(lambda cls, zone=None: cls.fromisoformat(that_time))
fasttextdiff.outcomes.datetime = Clock
from fasttextdiff.cli import main
main()
"""
"""The command line with its clock set back, because files contain the time of the run."""


@pytest.fixture
def series(panel, tmp_path, monkeypatch):
    """Slices of the chest CT as a series in Slicer's DICOM database, loaded from there."""
    files = inSliceOrder(chestSeries(tmp_path / "series", range(50, 56)))
    uids = [pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID for file in files]
    known = dict(zip(uids, map(str, files), strict=True))
    database = types.SimpleNamespace(fileForInstance=lambda uid: known.get(uid, ""))
    monkeypatch.setattr(panel.slicer, "dicomDatabase", database, raising=False)
    volume = loadedAsByTheDicomModule(panel.slicer, files)
    volume.SetAttribute("DICOM.instanceUIDs", " ".join(uids))
    volume.SetAndObserveStorageNodeID(None)  # a saved scene keeps only the UIDs
    return panel.open(volume)


def files(folder):
    return [path for path in (folder / "series").rglob("*") if path.is_file()]


def saved(panel, path):
    panel.answers.fileName = str(path)
    panel.click("saveButton")
    panel.finishRun()
    return path


def test_unedited_segments_equal_the_command_lines_and_edited_ones_are_marked(panel, series, tmp_path):
    panel.type("left lung\nright lung")
    panel.click("segmentVolumeButton")
    panel.finishRun()
    path = saved(panel, tmp_path / "panel.dcm")
    assert panel.answers.offersDicom
    assert panel.message == f"Saved {path}"
    created = panel.tag("left lung", "FastTextDiff.Created")
    asked = [
        "segment",
        str(tmp_path / "series"),
        "-f",
        "left lung",
        "-f",
        "right lung",
        "-o",
        str(tmp_path / "cli.dcm"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "engine")}
    subprocess.run([sys.executable, "-c", AT_THAT_TIME, created, *asked], check=True, env=environment)
    assert path.read_bytes() == (tmp_path / "cli.dcm").read_bytes()

    mask = panel.mask("left lung", series)
    mask[3, 100:120, 100:130] ^= True
    segments = panel.segmentation.GetSegmentation()
    edit = panel.slicer.util.updateSegmentBinaryLabelmapFromArray
    edit(mask.astype(np.uint8), panel.segmentation, segments.GetSegmentIdBySegmentName("left lung"), series)
    edited = saved(panel, path)
    first, second = pydicom.dcmread(edited).SegmentSequence
    assert (first.SegmentAlgorithmType, second.SegmentAlgorithmType) == ("SEMIAUTOMATIC", "AUTOMATIC")
    assert first.SegmentDescription == "left lung (edited by hand)"
    found = read_with_dcmqi(edited, tmp_path / "read")
    from FastTextDiffSegmentLib.scene.Geometry import ijkToRas

    toLps = np.diag([-1.0, -1, 1, 1]) @ ijkToRas(series)
    for name in panel.names:
        np.testing.assert_allclose(found[name], world(panel.mask(name, series), toLps), atol=1e-3)
    assert errors_found_by_dciodvfy(edited) == []
    assert not list(panel.widget.logic.session.folder.path.glob("saving-*"))


def test_a_refusal_is_one_line_and_keeps_an_older_file(panel, series, chestCt, tmp_path, monkeypatch):
    panel.choose(series)
    panel.type("left lung")
    panel.click("segmentVolumeButton")  # the view shows the other image
    panel.finishRun()
    path = tmp_path / "older.dcm"
    path.write_bytes(b"older")

    def refused(words):
        saved(panel, path)
        assert words in panel.message
        assert "\n" not in panel.message
        assert path.read_bytes() == b"older"

    setup = panel.widget.setupSection
    metadata = tmp_path / "highdicom-0.1.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Name: highdicom\nVersion: 0.1\n")
    with packagesFrom(panel, monkeypatch, tmp_path):
        panel.waitFor(lambda: setup.dicomSegProblem)
        refused("highdicom: version 0.1 is too old")
        assert "is needed: install it in Set-up above." in panel.message
        assert panel.ui.installButton.enabled
    panel.waitFor(lambda: setup.isReady)
    assert not setup.dicomSegProblem
    for file in files(tmp_path):
        dataset = pydicom.dcmread(file)
        del dataset.FrameOfReferenceUID
        dataset.save_as(file)
    refused("no Frame of Reference UID")
    series.SetOrigin(0, 0, 0)
    refused("another grid")
    files(tmp_path)[0].unlink()
    refused("1 of 6 DICOM files of 'series' are gone")
    assert panel.answers.offersDicom is False
    panel.choose(chestCt)
    panel.click("saveButton")
    assert "was not loaded from DICOM" in panel.message
