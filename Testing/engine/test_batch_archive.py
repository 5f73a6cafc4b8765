"""A realistic archive, a tenth of it broken in many ways: run, killed at random, and compared byte by byte.

Real DICOM files and real processes; patients' names are in headers, file names and folders, and must not leak.
"""

from __future__ import annotations

import base64
import io
import os
import random
import re
import shutil
import signal
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
from batch_runs import PATIENCE, batch, content, events, table, wait_for
from dicom_files import IDENTITY, slice_dataset, write_multiframe, write_slice
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, RLELossless, SecondaryCaptureImageStorage

PHI = ("DOE", "JANE", "PHI-4711", "19700101")
SAMPLES = Path(__file__).resolve().parents[2] / "Resources" / "samples"
ROOT = "1.2.826.0.1.3680043.8.498."
OPTIONS = ("-f", "infection", "--format", ".dcm", "--format", ".html", "--format", ".seg.nrrd", "--modality", "ct")
SLICES = 5

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="kills process groups, follows links"),
]


class Archive:
    """Builds studies of five slices; `expected` is the expected outcome of each folder."""

    def __init__(self, folder):
        self.folder = folder
        self.rng = np.random.default_rng(0)
        self.expected = {}
        self.studies = self.files = self.broken = 0

    def study(self, name, becomes, syntax=None, count=SLICES, **attributes):
        """Write a series into a folder named after the patient; returns its files in slice order."""
        self.studies += 1
        number = self.studies
        place = self.folder / f"DOE^JANE 19700101 {name}"
        self.expected[place] = becomes
        described = {
            "PatientName": "DOE^JANE", "PatientID": "PHI-4711", "PatientBirthDate": "19700101",
            "StudyInstanceUID": f"{ROOT}{number}", "SeriesInstanceUID": f"{ROOT}{number}.1",
            "FrameOfReferenceUID": f"{ROOT}{number}.2", "SeriesDescription": "Thorax DOE",
            "ImageOrientationPatient": list(IDENTITY),
        }  # fmt: skip
        files = []
        for n in range(count):
            own = {"SOPInstanceUID": f"{ROOT}{number}.3.{n}", "ImagePositionPatient": [0, 0, 2 * n]}
            options = {"syntax": syntax} if syntax else {}
            path = place / f"JANE DOE {n}.dcm"
            pixels = self.pixels() + 1000  # unsigned, since Pillow compresses nothing else
            own |= {"RescaleIntercept": -1000}
            files.append(write_slice(path, pixels.astype(np.uint16), **options, **{**described, **own, **attributes}))
        self.files += count
        return files

    def pixels(self):
        return self.rng.integers(-1000, 300, (24, 24)).astype(np.int16)

    def breaks(self, *paths):
        self.broken += len(paths)


def intact(archive, samples):
    """Studies in every syntax and layout, which must succeed; the bundled sample's headers lack too much for this."""
    for n in range(3):
        archive.study(f"plain {n}", "done")
    archive.study("rle", "done", RLELossless)
    archive.study("jpeg", "done", JPEG2000Lossless)
    for file in archive.study("deflated", "done"):
        deflate(file)
    bundled = archive.folder / "DOE^JANE jpeg2000"
    bundled.mkdir()
    for n, file in enumerate(sorted((samples / "abdominal_ct_dicom").iterdir())[:SLICES]):
        dataset = pydicom.dcmread(file)  # anonymised, so it lacks what DICOM SEG refers to
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"{ROOT}902", f"{ROOT}903"
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"{ROOT}904.{n}"
        dataset.save_as(bundled / f"JANE{n}")
    archive.expected[bundled] = "lack the SOP Class UID"
    enhanced = archive.folder / "DOE^JANE enhanced" / "JANE.dcm"
    enhanced.parent.mkdir()
    voxels = np.stack([archive.pixels() for _ in range(SLICES)])
    write_multiframe(
        enhanced, voxels, [2.0 * n for n in range(SLICES)], SeriesInstanceUID=ROOT + "900", PatientName="DOE^JANE"
    )
    archive.expected[enhanced.parent] = "done"
    archive.files += SLICES + 1


