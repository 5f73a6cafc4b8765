"""The cases of a batch: real files and all kinds of bad ones, in folder trees like those of hospitals and users."""

import json
import os
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from dicom_files import SERIES, slice_dataset, write_multiframe, write_segmentation, write_slice
from PIL import Image, PngImagePlugin
from pydicom.fileset import FileSet
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    SecondaryCaptureImageStorage,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
    XRayAngiographicImageStorage,
    XRayRadiationDoseSRStorage,
    generate_uid,
)

from fasttextdiff.batch.cases import CaseOptions, find_cases
from fasttextdiff.batch.listing import show_plan
from fasttextdiff.errors import Cancelled, FastTextDiffError, UsageError
from fasttextdiff.image.volume import Modality
from fasttextdiff.io.read import decoded_from_memory, read_volume

UNPLACED = {"ImagePositionPatient": None, "ImageOrientationPatient": None}
PIXELS = np.arange(12, dtype=np.int16).reshape(3, 4)


def plan_of(source, findings=("left lung",), **choice):
    return find_cases(Path(source), findings, CaseOptions(), **choice)


def write_series(folder, count=3, uid=SERIES, **attributes):
    """A CT series of axial slices 2 mm apart; files have no extension."""
    for n in range(count):
        write_slice(
            folder / f"IM{n}", PIXELS + n, SeriesInstanceUID=uid, ImagePositionPatient=[0, 0, 2 * n], **attributes
        )
    return folder


def write_nifti(path, shape=(4, 3, 5), value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(np.full(shape, value, np.int16), np.eye(4)), path)
    return path


def write_report(path):
    """A dose report as scanners send it, without pixels."""
    gone = dict.fromkeys(("PixelData", "Rows", "Columns", "ImagePositionPatient"))
    write_slice(path, PIXELS, SOPClassUID=XRayRadiationDoseSRStorage, Modality="SR", SeriesInstanceUID="1.9", **gone)


def reasons(plan, root):
    """Reason for skipping by path below the root."""
    return {one.path.relative_to(root).as_posix(): one.reason for one in plan.skipped}


# --- folder trees ----------------------------------------------------------------------------------------------------


def test_the_bundled_samples_are_listed_and_read(samples):
    plan = plan_of(samples)
    assert [(case.path.name, case.images) for case in plan.cases] == [
        ("abdominal_ct_dicom", 20),
        ("brain1_image.nrrd", 25),
        ("chest_ct_cropped.nii.gz", 112),
        ("18017511.png", 1),
        ("1d40779e.png", 1),
        ("4d14a3629b6af6de.png", 1),
    ]
    assert [case.read().shape[0] for case in plan.cases] == [case.images for case in plan.cases]
    assert reasons(plan, samples) == dict.fromkeys(
        ("ATTRIBUTION.md", "brain_mr/LICENSE.txt"), "not DICOM, and not named like an image"
    )


def test_a_series_is_collected_from_all_folders_and_kept_apart_from_others(tmp_path):
    write_series(tmp_path / "study" / "a")
    write_slice(tmp_path / "study" / "b" / "last.dcm", PIXELS, ImagePositionPatient=[0, 0, 6])
    write_slice(tmp_path / "study" / "a" / "other", PIXELS, SeriesInstanceUID=SERIES + ".7")
    plan = plan_of(tmp_path)
    assert [(case.series_uid, case.images) for case in plan.cases] == [(SERIES, 4), (SERIES + ".7", 1)]
    assert plan.cases[0].path == tmp_path / "study"
    assert [case.read().shape[0] for case in plan.cases] == [4, 1]
    assert plan.skipped == ()


def test_a_volume_is_read_only_from_the_named_files(tmp_path):
    folder = write_series(tmp_path)
    (folder / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"nonsense")
    with pytest.raises(FastTextDiffError):
        read_volume(folder)
    assert read_volume(folder, files=[folder / "IM1", folder / "IM0"]).array[:, 0, 0].tolist() == [0, 1]


def test_case_names_hide_the_patient_and_do_not_change_when_the_tree_is_moved(tmp_path):
    write_series(tmp_path / "in" / "DOE^JANE", PatientName="DOE^JANE")
    write_nifti(tmp_path / "in" / "doe_jane_1970.nii.gz")
    names = [case.name for case in plan_of(tmp_path / "in").cases]
    (tmp_path / "in").rename(tmp_path / "moved")
    assert names == [case.name for case in plan_of(tmp_path / "moved").cases]
    assert [name.split("-")[0] for name in names] == ["ct", "image"]
    assert all(len(name.split("-")[1]) == 12 for name in names)


