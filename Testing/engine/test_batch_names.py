"""No output of a batch names a file or a patient, whatever is wrong with the images."""

from __future__ import annotations

import errno
import json
import re
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from dicom_files import write_slice
from pydicom import config
from pydicom.valuerep import DA

from fasttextdiff.batch.cases import CaseOptions, find_cases
from fasttextdiff.batch.folder import BatchFolder, Run
from fasttextdiff.batch.processes import failure, in_three_steps
from fasttextdiff.batch.runner import write_names, write_summary
from fasttextdiff.batch.work import read_case
from fasttextdiff.errors import FastTextDiffError, one_line

NAMES = re.compile("SMITH|JOHN|1950|hospital", re.IGNORECASE)
TEXT = "SMITH^JOHN 1950"
PIXELS = np.arange(12, dtype=np.int16).reshape(3, 4)
META = "ObjectType = Image\nNDims = 3\nDimSize = 4 3 2\nElementType = MET_SHORT\nElementDataFile = "
RUN = Run("", "0" * 64, (".nii.gz",), "cpu", "auto", False, "2023-11-14T22:13:20+00:00")


@pytest.fixture
def patient(tmp_path):
    """A folder of a patient's images, each with its own fault; names are in paths, file names and headers."""
    folder = tmp_path / "hospital" / "SMITH^JOHN 1950"
    folder.mkdir(parents=True)
    for name, data in (("a", "SMITH_JOHN.raw"), ("b", "../JOHN/SMITH  1950.raw"), ("c", "LIST\nSMITH1\nSMITH2")):
        (folder / f"SMITH_{name}.mhd").write_text(META + data + "\n")
    pair = nibabel.Nifti1Image(np.zeros((4, 3, 2), np.int16), np.eye(4))
    nibabel.save(pair, folder / "SMITH_pair.nii")
    content = bytearray((folder / "SMITH_pair.nii").read_bytes())
    (folder / "SMITH_cut.nii").write_bytes(content[:-8])
    content[344:348] = b"ni1\0"
    (folder / "SMITH_pair.nii").write_bytes(content)
    film = {"Modality": "DX", "ImagePositionPatient": None, "ImageOrientationPatient": None}
    with config.disable_value_validation():
        write_slice(folder / "slope", PIXELS, SeriesInstanceUID="1.1", SliceThickness=1)
        spoilt = (folder / "slope").read_bytes().replace(b"DS\x04\x001.0 ", b"DS\x04\x00JOHN", 1)
        (folder / "slope").write_bytes(spoilt)
        write_slice(
            folder / "film", PIXELS, SeriesInstanceUID="1.2", PatientOrientation=["SMITH", "JOHN"], ViewPosition="JOHN",
            **film,
        )  # fmt: skip
        write_slice(folder / "gone", PIXELS, SeriesInstanceUID="1.3", SeriesDescription=TEXT)
        gone = dict.fromkeys(("Rows", "Columns", "PixelData"))
        write_without_class(folder / "kind", SeriesInstanceUID="1.4", Modality="SMITH^JOHN", **gone)
    return folder


def write_without_class(path, **attributes):
    dataset = pydicom.dcmread(write_slice(path, PIXELS, **attributes))
    del dataset.SOPClassUID
    del dataset.file_meta.MediaStorageSOPClassUID
    dataset.save_as(path, enforce_file_format=False)
    return path


def outputs_of(folder):
    return {path: path.read_text() for path in folder.rglob("*") if path.is_file() and ".local." not in path.name}


def test_no_fault_of_an_image_names_it_in_the_outputs(patient):
    plan = find_cases(patient.parent, ["left lung"], CaseOptions())
    outputs = BatchFolder(patient / "results")
    (patient / "gone").unlink()
    messages = []
    for case in plan.cases:
        ended = in_three_steps(case, RUN, None, outputs)  # those that can be read fail without a model
        outputs.fail(case.name, ended.message, ended.details)
        messages.append(ended.message)
    write_names(plan, outputs)
    write_summary(plan, outputs, RUN)
    for path, text in outputs_of(outputs.path).items():
        assert not NAMES.search(path.name)
        assert not NAMES.search(text), (path, NAMES.search(text), text)
    assert sum("which is missing: copy that file too" in message for message in messages) == 3
    assert sum("is not a valid number" in message or "no such file" in message for message in messages) == 2
    reasons = {one["reason"] for one in json.loads((outputs.path / "summary.json").read_text())["skipped"]}
    assert "the voxels are in another file (.img): save the image as one .nii file" in reasons
    assert "not an image: DICOM of unknown kind" in reasons
    assert len((outputs.path / "names.local.csv").read_text().splitlines()) == 1 + len(plan.cases) + len(plan.skipped)


def test_notes_on_an_image_quote_no_free_text_of_its_header(patient):
    case = next(case for case in find_cases(patient, ["left lung"], CaseOptions()).cases if case.path.name == "film")
    notes = read_case(case).source.notes
    assert any("Patient Orientation is not valid" in note for note in notes)
    assert not any(NAMES.search(note) for note in notes)


def raised(make):
    try:
        make()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def quoting():
    """As an export that a library refuses."""
    try:
        DA(TEXT)
    except ValueError as problem:
        raise FastTextDiffError(
            f"the headers do not allow a DICOM SEG ({one_line(problem)}); save as .nii.gz"
        ) from problem


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (quoting, "the headers do not allow a DICOM SEG (ValueError); save as .nii.gz"),
        (lambda: DA(TEXT), "internal error, ValueError"),
        (Path("/hospital/SMITH/1950.raw").read_bytes, "internal error, FileNotFoundError: No such file or directory"),
        (lambda: [][1], "internal error, IndexError: list index out of range"),
    ],
)
def test_a_library_s_message_that_may_quote_is_left_out(patient, make, message):
    case = find_cases(patient, ["left lung"], CaseOptions()).cases[0]
    ended = failure(case, raised(make))
    assert ended.message == message
    assert message.removeprefix("internal error, ") in ended.details
    assert not NAMES.search(ended.details)


@pytest.mark.parametrize(("number", "is_stored"), [(errno.EIO, True), (errno.ENOSPC, False)])
def test_an_output_folder_beside_the_images_is_named_only_where_nothing_is_stored(patient, number, is_stored):
    case = find_cases(patient, ["left lung"], CaseOptions()).cases[0]
    place = patient / "results" / case.name
    error = FastTextDiffError(f"cannot write {place}: why")
    error.__cause__ = OSError(number, "why", str(patient))
    ended = failure(case, error)
    assert ended.message == f"cannot write {f'.../results/{case.name}' if is_stored else place}: why"
    assert ended.fatal != is_stored
    assert not NAMES.search(ended.details)
