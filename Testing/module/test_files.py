"""Saved segments can be read back exactly, with their tags, on the grid of their image; no partial files."""

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest

slicer = pytest.importorskip("slicer")
pytest.importorskip("PySide6")
pytest.importorskip("slicerhost").start()

import SimpleITK as sitk  # noqa: E402
from scene_volumes import GRIDS, SHAPE, addTransform, addVolume, outputOf, randomMask  # noqa: E402

from FastTextDiffSegmentLib.scene.Geometry import SceneError  # noqa: E402
from FastTextDiffSegmentLib.scene.SegmentationFiles import save  # noqa: E402
from FastTextDiffSegmentLib.scene.SegmentVoxels import segmentArray, segmentIds  # noqa: E402
from FastTextDiffSegmentLib.scene.SegmentWriter import SegmentWriter, tagOf  # noqa: E402

pytestmark = pytest.mark.slicer
FINDING = "Milchglastrübung links | 100 % 左肺"


def written(volume, *outputs):
    segmentation = SegmentWriter().newSegmentation(volume)
    SegmentWriter().write(segmentation, volume, outputs)
    return segmentation


def halves():
    """Two masks that do not overlap."""
    mask, other = randomMask(1), randomMask(2)
    return mask, other & (1 - mask)


def loaded(path):
    storage = slicer.vtkMRMLSegmentationStorageNode()
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    storage.SetFileName(str(path))
    assert storage.ReadData(node)
    return node


@pytest.mark.parametrize("name", GRIDS)
def test_seg_nrrd_keeps_overlaps_tags_and_names_in_any_script(scene, tmp_path, name):
    volume = addVolume(GRIDS[name])
    masks = [randomMask(1), randomMask(2)]  # they overlap
    segmentation = written(volume, outputOf(masks[0], finding=FINDING), outputOf(masks[1], finding="opacity"))
    (path,) = save(segmentation, volume, tmp_path / "befund.seg.nrrd")
    assert [each.name for each in tmp_path.iterdir()] == ["befund.seg.nrrd"]
    back = loaded(path)
    ids = segmentIds(back.GetSegmentation())
    assert ids == segmentIds(segmentation.GetSegmentation())
    for segmentId, mask in zip(ids, masks, strict=True):
        assert np.array_equal(segmentArray(back, segmentId, volume), mask)
    segment = back.GetSegmentation().GetSegment(ids[0])
    assert segment.GetName() == FINDING
    assert tagOf(segment, "FastTextDiff.Finding") == FINDING.replace("%", "%25").replace("|", "%7C")
    assert tagOf(segment, "FastTextDiff.Model") == "compact"
    assert tagOf(segment, "DICOM.SegmentAlgorithmType") == "AUTOMATIC"
    assert "52988006^Lesion" in tagOf(segment, "TerminologyEntry")
    image = sitk.ReadImage(str(path))
    assert image.GetSize() == SHAPE[::-1]


@pytest.mark.parametrize("name", GRIDS)
def test_nifti_is_a_label_map_without_overlaps(scene, tmp_path, name):
    volume = addVolume(GRIDS[name])
    masks = halves()
    segmentation = written(volume, outputOf(masks[0], finding=FINDING), outputOf(masks[1], finding="opacity"))
    assert [each.name for each in save(segmentation, volume, tmp_path / "a.nii.gz")] == ["a.nii.gz", "a.json"]
    image = sitk.ReadImage(str(tmp_path / "a.nii.gz"))
    assert np.array_equal(sitk.GetArrayFromImage(image), masks[0] + 2 * masks[1])
    assert np.allclose(gridOf(image), GRIDS[name], atol=1e-4)
    entries = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["labels"]
    assert [entry["label"] for entry in entries] == [1, 2]
    assert entries[0]["name"] == entries[0]["tags"]["FastTextDiff.Finding"] == FINDING
    assert entries[1]["tags"]["FastTextDiff.Slices"] == "0:6"


def gridOf(image):
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) @ np.diag(image.GetSpacing())
    matrix[:3, 3] = image.GetOrigin()
    return np.diag([-1.0, -1, 1, 1]) @ matrix  # LPS to RAS