def test_the_order_depends_only_on_the_content(tmp_path):
    for n, uid in enumerate(("1.5", "1.3", "1.4")):
        write_series(tmp_path / str(n), 1, uid=uid, StudyInstanceUID=f"2.{n % 2}")
    for name in ("b.nii", "a.nii"):
        write_nifti(tmp_path / name)
    plan = plan_of(tmp_path)
    assert [case.series_uid or case.path.name for case in plan.cases] == ["1.4", "1.5", "1.3", "a.nii", "b.nii"]


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "a localizer"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "a dose report or screen capture"),
        ({"ImageType": ["DERIVED", "SECONDARY", "CSA MPR"]}, "derived: a reformatted"),
        ({"ImageType": ["DERIVED", "SECONDARY", "PROJECTION IMAGE", "MIP"]}, "derived: a reformatted"),
        ({"SOPClassUID": SecondaryCaptureImageStorage}, "a secondary capture"),
        ({"Modality": "MR"}, "mr, not ct"),
    ],
)
def test_derived_images_and_other_modalities_are_skipped_with_the_reason(tmp_path, attributes, reason):
    write_series(tmp_path / "ct", ImageType=["DERIVED", "PRIMARY", "AXIAL"])
    write_series(tmp_path / "odd", uid="1.2", **attributes)
    plan = plan_of(tmp_path, modality="ct")
    assert [case.series_uid for case in plan.cases] == [SERIES]
    assert [(one.path, one.series_uid) for one in plan.skipped] == [(tmp_path / "odd", "1.2")]
    assert plan.skipped[0].reason.startswith(reason)
    assert plan.skipped[0].reason.endswith("(3 files)")


