"""DICOM SEG as other programs read it, and the sample series with UIDs. Knows nothing about the code that writes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813


def errors_found_by_dciodvfy(path: Path) -> list[str]:
    """The validator's errors; the test is skipped if it is not installed (Debian: dicom3tools)."""
    if not shutil.which("dciodvfy"):
        pytest.skip("needs dciodvfy (Debian: dicom3tools)")
    checked = subprocess.run(["dciodvfy", path], capture_output=True, text=True)
    report = (checked.stdout + checked.stderr).splitlines()
    assert "Segmentation" in report
    return [line for line in report if line.startswith(("Error", "Abort"))]


def with_uids(series: Path, folder: Path) -> Path:
    """A copy of the sample series, whose anonymiser emptied the UIDs, with UIDs."""
    folder.mkdir()
    for file in series.iterdir():
        dataset = pydicom.dcmread(file)
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.826.0.1.1", "1.2.826.0.1.2"
        dataset.save_as(folder / file.name)
    return folder


def world(voxels, matrix):
    points = np.argwhere(voxels)[:, ::-1] @ matrix[:3, :3].T + matrix[:3, 3]
    return points[np.lexsort(np.round(points, 2).T)]


def read_with_dcmqi(path, folder):
    """The LPS positions of each segment's voxels, by segment label, as 3D Slicer's reader places them."""
    pytest.importorskip("dcmqi", reason="needs dcmqi")
    program = Path(sys.executable).with_name("segimage2itkimage")
    folder.mkdir()
    command = [program, "--inputDICOM", path, "--outputDirectory", folder, "--outputType", "nrrd", "--mergeSegments"]
    subprocess.run(command, check=True, capture_output=True)
    groups = json.loads((folder / "meta.json").read_text(encoding="utf-8"))["segmentAttributes"]
    found = {}
    for number, group in enumerate(groups, start=1):
        image = sitk.ReadImage(str(folder / f"{number}.nrrd"))
        matrix = np.eye(4)
        matrix[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
        matrix[:3, 3] = image.GetOrigin()
        for segment in group:
            found[segment["SegmentLabel"]] = world(sitk.GetArrayFromImage(image) == segment["labelID"], matrix)
    return found
