"""What is segmented: planes, ranges, regions and their cost, in a real MRML scene and with the real engine."""

import os
import subprocess
import sys

import numpy as np
import pytest

slicer = pytest.importorskip("slicer")
pytest.importorskip("PySide6")
pytest.importorskip("slicerhost").start()

from FastTextDiffSegmentLib.contract.segments import joined_slices, slice_ranges  # noqa: E402
from module_panel import CHEST_CT, ROOT  # noqa: E402
from scene_volumes import GRIDS, SHAPE, addSliceView, addTransform, addVolume, outputOf  # noqa: E402

from FastTextDiffSegmentLib.Requests import SegmentationRequest  # noqa: E402
from FastTextDiffSegmentLib.scene.Geometry import (  # noqa: E402
    SceneError,
    inStorageOrder,
    jumpToSlice,
    rotateViewToSlices,
    shownSlice,
    sliceAxes,
    sliceShape,
    slicesToWorld,
)
from FastTextDiffSegmentLib.scene.Region import Region  # noqa: E402
from FastTextDiffSegmentLib.scene.SegmentVoxels import segmentArray  # noqa: E402
from FastTextDiffSegmentLib.scene.SegmentWriter import SegmentWriter, tagOf  # noqa: E402
from FastTextDiffSegmentLib.Speed import Speed  # noqa: E402

pytestmark = pytest.mark.slicer
TURN = [[0.0, -1, 0, 40], [1, 0, 0, -7], [0, 0, 1, 3.5], [0, 0, 0, 1]]
PLANES = ("axial", "coronal", "sagittal")


def addRegion(center, size, name="R"):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", name)
    node.SetCenter(*center)
    node.SetSize(*size)
    return node


def planeOutput(volume, plane, first, count, seed=3):
    shape = (count, *sliceShape(volume, plane)[1:])
    output = outputOf((np.random.default_rng(seed).random(shape) < 0.4).astype(np.uint8), first)
    return type(output)(**{**vars(output), "plane": plane})


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("name", GRIDS)
def test_slices_of_any_plane_are_those_of_the_engine_and_of_the_view(scene, name, plane):
    from fasttextdiff.image.orientation import display_plane
    from fasttextdiff.image.volume import Modality, Volume

    volume, view = addVolume(GRIDS[name]), addSliceView()
    axis = display_plane(Volume(np.zeros(SHAPE, np.int16), GRIDS[name], Modality.CT), plane).axes[0]
    assert sliceShape(volume, plane)[0] == SHAPE[axis]
    rotateViewToSlices(view, volume, plane)
    jumpToSlice(view, volume, 2, plane)
    assert shownSlice(volume, view, plane).index == 2
    node = SegmentWriter().newSegmentation(volume)
    output = planeOutput(volume, plane, 2, 2)
    (written,) = SegmentWriter().write(node, volume, [output])
    expected = np.zeros(SHAPE, bool)
    where = [slice(None)] * 3
    where[axis] = slice(2, 4)
    expected[tuple(where)] = inStorageOrder(volume, output.mask, plane)
    assert np.array_equal(segmentArray(node, written.segmentId, volume), expected)


def test_the_tag_names_the_slices_of_every_plane():
    text = joined_slices("3:4 7:8", (4, 7))
    assert text == "3:8"
    text = joined_slices(joined_slices(text, (10, 11), "coronal"), (11, 12), "coronal")
    assert text == "3:8 coronal 10:12"
    assert slice_ranges(text) == {"acquisition": [(3, 8)], "coronal": [(10, 12)]}