def test_a_localizer_within_the_series_does_not_spoil_it(tmp_path):
    write_series(tmp_path)
    scout = {"ImageOrientationPatient": [1, 0, 0, 0, 0, -1], "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
    write_slice(tmp_path / "scout", PIXELS, **scout)
    plan = plan_of(tmp_path)
    assert plan.cases[0].read().shape[0] == 3
    assert reasons(plan, tmp_path) == {"scout": "a localizer"}


def test_objects_without_an_image_are_skipped(tmp_path):
    write_series(tmp_path)
    write_segmentation(tmp_path / "seg")
    write_report(tmp_path / "dose")
    assert reasons(plan_of(tmp_path), tmp_path) == {
        "seg": "not an image: Segmentation Storage",
        "dose": "not an image: X-Ray Radiation Dose SR Storage",
    }


def test_secondary_captures_are_taken_only_as_the_requested_modality(tmp_path):
    capture = {"SOPClassUID": SecondaryCaptureImageStorage, **UNPLACED}
    write_slice(tmp_path / "film", PIXELS, Modality="CR", SeriesInstanceUID="1.1", **capture)
    write_slice(tmp_path / "shown", np.zeros((3, 4, 3), np.uint8), Modality="CR", SeriesInstanceUID="1.2", **capture)
    write_slice(tmp_path / "screen", PIXELS, Modality="CT", SeriesInstanceUID="1.3", **capture)
    write_slice(tmp_path / "photo", np.zeros((3, 4, 3), np.uint8), Modality="OT", SeriesInstanceUID="1.4", **capture)
    taken = {kind: [c.path.name for c in plan_of(tmp_path, modality=kind).cases] for kind in ("xray", "other")}
    assert taken == {"xray": ["film"], "other": ["photo"]}
    with pytest.raises(UsageError, match="no image to segment here; skipped: a secondary capture"):
        plan_of(tmp_path)


def test_every_xray_of_a_series_is_a_case(tmp_path):
    for view in ("pa", "lateral"):
        write_slice(tmp_path / view, PIXELS, Modality="DX", ImagePositionPatient=None, ImageOrientationPatient=None)
    plan = plan_of(tmp_path)
    assert sorted(case.path.name for case in plan.cases) == ["lateral", "pa"]
    assert len({case.name for case in plan.cases}) == 2
    assert all(case.read().is_planar for case in plan.cases)


@pytest.mark.parametrize(
    ("attributes", "modality"),
    [
        ({"Modality": "US", "SOPClassUID": UltrasoundImageStorage}, None),
        ({"Modality": "OT", "SOPClassUID": SecondaryCaptureImageStorage}, "xray"),
        ({"Modality": "XC", "SOPClassUID": SecondaryCaptureImageStorage}, "other"),
    ],
)
def test_every_picture_of_a_series_is_a_case(tmp_path, attributes, modality):
    for n in range(3):
        write_slice(tmp_path / f"IM{n}", PIXELS + n, **{**UNPLACED, **attributes}, InstanceNumber=n)
    plan = plan_of(tmp_path, modality=modality)
    assert [case.path.name for case in plan.cases] == ["IM0", "IM1", "IM2"]
    assert len({case.name for case in plan.cases}) == 3
    read = [case.read() for case in plan.cases]
    assert [int(volume.array.max()) for volume in read] == [11, 12, 13]
    assert {volume.modality for volume in read} == {Modality.named(modality) or Modality.OTHER}


CLIP = np.zeros((30, 3, 4), np.uint8)


def write_clip(path, **attributes):
    return write_slice(path, CLIP, NumberOfFrames=len(CLIP), **{**UNPLACED, **attributes})


def test_pictures_of_a_series_with_clips_are_cases_and_the_clips_are_named(tmp_path):
    pictures = {**UNPLACED, "Modality": "US", "SOPClassUID": UltrasoundImageStorage}
    for n in range(2):
        write_slice(tmp_path / f"IM{n}", PIXELS + n, **pictures, InstanceNumber=n)
    clip = {"Modality": "US", "SOPClassUID": UltrasoundMultiFrameImageStorage}
    write_clip(tmp_path / "IM2", **clip, InstanceNumber=2)
    write_clip(
        tmp_path / "heart" / "IM3", Modality="XA", SOPClassUID=XRayAngiographicImageStorage, SeriesInstanceUID="1.7"
    )
    plan = plan_of(tmp_path)
    assert [case.path.name for case in plan.cases] == ["IM0", "IM1"]
    assert [int(case.read().array.max()) for case in plan.cases] == [11, 12]
    said = "a cine clip of 30 frames; export the frame that is wanted as a single image"
    assert reasons(plan, tmp_path) == {"IM2": said, "heart/IM3": said}


def test_a_series_with_one_picture_and_clips_is_this_picture(tmp_path):
    write_slice(tmp_path / "IM0", PIXELS, **UNPLACED, Modality="US", SOPClassUID=UltrasoundImageStorage)
    for n in (1, 2):
        write_clip(tmp_path / f"IM{n}", Modality="US", SOPClassUID=UltrasoundMultiFrameImageStorage, InstanceNumber=n)
    (case,) = plan_of(tmp_path).cases
    assert case.path.name == "IM0"
    assert case.read().shape == (1, 3, 4)


def test_opening_pictures_and_clips_at_once_names_a_picture_to_open(tmp_path):
    write_clip(tmp_path / "IM0", Modality="US", SOPClassUID=UltrasoundMultiFrameImageStorage)
    with pytest.raises(UsageError, match=r"30 images without a position in the patient .*; give a single image$"):
        read_volume(tmp_path / "IM0")
    with pytest.raises(UsageError, match=r"^the clip: 30 images without a position .*; give a single image$"):
        decoded_from_memory(CLIP, np.eye(4), name="the clip", path=tmp_path / "IM0")  # as 3D Slicer loads it
    picture = write_slice(tmp_path / "IM1", PIXELS, **UNPLACED, Modality="US", SOPClassUID=UltrasoundImageStorage)
    with pytest.raises(UsageError, match=r"31 images without a position .*; give a single image, such as IM1$"):
        read_volume(tmp_path)
    assert read_volume(picture).array.max() == 11
    assert decoded_from_memory(PIXELS[None], np.eye(4), name="the picture", path=picture).is_planar


@pytest.mark.parametrize(
    ("attributes", "modality"),
    [({"Modality": "MR"}, None), ({"Modality": None}, None), ({"Modality": "OT"}, "ct")],
)
def test_slices_without_positions_are_no_pictures(tmp_path, attributes, modality):
    for n in range(3):
        write_slice(tmp_path / f"IM{n}", PIXELS + n, **{**UNPLACED, **attributes}, InstanceNumber=n)
    options = CaseOptions(modality=Modality.named(modality))
    (case,) = find_cases(tmp_path, ("left lung",), options).cases
    with pytest.raises(UsageError, match="3 images without a position in the patient"):
        case.read()


def test_enhanced_and_deflated_and_compressed_objects_are_cases(tmp_path):
    voxels = np.zeros((3, 4, 4), np.uint16)
    write_multiframe(tmp_path / "enhanced", voxels, [0, 4, 8], SeriesInstanceUID="1.1")
    write_slice(tmp_path / "jpeg2000", voxels[0], syntax=JPEG2000Lossless, SeriesInstanceUID="1.2")
    deflated = slice_dataset(voxels[0], SeriesInstanceUID="1.3")
    deflated.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    deflated.save_as(tmp_path / "deflated", enforce_file_format=True)
    plan = plan_of(tmp_path)
    assert [(case.path.name, case.images) for case in plan.cases] == [("enhanced", 3), ("jpeg2000", 1), ("deflated", 1)]
    assert [case.read().shape[0] for case in plan.cases] == [3, 1, 1]


def test_the_same_series_twice_is_segmented_once(tmp_path):
    write_series(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    plan = plan_of(tmp_path)
    assert [(case.path, case.images) for case in plan.cases] == [(tmp_path / "a", 3)]
    assert reasons(plan, tmp_path) == {"b": "a copy of images in another place (3 files)"}


def test_series_can_be_selected_by_description_uid_and_size(tmp_path):
    write_series(tmp_path / "lung", 3, uid="1.1", SeriesDescription="Lung 1.0")
    write_series(tmp_path / "bone", 5, uid="1.2", SeriesDescription="Bone")
    write_series(tmp_path / "next", 1, uid="1.3", StudyInstanceUID="9.9", SeriesDescription="Bone")
    write_nifti(tmp_path / "v.nii")
    uids = lambda **choice: [case.series_uid for case in plan_of(tmp_path, **choice).cases]  # noqa: E731
    assert uids(series="^lung") == ["1.1"]
    assert uids(series=r"^1\.2$") == ["1.2"]
    assert uids(largest_series=True) == ["1.2", "1.3", ""]
    skipped = reasons(plan_of(tmp_path, series="bone", largest_series=True), tmp_path)
    assert skipped == {"lung": "not the requested series (3 files)", "v.nii": "not DICOM, so not the requested series"}
    smaller = reasons(plan_of(tmp_path, largest_series=True), tmp_path)
    assert smaller == {"lung": "not the largest series of its study (3 images, not 5) (3 files)"}


def test_series_without_a_study_are_not_compared_in_size(tmp_path):
    """They may be of different patients, as after anonymisation."""
    write_series(tmp_path / "a", 3, uid="1.1", StudyInstanceUID=None)
    write_series(tmp_path / "b", 5, uid="1.2", StudyInstanceUID="")
    write_series(tmp_path / "c", 4, uid="1.3", StudyInstanceUID="7")
    write_series(tmp_path / "d", 2, uid="1.4", StudyInstanceUID="7")
    plan = plan_of(tmp_path, largest_series=True)
    assert sorted(case.path.name for case in plan.cases) == ["a", "b", "c"]
    assert reasons(plan, tmp_path) == {"d": "not the largest series of its study (2 images, not 4) (2 files)"}


def test_files_without_modality_count_as_the_requested_one(tmp_path):
    write_nifti(tmp_path / "v.nii")
    assert plan_of(tmp_path, modality="mr").cases[0].read().modality is Modality.MR
    assert plan_of(tmp_path).cases[0].options.modality is None


# --- bad files, links and names --------------------------------------------------------------------------------------


def test_broken_files_are_listed_and_do_not_stop_the_batch(tmp_path, capfd):
    write_series(tmp_path / "whole", uid="1.1")
    whole = write_slice(tmp_path / "cut.dcm", PIXELS, SeriesInstanceUID="1.2").read_bytes()
    (tmp_path / "cut.dcm").write_bytes(whole[:-6])
    (tmp_path / "head.dcm").write_bytes(whole[:200])
    (tmp_path / "text.dcm").write_text("not DICOM")
    for name in ("empty", "empty.nii.gz", "empty.dcm"):
        (tmp_path / name).touch()
    for name in ("text.nii.gz", "text.nrrd", "text.mha", "text.png"):
        (tmp_path / name).write_text("this is no image" * 40)
    write_nifti(tmp_path / "time.nii", (2, 2, 2, 3))
    plan = plan_of(tmp_path)
    assert [case.series_uid for case in plan.cases] == ["1.1"]
    damaged = "the file is damaged, or its format does not match its name"
    assert reasons(plan, tmp_path) == {
        "cut.dcm": "the file is truncated; copy or export it again",
        "head.dcm": "the file is truncated; copy or export it again",
        "text.dcm": "named like DICOM, but is not",
        "time.nii": "several volumes in one file (2 x 2 x 2 x 3); extract one time point",
        **dict.fromkeys(("empty", "empty.nii.gz", "empty.dcm"), "the file is empty"),
        **dict.fromkeys(("text.nii.gz", "text.nrrd", "text.mha", "text.png"), damaged),
    }
    assert capfd.readouterr() == ("", "")


def test_a_truncated_dicom_file_is_never_taken(tmp_path):
    write_series(tmp_path / "whole", 1, uid="1.1")
    content = write_slice(tmp_path / "cut", PIXELS, SeriesInstanceUID="1.2").read_bytes()
    for length in range(len(content)):
        (tmp_path / "cut").write_bytes(content[:length])
        plan = plan_of(tmp_path)
        assert [case.series_uid for case in plan.cases] == ["1.1"], length
        assert "cut" in reasons(plan, tmp_path), length


def test_a_series_with_a_damaged_file_is_skipped_unless_there_is_an_intact_copy(tmp_path):
    write_series(tmp_path / "ok", uid="1.1")
    write_series(tmp_path / "a")
    write_series(tmp_path / "b", 1)
    content = (tmp_path / "a" / "IM2").read_bytes()
    (tmp_path / "a" / "IM2").write_bytes(content[:-3])
    plan = plan_of(tmp_path)
    assert [case.series_uid for case in plan.cases] == ["1.1"]
    whole = "the series is incomplete: 1 of its files damaged or missing (3 files)"
    assert reasons(plan, tmp_path) == {".": whole, "a/IM2": "the file is truncated; copy or export it again"}
    (tmp_path / "b" / "copy").write_bytes(content)
    plan = plan_of(tmp_path, series=SERIES + "$")
    assert [case.images for case in plan.cases] == [4]


@pytest.mark.parametrize("name", ["README", "VERSION", "md5sums", "LICENSE 2"])
def test_a_text_on_a_medium_is_no_damaged_slice(tmp_path, name):
    write_series(tmp_path, uid="1.1")
    (tmp_path / name).write_text("Images of the hospital\n")
    assert [case.series_uid for case in plan_of(tmp_path).cases] == ["1.1"]
    (tmp_path / "IM77").write_text("Images of the hospital\n")
    with pytest.raises(UsageError, match="incomplete: 1 of its files"):
        plan_of(tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
def test_links_are_followed_once_and_never_in_cycles(tmp_path):
    root = tmp_path / "in"
    write_nifti(root / "b" / "v.nii")
    write_nifti(tmp_path / "elsewhere" / "w.nii")
    (root / "a").symlink_to(root / "b", target_is_directory=True)
    (root / "b" / "loop").symlink_to(root, target_is_directory=True)
    (root / "again.nii").symlink_to(root / "b" / "v.nii")
    (root / "out").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (root / "out2").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (root / "gone.nii").symlink_to(root / "nowhere")
    plan = plan_of(root)
    assert [case.path.relative_to(root).as_posix() for case in plan.cases] == ["b/v.nii", "out/w.nii"]
    assert reasons(plan, root) == {"gone.nii": "a link without a target"}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_does_not_block_the_search(tmp_path):
    write_nifti(tmp_path / "v.nii")
    os.mkfifo(tmp_path / "pipe.nii")
    assert reasons(plan_of(tmp_path), tmp_path) == {"pipe.nii": "a device or pipe, not a file"}


def test_unreadable_files_are_listed(tmp_path, monkeypatch):
    """For root nothing is unreadable, so the system's refusal is simulated."""
    write_nifti(tmp_path / "v.nii")
    write_nifti(tmp_path / "closed.nii")
    write_nifti(tmp_path / "locked" / "w.nii")
    opened, scanned = Path.open, os.scandir

    def refuse(real, name):
        def call(path, *arguments, **options):
            if Path(path).name == name:
                raise PermissionError(13, "Permission denied", str(path))
            return real(path, *arguments, **options)

        return call

    monkeypatch.setattr(Path, "open", refuse(opened, "closed.nii"))
    monkeypatch.setattr(os, "scandir", refuse(scanned, "locked"))
    plan = plan_of(tmp_path)
    assert [case.path.name for case in plan.cases] == ["v.nii"]
    assert reasons(plan, tmp_path) == dict.fromkeys(("locked", "closed.nii"), "no permission to read it")


def test_unicode_undecodable_and_very_long_paths_are_read(tmp_path, capsys):
    write_nifti(tmp_path / "Müller 肺 🫁" / "v.nii")
    deep = tmp_path.joinpath(*["d" * 200] * 8)
    write_nifti(deep / ("x" * 240 + ".nii"))
    cases = plan_of(tmp_path).cases
    assert len(cases) == 2
    if os.name == "posix":
        undecodable = os.fsencode(tmp_path) + b"/\xff\x1b[31m.png"
        Path(os.fsdecode(undecodable)).write_bytes(b"no picture")
    plan = plan_of(tmp_path)
    show_plan(plan)
    shown = capsys.readouterr().out
    assert "\x1b[31m" not in shown
    assert [case.read().shape for case in plan.cases] == [(5, 3, 4), (5, 3, 4)]


def test_hidden_files_and_our_own_results_are_not_input(tmp_path):
    from fasttextdiff.io.nrrd import write_nrrd
    from fasttextdiff.io.write import NIFTI_DESCRIPTION
    from fasttextdiff.render.contact_sheet import SOFTWARE

    write_nifti(tmp_path / "v.nii")
    write_nifti(tmp_path / ".hidden" / "w.nii")
    write_nifti(tmp_path / "._v.nii")
    mask = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4))
    mask.header["descrip"] = NIFTI_DESCRIPTION
    nibabel.save(mask, tmp_path / "mask.nii.gz")
    write_nrrd(tmp_path / "s.seg.nrrd", [np.zeros((2, 2, 2), np.uint8)], np.eye(4), {"Segment0_ID": "Segment_1"})
    write_nrrd(tmp_path / "u.nrrd", [np.zeros((2, 2, 2), np.float32)], np.eye(4), {"FastTextDiff.Finding1": "lung"})
    information = PngImagePlugin.PngInfo()
    information.add_text("Software", SOFTWARE)
    Image.new("RGB", (4, 4)).save(tmp_path / "p.png", pnginfo=information)
    write_nifti(tmp_path / "out" / "ct-1" / "ct-1.nii.gz")
    (tmp_path / "out" / "batch.json").write_text('{"weights_sha256": "0"}')
    write_nifti(tmp_path / "tables" / "x.nii")
    (tmp_path / "tables" / "batch.json").write_text('[{"path": "x.nii"}]')
    plan = plan_of(tmp_path)
    assert [case.path.name for case in plan.cases] == ["x.nii", "v.nii"]
    result = "a segmentation or a result of FastTextDiff, not an image"
    foreign = "not DICOM, and not named like an image"
    results = dict.fromkeys(("mask.nii.gz", "s.seg.nrrd", "u.nrrd", "p.png"), result)
    assert reasons(plan, tmp_path) == {**results, "tables/batch.json": foreign}


def test_label_maps_are_skipped_in_a_tree_and_taken_when_named(tmp_path):
    for name in ("images/a.nii", "images/Segal.nii", "images/unlabelled masked.nii"):
        write_nifti(tmp_path / name)
    labels = (
        "images/a_seg.nii",
        "images/a-label.nii.gz",
        "images/segmentation-3.nii",
        "labelsTr/a.nii",
        "x/a.mask.nii",
    )
    for name in labels:
        write_nifti(tmp_path / name)
    Image.new("L", (4, 4)).save(tmp_path / "film_mask.png")
    by_header = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4))
    by_header.header.set_intent("label")
    nibabel.save(by_header, tmp_path / "b.nii")
    plan = plan_of(tmp_path)
    assert [case.path.name for case in plan.cases] == ["Segal.nii", "a.nii", "unlabelled masked.nii"]
    by_name = "a label map or mask according to its name, not an image; to segment it anyway, give the file itself"
    assert reasons(plan, tmp_path) == {
        **dict.fromkeys((*labels, "film_mask.png"), by_name),
        "b.nii": "a label map according to its header, not an image",
    }
    assert len(plan_of(tmp_path / "images" / "a_seg.nii").cases) == 1
    assert len(plan_of(tmp_path / "labelsTr").cases) == 1