def test_nifti_has_a_volume_per_segment_with_overlaps_like_the_engine(scene, tmp_path):
    volume = addVolume(GRIDS["oblique"])
    masks = [randomMask(1), randomMask(2), randomMask(3)]
    outputs = [outputOf(mask, finding=name) for mask, name in zip(masks, ("a/b", "a b", "Trübung"), strict=True)]
    paths = save(written(volume, *outputs), volume, tmp_path / "x.nii.gz")
    assert [path.name for path in paths] == ["x.nii.gz", "x.json"]
    image = sitk.ReadImage(str(paths[0]))
    assert np.array_equal(sitk.GetArrayFromImage(image), masks)
    assert np.allclose(gridOf(sitk.Extract(image, (*image.GetSize()[:3], 0))), GRIDS["oblique"], atol=1e-4)
    described = json.loads(paths[1].read_text(encoding="utf-8"))
    assert described["layout"] == "one volume per finding"
    assert [each["name"] for each in described["labels"]] == ["a/b", "a b", "Trübung"]


def test_saving_changes_neither_the_segmentation_nor_its_file_name(scene, tmp_path):
    volume = addVolume()
    segmentation = written(volume, outputOf(halves()[0]), outputOf(halves()[1], finding="opacity"))
    segmentation.AddDefaultStorageNode()
    segmentation.GetStorageNode().SetFileName("/elsewhere/mine.seg.nrrd")
    time, nodes = segmentation.GetSegmentation().GetMTime(), scene.GetNumberOfNodes()
    save(segmentation, volume, tmp_path / "a.seg.nrrd")
    save(segmentation, volume, tmp_path / "a.nii.gz")
    assert segmentation.GetStorageNode().GetFileName() == "/elsewhere/mine.seg.nrrd"
    assert (segmentation.GetSegmentation().GetMTime(), scene.GetNumberOfNodes()) == (time, nodes)
    assert segmentation.GetSegmentation().GetNumberOfLayers() == 2


def test_a_transformed_pair_is_saved_on_the_grid_of_the_image_file(scene, tmp_path):
    volume = addVolume()
    turn = np.array([[0.0, -1, 0, 40], [1, 0, 0, -7], [0, 0, 1, 3.5], [0, 0, 0, 1]])
    addTransform(turn, volume)
    save(written(volume, outputOf(randomMask())), volume, tmp_path / "a.nii.gz")
    image = sitk.ReadImage(str(tmp_path / "a.nii.gz"))
    assert np.array_equal(sitk.GetArrayFromImage(image), randomMask())
    assert np.allclose(gridOf(image), GRIDS["axial"], atol=1e-4)


