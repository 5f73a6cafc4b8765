"""All formats place a voxel at the same point of the patient, and all bad files are refused in one line."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from dicom_files import SERIES, slice_dataset, write_multiframe, write_segmentation, write_slice, write_stack
from PIL import Image
from pydicom.uid import JPEG2000Lossless, RLELossless

from fasttextdiff.errors import FastTextDiffError, UsageError
from fasttextdiff.image.volume import Modality, Volume
from fasttextdiff.io import file_checks
from fasttextdiff.io.read import read_volume

SHARED = Path(__file__).resolve().parents[3] / "shared"
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
MARK = 3000


def matrix(
    directions: np.ndarray, spacing: tuple[float, float, float], origin: tuple[float, float, float]
) -> np.ndarray:
    ijk_to_ras = np.eye(4)
    ijk_to_ras[:3, :3] = directions * spacing
    ijk_to_ras[:3, 3] = origin
    return ijk_to_ras


def turned(x: float, y: float, z: float) -> np.ndarray:
    """A rotation about the three axes, in degrees."""
    turn = np.eye(3)
    for axis, angle in enumerate(np.radians([x, y, z])):
        a, b = [n for n in range(3) if n != axis]
        step = np.eye(3)
        step[[a, a, b, b], [a, b, a, b]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
        turn = step @ turn
    return turn


GEOMETRIES = {
    "axial": matrix(np.diag([-1.0, -1.0, 1.0]), (0.7, 0.9, 2.5), (100, 80, -300)),
    "left-handed": matrix(np.diag([-1.0, -1.0, -1.0]), (0.7, 0.9, 2.5), (100, 80, -300)),
    "sagittal": matrix(np.array([[0, 0, 1.0], [-1, 0, 0], [0, -1, 0]]), (0.7, 0.9, 2.5), (-20, 80, 40)),
    "oblique": matrix(turned(10, -20, 30), (0.7, 0.9, 2.5), (3, -4, 5)),
    "oblique left-handed": matrix(turned(40, 15, -70) @ np.diag([1, -1, 1]), (0.7, 0.9, 2.5), (3, -4, 5)),
}


def phantom() -> np.ndarray:
    """Voxels (k, j, i) in Hounsfield units with one marked voxel off every axis of symmetry."""
    voxels = np.random.default_rng(0).integers(-1000, 300, (5, 6, 7)).astype(np.int16)
    voxels[1, 4, 2] = MARK
    return voxels


def marked_ras(volume: Volume) -> np.ndarray:
    k, j, i = np.argwhere(volume.array == MARK)[0]
    return (volume.ijk_to_ras @ [i, j, k, 1])[:3]


def write_itk(path: Path, voxels: np.ndarray, ijk_to_ras: np.ndarray) -> Path:
    to_lps = LPS @ ijk_to_ras
    spacing = np.linalg.norm(to_lps[:3, :3], axis=0)
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((to_lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(to_lps[:3, 3].tolist())
    sitk.WriteImage(image, str(path))
    return path


def write_nifti(path: Path, voxels_ijk: np.ndarray, ijk_to_ras: np.ndarray | None = None) -> Path:
    nibabel.save(nibabel.Nifti1Image(voxels_ijk, np.eye(4) if ijk_to_ras is None else ijk_to_ras), path)
    return path


def write_heights(folder: Path, heights: list[float], voxels: np.ndarray | None = None, **attributes: object) -> Path:
    """An axial series with slices at the given heights in mm."""
    voxels = np.arange(len(heights) * 12, dtype=np.int16).reshape(-1, 3, 4) if voxels is None else voxels
    for n, height in enumerate(heights):
        write_slice(folder / f"{n}.dcm", voxels[n], ImagePositionPatient=[0, 0, height], **attributes)
    return folder


def error_of(path: Path, **options: object) -> str:
    """The message of the error that reading must raise; one line that names the path."""
    with pytest.raises(FastTextDiffError) as caught:
        read_volume(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message.removeprefix(str(path))


# --- geometry --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GEOMETRIES)
def test_a_marked_voxel_is_at_the_same_place_in_every_format(tmp_path, name):
    voxels, ijk_to_ras = phantom(), GEOMETRIES[name]
    expected = (ijk_to_ras @ [2, 4, 1, 1])[:3]
    paths = [
        write_stack(tmp_path / "dicom", voxels, ijk_to_ras),
        write_nifti(tmp_path / "v.nii.gz", voxels.transpose(2, 1, 0), ijk_to_ras),
        write_itk(tmp_path / "v.nrrd", voxels, ijk_to_ras),
        write_itk(tmp_path / "v.mha", voxels, ijk_to_ras),
        write_itk(tmp_path / "v.mhd", voxels, ijk_to_ras),
    ]
    for path in paths:
        volume = read_volume(path)
        assert marked_ras(volume) == pytest.approx(expected, abs=1e-3), path.name
        assert np.array_equal(np.sort(volume.array, axis=0), np.sort(voxels, axis=0))
        assert volume.modality is Modality.CT
        assert not volume.is_planar


@pytest.mark.parametrize("name", GEOMETRIES)
def test_a_series_agrees_with_simpleitk_on_sorted_files(tmp_path, name):
    volume = read_volume(write_stack(tmp_path, phantom(), GEOMETRIES[name]))
    sorted_files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path), SERIES, False, True)
    image = sitk.ReadImage(sorted_files)
    mark = np.argwhere(sitk.GetArrayFromImage(image) == MARK)[0][::-1].tolist()
    assert marked_ras(volume) * [-1, -1, 1] == pytest.approx(image.TransformIndexToPhysicalPoint(mark), abs=1e-3)


def test_slices_are_ordered_by_position_along_the_normal_and_keep_their_uids(tmp_path):
    volume = read_volume(write_heights(tmp_path, [4, 0, 2]))
    uids = [pydicom.dcmread(tmp_path / f"{n}.dcm").SOPInstanceUID for n in (1, 2, 0)]
    assert volume.source.instance_uids == tuple(uids)
    assert volume.array[:, 0, 0].tolist() == [12, 24, 0]
    assert volume.source.series_uid == SERIES
    assert volume.source.frame_of_reference_uid


def test_gantry_tilt_shear_is_kept_and_noted(tmp_path):
    for n in range(4):
        write_slice(tmp_path / f"{n}", np.full((3, 3), n, np.int16), ImagePositionPatient=[0, -0.5 * n, 2 * n])
    volume = read_volume(tmp_path)
    assert volume.ijk_to_ras[:3, 2] == pytest.approx([0, 0.5, 2])
    assert any("sheared by 14.0 degrees" in note for note in volume.source.notes)


def test_positions_rounded_to_a_tenth_of_a_millimetre_are_not_a_gap(tmp_path):
    volume = read_volume(write_heights(tmp_path, [round(0.625 * n, 1) for n in range(9)]))
    assert volume.spacing[2] == pytest.approx(0.625)


def test_a_single_slice_has_its_stated_thickness(tmp_path):
    volume = read_volume(write_slice(tmp_path / "one", phantom()[0], SliceThickness=5, PixelSpacing=[2, 3]))
    assert volume.spacing == (3, 2, 5)
    assert "5 mm thick" in volume.source.notes[0]


def test_missing_pixel_spacing_is_noted(tmp_path):
    volume = read_volume(write_heights(tmp_path, [0, 1], PixelSpacing=None))
    assert "no pixel spacing given: 1 mm assumed" in volume.source.notes


def test_frames_of_an_enhanced_object_are_placed_by_their_functional_groups(tmp_path):
    voxels = np.arange(48, dtype=np.uint16).reshape(3, 4, 4)
    volume = read_volume(write_multiframe(tmp_path / "enhanced", voxels, [8, 0, 4], [2, 2, 2]))
    assert np.array_equal(volume.array, 2 * voxels[[1, 2, 0]])
    assert volume.spacing == (3, 2, 4)
    assert len(volume.source.instance_uids) == 3


def test_frames_with_different_rescale_slopes_are_refused(tmp_path):
    voxels = np.zeros((2, 4, 4), np.uint16)
    assert "rescale slope" in error_of(write_multiframe(tmp_path / "enhanced", voxels, [0, 4], [1, 2]))


# --- DICOM voxels ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("syntax", [None, RLELossless, JPEG2000Lossless])
@pytest.mark.parametrize("is_series", [False, True])
def test_monochrome1_is_inverted_in_stored_values_before_rescaling(tmp_path, syntax, is_series):
    stored = np.arange(0, 4096, 64, dtype=np.uint16).reshape(8, 8)
    options = {"syntax": syntax} if syntax else {}
    for n in range(1 + is_series):
        path = write_slice(
            tmp_path / f"{n}",
            stored,
            Modality="MR",
            PhotometricInterpretation="MONOCHROME1",
            ImagePositionPatient=[0, 0, n],
            BitsStored=12,
            RescaleSlope=2,
            RescaleIntercept=-1000,
            **options,
        )
    highest = 65535 if syntax == JPEG2000Lossless else 4095  # the code stream says 16 bits
    volume = read_volume(tmp_path if is_series else path)
    assert np.array_equal(volume.array[0], (highest - stored.astype(np.int32)) * 2 - 1000)
    assert np.array_equal(volume.array[0], sitk.GetArrayFromImage(sitk.ReadImage(str(path)))[0])


def test_each_slice_is_rescaled_by_its_own_slope(tmp_path):
    pixels = np.array([[1, 3]], np.uint16)
    write_slice(tmp_path / "a", pixels, RescaleSlope=1, Modality="MR")
    write_slice(tmp_path / "b", pixels, RescaleSlope=0.5, Modality="MR", ImagePositionPatient=[0, 0, 2])
    assert read_volume(tmp_path).array.tolist() == [[[1, 3]], [[0.5, 1.5]]]


def test_a_projection_is_a_planar_xray(tmp_path):
    pixels = np.arange(12, dtype=np.uint16).reshape(3, 4)
    unplaced = {"ImagePositionPatient": None, "ImageOrientationPatient": None, "Modality": "DX"}
    volume = read_volume(write_slice(tmp_path / "dx", pixels, **unplaced, PixelSpacing=[0.2, 0.3]))
    assert volume.is_planar
    assert volume.modality is Modality.XRAY
    assert np.array_equal(volume.array[0], pixels)
    assert volume.ijk_to_ras == pytest.approx(np.diag([-0.3, -0.2, 1, 1]))
    write_slice(tmp_path / "lateral", pixels, **unplaced)
    assert "2 images without a position" in error_of(tmp_path)


def test_a_radiograph_without_positions_is_refused(tmp_path):
    path = write_slice(tmp_path / "us", np.zeros((5, 4, 4), np.uint8), Modality="US", NumberOfFrames=5)
    assert "5 images without a position" in error_of(path)


def test_all_colour_models_become_rgb(tmp_path):
    red = np.zeros((4, 4, 3), np.uint8)
    red[1:, :, 0] = 200
    luma = np.asarray(Image.fromarray(red).convert("YCbCr"))
    unplaced = {"ImagePositionPatient": None, "ImageOrientationPatient": None, "Modality": "SM"}
    for name, pixels, options in (
        ("rgb", red, {}),
        ("ybr", luma, {"PhotometricInterpretation": "YBR_FULL"}),
        ("j2k", red, {"PhotometricInterpretation": "YBR_RCT", "syntax": JPEG2000Lossless}),
    ):
        volume = read_volume(write_slice(tmp_path / name, pixels, **unplaced, **options))
        assert volume.array[0].astype(int) == pytest.approx(red.astype(int), abs=1), name
        assert volume.modality is Modality.HISTOLOGY


def test_a_palette_becomes_rgb(tmp_path):
    dataset = slice_dataset(np.array([[0, 1], [2, 3]], np.uint8), PhotometricInterpretation="PALETTE COLOR")
    for factor, channel in enumerate(("Red", "Green", "Blue")):
        dataset.add_new(f"{channel}PaletteColorLookupTableDescriptor", "US", [256, 0, 16])
        table = (np.arange(256) * 256 * (factor + 1) % 65536).astype("<u2").tobytes()
        dataset.add_new(f"{channel}PaletteColorLookupTableData", "OW", table)
    dataset.save_as(tmp_path / "palette", enforce_file_format=True)
    assert read_volume(tmp_path / "palette").array[0, 1, 1].tolist() == [3, 6, 9]


@pytest.mark.parametrize(
    ("tag", "modality"),
    [("CT", "ct"), ("MR", "mr"), ("CR", "xray"), ("MG", "xray"), ("XA", "xray"), ("US", "other"), ("PT", "other")],
)
def test_the_modality_comes_from_the_header_unless_one_is_given(tmp_path, tag, modality):
    path = write_slice(tmp_path / "slice", phantom()[0], Modality=tag)
    assert read_volume(path).modality.value == modality
    asked = read_volume(path, modality=Modality.HISTOLOGY)
    assert asked.modality is Modality.HISTOLOGY
    assert "read as histology as requested; the DICOM header says otherwise" in asked.source.notes


# --- DICOM folders ---------------------------------------------------------------------------------------------------


def test_other_files_in_the_folder_are_ignored(tmp_path):
    write_heights(tmp_path, [0, 1, 2])
    write_segmentation(tmp_path / "seg.dcm")
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "empty").touch()
    volume = read_volume(tmp_path)
    assert volume.shape == (3, 3, 4)
    assert "ignored DICOM files that are not images: 1 Segmentation Storage" in volume.source.notes


def test_with_several_series_one_must_be_chosen(tmp_path):
    write_heights(tmp_path / "a", [0, 1, 2], SeriesDescription="Lung", SeriesNumber=4)
    write_heights(tmp_path / "b", [0, 1], SeriesInstanceUID=SERIES + ".7", SeriesDescription="Bone", SeriesNumber=5)
    message = error_of(tmp_path)
    assert f"no. 4 'Lung' CT, 3 images, UID {SERIES};" in message
    assert f"no. 5 'Bone' CT, 2 images, UID {SERIES}.7" in message
    assert "--series UID" in message
    assert read_volume(tmp_path, series_uid=SERIES + ".7").shape[0] == 2
    with pytest.raises(UsageError, match=r"no image series 1\.2\.3; there is no\. 4 'Lung'"):
        read_volume(tmp_path, series_uid="1.2.3")


def spoilt(path, before, after):
    content = path.read_bytes()
    assert before in content
    path.write_bytes(content.replace(before, after))


def test_a_damaged_file_of_another_series_does_not_matter(tmp_path):
    other = SERIES + ".7"
    write_heights(tmp_path / "a", [0, 1, 2], PixelSpacing=[7.25, 7.25])
    write_heights(tmp_path / "b", [0, 1], SeriesInstanceUID=other, PixelSpacing=[7.25, 7.25])
    spoilt(tmp_path / "b" / "1.dcm", b"7.25\\7.25", b"7,25\\xxxx")
    assert read_volume(tmp_path, series_uid=SERIES).shape[0] == 3
    assert "--series UID" in error_of(tmp_path)
    with pytest.raises(FastTextDiffError, match=r"1\.dcm: its Pixel Spacing '7,25' is not a valid number"):
        read_volume(tmp_path, series_uid=other)
    spoilt(tmp_path / "b" / "0.dcm", b"7.25\\7.25", b"7,25\\xxxx")
    with pytest.raises(FastTextDiffError, match=r"0\.dcm: its Pixel Spacing '7,25' is not a valid number"):
        read_volume(tmp_path, series_uid=other)


def test_a_damaged_file_of_an_unknown_series_is_refused(tmp_path):
    write_heights(tmp_path / "a", [0, 1, 2])
    write_heights(tmp_path / "b", [0], SeriesInstanceUID=None, PixelSpacing=[7.25, 7.25])
    spoilt(tmp_path / "b" / "0.dcm", b"7.25\\7.25", b"7,25\\xxxx")
    with pytest.raises(FastTextDiffError, match=r"0\.dcm: its Pixel Spacing"):
        read_volume(tmp_path, series_uid=SERIES)


def test_a_missing_slice_is_refused_naming_its_place(tmp_path):
    message = error_of(write_heights(tmp_path, [0, 2, 4, 8, 10]))
    assert "4.00 mm from 2.dcm to 3.dcm, elsewhere 2.00 mm" in message


def test_a_missing_slice_among_three_is_the_wider_gap(tmp_path):
    assert "4.00 mm from 1.dcm to 2.dcm, elsewhere 2.00 mm" in error_of(write_heights(tmp_path, [0, 2, 6]))


def test_a_duplicate_slice_is_dropped_and_two_different_ones_are_refused(tmp_path):
    voxels = np.arange(48, dtype=np.int16).reshape(4, 3, 4)
    voxels[2] = voxels[1]
    volume = read_volume(write_heights(tmp_path / "same", [0, 2, 2, 4], voxels))
    assert volume.shape[0] == len(volume.source.instance_uids) == 3
    assert "ignored 1 repeated slices" in volume.source.notes
    voxels[2] += 1
    message = error_of(write_heights(tmp_path / "other", [0, 2, 2, 4], voxels))
    assert "1.dcm and 2.dcm show different images at the same position" in message


@pytest.mark.parametrize(
    ("odd", "what"),
    [
        ({"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}, "orientation"),
        ({"ImagePositionPatient": None}, "having a position in the patient"),
        ({"PixelSpacing": [2, 2]}, "pixel spacing"),
        ({"pixels": np.zeros((5, 6), np.int16)}, r"size (6 x 5, not 4 x 3)"),
    ],
)
def test_a_slice_unlike_the_others_is_named(tmp_path, odd, what):
    write_heights(tmp_path, [0, 2, 4])
    write_slice(tmp_path / "odd", **{"pixels": np.zeros((3, 4), np.int16), "ImagePositionPatient": [0, 0, 6], **odd})
    assert f"slice odd differs from the others in {what}" in error_of(tmp_path)


def test_colour_among_grey_slices_is_named(tmp_path):
    write_heights(tmp_path, [0, 2, 4])
    write_slice(tmp_path / "odd", np.zeros((3, 4, 3), np.uint8), ImagePositionPatient=[0, 0, 6])
    assert "slice odd differs from the others in its pixel layout" in error_of(tmp_path)


def test_slices_next_to_each_other_in_plane_are_refused(tmp_path):
    for n in range(3):
        write_slice(tmp_path / f"{n}", np.full((3, 3), n, np.int16), ImagePositionPatient=[10 * n, 0, 0])
    assert "side by side" in error_of(tmp_path)


def test_folders_and_files_without_an_image_are_refused(tmp_path):
    assert "no DICOM image found" in error_of(tmp_path)
    (tmp_path / "readme").write_text("nothing")
    assert "no DICOM image found" in error_of(tmp_path)
    message = error_of(write_segmentation(tmp_path / "seg"))
    assert "holds no DICOM image, only 1 Segmentation Storage" in message
    report = slice_dataset(np.zeros((2, 2), np.uint8), PixelData=None, Rows=None, Columns=None, Modality="RTSTRUCT")
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = pydicom.uid.RTStructureSetStorage
    report.save_as(tmp_path / "rtstruct", enforce_file_format=True)
    assert "RT Structure Set Storage" in error_of(tmp_path / "rtstruct")


@pytest.mark.parametrize("syntax", [None, RLELossless, JPEG2000Lossless])
def test_a_truncated_dicom_file_is_refused_in_one_line(tmp_path, capfd, syntax):
    pixels = np.random.default_rng(0).integers(0, 4000, (64, 64)).astype(np.uint16)
    path = write_slice(tmp_path / "slice", pixels, **({"syntax": syntax} if syntax else {}))
    content = path.read_bytes()
    for length in [132, *range(140, len(content) - 2, max(1, len(content) // 12))]:
        path.write_bytes(content[:length])
        error_of(path)
    assert capfd.readouterr().err == ""


def test_a_dicom_file_without_pixel_data_is_refused(tmp_path):
    path = write_slice(tmp_path / "slice", np.zeros((4, 4), np.int16), PixelData=None)
    assert "no pixel data" in error_of(path)


def test_a_damaged_header_is_refused_in_one_line(tmp_path):
    path = write_slice(tmp_path / "slice", np.zeros((4, 4), np.int16), PixelSpacing=[7.25, 7.25])
    path.write_bytes(path.read_bytes().replace(b"7.25\\7.25", b"7,25\\xxxx"))
    assert "Pixel Spacing '7,25' is not a valid number" in error_of(path)
    write_slice(path, np.zeros((4, 4), np.int16), ImageOrientationPatient=[1, 0, 0, 1, 0, 0])
    assert "Image Orientation" in error_of(path)
    write_slice(path, np.zeros((4, 4), np.int16), PixelSpacing=[0, 1])
    assert "Pixel Spacing" in error_of(path)


# --- NIfTI -----------------------------------------------------------------------------------------------------------


def test_nifti_scaling_is_applied_and_integers_keep_a_small_type(tmp_path):
    image = nibabel.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4))
    image.header.set_slope_inter(2, -1024)
    nibabel.save(image, tmp_path / "scaled.nii")
    volume = read_volume(tmp_path / "scaled.nii")
    assert volume.array.dtype == np.int16
    assert volume.array[3, 2, 1] == 23 * 2 - 1024
    assert read_volume(write_nifti(tmp_path / "f.nii", np.full((2, 2, 2), 7.0))).array.dtype == np.uint8
    assert read_volume(write_nifti(tmp_path / "f.nii", np.full((2, 2, 2), 7.5))).array.dtype == np.float32
    assert read_volume(write_nifti(tmp_path / "f.nii", np.full((2, 2, 2), 1e300))).array.dtype == np.float64


def test_a_nifti_without_orientation_is_placed_like_itk(tmp_path):
    image = nibabel.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), None)
    image.header.set_zooms((2, 3, 4))
    nibabel.save(image, tmp_path / "v.nii")
    volume = read_volume(tmp_path / "v.nii")
    itk = sitk.ReadImage(str(tmp_path / "v.nii"))
    assert (LPS @ volume.ijk_to_ras @ [1, 2, 3, 1])[:3] == pytest.approx(itk.TransformIndexToPhysicalPoint([1, 2, 3]))
    assert "no orientation in the NIfTI header: assumed left-posterior" in volume.source.notes


def test_disagreeing_nifti_matrices_are_noted(tmp_path):
    image = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.eye(4))
    image.set_qform(np.diag([-1, -1, 1, 1]), 1)
    image.set_sform(np.eye(4), 1)
    nibabel.save(image, tmp_path / "v.nii")
    volume = read_volume(tmp_path / "v.nii")
    assert volume.ijk_to_ras == pytest.approx(np.eye(4))
    assert "sform and qform of the NIfTI header disagree: sform used" in volume.source.notes


def test_time_series_are_refused(tmp_path):
    assert read_volume(write_nifti(tmp_path / "v.nii", np.zeros((2, 3, 4, 1), np.int16))).shape == (4, 3, 2)
    assert "(2 x 3 x 4 x 5)" in error_of(write_nifti(tmp_path / "v.nii", np.zeros((2, 3, 4, 5), np.int16)))
    for frames, name in ((1, "one.nrrd"), (5, "five.nrrd")):
        stack = [sitk.GetImageFromArray(np.zeros((4, 3, 2), np.int16))] * frames
        sitk.WriteImage(sitk.JoinSeries(stack), str(tmp_path / name))
    assert read_volume(tmp_path / "one.nrrd").shape == (4, 3, 2)
    assert "(2 x 3 x 4 x 5)" in error_of(tmp_path / "five.nrrd")


def test_rgb_voxels_of_nifti_and_nrrd_are_colour(tmp_path):
    colour = np.random.default_rng(0).integers(0, 255, (4, 3, 2, 3)).astype(np.uint8)
    structured = np.ascontiguousarray(colour.transpose(2, 1, 0, 3)).view([(c, "u1") for c in "RGB"])[..., 0]
    sitk.WriteImage(sitk.GetImageFromArray(colour, isVector=True), str(tmp_path / "v.nrrd"))
    for path in (write_nifti(tmp_path / "v.nii", structured), tmp_path / "v.nrrd"):
        volume = read_volume(path)
        assert np.array_equal(volume.array, colour)
        assert volume.modality is Modality.HISTOLOGY


@pytest.mark.parametrize(("components", "kind"), [(2, np.uint8), (4, np.uint8), (3, np.float32)])
def test_other_vectors_are_refused(tmp_path, components, kind):
    voxels = np.zeros((2, 2, 2, components), kind)
    sitk.WriteImage(sitk.GetImageFromArray(voxels, isVector=True), str(tmp_path / "v.nrrd"))
    assert f"{components} values per voxel" in error_of(tmp_path / "v.nrrd")


def test_a_segmentation_file_is_refused_as_image(tmp_path):
    image = sitk.GetImageFromArray(np.zeros((2, 2, 2), np.uint8))
    image.SetMetaData("Segment0_ID", "Segment_1")
    sitk.WriteImage(image, str(tmp_path / "v.seg.nrrd"))
    assert "segmentation" in error_of(tmp_path / "v.seg.nrrd")


def test_voxels_that_are_not_finite_are_refused_and_counted(tmp_path):
    voxels = np.array([1.5, np.nan, np.inf, -np.inf, -2.5, 0, 0, 0], np.float32).reshape(2, 2, 2)
    assert "3 of 8 voxels are NaN or infinite" in error_of(write_nifti(tmp_path / "v.nii", voxels))


def test_complex_and_flat_geometry_are_refused(tmp_path):
    assert "complex" in error_of(write_nifti(tmp_path / "v.nii", np.zeros((2, 2, 2), np.complex64)))
    flat = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.eye(4))
    flat.set_sform(np.diag([1, 1, 0, 1]), 1)
    nibabel.save(flat, tmp_path / "v.nii")
    assert "does not give the image's position" in error_of(tmp_path / "v.nii")


# --- pictures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["png", "tif", "jpg"])
def test_a_picture_is_planar_upright_and_placed_as_slicer_places_it(tmp_path, ending):
    grey = np.kron(np.array([[0, 255], [128, 64]], np.uint8), np.ones((16, 24), np.uint8))
    path = tmp_path / f"p.{ending}"
    Image.fromarray(grey).save(path, dpi=(254, 254))
    volume = read_volume(path)
    itk = sitk.ReadImage(str(path))
    assert volume.array[0].astype(int) == pytest.approx(grey.astype(int), abs=8)
    assert volume.is_planar
    assert volume.modality is Modality.XRAY
    assert (LPS @ volume.ijk_to_ras @ [5, 3, 0, 1])[:2] == pytest.approx(itk.TransformIndexToPhysicalPoint([5, 3]))
    assert "modality guessed from the voxels: xray" in volume.source.notes


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_sixteen_bit_grey_is_kept(tmp_path, ending):
    grey = np.arange(0, 60000, 5000, dtype=np.uint16).reshape(3, 4)
    Image.fromarray(grey).save(tmp_path / f"p.{ending}")
    volume = read_volume(tmp_path / f"p.{ending}")
    assert volume.array.dtype == np.uint16
    assert np.array_equal(volume.array[0], grey)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_white_is_zero_tiff_is_inverted(tmp_path, kind):
    stored = np.arange(12, dtype=kind).reshape(3, 4)
    Image.fromarray(stored).save(tmp_path / "p.tif")
    content = bytearray((tmp_path / "p.tif").read_bytes())
    tag = content.index(b"\x06\x01\x03\x00")
    content[tag + 8] = 0  # Pillow itself writes BlackIsZero
    (tmp_path / "p.tif").write_bytes(content)
    assert np.array_equal(read_volume(tmp_path / "p.tif").array[0], np.iinfo(kind).max - stored)


@pytest.mark.parametrize(
    ("ending", "options"),
    [("png", {}), ("tif", {}), ("tif", {"compression": "tiff_lzw"})],
    ids=["png", "tif", "compressed tif"],
)
def test_a_picture_is_rotated_by_its_exif_orientation(tmp_path, ending, options):
    colour = np.random.default_rng(0).integers(0, 255, (4, 6, 3)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / f"p.{ending}"
    Image.fromarray(colour).save(path, exif=exif, **options)
    volume = read_volume(path)
    assert np.array_equal(volume.array[0], np.rot90(colour, -1))
    assert volume.modality is Modality.HISTOLOGY
    assert any("EXIF" in note for note in volume.source.notes)


def test_every_kind_of_picture_becomes_grey_or_rgb(tmp_path):
    colour = Image.fromarray(np.random.default_rng(0).integers(0, 255, (8, 8, 3)).astype(np.uint8))
    grey = colour.convert("L")
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    for name, picture, shape in (
        ("palette.png", colour.quantize(16), (1, 8, 8, 3)),
        ("grey palette.png", grey.convert("P"), (1, 8, 8)),
        ("equal channels.png", grey.convert("RGB"), (1, 8, 8)),
        ("alpha.png", clear, (1, 8, 8)),
        ("grey alpha.png", grey.convert("LA"), (1, 8, 8)),
        ("bits.png", grey.convert("1"), (1, 8, 8)),
        ("cmyk.jpg", colour.convert("CMYK"), (1, 8, 8, 3)),
        ("one pixel.png", grey.crop((0, 0, 1, 1)), (1, 1, 1)),
    ):
        picture.save(tmp_path / name)
        assert read_volume(tmp_path / name).array.shape == shape, name
    assert (read_volume(tmp_path / "alpha.png").array == 255).all()


def test_a_multi_page_stack_is_refused_and_of_several_sizes_the_largest_is_read_and_noted(tmp_path):
    page = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    half, thumbnail = page.resize((4, 4)), page.resize((2, 2))
    for name, pages, number in (
        ("pyramid.tif", [page, half, thumbnail], 1),
        ("thumbnail first.tif", [thumbnail, page], 2),
        ("two thumbnails.tif", [thumbnail, page, thumbnail], 2),
    ):
        pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:])
        volume = read_volume(tmp_path / name)
        assert np.array_equal(volume.array[0], np.asarray(page)), name
        said = f"page {number} of {len(pages)} used, the largest; the others have other sizes"
        assert said in volume.source.notes, name
    for name, pages in (("stack.tif", [page] * 3), ("stack with thumbnail.tif", [thumbnail, page, page])):
        pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:])
        assert "3 pages" in error_of(tmp_path / name)


def test_the_page_that_is_read_keeps_its_own_resolution_and_orientation(tmp_path):
    page = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8))
    page.encoderinfo = {"dpi": (254, 508), "tiffinfo": {0x0112: 6}}  # as Pillow stores it for each page
    page.resize((2, 2)).save(tmp_path / "p.tif", save_all=True, append_images=[page])
    with Image.open(tmp_path / "p.tif") as stored:
        stored.seek(1)
        is_kept = stored.tag_v2.get(0x0112) == 6, stored.info.get("dpi") == (254, 508)
    volume = read_volume(tmp_path / "p.tif")
    assert is_kept == (True, True)
    assert np.array_equal(volume.array[0], np.rot90(np.asarray(page), -1))
    assert volume.spacing[:2] == pytest.approx((0.05, 0.1))


# --- all formats -----------------------------------------------------------------------------------------------------


def test_the_modality_is_guessed_only_from_conclusive_voxels(tmp_path):
    magnitudes = np.random.default_rng(0).integers(0, 900, (4, 4, 4)).astype(np.int16)
    assert read_volume(write_nifti(tmp_path / "mr.nii", magnitudes)).modality is Modality.OTHER
    assert read_volume(write_nifti(tmp_path / "ct.nii", magnitudes - 600)).modality is Modality.CT
    assert read_volume(write_nifti(tmp_path / "far.nii", magnitudes * 30 - 20000)).modality is Modality.OTHER
    asked = read_volume(tmp_path / "mr.nii", modality=Modality.MR)
    assert asked.modality is Modality.MR
    assert not asked.source.notes


@pytest.mark.parametrize("name", ["v.nii.gz", "v.nrrd", "v.mha"])
def test_damaged_compressed_voxels_are_refused(tmp_path, name):
    path = tmp_path / name
    voxels = np.random.default_rng(0).integers(0, 255, (16, 16, 16)).astype(np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(path), useCompression=True)
    whole = path.read_bytes()
    assert np.array_equal(read_volume(path).array, voxels)
    path.write_bytes(whole[: len(whole) // 2] + bytes(32) + whole[len(whole) // 2 + 32 :])
    assert "damaged" in error_of(path)


@pytest.mark.parametrize("block", [2, 1 << 18])  # a member may begin anywhere in a block
@pytest.mark.parametrize("name", ["v.nii.gz", "v.nrrd"])
def test_gzip_of_several_members_is_read_and_each_is_checked(tmp_path, monkeypatch, name, block):
    """As bgzip, pigz -i and `cat` of compressed parts write it (RFC 1952 section 2.2)."""
    monkeypatch.setattr(file_checks, "READ_AT_ONCE", block)
    voxels = np.random.default_rng(0).integers(0, 255, (16, 16, 16)).astype(np.uint8)
    path = tmp_path / name
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(path), useCompression=True)
    header, start, packed = path.read_bytes().partition(b"\x1f\x8b")
    content = gzip.decompress(start + packed)
    members = [gzip.compress(content[n : n + 1000]) for n in range(0, len(content), 1000)]
    path.write_bytes(header + b"".join([*members, gzip.compress(b"")]))
    assert np.array_equal(read_volume(path).array, voxels)
    spoilt = members[-1][:-8] + bytes(8)  # its checksum and length
    path.write_bytes(header + b"".join([*members[:-1], spoilt]))
    assert "damaged" in error_of(path)


def test_devices_and_pipes_are_not_read(tmp_path):
    (tmp_path / "v.nii.gz").symlink_to(os.devnull)
    assert "a device or pipe, not a file" in error_of(tmp_path / "v.nii.gz")


def test_a_list_of_files_must_name_existing_files(tmp_path):
    for files, said in (("a.dcm", "files must be a list"), ([tmp_path / "gone.dcm"], "gone.dcm: no such file")):
        with pytest.raises(UsageError, match=said):
            read_volume(tmp_path, files=files)


@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz", "v.nrrd", "v.mha", "p.png", "p.jpg", "p.tif"])
def test_empty_wrong_and_truncated_files_of_every_format_are_refused_in_one_line(tmp_path, capfd, name):
    path = tmp_path / name
    path.touch()
    assert "the file is empty" in error_of(path)
    path.write_bytes(b"this is no image at all" * 40)
    assert "damaged or truncated, or its format does not match" in error_of(path)
    voxels = np.random.default_rng(0).integers(0, 255, (16, 16, 16)).astype(np.uint8)
    if name.startswith("p"):
        Image.fromarray(voxels[0]).save(path)
    else:
        write_itk(path, voxels, np.eye(4))
    content = path.read_bytes()
    for part in (0.1, 0.5, 0.9):
        path.write_bytes(content[: int(len(content) * part)])
        error_of(path)
    assert capfd.readouterr().err == ""


def test_other_files_are_refused_with_the_list_of_formats(tmp_path):
    assert "no such file or folder" in error_of(tmp_path / "missing.nii")
    (tmp_path / "text.txt").write_text("hello")
    assert ".nii.gz" in error_of(tmp_path / "text.txt")
    with gzip.open(tmp_path / "text.nii.gz", "wb") as file:
        file.write(b"hello")
    assert "damaged" in error_of(tmp_path / "text.nii.gz")
    Image.new("L", (4, 4)).save(tmp_path / "p.png")
    assert "series" in error_of(tmp_path / "p.png", series_uid="1.2")
    (tmp_path / "v.mhd").write_text(
        "ObjectType = Image\nNDims = 3\nDimSize = 2 2 2\nElementType = MET_SHORT\nElementDataFile = gone.raw\n"
    )
    error_of(tmp_path / "v.mhd")


# --- real images -----------------------------------------------------------------------------------------------------


@pytest.fixture
def samples() -> Path:
    if not (SHARED / "samples").is_dir():
        pytest.skip("no samples next to the checkout")
    return SHARED / "samples"


@pytest.mark.shared
def test_a_real_jpeg_2000_series_matches_its_segmentation(samples):
    volume = read_volume(samples / "ct_totalsegmentator/example_ct_dicom")
    labels = read_volume(samples / "ct_totalsegmentator/example_seg_dicom.nii.gz")
    to_labels = np.linalg.inv(labels.ijk_to_ras) @ volume.ijk_to_ras
    corner = (to_labels @ [0, 0, 0, 1])[:3].round(2)
    assert volume.shape == labels.shape == (20, 512, 512)
    assert np.abs(to_labels[:3, :3]) == pytest.approx(np.eye(3), abs=1e-4)
    flips = tuple(slice(None, None, -1 if at else 1) for at in corner[::-1])
    on_image = labels.array[flips]
    spine, liver = np.isin(on_image, range(26, 51)), on_image == 5
    assert volume.array.min() == -1024
    assert 50 < np.median(volume.array[liver]) < 200
    assert np.median(volume.array[spine]) > 100


@pytest.mark.shared
def test_a_real_series_is_read_without_the_dicom_seg_next_to_it(samples):
    volume = read_volume(samples / "ct_liver_dcmqi")
    assert volume.shape == (3, 512, 512)
    assert volume.modality is Modality.CT
    assert volume.spacing[2] == pytest.approx(1.0)
    assert "1 Segmentation Storage" in volume.source.notes[0]
    assert "Segmentation Storage" in error_of(samples / "ct_liver_dcmqi/liver.dcm")


@pytest.mark.shared
@pytest.mark.parametrize(
    ("pattern", "modality"),
    [
        ("ct_totalsegmentator/*_ct_*.nii.gz", Modality.CT),
        ("mr_spine/t2.nii.gz", Modality.OTHER),
        ("mr_brain_tumour/*_image.nrrd", Modality.OTHER),
        ("cxr_hannover/*.png", Modality.XRAY),
    ],
)
def test_real_volumes_and_pictures_agree_with_simpleitk(samples, pattern, modality):
    paths = [path for path in sorted(samples.glob(pattern)) if "heart" not in path.name]
    assert paths
    for path in paths:
        volume = read_volume(path)
        image = sitk.ReadImage(str(path))
        last = [length - 1 for length in image.GetSize()]
        here = LPS @ volume.ijk_to_ras @ [*[*last, 0][:3], 1]
        assert here[: len(last)] == pytest.approx(image.TransformIndexToPhysicalPoint(last), abs=1e-2)
        assert volume.modality is modality
