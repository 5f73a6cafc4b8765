"""Measurements against shapes whose size is known, in every orientation, format and unit; bad input is one line."""

import csv

import numpy as np
import pytest
from command_line import error_line
from dicom_files import write_stack
from test_dicom_seg import GRIDS, PATIENT, grid, projection, result_of, turned

from fasttextdiff.contract.measurements import csv_text
from fasttextdiff.errors import FastTextDiffError, UsageError
from fasttextdiff.image.diameters import largest_diameters
from fasttextdiff.image.volume import Modality, Source, Volume
from fasttextdiff.io.read import read_volume
from fasttextdiff.io.read_segmentation import read_segmentation
from fasttextdiff.io.write import write_segmentation
from fasttextdiff.segments.measuring import MaskedSegment, measure, measure_segments
from fasttextdiff.segments.terminology import code_finding

SIZE = (22, 90, 110)


def places(matrix, shape=SIZE):
    """(k, j, i, 3): each voxel's centre in mm, relative to the middle of the grid."""
    k, j, i = np.indices(shape)
    points = np.stack([i, j, k], axis=-1) - (np.array(shape[::-1]) - 1) / 2
    return points @ matrix[:3, :3].T


def segment(name, mask):
    return MaskedSegment(name, mask, code_finding(name))


def along(matrix):
    """Unit vectors of columns, rows and slices."""
    return (matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0)).T


@pytest.mark.parametrize("name", GRIDS)
def test_an_ellipsoid_has_its_volume_and_its_diameters(name):
    """Half axes 24 and 13 mm within the slices, turned there by 30 degrees, and 20 mm across them."""
    matrix = GRIDS[name]
    across, down, through = along(matrix)
    turn = np.deg2rad(30)
    first, second = np.cos(turn) * across + np.sin(turn) * down, np.cos(turn) * down - np.sin(turn) * across
    points = places(matrix)
    inside = (points @ first / 24) ** 2 + (points @ second / 13) ** 2 + (points @ through / 20) ** 2 <= 1
    volume = Volume(np.where(inside, 40, -800).astype(np.int16), matrix, Modality.CT)
    (found,) = measure_segments(volume, [segment("mass", inside)])
    assert found.volume_ml == pytest.approx(4 / 3 * np.pi * 24 * 13 * 20 / 1000, rel=0.01)
    assert found.longest_mm == pytest.approx(48, abs=0.5)
    assert found.perpendicular_mm == pytest.approx(26, abs=0.5)
    assert found.slice_number in (11, 12)
    assert found.plane == ("sagittal" if name == "sagittal" else "axial")
    assert (found.mean, found.sd, found.p50, found.unit, found.parts) == (40, 0, 40, "HU", 1)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.5, 2.0)])
def test_diameters_of_rectangles_lines_and_single_pixels(spacing):
    """Outlines run half-way to the pixels outside, so that a rectangle's corners are cut by half a pixel."""
    across, down = spacing
    matrix = grid(np.diag([-1.0, -1.0, 1.0]), (across, down, 3.0))
    mask = np.zeros((2, 30, 40), bool)
    mask[1, 5, 7] = True
    pixel = largest_diameters(mask, matrix, 0)
    assert (pixel.longest, pixel.perpendicular, pixel.slice) == (max(spacing), min(spacing), 1)
    mask[0, 4, 3:33] = True
    line = largest_diameters(mask, matrix, 0)
    assert (line.longest, line.slice) == (30 * across, 0)
    assert line.perpendicular == pytest.approx(down)
    mask[0, 4:16, 3:33] = True
    box = largest_diameters(mask, matrix, 0)
    corners = np.array([29 * across, 12 * down]), np.array([30 * across, 11 * down])
    assert box.longest == pytest.approx(max(map(np.linalg.norm, corners)))


def test_lesions_apart_are_not_measured_as_one_and_corners_hold_together():
    mask = np.zeros((1, 40, 40), bool)
    mask[0, 2:8, 2:8] = mask[0, 30:36, 30:34] = True
    assert largest_diameters(mask, np.eye(4), 0).longest < 9
    stairs = np.eye(20, dtype=bool)[np.newaxis]
    assert largest_diameters(stairs, np.eye(4), 0).longest == pytest.approx(19 * np.sqrt(2), abs=1)