def test_nothing_to_segment_is_reported_with_the_reason_in_one_line(tmp_path):
    with pytest.raises(UsageError, match="no image to segment here: it holds no DICOM"):
        plan_of(tmp_path)
    with pytest.raises(UsageError, match="no such file or folder"):
        plan_of(tmp_path / "gone")
    write_report(tmp_path / "dose")
    with pytest.raises(UsageError, match=r"skipped: not an image: X-Ray Radiation Dose SR Storage \(1\)"):
        plan_of(tmp_path)


@pytest.mark.parametrize(
    ("findings", "choice", "words"),
    [
        ([], {}, "no finding was given"),
        (["lung", "  "], {}, "a finding is empty"),
        (["肺"], {}, "no Latin letters"),
        (["lung"], {"modality": "pet"}, "'pet' is not a modality"),
        (["lung"], {"series": "(lung"}, "not a regular expression"),
    ],
)
def test_a_wrong_request_is_refused(tmp_path, findings, choice, words):
    write_nifti(tmp_path / "v.nii")
    with pytest.raises(UsageError, match=words):
        plan_of(tmp_path, findings, **choice)


def test_a_progress_callback_that_returns_false_cancels(tmp_path):
    for n in range(3):
        write_nifti(tmp_path / f"{n}.nii")
    calls = []
    with pytest.raises(Cancelled):
        plan_of(tmp_path, progress=lambda done, total: calls.append((done, total)) or done < 2)
    assert calls == [(1, 3), (2, 3)]