@pytest.mark.parametrize("isTurned", [False, True], ids=["plain", "transformed"])
@pytest.mark.parametrize("name", GRIDS)
def test_nothing_outside_a_region_changes_and_nothing_inside_is_missed(scene, name, isTurned):
    volume = addVolume(GRIDS[name])
    if isTurned:
        addTransform(TURN, volume)
    toWorld = slicesToWorld(volume)
    node = addRegion((toWorld @ (4, 3, 2, 1))[:3], (4.0, 3.5, 6.0))
    region = Region.of(node)
    k, j, i = np.indices(sliceShape(volume))
    points = np.einsum("ab,b...->a...", toWorld, np.stack([i, j, k, np.ones_like(i)]).astype(float))[:3]
    away = np.abs(points - np.reshape(node.GetCenterWorld(), (3, 1, 1, 1)))
    inside = (away <= np.reshape([2, 1.75, 3], (3, 1, 1, 1))).all(0)
    first, end = region.slices(volume)
    assert (first, end) == (np.flatnonzero(inside.any((1, 2)))[0], np.flatnonzero(inside.any((1, 2)))[-1] + 1)
    segmentation = SegmentWriter().newSegmentation(volume)
    before = planeOutput(volume, "acquisition", 0, sliceShape(volume)[0], seed=1)
    (written,) = SegmentWriter().write(segmentation, volume, [before])
    new = planeOutput(volume, "acquisition", first, end - first, seed=2)
    limited = new.limitedTo(region.mask(volume, (first, end)), region.text())
    SegmentWriter().write(segmentation, volume, [limited])
    expected = before.mask.astype(bool)
    expected[first:end] = np.where(inside[first:end], new.mask, expected[first:end])
    assert np.array_equal(segmentArray(segmentation, written.segmentId, volume), inStorageOrder(volume, expected))
    segment = segmentation.GetSegmentation().GetSegment(written.segmentId)
    assert tagOf(segment, "FastTextDiff.Region").startswith("4.0 x 3.5 x 6.0 mm around RAS")
    SegmentWriter().write(segmentation, volume, [before])
    assert tagOf(segment, "FastTextDiff.Region") == ""


def test_a_region_turned_in_space_contains_what_its_planes_contain(scene):
    import vtk

    volume, node = addVolume(), addRegion((0, 0, 0), (5.0, 3.0, 9.0))
    turned = addTransform(TURN, node)
    matrix = vtk.vtkMatrix4x4()
    rotation = vtk.vtkTransform()
    rotation.Translate(*(slicesToWorld(volume) @ (4, 3, 2, 1))[:3])
    rotation.RotateWXYZ(33, 1, 0.3, -0.5)
    matrix.DeepCopy(rotation.GetMatrix())
    turned.SetMatrixTransformToParent(matrix)
    mask = Region.of(node).mask(volume, (0, sliceShape(volume)[0]))
    planes, toWorld = vtk.vtkPlanes(), slicesToWorld(volume)
    node.GetPlanesWorld(planes, False)
    k, j, i = np.nonzero(np.ones_like(mask))
    points = (toWorld @ np.stack([i, j, k, np.ones_like(i)]))[:3].T
    assert np.array_equal(mask.ravel(), [planes.EvaluateFunction(point) <= 0 for point in points])
    assert mask.any()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sliceRange": (3, 9)}, "Slices 4 to 9 are not in the image 'CT': it has slices 1 to 6."),
        ({"sliceRange": (-1, 2)}, "Slices 0 to 2"),
        ({"sliceRange": (4, 3)}, "Slices 5 to 3"),
        ({"sliceRange": (6, 7), "plane": "coronal"}, ""),
        ({"sliceRange": (7, 8), "plane": "coronal"}, "it has slices 1 to 7"),
        ({"plane": "oblique"}, "There is no plane 'oblique'"),
        ({"region": ((500, 0, 0), (5, 5, 5))}, "The region 'R' is outside the image 'CT'"),
        ({"region": ((-31.5, 12.25, 100.0), (0, 5, 5))}, "The region 'R' has no size yet"),
        ({"region": ((-31.5, 12.25, 100.0), (5, 5, 5)), "sliceRange": (4, 6)}, "covers slices 1 to 2, none of"),
    ],
)
def test_slices_and_regions_outside_the_image_are_refused_in_one_line(scene, change, words):
    volume, change = addVolume(), dict(change)
    try:
        if "region" in change:
            change["region"] = Region.of(addRegion(*change["region"]))
        valid, reason = SegmentationRequest(volume, ("left lung",), **change).isValid()
    except SceneError as error:
        valid, reason = False, str(error)
    assert valid is (words == "")
    assert words in reason
    assert "\n" not in reason


def test_the_cost_is_that_of_the_slowest_of_the_last_runs():
    now = iter([0, 10, 16, 20, 21, 21, 30, 40])
    speed = Speed(lambda: next(now))
    assert speed.cost("big", 1).text() == "1 slice; the time is known after the first result"
    run = speed.measured("big")
    run(1, 4)
    run(4, 4)  # 6 s for three slices; the first took the start-up
    assert speed.cost("big", 31, samples=2).text() == "31 slices, about 2 min"
    cached = speed.measured("big")
    cached(2, 4)
    cached(4, 4)
    assert speed.cost("big", 10).text() == "10 slices, about 20 s"
    assert speed.cost("other", 10).seconds == 20


