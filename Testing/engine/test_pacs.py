"""A round trip through a PACS on this machine: Orthanc sends a study, dcmtk receives it, a segmentation comes back."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_files import write_slice
from pydicom.uid import generate_uid

pytest.importorskip("highdicom", reason="needs highdicom")

PROGRAMS = ("Orthanc", "storescp", "storescu", "movescu", "flock")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        any(shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin") is None for name in PROGRAMS),
        reason=f"needs {', '.join(PROGRAMS)} (Debian: orthanc, dcmtk)",
    ),
]
SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "segment_and_send.sh"
STUDY, SERIES = generate_uid(entropy_srcs=["study"]), generate_uid(entropy_srcs=["series"])
PATIENCE = 900


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class Orthanc:
    """A test PACS that knows `SEGMENTER`."""

    def __init__(self, folder, receiver_port):
        self.dicom, self.http = free_ports(2)
        settings = {
            "Name": "test", "StorageDirectory": str(folder / "storage"), "IndexDirectory": str(folder / "storage"),
            "Plugins": [], "DicomPort": self.dicom, "HttpPort": self.http, "DicomAet": "ORTHANC",
            "RemoteAccessAllowed": False, "AuthenticationEnabled": False, "DicomCheckCalledAet": False,
            "DicomModalities": {
                "receiver": ["SEGMENTER", "127.0.0.1", receiver_port], "tester": ["TESTER", "127.0.0.1", 1],
            },
        }  # fmt: skip
        (folder / "orthanc.json").write_text(json.dumps(settings))
        program = shutil.which("Orthanc") or "/usr/sbin/Orthanc"
        self.process = subprocess.Popen(
            [program, str(folder / "orthanc.json")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def ask(self, path, **more):
        request = urllib.request.Request(f"http://127.0.0.1:{self.http}{path}", **more)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=30) as answer:
            return answer.read()

    def is_up(self):
        try:
            return bool(self.ask("/system"))
        except OSError:
            return False

    def segmentations(self):
        """Objects of modality SEG, with the Orthanc number of their series and study."""
        series = [json.loads(self.ask(f"/series/{one}")) for one in json.loads(self.ask("/series"))]
        for one in series:
            if one["MainDicomTags"].get("Modality") == "SEG":
                for instance in one["Instances"]:
                    file = io.BytesIO(self.ask(f"/instances/{instance}/file"))
                    yield pydicom.dcmread(file), one["ID"], one["ParentStudy"]


def wait_until(true, *processes):
    for _ in range(PATIENCE * 4):
        if true():
            return
        assert all(process.poll() is None for process in processes)
        time.sleep(0.25)
    raise AssertionError("waited in vain")


@pytest.fixture
def pacs(tmp_path):
    (receiver_port,) = free_ports(1)
    orthanc = Orthanc(tmp_path, receiver_port)
    commands = tmp_path / "bin"
    commands.mkdir()
    (commands / "fasttextdiff").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m fasttextdiff "$@"\n')
    (commands / "fasttextdiff").chmod(0o755)
    (tmp_path / "received").mkdir()
    environment = {
        **os.environ, "PATH": f"{commands}:{os.environ['PATH']}", "FINDINGS": "left lung;infection",
        "RESULTS": str(tmp_path / "results"), "PACS": f"127.0.0.1:{orthanc.dicom}", "PACS_AET": "ORTHANC",
        "BATCH_OPTIONS": "--modality ct",
    }  # fmt: skip
    receiver = subprocess.Popen(
        ["storescp", "-aet", "SEGMENTER", "+xa", "--output-directory", str(tmp_path / "received"),
         "--sort-on-study-uid", "study", "--eostudy-timeout", "2", "--exec-on-eostudy", f"{SCRIPT} '#p'",
         str(receiver_port)],
        env=environment,
    )  # fmt: skip
    try:
        wait_until(orthanc.is_up, orthanc.process, receiver)
        yield orthanc, receiver
    finally:
        for process in (receiver, orthanc.process):
            process.terminate()
            process.wait(30)


def test_a_study_goes_from_the_pacs_to_the_segmenter_and_its_segmentation_comes_back(pacs, tmp_path):
    orthanc, receiver = pacs
    voxels = np.random.default_rng(0).integers(-1000, 300, (4, 32, 32)).astype(np.int16)
    source = [
        write_slice(
            tmp_path / "source" / f"{n}.dcm", pixels, StudyInstanceUID=STUDY, SeriesInstanceUID=SERIES,
            SOPInstanceUID=generate_uid(entropy_srcs=[str(n)]), ImagePositionPatient=[0, 0, 2 * n],
            PatientID="4711", PatientName="DOE^JANE", StudyID="1", SeriesNumber=1, InstanceNumber=n + 1,
        )
        for n, pixels in enumerate(voxels)
    ]  # fmt: skip
    subprocess.run(["storescu", "-aec", "ORTHANC", "127.0.0.1", str(orthanc.dicom), *map(str, source)], check=True)
    first, series, study = moved(orthanc, receiver)
    assert first.StudyInstanceUID == STUDY
    assert first.ReferencedSeriesSequence[0].SeriesInstanceUID == SERIES
    assert {item.ReferencedSOPInstanceUID for item in first.ReferencedSeriesSequence[0].ReferencedInstanceSequence} <= {
        pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID for file in source
    }
    assert [segment.SegmentDescription for segment in first.SegmentSequence] == ["left lung", "infection"]
    assert first.PatientID == "4711"
    assert len(json.loads(orthanc.ask(f"/studies/{study}"))["Series"]) == 2  # in the study of the images
    for path in (tmp_path / "results").rglob("*"):
        if path.is_file() and path.suffix != ".dcm" and ".local." not in path.name:
            assert b"DOE" not in path.read_bytes(), path

    orthanc.ask(f"/series/{series}", method="DELETE")
    shutil.rmtree(tmp_path / "results")
    again, _, _ = moved(orthanc, receiver)
    assert again.SOPInstanceUID == first.SOPInstanceUID
    assert again.SeriesInstanceUID == first.SeriesInstanceUID
    assert again.PixelData == first.PixelData


def moved(orthanc, receiver):
    """Let the PACS send the study to the segmenter, and wait for the result."""
    subprocess.run(
        ["movescu", "-S", "-aet", "TESTER", "-aec", "ORTHANC", "-aem", "SEGMENTER", "127.0.0.1", str(orthanc.dicom),
         "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={STUDY}"],
        check=True,
    )  # fmt: skip
    wait_until(lambda: list(orthanc.segmentations()), orthanc.process, receiver)
    (found,) = orthanc.segmentations()
    return found