# --- job tables ------------------------------------------------------------------------------------------------------


@pytest.fixture
def images(tmp_path):
    write_series(tmp_path / "series")
    write_nifti(tmp_path / "scans" / "v.nii")
    return tmp_path


CSV = """path,findings,slices,window,samples,modality,seed,threshold
scans/v.nii,left lung; heart,1:3,"-500,1400",2,mr,7,0.4
series,,,,,,,
"""
JSON = [
    {"path": "scans/v.nii", "findings": ["left lung", "heart"], "slices": [1, 3], "window": [-500, 1400],
     "samples": 2, "modality": "mr", "seed": 7, "threshold": 0.4},
    {"path": "series", "samples": None},
]  # fmt: skip


def test_csv_and_json_tables_are_equivalent(images):
    (images / "jobs.csv").write_text("\ufeff" + CSV, encoding="utf-8")
    (images / "jobs.json").write_text(json.dumps(JSON))
    plans = [plan_of(images / name, ["infection"]) for name in ("jobs.csv", "jobs.json")]
    assert plans[0] == plans[1]
    first, second = plans[0].cases
    assert first.findings == ("left lung", "heart")
    assert first.options == CaseOptions((1, 3), "acquisition", 2, 7, 0.4, (-500.0, 1400.0), Modality.MR)
    assert (second.findings, second.options, second.images) == (("infection",), CaseOptions(), 3)
    assert first.read().modality is Modality.MR
    assert second.read().shape[0] == 3