# --- with the engine --------------------------------------------------------------------------------------------------


def test_a_coronal_range_inside_a_region_is_the_command_lines_result_there(panel, chestCt, tmp_path):
    import nibabel

    slices, rows, columns = sliceShape(chestCt, "coronal")
    center = (slicesToWorld(chestCt, "coronal") @ (columns // 2, rows // 2, slices // 2, 1))[:3]
    region = addRegion(center, (150.0, 30.0, 120.0))
    panel.ui.livePreviewCheckBox.checked = False
    panel.type("left lung")
    panel.ui.scopeCollapsibleButton.collapsed = False
    panel.ui.planeComboBox.setCurrentIndex(2)
    panel.ui.planeComboBox.activated.emit(2)
    assert "rotate it" in panel.message
    panel.click("rotateViewButton")
    assert panel.ui.sliceLabel.text.startswith("coronal")
    panel.ui.scopeComboBox.setCurrentIndex(2)
    assert "Choose a region" in panel.ui.costLabel.text
    assert not panel.ui.segmentVolumeButton.enabled
    panel.ui.regionSelector.setCurrentNode(region)
    first, end = Region.of(region).slices(chestCt, "coronal")
    assert panel.ui.costLabel.text.startswith(f"{end - first} slices")
    region.SetSize(150.0, 3.0, 120.0)
    first, end = Region.of(region).slices(chestCt, "coronal")
    assert panel.ui.costLabel.text.startswith(f"{end - first} slice")
    panel.click("segmentVolumeButton")
    panel.finishRun()
    assert "measured on acquired ones only" in panel.message
    assert f"coronal slice{'s' if end - first > 1 else ''}" in panel.ui.undoButton.toolTip
    assert "about" in panel.ui.costLabel.text
    command = [sys.executable, "-m", "fasttextdiff", "segment", str(CHEST_CT), "-f", "left lung", "--plane", "coronal"]
    command += ["--slices", f"{first}:{end}", "-o", str(tmp_path / "out.nii.gz")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "engine")}
    subprocess.run(command, check=True, capture_output=True, env=environment)
    whole = np.asarray(nibabel.load(tmp_path / "out.nii.gz").dataobj).transpose(2, 1, 0) > 0
    inside = np.zeros_like(whole)
    where = [slice(None)] * 3
    where[sliceAxes(chestCt, "coronal")[0]] = slice(first, end)
    inside[tuple(where)] = inStorageOrder(chestCt, Region.of(region).mask(chestCt, (first, end), "coronal"), "coronal")
    assert (whole & inside).any()
    np.testing.assert_array_equal(panel.mask("left lung", chestCt), whole & inside)


def test_a_range_in_the_views_numbers_is_segmented_and_said_before(panel, chestCt):
    panel.ui.livePreviewCheckBox.checked = False
    panel.type("left lung")
    assert panel.ui.scopeCollapsibleButton.text.startswith("All slices: 112 slices")
    panel.ui.scopeCollapsibleButton.collapsed = False
    panel.ui.scopeComboBox.setCurrentIndex(1)
    assert (panel.ui.firstSliceSpinBox.maximum, panel.ui.lastSliceSpinBox.value) == (112, 112)
    panel.click("firstHereButton")
    assert panel.ui.firstSliceSpinBox.value == panel.shownIndex + 1
    panel.ui.lastSliceSpinBox.setValue(panel.ui.firstSliceSpinBox.value - 2)
    assert not panel.ui.segmentVolumeButton.enabled
    assert "are not in the image" in panel.ui.costLabel.text
    panel.ui.lastSliceSpinBox.setValue(panel.shownIndex + 3)
    assert panel.ui.costLabel.text.startswith("3 slices")
    panel.click("segmentVolumeButton")
    panel.finishRun()
    assert set(np.nonzero(panel.mask("left lung", chestCt))[0]) <= set(range(panel.shownIndex, panel.shownIndex + 3))
    assert panel.tag("left lung", "FastTextDiff.Slices") == f"{panel.shownIndex}:{panel.shownIndex + 3}"