def awkward(archive):
    """Folders and duplicates that the search must handle."""
    two, other = archive.study("two series", "done"), archive.study("its other series", "done")
    for file in other:
        file.rename(two[0].parent / f"other {file.name}")
    archive.expected[two[0].parent] = "done twice"
    del archive.expected[other[0].parent]
    twice = archive.study("twice", "done")[0].parent
    shutil.copytree(twice, archive.folder / "DOE^JANE copy")
    archive.expected[archive.folder / "DOE^JANE copy"] = "a copy of images in another place"
    (twice / "loop").symlink_to(archive.folder, target_is_directory=True)
    unicode = archive.study("unicode", "done")[0].parent
    moved = archive.folder / "Müller 肺 🫁" / unicode.name
    moved.parent.mkdir()
    unicode.rename(moved)
    deep = archive.folder.joinpath(*["JANE" * 50] * 8)
    deep.mkdir(parents=True)
    long = archive.study("long path", "done")[0].parent.rename(deep / "DOE")
    for before, after in ((unicode, moved), (archive.folder / "DOE^JANE 19700101 long path", long)):
        archive.expected[after] = archive.expected.pop(before)
    archive.files += SLICES


def broken(archive):
    """One broken file in a series, or a series broken as a whole."""
    cut = archive.study("cut", "the series is incomplete")[2]
    cut.write_bytes(cut.read_bytes()[:-100])
    header = archive.study("cut in the header", "the series is incomplete")[4]
    header.write_bytes(header.read_bytes()[:700])
    empty = archive.study("empty file", "the series is incomplete")[2]
    empty.write_bytes(b"")
    zeros = archive.study("zeros", "the series is incomplete")[1]
    zeros.write_bytes(bytes(zeros.stat().st_size))
    text = archive.study("text", "the series is incomplete")[0].with_name("JANE readme.dcm")
    text.write_text("this is no DICOM of DOE")
    nonsense = archive.study("nonsense", "the series is incomplete")[0].with_name("JANE nonsense")
    nonsense.write_bytes(b"\0" * 128 + b"DICM" + b"DOE nonsense" * 9)
    lost = archive.study("a slice of no place", "having a position in the patient")[3]
    slice_dataset(archive.pixels(), **{**header_of(lost), "ImagePositionPatient": None}).save_as(lost)
    damaged = archive.study("compressed and damaged", "are damaged", JPEG2000Lossless)[2]
    spoil_pixels(damaged)
    uidless = archive.study("no uids", "lack UIDs", count=1)
    without = dict.fromkeys(("SeriesInstanceUID", "StudyInstanceUID"))
    nameless = slice_dataset(archive.pixels(), **{**header_of(uidless[0]), **without})
    del nameless.SOPInstanceUID
    nameless.save_as(uidless[0])
    turned = archive.study("no orientation", "damaged Image Orientation", count=2, ImageOrientationPatient=[0] * 6)
    captured = archive.folder / "DOE^JANE capture" / "JANE.dcm"
    rgb = archive.rng.integers(0, 255, (24, 24, 3)).astype(np.uint8)
    unplaced = {"ImagePositionPatient": None, "ImageOrientationPatient": None, "SeriesInstanceUID": ROOT + "901"}
    write_slice(captured, rgb, SOPClassUID=SecondaryCaptureImageStorage, PatientName="DOE^JANE", **unplaced)
    archive.expected[captured.parent] = "a secondary capture"
    archive.files += 3
    archive.breaks(cut, header, empty, zeros, text, nonsense, lost, damaged, *uidless, *turned)


def header_of(path):
    dataset = pydicom.dcmread(path, stop_before_pixels=True)
    return {element.keyword: element.value for element in dataset if element.keyword}


def deflate(path):
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(path, enforce_file_format=True)


def spoil_pixels(path):
    """Replace the start of a JPEG 2000 code stream by nonsense."""
    data = path.read_bytes()
    start = data.index(b"\xff\x4f\xff\x51")
    path.write_bytes(data[:start] + b"\x55" * 60 + data[start + 60 :])


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    archive = Archive(tmp_path_factory.mktemp("archive"))
    intact(archive, SAMPLES)
    awkward(archive)
    broken(archive)
    assert 0.08 < archive.broken / archive.files < 0.12
    return archive


@pytest.fixture(scope="module")
def options(model):
    """A random model is enough: this tests the files."""
    return (*OPTIONS, "--model", model)


@pytest.fixture(scope="module")
def undisturbed(archive, options, tmp_path_factory):
    output = tmp_path_factory.mktemp("undisturbed")
    process = batch(archive.folder, output, *options)
    output_and_errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1, output_and_errors
    assert not any(name in text for name in PHI for text in output_and_errors)
    return output