@pytest.mark.parametrize("ending", [".seg.nrrd", ".nii.gz"])
def test_a_folder_that_is_not_writable_is_reported_in_one_line(scene, tmp_path, ending):
    volume = addVolume()
    segmentation = written(volume, outputOf(randomMask()))
    with pytest.raises(SceneError, match=r"could not be saved.*Choose another folder") as failed:
        save(segmentation, volume, tmp_path / "missing" / f"a{ending}")
    assert "\n" not in str(failed.value)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(scene, tmp_path, monkeypatch):
    volume = addVolume()
    segmentation = written(volume, outputOf(randomMask()))
    (path,) = save(segmentation, volume, tmp_path / "a.seg.nrrd")
    before = path.read_bytes()
    monkeypatch.setattr(slicer, "vtkMRMLSegmentationStorageNode", FullDisk)
    with pytest.raises(SceneError, match="could not be saved"):
        save(segmentation, volume, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("failing", [1, 2, 3, 4])
def test_a_label_map_and_its_record_are_replaced_together_or_not_at_all(scene, tmp_path, monkeypatch, failing):
    volume = addVolume()
    save(written(volume, outputOf(halves()[0])), volume, tmp_path / "a.nii.gz")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    calls = []
    for real in (Path.rename, Path.replace):

        def rename(path, target, real=real):
            calls.append(path)
            if len(calls) == failing:
                raise PermissionError(13, "Permission denied", str(path))
            return real(path, target)

        monkeypatch.setattr(Path, real.__name__, rename)
    with pytest.raises(SceneError, match=r"could not be saved.*close it and save again"):
        save(written(volume, outputOf(halves()[1])), volume, tmp_path / "a.nii.gz")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


class FullDisk:
    """A storage node that fails half-way."""

    def SetScene(self, scene):
        pass

    def SetFileName(self, name):
        self.name = name

    def WriteData(self, node):
        with gzip.open(self.name, "wb") as file:
            file.write(b"half")
        return 0


def test_what_cannot_be_saved_is_refused(scene, tmp_path):
    volume = addVolume()
    empty = SegmentWriter().newSegmentation(volume)
    segmentation = written(volume, outputOf(randomMask()))
    other = addVolume(GRIDS["oblique"], name="MR")
    for arguments, words in (
        ((segmentation, volume, tmp_path / "a.stl"), "choose .seg.nrrd or .nii.gz"),
        ((empty, volume, tmp_path / "a.nii.gz"), "no segment to save"),
        ((segmentation, other, tmp_path / "a.nii.gz"), "another grid than 'MR'"),
    ):
        with pytest.raises(SceneError, match=words):
            save(*arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def loadedImage(scene, tmp_path):
    """Loads an image of the scene's size from a file, as Slicer does; returns the node and the folder's content."""

    def load(name):
        image = sitk.GetImageFromArray(np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE))
        sitk.WriteImage(image, str(tmp_path / name))
        return slicer.util.loadVolume(str(tmp_path / name))

    return load


def symlink(path):
    (link := path.with_name(f"link{''.join(path.suffixes)}")).symlink_to(path)
    return link


def hardLink(path):
    os.link(path, link := path.with_name(f"hard{''.join(path.suffixes)}"))
    return link


NAMES = {
    "itself": lambda path: path,
    "symlink": symlink,
    "hard link": hardLink,
    "another spelling": lambda path: path.parent / "sub" / ".." / path.name,
    "capital letters": lambda path: path.with_name(path.name.replace("scan", "SCAN")),
}


def bytesBelow(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("file", ["scan.nii.gz", "scan.seg.nrrd"])
def test_segments_are_not_saved_over_the_file_of_an_image(loadedImage, tmp_path, file, name):
    (tmp_path / "sub").mkdir()
    volume = loadedImage(file)
    segmentation = written(volume, outputOf(halves()[0]))
    other = addVolume()  # which the file does not have
    target = NAMES[name](tmp_path / file)
    before = bytesBelow(tmp_path)
    for image, segments in ((volume, segmentation), (other, written(other, outputOf(halves()[0])))):
        with pytest.raises(SceneError, match=f"is a file of the image '{volume.GetName()}': choose another") as failed:
            save(segments, image, target)
        assert "\n" not in str(failed.value)
    assert bytesBelow(tmp_path) == before
    assert save(segmentation, volume, tmp_path / "befund.nii.gz")


@pytest.mark.parametrize("text", ['{"Manufacturer": "X"}', "[" * 100_000, "no JSON"])
def test_the_sidecar_of_an_image_is_kept(loadedImage, tmp_path, text):
    volume = loadedImage("scan.nii")
    (tmp_path / "scan.json").write_text(text)
    before = bytesBelow(tmp_path)
    segmentation = written(volume, outputOf(randomMask()))
    with pytest.raises(SceneError, match="does not belong to saved segments"):
        save(segmentation, volume, tmp_path / "scan.nii.gz")
    assert bytesBelow(tmp_path) == before


def test_saved_files_can_be_saved_again_even_when_loaded(loadedImage, tmp_path):
    volume = loadedImage("scan.nii")
    segmentation = written(volume, outputOf(randomMask()))
    for _ in range(2):
        path, _ = save(segmentation, volume, tmp_path / "a.nii.gz")
        asLabelMap = 1
        logic = slicer.app.applicationLogic().GetModuleLogic("Volumes")
        assert logic.AddArchetypeVolume(str(path), "a", asLabelMap).IsA("vtkMRMLLabelMapVolumeNode")


def test_a_scene_file_keeps_voxels_and_tags(scene, tmp_path):
    volume = addVolume(GRIDS["oblique"])
    segmentation = written(volume, outputOf(randomMask(1), finding=FINDING), outputOf(randomMask(2), finding="opacity"))
    (first, second) = segmentIds(segmentation.GetSegmentation())
    path = str(tmp_path / "scene.mrb")
    assert scene.WriteToMRB(path)
    assert scene.ReadFromMRB(path, True)
    back = scene.GetFirstNodeByClass("vtkMRMLSegmentationNode")
    image = scene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")
    assert np.array_equal(segmentArray(back, first, image), randomMask(1))
    assert np.array_equal(segmentArray(back, second, image), randomMask(2))
    segment = back.GetSegmentation().GetSegment(first)
    assert tagOf(segment, "FastTextDiff.Finding") == FINDING.replace("%", "%25").replace("|", "%7C")
    # the same finding still finds its segment
    (again,) = SegmentWriter().write(back, image, [outputOf(randomMask(3)[1:2], 1, finding=FINDING)])
    assert (again.segmentId, again.created) == (first, False)