def test_sheared_slices_keep_the_volume_and_empty_segments_are_zero():
    """A tilted gantry moves each slice; the volume of a voxel is that of the determinant."""
    matrix = grid(turned(10, 0, 0)) @ np.array([[1, 0, 0.4, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    mask = np.zeros((4, 20, 30), bool)
    mask[1:3, 2:12, 3:23] = True
    volume = Volume(np.zeros(mask.shape, np.int16), matrix, Modality.MR)
    box, nothing = measure_segments(volume, [segment("mass", mask), segment("left lung", ~mask & mask)])
    assert box.volume_ml == pytest.approx(400 * 0.7 * 0.9 * 2.5 / 1000)
    assert box.unit == ""
    assert box.lung_percent is None
    assert (nothing.voxels, nothing.volume_ml, nothing.longest_mm, nothing.mean) == (0, 0, None, None)


def test_intensities_parts_and_the_share_of_the_lungs():
    random = np.random.default_rng(3)
    array = random.integers(-1000, 400, (6, 30, 40)).astype(np.int16)
    lungs = np.zeros((2, *array.shape), bool)
    lungs[0, :, :, :15], lungs[1, :, :, 20:35] = True, True
    lesion = np.zeros(array.shape, bool)
    lesion[1:4, 5:15, 10:22] = True
    lesion[5, 0, 0] = True
    volume = Volume(array, GRIDS["axial"], Modality.CT)
    found = measure_segments(
        volume, [segment("right lung", lungs[0]), segment("left lung", lungs[1]), segment("mass", lesion)]
    )
    values = array[lesion].astype(float)
    mass = found[2]
    assert (mass.mean, mass.sd) == pytest.approx((values.mean(), values.std(ddof=1)))
    levels = np.percentile(values, [5, 25, 50, 75, 95])
    assert [mass.p5, mass.p25, mass.p50, mass.p75, mass.p95] == pytest.approx(levels.tolist())
    assert mass.parts == 2
    assert mass.lung_percent == pytest.approx(100 * (3 * 10 * 7 + 1) / (6 * 30 * 30))
    assert mass.lungs == "right lung, left lung"
    assert found[0].lung_percent is None


def test_pictures_have_areas_only_if_their_pixel_size_is_known():
    mask = np.ones((1, 4, 5), bool)
    pixels = np.zeros((1, 4, 5, 3), np.uint8)
    known = Volume(pixels, np.diag([0.5, 0.5, 1.0, 1.0]), Modality.HISTOLOGY, is_planar=True)
    (found,) = measure_segments(known, [segment("cell nuclei", mask)])
    assert (found.area_mm2, found.volume_ml, found.mean) == (5.0, None, None)
    (found,) = measure_segments(
        Volume(pixels, np.eye(4), Modality.OTHER, is_planar=True), [segment("cell nuclei", mask)]
    )
    assert (found.voxels, found.area_mm2, found.longest_mm) == (20, None, None)


@pytest.mark.parametrize("name", ["result.seg.nrrd", "result.nii.gz", "result.dcm", "result.labelmap.dcm"])
@pytest.mark.parametrize("source", ["axial", "oblique"])
def test_every_format_gives_the_same_measurements(tmp_path, name, source):
    if name.endswith(".dcm"):
        pytest.importorskip("highdicom", reason="needs highdicom")
    voxels = np.random.default_rng(0).integers(-1000, 300, (5, 6, 7)).astype(np.int16)
    volume = read_volume(write_stack(tmp_path / "source", voxels, GRIDS[source], **PATIENT))
    result = result_of(volume)
    write_segmentation(result, tmp_path / name)
    read = measure_segments(volume, read_segmentation(tmp_path / name, volume))
    # a label map has no entry for an empty finding unless findings overlap, as here
    assert [each.voxels for each in read] == [int(found.mask.sum()) for found in result.findings]
    expected = measure(result)
    assert [(each.longest_mm, each.mean, each.lung_percent) for each in read] == [
        (each.longest_mm, each.mean, each.lung_percent) for each in expected
    ]


def test_cropped_and_flipped_segments_are_placed_and_others_refused(tmp_path):
    sitk = pytest.importorskip("SimpleITK")
    volume = Volume(np.zeros((5, 6, 7), np.int16), GRIDS["oblique"], Modality.CT, source=Source("ct.nrrd"))
    labels = np.zeros((3, 2, 4), np.uint8)
    labels[0, 1, 2] = labels[2, 0, 0] = 1
    start = np.array([2, 3, 1, 1])
    to_lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.ijk_to_ras
    spacing = np.linalg.norm(to_lps[:3, :3], axis=0)
    image = sitk.GetImageFromArray(labels)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((to_lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin((to_lps @ start)[:3].tolist())
    path = tmp_path / "cropped.seg.nrrd"

    def write(image):
        for key, value in {"ID": "S1", "Name": "mass", "LabelValue": "1", "Layer": "0", "Tags": "a:b|"}.items():
            image.SetMetaData(f"Segment0_{key}", value)
        sitk.WriteImage(image, str(path))

    write(sitk.Flip(image, [False, True, False]))
    (found,) = read_segmentation(path, volume)
    assert found.name == "mass"
    assert np.argwhere(found.mask).tolist() == [[1, 4, 4], [3, 3, 2]]
    image.SetOrigin((to_lps @ np.add(start, [0.4, 0, 0, 0]))[:3].tolist())
    write(image)
    with pytest.raises(FastTextDiffError, match="its voxels are not those of ct"):
        read_segmentation(path, volume)
    with pytest.raises(UsageError, match="belongs to another image"):
        measure_segments(volume, [segment("mass", np.ones((1, 6, 7), bool))])


@pytest.fixture
def saved(tmp_path):
    """A DICOM series and its segmentation on disk."""
    pytest.importorskip("highdicom", reason="needs highdicom")
    voxels = np.random.default_rng(0).integers(-1000, 300, (5, 6, 7)).astype(np.int16)
    folder = write_stack(tmp_path / "source", voxels, GRIDS["axial"], **PATIENT)
    volume = read_volume(folder)
    write_segmentation(result_of(volume), tmp_path / "result.dcm")
    return folder, tmp_path / "result.dcm", volume


def test_the_command_writes_table_and_report(run, tmp_path, saved, capsys):
    import highdicom
    import pydicom

    folder, segmentation, volume = saved
    table, report = tmp_path / "table.csv", tmp_path / "report.dcm"
    options = ("measure", folder, segmentation, "-o", table, "--report", report)
    code, out, err = run(*options, with_model=False)
    assert (code, err) == (0, "")
    assert f"wrote {table}, {report}" in out
    expected = measure_segments(volume, read_segmentation(segmentation, volume))
    assert table.read_text(encoding="utf-8-sig") == csv_text(expected, "source").replace("\r\n", "\n")
    rows = list(csv.DictReader(table.read_text(encoding="utf-8-sig").splitlines()))
    assert float(rows[0]["volume (ml)"]) == pytest.approx(expected[0].volume_ml, abs=5e-4)

    stored = highdicom.sr.srread(report)
    groups = stored.content.get_volumetric_roi_measurement_groups()
    assert len(groups) == 2  # the third segment is empty
    named = {
        (each.name.meaning, each.derivation and each.derivation.meaning): each for each in groups[0].get_measurements()
    }
    assert named["Long Axis", None].value == pytest.approx(expected[0].longest_mm)
    assert named["Attenuation Coefficient", "Standard deviation"].value == pytest.approx(expected[0].sd)
    assert named["Volume", None].unit.value == "ml"
    seg = pydicom.dcmread(segmentation)
    assert groups[0].referenced_segment.referenced_sop_instance_uid == seg.SOPInstanceUID
    assert stored.PatientName == seg.PatientName
    before = report.read_bytes()
    assert run(*options, with_model=False)[0] == 2  # a report is never replaced: it might be another program's
    report.unlink()
    assert run(*options, with_model=False)[0] == 0
    assert report.read_bytes() == before


def test_a_single_segment_is_reported_too(tmp_path, saved, run):
    """Its frames name no segment of their own."""
    import highdicom

    folder, _, volume = saved
    mask = np.zeros(volume.shape, bool)
    mask[1:3, 2:5, 2:4] = True
    write_segmentation(result_of(volume, [mask], ["mass"]), tmp_path / "one.dcm")
    report = tmp_path / "report.dcm"
    assert run("measure", folder, tmp_path / "one.dcm", "--report", report, with_model=False)[0] == 0
    (group,) = highdicom.sr.srread(report).content.get_volumetric_roi_measurement_groups()
    assert len(group.get_measurements()) == 6


def test_a_validator_finds_no_error_in_a_report(tmp_path, saved, run):
    import shutil
    import subprocess

    if not shutil.which("dciodvfy"):
        pytest.skip("needs dciodvfy (Debian: dicom3tools)")
    folder, segmentation, _ = saved
    report = tmp_path / "report.dcm"
    assert run("measure", folder, segmentation, "--report", report, with_model=False)[0] == 0
    checked = subprocess.run(["dciodvfy", report], capture_output=True, text=True)
    lines = (checked.stdout + checked.stderr).splitlines()
    assert "ComprehensiveSR" in lines
    assert [line for line in lines if line.startswith(("Error", "Abort"))] == []


@pytest.mark.parametrize("spacing", ["PixelSpacing", "ImagerPixelSpacing"])
def test_a_projection_has_no_sizes_and_no_report(tmp_path, run, spacing):
    """They are those of the detector or of a calibration."""
    pytest.importorskip("highdicom", reason="needs highdicom")
    volume = projection(tmp_path, **{spacing: [0.2, 0.2]})
    write_segmentation(result_of(volume), tmp_path / "result.dcm")
    table, files = tmp_path / "table.csv", (tmp_path / "source.dcm", tmp_path / "result.dcm")
    code, _, err = run("measure", *files, "-o", table, with_model=False)
    assert code == 0
    assert "the pixels of a projection X-ray do not show sizes in the patient: no lengths and areas" in err
    row = next(csv.DictReader(table.read_text(encoding="utf-8-sig").splitlines()))
    assert int(row["voxels"]) > 0
    assert (row["volume (ml)"], row["area (mm2)"], row["longest diameter (mm)"], row["unit"]) == ("", "", "", "")
    code, _, err = run("measure", *files, "--report", tmp_path / "report.dcm", with_model=False)
    assert code == 2
    assert "sizes in the patient are not known from a projection" in error_line(err)


def test_the_documented_script_measures_a_result(tmp_path, monkeypatch, capsys, samples):
    import re
    import runpy

    import nibabel

    page = (samples.parents[1] / "docs" / "measuring.md").read_text(encoding="utf-8")
    (tmp_path / "script.py").write_text(re.search(r"```python\n(.*?)```", page, re.S)[1])
    chest = nibabel.load(samples / "chest_ct" / "chest_ct_cropped.nii.gz")
    nibabel.save(chest.slicer[:, :, 60:62], tmp_path / "chest.nii.gz")
    monkeypatch.chdir(tmp_path)
    runpy.run_path("script.py")
    left, right = (line.split() for line in capsys.readouterr().out.splitlines())
    assert left[:2] == ["left", "lung"]
    assert all(-950 < float(lung[-1]) < -400 for lung in (left, right))


def test_bad_input_is_one_line(tmp_path, run, saved):
    import pydicom

    folder, segmentation, volume = saved
    nrrd = tmp_path / "result.seg.nrrd"
    write_segmentation(result_of(volume), nrrd)

    def refused(*arguments, code=2):
        got, _, err = run("measure", *arguments, with_model=False)
        assert got == code
        return error_line(err)

    assert "save the segments as .dcm first" in refused(folder, nrrd, "--report", tmp_path / "report.dcm")
    assert "must end in .csv" in refused(folder, nrrd, "-o", tmp_path / "table.xlsx")
    assert "there is no such file" in refused(folder, tmp_path / "gone.seg.nrrd")
    assert "not a segmentation" in refused(folder, next(folder.glob("IM*")))
    (tmp_path / "broken.seg.nrrd").write_bytes(nrrd.read_bytes()[:2000])
    assert "broken.seg.nrrd" in refused(folder, tmp_path / "broken.seg.nrrd", code=1)
    assert "cannot write" in refused(folder, segmentation, "--report", segmentation)
    others = write_stack(tmp_path / "other", np.zeros((5, 6, 7), np.int16), GRIDS["axial"], **PATIENT)
    assert "it refers to other images" in refused(others, segmentation, code=1)
    for file in folder.rglob("IM*"):
        dataset = pydicom.dcmread(file)
        dataset.StudyInstanceUID = ""
        dataset.save_as(file)
    assert "the images lack UIDs" in refused(folder, segmentation, "--report", tmp_path / "report.dcm")
    assert not (tmp_path / "report.dcm").exists()