def states(output):
    """The outcome of every folder: "done", "done twice", or why not."""
    found = {}
    of_case = {row["case"]: row for row in table(output / "summary.csv")}
    for named in table(output / "names.local.csv"):
        row = of_case.get(named["case"], {"state": "skipped", "warnings": named["skipped_because"]})
        found.setdefault(named["path"], []).append("done" if row["state"] == "done" else row["warnings"])
    return found


def test_every_study_is_done_or_has_a_reason(archive, undisturbed):
    found = states(undisturbed)
    for folder, becomes in archive.expected.items():
        outcomes = [one for path, reasons in found.items() if path.startswith(str(folder)) for one in reasons]
        if becomes.startswith("done"):
            assert outcomes.count("done") == (2 if becomes == "done twice" else 1), (folder, outcomes)
        else:
            assert "done" not in outcomes, folder
            assert any(becomes in one for one in outcomes), (folder, becomes, outcomes)


def test_no_patient_is_named_in_logs_pages_and_summaries(undisturbed):
    logs = list(undisturbed.rglob("failed.log"))
    assert logs
    for path in undisturbed.rglob("*"):
        assert not any(name in path.name for name in PHI), path
        if path.is_file() and ".local." not in path.name and path.suffix not in (".dcm", ".nrrd"):
            text = re.sub(r"base64,[A-Za-z0-9+/=]+", "", path.read_text(encoding="utf-8"))
            assert not any(name in text for name in PHI), path
    for path in undisturbed.rglob("*.seg.nrrd"):
        header = path.read_bytes().partition(b"\n\n")[0]
        assert not any(name.encode() in header for name in PHI), path


def test_pages_are_complete_with_pictures(undisturbed):
    from PIL import Image

    for path in undisturbed.rglob("*.html"):
        picture = re.search(r"base64,([A-Za-z0-9+/=]+)", path.read_text(encoding="utf-8"))[1]
        assert Image.open(io.BytesIO(base64.b64decode(picture))).size[0] >= 600


def messages(output):
    return {path.parent.name: path.read_text().partition("\n")[0] for path in output.rglob("failed.log")}


def test_a_batch_killed_at_random_ends_with_the_same_results(archive, undisturbed, options, tmp_path):
    rng = random.Random(6)
    for n in range(3):
        process = batch(archive.folder, tmp_path / "out", *options, "--json")
        wait_for(process, {"event": "plan"} if n == 0 else {"event": "case", "state": "started"})
        for _ in range(rng.randrange(6)):
            process.stdout.readline()
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    process = batch(archive.folder, tmp_path / "out", *options, "--json")
    shown, _ = process.communicate(timeout=PATIENCE)
    end = events(shown.splitlines())[-1]
    assert (process.returncode, end["state"]) == (1, "complete")
    assert content(tmp_path / "out") == content(undisturbed)
    assert messages(tmp_path / "out") == messages(undisturbed)
    assert states(tmp_path / "out") == states(undisturbed)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 300 kB; the function changes its mount options."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    options = ["-t", "tmpfs", "-o", "size=300k", "tmpfs", str(place)]
    if mount is None or subprocess.run([mount, *options], capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a file system here")
    yield place, lambda options: subprocess.run([mount, "-o", f"remount,{options}", str(place)], check=True)
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_or_read_only_disk_is_reported_in_one_line_and_nothing_is_lost(
    archive, undisturbed, options, small_disk, tmp_path
):
    disk, remount = small_disk
    source = tmp_path / "in"
    for name in ("plain 0", "plain 1", "plain 2"):
        shutil.copytree(archive.folder / f"DOE^JANE 19700101 {name}", source / name)
    process = batch(source, disk / "out", *options)
    _, errors = process.communicate(timeout=PATIENCE)
    last = errors.strip().splitlines()[-1]
    assert process.returncode == 1, errors
    assert last.startswith("error: cannot write")
    assert str(disk) in last
    assert "no space left on device" in last
    assert "rerun the same command to resume" in last

    remount("ro")
    process = batch(source, disk / "out", *options)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2, errors
    assert errors.strip().splitlines()[-1] == (
        f"error: cannot write {disk / 'out'}: read-only file system; choose another folder"
    )

    remount("rw,size=30m")
    process = batch(source, disk / "out", *options)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    done = {name: digest for name, digest in content(disk / "out").items() if "/" in name}
    whole = content(undisturbed)
    assert len({name.partition("/")[0] for name in done}) == 3
    assert done == {name: whole[name] for name in done}
