"""Written files equal the result: voxel by voxel and in place, in Slicer and nibabel; or nothing is written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fasttextdiff.contract.segments import escape_tag, unescape_tag
from fasttextdiff.errors import FastTextDiffError, UsageError
from fasttextdiff.image.volume import Modality, Source, Volume
from fasttextdiff.io.atomic import check_writable, whole_files
from fasttextdiff.io.write import check_segmentation_path, segmentation_notes, write_segmentation, write_uncertainty
from fasttextdiff.result import FindingResult, Provenance, SegmentationResult, entropy
from fasttextdiff.segments.tags import segment_names
from fasttextdiff.segments.terminology import assign_colors, code_finding

SHAPE = (5, 7, 9)
NASTY = "a|b ~c ^d %7C \\n\nnew line\ttab 😀 肺炎 : ä" + chr(0x2028) + "x"


def rotation(seed):
    matrix, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return matrix * np.sign(np.linalg.det(matrix))


def grid(axes, spacing=(0.7, 0.8, 2.5), origin=(-31.5, 120.25, 7.75)):
    matrix = np.eye(4)
    matrix[:3, :3] = axes @ np.diag(spacing)
    matrix[:3, 3] = origin
    return matrix


GRIDS = {
    "as_in_most_ct": grid(np.diag([-1.0, -1.0, 1.0])),
    "oblique": grid(rotation(1)),
    "left_handed": grid(rotation(2) @ np.diag([1.0, 1.0, -1.0])),
    "swapped_axes": grid(np.array([[0.0, 0, 1], [-1, 0, 0], [0, 1, 0]])),
}
SHEARED = grid(rotation(3) @ np.array([[1.0, 0, 0.2], [0, 1, 0.1], [0, 0, 1]]))


def provenance(**changes):
    values = {
        "model": "compact",
        "weights_sha256": "0123456789abcdef",
        "software": "fasttextdiff 0.1.0",
        "seed": 7,
        "samples": 3,
        "timesteps": (50, 150, 250),
        "plane": "axial",
        "slices": (0, SHAPE[0]),
        "window": (-600.0, 1500.0),
        "threshold": 0.5,
        "device": "cpu",
        "dtype": "float32",
        "created": "2026-11-24T08:30:00+00:00",
    }
    return Provenance(**{**values, **changes})


def finding(text, mask, **changes):
    noise = np.random.default_rng(len(text)).random(mask.shape).astype(np.float32)
    values = {
        "finding": text,
        "probability": noise,
        "mask": mask,
        "disagreement": noise,
        "presence": np.array([0.25, 0.875, np.nan, 0.5, 0.0], np.float32),
    }
    return FindingResult(**{**values, **changes})


def result(texts=("heart", NASTY, "nodule"), matrix=None, overlap=False):
    """Random masks; without overlap every voxel belongs to at most one finding."""
    rng = np.random.default_rng(0)
    owner = rng.integers(0, 2 * len(texts), SHAPE)
    masks = [(rng.random(SHAPE) > 0.6) if overlap else owner == n for n in range(len(texts))]
    volume = Volume(
        rng.integers(-1000, 1000, SHAPE).astype(np.int16),
        GRIDS["oblique"] if matrix is None else matrix,
        Modality.CT,
        source=Source(path="scan.nii.gz"),
    )
    return SegmentationResult(volume, tuple(map(finding, texts, masks)), provenance())


def sorted_points(points):
    """Rows in an order that does not depend on the last digits."""
    return points[np.lexsort(np.round(points, 2).T)]


def world(mask_ijk, matrix):
    return sorted_points(np.argwhere(mask_ijk) @ matrix[:3, :3].T + matrix[:3, 3])


def nifti_masks(path, count):
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.load(path)
    data = np.asarray(image.dataobj)
    if data.ndim == 4:
        return [world(data[..., n] > 0, image.affine) for n in range(count)]
    return [world(data == n + 1, image.affine) for n in range(count)]


@pytest.fixture
def slicer():
    return pytest.importorskip("slicer", reason="needs slicer-core")


def load_in_slicer(slicer, path):
    scene = slicer.vtkMRMLScene()
    node, storage = slicer.vtkMRMLSegmentationNode(), slicer.vtkMRMLSegmentationStorageNode()
    scene.AddNode(node)
    scene.AddNode(storage)
    storage.SetFileName(str(path))
    assert storage.ReadData(node) == 1
    return scene, node


def save_from_slicer(slicer, scene, node, path):
    storage = slicer.vtkMRMLSegmentationStorageNode()
    scene.AddNode(storage)
    storage.SetFileName(str(path))
    assert storage.WriteData(node) == 1


def slicer_points(segment):
    from vtk import vtkMatrix4x4
    from vtk.util.numpy_support import vtk_to_numpy

    labelmap = segment.GetRepresentation("Binary labelmap")
    extent = np.array(labelmap.GetExtent()).reshape(3, 2)
    array = vtk_to_numpy(labelmap.GetPointData().GetScalars()).reshape((extent[:, 1] - extent[:, 0] + 1)[::-1])
    to_world = vtkMatrix4x4()
    labelmap.GetImageToWorldMatrix(to_world)
    matrix = np.array([[to_world.GetElement(r, c) for c in range(4)] for r in range(4)])
    ijk = np.argwhere(segment.GetLabelValue() == array.T) + extent[:, 0]
    return sorted_points(ijk @ matrix[:3, :3].T + matrix[:3, 3])


def slicer_tag(segment, name):
    import vtk

    value = vtk.reference("")
    return str(value) if segment.GetTag(name, value) else None


def assert_slicer_has(node, written):
    segmentation = node.GetSegmentation()
    names, colors = (
        segment_names([f.finding for f in written.findings]),
        assign_colors([f.finding for f in written.findings]),
    )
    assert segmentation.GetNumberOfSegments() == len(written.findings)
    for n, found in enumerate(written.findings):
        segment = segmentation.GetNthSegment(n)
        expected = world(found.mask.T, written.volume.ijk_to_ras)
        np.testing.assert_allclose(slicer_points(segment), expected, atol=1e-3)
        assert segment.GetName() == names[n]
        np.testing.assert_allclose(segment.GetColor(), np.array(colors[n]) / 255, atol=1e-5)
        assert slicer_tag(segment, "TerminologyEntry") == code_finding(found.finding).slicer_entry
        assert slicer_tag(segment, "DICOM.SegmentAlgorithmType") == "AUTOMATIC"
        assert slicer_tag(segment, "DICOM.SegmentAlgorithmName") == "FastTextDiff compact"
        assert unescape_tag(slicer_tag(segment, "FastTextDiff.Finding")) == found.finding
        assert slicer_tag(segment, "FastTextDiff.Presence") == "0.88"
        assert slicer_tag(segment, "FastTextDiff.WeightsSha256") == "0123456789abcdef"
        assert slicer_tag(segment, "FastTextDiff.Timesteps") == "50 150 250"


@pytest.mark.slicer
@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("name", GRIDS)
def test_slicer_and_nibabel_see_the_same_voxels_and_slicer_keeps_them(slicer, tmp_path, name, overlap):
    written = result(matrix=GRIDS[name], overlap=overlap)
    write_segmentation(written, tmp_path / "a.seg.nrrd")
    nifti, _ = write_segmentation(written, tmp_path / "a.nii.gz")
    scene, node = load_in_slicer(slicer, tmp_path / "a.seg.nrrd")
    assert_slicer_has(node, written)
    for n, points in enumerate(nifti_masks(nifti, 3)):
        np.testing.assert_allclose(points, slicer_points(node.GetSegmentation().GetNthSegment(n)), atol=1e-3)
    save_from_slicer(slicer, scene, node, tmp_path / "again.seg.nrrd")
    _, again = load_in_slicer(slicer, tmp_path / "again.seg.nrrd")
    assert_slicer_has(again, written)


@pytest.mark.parametrize("name", GRIDS)
def test_readers_that_use_the_quaternion_of_a_nifti_file_find_the_same_place(tmp_path, name):
    sitk = pytest.importorskip("SimpleITK")
    nibabel = pytest.importorskip("nibabel")
    path, _ = write_segmentation(result(matrix=GRIDS[name]), tmp_path / "a.nii.gz")
    image = sitk.ReadImage(str(path))
    for corner in ((0, 0, 0), (8, 0, 0), (0, 6, 0), (0, 0, 4)):
        lps = np.array(image.TransformIndexToPhysicalPoint(corner))
        np.testing.assert_allclose(lps * (-1, -1, 1), (GRIDS[name] @ (*corner, 1))[:3], atol=1e-3)
    assert nibabel.load(path).header["qform_code"] == 1
    write_segmentation(result(matrix=SHEARED), path)
    assert nibabel.load(path).header["qform_code"] == 0


@pytest.mark.slicer
def test_slicer_places_a_sheared_volume_as_nibabel_does_and_the_user_gets_a_note(slicer, tmp_path):
    written = result(matrix=SHEARED)
    write_segmentation(written, tmp_path / "a.seg.nrrd")
    nifti, record = write_segmentation(written, tmp_path / "a.nii.gz")
    _, node = load_in_slicer(slicer, tmp_path / "a.seg.nrrd")
    assert_slicer_has(node, written)
    for n, points in enumerate(nifti_masks(nifti, 3)):
        np.testing.assert_allclose(points, slicer_points(node.GetSegmentation().GetNthSegment(n)), atol=1e-3)
    assert "right angles" in segmentation_notes(written, nifti)[0]
    assert json.loads(record.read_text(encoding="utf-8"))["notes"] == segmentation_notes(written, nifti)
    assert segmentation_notes(written, tmp_path / "a.seg.nrrd") == []


@pytest.mark.slicer
def test_slicer_gets_the_whole_grid_and_a_shared_layer_only_without_overlap(slicer, tmp_path):
    for overlap, layers in ((False, 1), (True, 3)):
        path = tmp_path / f"{overlap}.seg.nrrd"
        write_segmentation(result(overlap=overlap), path)
        _, node = load_in_slicer(slicer, path)
        assert node.GetSegmentation().GetNumberOfLayers() == layers
        geometry = node.GetSegmentation().GetConversionParameter("Reference image geometry")
        assert [float(x) for x in geometry.rstrip(";").split(";")][-6:] == [0, 8, 0, 6, 0, 4]


@pytest.mark.slicer
def test_slicer_shows_an_empty_finding_as_an_empty_segment(slicer, tmp_path):
    written = result(texts=("heart", "nodule"))
    nothing = finding("nodule", np.zeros(SHAPE, bool))
    written = SegmentationResult(written.volume, (written.findings[0], nothing), written.provenance)
    write_segmentation(written, tmp_path / "some.seg.nrrd")
    assert_slicer_has(load_in_slicer(slicer, tmp_path / "some.seg.nrrd")[1], written)
    write_segmentation(SegmentationResult(written.volume, (nothing,), written.provenance), tmp_path / "none.seg.nrrd")
    _, node = load_in_slicer(slicer, tmp_path / "none.seg.nrrd")
    assert node.GetSegmentation().GetNthSegment(0).GetName() == "nodule"


@pytest.mark.slicer
def test_a_finding_of_ten_thousand_characters_survives_slicer(slicer, tmp_path):
    written = result(texts=("x" * 64 + NASTY * 250, "x" * 64 + "other"))
    write_segmentation(written, tmp_path / "a.seg.nrrd")
    scene, node = load_in_slicer(slicer, tmp_path / "a.seg.nrrd")
    save_from_slicer(slicer, scene, node, tmp_path / "b.seg.nrrd")
    assert_slicer_has(load_in_slicer(slicer, tmp_path / "b.seg.nrrd")[1], written)


@pytest.mark.slicer
@pytest.mark.shared
def test_a_finding_on_a_real_volume_is_where_slicer_loads_the_volume(slicer, tmp_path):
    nibabel = pytest.importorskip("nibabel")
    path = Path(__file__).resolve().parents[3] / "shared/samples/mr_spine/t2.nii.gz"
    if not path.exists():
        pytest.skip("no shared samples")
    image = nibabel.load(path)
    array = np.asarray(image.dataobj).T
    volume = Volume(array, image.affine, Modality.MR, source=Source(path=str(path)))
    written = SegmentationResult(volume, (finding("spine", array > 200),), provenance())
    write_segmentation(written, tmp_path / "a.seg.nrrd")
    scene, node = load_in_slicer(slicer, tmp_path / "a.seg.nrrd")
    loaded, storage = slicer.vtkMRMLScalarVolumeNode(), slicer.vtkMRMLVolumeArchetypeStorageNode()
    scene.AddNode(loaded)
    scene.AddNode(storage)
    storage.SetFileName(str(path))
    assert storage.ReadData(loaded) == 1
    voxels = slicer.util.arrayFromVolume(loaded)
    matrix = slicer.util.arrayFromVTKMatrix(slicer_matrix(slicer, loaded))
    expected = world(voxels.T > 200, matrix)
    np.testing.assert_allclose(slicer_points(node.GetSegmentation().GetNthSegment(0)), expected, atol=1e-3)


def slicer_matrix(slicer, volume_node):
    from vtk import vtkMatrix4x4

    matrix = vtkMatrix4x4()
    volume_node.GetIJKToRASMatrix(matrix)
    return matrix


def test_text_without_special_characters_is_not_escaped():
    assert escape_tag("left lung, 50 mm: ä😀") == "left lung, 50 mm: ä😀"
    assert segment_names(["x" * 64]) == ["x" * 64]


def test_a_label_map_comes_with_the_meaning_of_its_values(tmp_path):
    written = result()
    paths = write_segmentation(written, tmp_path / "scan.v1.nii.gz")
    assert [path.name for path in paths] == ["scan.v1.nii.gz", "scan.v1.json"]
    record = json.loads(paths[1].read_text(encoding="utf-8"))
    assert record["layout"] == "label map"
    assert [f["finding"] for f in record["findings"]] == ["heart", NASTY, "nodule"]
    assert [f["label"] for f in record["findings"]] == [1, 2, 3]
    voxels = written.findings[0].mask.sum()
    assert record["findings"][0]["ml"] == pytest.approx(voxels * 0.7 * 0.8 * 2.5 / 1000, abs=1e-5)
    assert record["findings"][0]["presence"] == [0.25, 0.875, None, 0.5, 0.0]
    assert record["provenance"]["seed"] == 7
    assert sorted(tmp_path.iterdir()) == sorted(paths)


def test_overlapping_findings_get_no_silent_priority(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    written = result(overlap=True)
    path, record = write_segmentation(written, tmp_path / "scan.nii")
    data = np.asarray(nibabel.load(path).dataobj)
    for n, found in enumerate(written.findings):
        np.testing.assert_array_equal(data[..., n].T.astype(bool), found.mask)
    assert "overlap" in segmentation_notes(written, path)[0]
    assert json.loads(record.read_text(encoding="utf-8"))["layout"] == "one volume per finding"


def test_more_than_255_findings_keep_their_labels(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    masks = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    findings = tuple(finding(f"f{n}", masks == n) for n in range(300))
    written = SegmentationResult(result().volume, findings, provenance())
    path, _ = write_segmentation(written, tmp_path / "many.nii.gz")
    data = np.asarray(nibabel.load(path).dataobj)
    assert data.dtype == np.uint16
    np.testing.assert_array_equal(data.T, np.where(masks < 300, masks + 1, 0))


def test_equal_results_are_equal_files(tmp_path):
    for name in ("a.seg.nrrd", "b.seg.nrrd"):
        write_segmentation(result(overlap=True), tmp_path / name)
    assert (tmp_path / "a.seg.nrrd").read_bytes() == (tmp_path / "b.seg.nrrd").read_bytes()


@pytest.mark.parametrize("name", ["u.nii.gz", "u.nrrd"])
@pytest.mark.parametrize("texts", [("heart",), ("heart", "nodule")])
def test_uncertainty_keeps_every_digit_and_its_position(tmp_path, name, texts):
    sitk = pytest.importorskip("SimpleITK")
    written = result(texts=texts)
    write_uncertainty(written, tmp_path / name)
    image = sitk.ReadImage(str(tmp_path / name))
    array = sitk.GetArrayFromImage(image)
    if len(texts) == 1:
        array, origin = array[..., None], image.GetOrigin()
        corner = np.array(image.TransformIndexToPhysicalPoint((8, 6, 4))) * (-1, -1, 1)
        expected = written.volume.ijk_to_ras @ (8, 6, 4, 1)
        np.testing.assert_allclose(corner, expected[:3], atol=1e-3)
        assert len(origin) == 3
    elif name.endswith(".nii.gz"):
        array = np.moveaxis(array, 0, -1)
    for n, found in enumerate(written.findings):
        np.testing.assert_array_equal(array[..., n], entropy(found.probability))


@pytest.mark.parametrize("name", ["a.png", "a.nrrd", "a", ".nii.gz", "a.gz", "seg.nrrd"])
def test_another_format_is_refused_with_the_list_of_those_supported(tmp_path, name):
    with pytest.raises(UsageError, match=r"\.seg\.nrrd or \.nii\.gz or \.nii"):
        write_segmentation(result(), tmp_path / name)
    with pytest.raises(UsageError):
        check_segmentation_path(tmp_path / name)


@pytest.mark.parametrize(("name", "failing_call"), [("a.seg.nrrd", 1), ("a.nii.gz", 1), ("a.nii.gz", 2)])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch, name, failing_call, error):
    calls, rename = [], Path.rename

    def replace(self, target):
        calls.append(target)
        if len(calls) == failing_call:
            raise error
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises((FastTextDiffError, KeyboardInterrupt)):
        write_segmentation(result(), tmp_path / name)
    assert len(calls) == failing_call
    assert list(tmp_path.iterdir()) == []


def test_a_failure_keeps_the_earlier_file(tmp_path, monkeypatch):
    path = tmp_path / "a.seg.nrrd"
    path.write_text("earlier")
    monkeypatch.setattr("fasttextdiff.io.nrrd.zlib.compressobj", lambda **_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_segmentation(result(), path)
    assert [p.read_text() for p in tmp_path.iterdir()] == ["earlier"]


def test_a_full_disk_is_reported_in_one_line(tmp_path):
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full here")
    with pytest.raises(FastTextDiffError, match="cannot write") as caught, whole_files(tmp_path / "a.bin"):
        full.write_bytes(b"x")
    assert "no space left on device" in str(caught.value)
    assert "\n" not in str(caught.value)


INTERRUPTED = """
import sys, time
from pathlib import Path
from fasttextdiff.io.atomic import whole_files
with whole_files(Path(sys.argv[1])) as (temporary,):
    temporary.write_bytes(b"half")
    print("writing", flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
def test_control_c_while_writing_leaves_nothing_behind(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", INTERRUPTED, str(tmp_path / "a.nii.gz")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment) as process:
        assert process.stdout.readline() == b"writing\n"
        assert len(list(tmp_path.iterdir())) == 1
        process.send_signal(signal.SIGINT)
        deadline = time.monotonic() + 10
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
    assert list(tmp_path.iterdir()) == []


def test_an_unusable_output_path_is_refused_before_the_work(tmp_path):
    check_writable(tmp_path / "a.nii.gz")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError, match="does not exist"):
        check_writable(tmp_path / "missing" / "a.nii.gz")
    with pytest.raises(UsageError, match="is a folder"):
        check_writable(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="does not exist"):
        check_writable(tmp_path / "file" / "a.nii.gz")
    (tmp_path / "link.nii.gz").symlink_to(os.devnull)
    with pytest.raises(UsageError, match="a device or pipe"):
        check_writable(tmp_path / "link.nii.gz")
    if Path("/proc").exists():
        with pytest.raises(UsageError, match=r"cannot write /proc/a\.nii\.gz"):
            check_writable(Path("/proc/a.nii.gz"))


def test_provenance_is_in_the_header_for_readers_without_slicer(tmp_path):
    write_segmentation(result(), tmp_path / "a.seg.nrrd")
    header = (tmp_path / "a.seg.nrrd").read_bytes().split(b"\n\n")[0].decode("utf-8").splitlines()
    assert header[0] == "NRRD0005"
    assert all(":" in line for line in header[1:])
    tags = next(line for line in header if line.startswith("Segment0_Tags:="))
    for field in provenance().__dict__:
        assert f"|FastTextDiff.{field.title().replace('_', '')}:" in tags
