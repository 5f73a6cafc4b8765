"""No result is ever written over an image, whatever the name by which both are called."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from dicom_files import write_stack

from fasttextdiff.errors import UsageError
from fasttextdiff.io.overwriting import data_files, files_of, require_apart, require_own_record


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "scan.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4)), path)
    path.with_name("scan.json").write_text('{"Manufacturer": "X"}')
    (tmp_path / "sub").mkdir()
    return path


def by_symlink(path: Path) -> Path:
    (link := path.with_name("link.nii.gz")).symlink_to(path)
    return link


def by_hard_link(path: Path) -> Path:
    os.link(path, link := path.with_name("hard.nii.gz"))
    return link


def by_linked_folder(path: Path) -> Path:
    (link := path.parent / "folder").symlink_to(path.parent)
    return link / path.name


NAMES = {
    "itself": lambda path: path,
    "symlink": by_symlink,
    "hard link": by_hard_link,
    "linked folder": by_linked_folder,
    "another spelling": lambda path: path.parent / "sub" / ".." / path.name,
    "capital letters": lambda path: path.with_name("SCAN.nii.gz"),
    "sidecar": lambda path: path.with_name("scan.json"),
}


@pytest.mark.parametrize("name", NAMES)
def test_an_output_that_is_the_image_or_its_sidecar_is_refused_under_every_name(image, name):
    with pytest.raises(UsageError, match="choose another name"):
        require_apart([NAMES[name](image)], files_of(image))
    require_apart([image.with_name("other.nii.gz")], files_of(image))


def test_two_outputs_may_not_be_one_file(image):
    out = image.with_name("out.nii.gz")
    with pytest.raises(UsageError, match="two outputs"):
        require_apart([out, image.parent / "sub" / ".." / "OUT.nii.gz"], [])


@pytest.mark.parametrize("ending", [".nhdr", ".mhd"])
def test_the_file_of_the_voxels_belongs_to_its_header(tmp_path, ending):
    header = tmp_path / f"scan{ending}"
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 5, 6), np.int16)), str(header))
    (voxels,) = [path for path in tmp_path.iterdir() if path != header]
    assert data_files(header) == [voxels]
    with pytest.raises(UsageError):
        require_apart([voxels], files_of(header))


def test_voxels_in_a_list_or_a_pattern_of_files_belong_to_their_header(tmp_path):
    (tmp_path / "a.nhdr").write_text("NRRD0004\ndata file: LIST\nx.raw\ny.raw\n")
    assert data_files(tmp_path / "a.nhdr") == [tmp_path / "x.raw", tmp_path / "y.raw"]
    (tmp_path / "b.mhd").write_text("NDims = 3\nElementDataFile = s%02d.raw 1 3 1\n")
    assert data_files(tmp_path / "b.mhd") == [tmp_path / f"s0{n}.raw" for n in (1, 2, 3)]


def test_a_slice_of_any_dicom_series_is_never_replaced(tmp_path):
    write_stack(tmp_path / "series", np.zeros((3, 4, 5), np.int16), np.eye(4))
    victim = next(path for path in (tmp_path / "series").rglob("*") if path.is_file())
    with pytest.raises(UsageError, match="DICOM file"):
        require_apart([victim], [])


@pytest.mark.parametrize("text", ['{"Manufacturer": "X"}', "[" * 100_000, "no JSON"])
def test_a_record_that_is_not_ours_is_kept(tmp_path, text):
    (record := tmp_path / "out.json").write_text(text)
    with pytest.raises(UsageError, match="not the record of a result"):
        require_own_record(record)