BAD_TABLES = {
    "column": ("path,finding\nscans/v.nii,lung\n", "row 2: unknown column 'finding': use path, findings"),
    "semicolons": ("path;findings\nscans/v.nii;lung\n", "unknown column 'path;findings'"),
    "path": ("path,findings\nscans/v.nii,lung\n,lung\n", "row 3: 'path' is missing"),
    "slices": ("path,slices\nscans/v.nii,5:2\n", "row 2: 'slices' must be A:B"),
    "number": ("path,samples\nscans/v.nii,many\n", "row 2: 'samples' cannot be 'many'"),
    "plane": ("path,plane\nscans/v.nii,oblique\n", "row 2: 'plane' must be acquisition or axial"),
    "modality": ("path,modality\nscans/v.nii,pet\n", "row 2: 'pet' is not a modality"),
    "comma": ("path,window\nscans/v.nii,-500,1400\n", "row 2: 3 cells under 2 columns"),
    "finding": ("path,findings\nscans/v.nii,肺\n", "row 2: the finding '肺' has no Latin letters"),
    "rows": ("path\n\n", "the table has no rows"),
    "json": ('{"path": "v.nii"}', "a job table must be a list of objects"),
    "type": ('[{"path": "v.nii", "samples": "two"}]', "row 1: 'samples' must be a whole number"),
    "no json": ("[", "not valid JSON"),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_an_error_in_a_table_names_the_row(images, name):
    content, words = BAD_TABLES[name]
    table = images / f"jobs.{'json' if content[0] in '[{' else 'csv'}"
    table.write_text(content, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        plan_of(table)
    assert words in str(caught.value)
    assert str(caught.value).startswith(str(table))


def test_a_table_in_another_encoding_is_reported(images):
    (images / "jobs.csv").write_text("path\nMüller", encoding="latin-1")
    with pytest.raises(UsageError, match="not UTF-8"):
        plan_of(images / "jobs.csv")


def test_rows_without_an_image_and_repeated_rows_are_listed_by_number(images):
    rows = [
        "path,findings",
        "gone.nii,",
        "scans/v.nii,heart",
        "scans/v.nii,",
        "scans/v.nii,heart",
        "jobs.csv,",
        "n" * 300 + ".nii,",
    ]
    (images / "jobs.csv").write_text("\n".join(rows))
    plan = plan_of(images / "jobs.csv")
    assert [case.findings for case in plan.cases] == [("heart",), ("left lung",)]
    first, second = (case.name for case in plan.cases)
    assert second.startswith(first + "-")
    assert [one.reason for one in plan.skipped] == [
        "row 2: no such file or directory",
        "row 5: same as an earlier row",
        "row 6: not DICOM, and not named like an image",
        "row 7: file name too long",
    ]


def test_a_dicom_file_named_by_a_row_is_always_taken(tmp_path):
    capture = {"SOPClassUID": SecondaryCaptureImageStorage, "Modality": "OT"}
    for name in ("a", "b"):
        write_slice(tmp_path / name, PIXELS, **capture, ImagePositionPatient=None, ImageOrientationPatient=None)
    (tmp_path / "jobs.csv").write_text("path,modality\na,xray\nb,\n")
    plan = plan_of(tmp_path / "jobs.csv")
    assert len({case.name for case in plan.cases}) == 2
    assert [case.read().modality for case in plan.cases] == [Modality.XRAY, Modality.XRAY]


# --- DICOMDIR --------------------------------------------------------------------------------------------------------


@pytest.fixture
def medium(tmp_path):
    """A DICOMDIR of two series of a study, as on a disc."""
    files = FileSet()
    for uid in (SERIES, SERIES + ".7"):
        for n in range(3):
            identity = {
                "PatientID": "1",
                "PatientName": "A",
                "StudyDate": "20200101",
                "StudyTime": "1200",
                "StudyID": "1",
            }
            numbers = {
                "SeriesNumber": 1,
                "InstanceNumber": n,
                "SeriesInstanceUID": uid,
                "SOPInstanceUID": generate_uid(),
            }
            files.add(slice_dataset(PIXELS + n, ImagePositionPatient=[0, 0, n], **identity, **numbers))
    files.write(tmp_path / "disc")
    return tmp_path / "disc" / "DICOMDIR"


def test_a_dicomdir_is_followed_and_missing_files_are_listed(medium):
    write_nifti(medium.parent / "not named.nii")
    plan = plan_of(medium)
    assert [(case.series_uid, case.images) for case in plan.cases] == [(SERIES, 3), (SERIES + ".7", 3)]
    assert plan.cases[1].read().shape[0] == 3
    gone = plan.cases[0].files[2]
    gone.unlink()
    plan = plan_of(medium)
    assert [case.series_uid for case in plan.cases] == [SERIES + ".7"]
    assert {one.path: one.reason for one in plan.skipped} == {
        gone: "listed in the DICOMDIR, but missing",
        gone.parent: "the series is incomplete: 1 of its files damaged or missing (2 files)",
    }
    assert {case.series_uid for case in plan_of(medium.parent).cases} == {SERIES, SERIES + ".7", ""}


def test_a_damaged_or_cyclic_dicomdir_is_reported_or_handled(medium):
    content = pydicom.dcmread(medium)
    first = content.DirectoryRecordSequence[0]
    first.OffsetOfTheNextDirectoryRecord = content.OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity
    content.save_as(medium)
    assert len(plan_of(medium).cases) == 2
    medium.write_bytes(medium.read_bytes()[:600])
    with pytest.raises(UsageError, match="DICOMDIR"):
        plan_of(medium)


# --- the list --------------------------------------------------------------------------------------------------------


def test_the_list_shows_the_cases_and_why_the_rest_is_skipped(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")
    write_series(tmp_path / "ct", SeriesDescription="Lung 1.0")
    write_nifti(tmp_path / "v.nii")
    write_report(tmp_path / "dose")
    plan = plan_of(tmp_path, ["left lung", "heart"])
    show_plan(plan)
    shown = capsys.readouterr().out
    for words in (
        plan.cases[0].name,
        "Lung 1.0",
        "left lung; heart",
        "2 to segment",
        "1 skipped",
        "not an image: X-Ray",
    ):
        assert words in shown
