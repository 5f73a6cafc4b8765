"""Which slice a view shows and how a view is rotated, on real MRML nodes; and how unusable images are refused."""

import numpy as np
import pytest

slicer = pytest.importorskip("slicer")
pytest.importorskip("PySide6")
pytest.importorskip("slicerhost").start()

from scene_volumes import GRIDS, SHAPE, addSliceView, addTransform, addVolume, bend  # noqa: E402

from FastTextDiffSegmentLib.scene.Geometry import (  # noqa: E402
    SceneError,
    ShownSlice,
    ijkToRas,
    ijkToWorld,
    jumpToSlice,
    pixelMm2,
    requireImage,
    requireLinear,
    rotateViewToSlices,
    sequenceItemOf,
    shownSlice,
    toArray,
    toMatrix,
    voxelMl,
)

pytestmark = pytest.mark.slicer
TURN = np.array([[0.0, -1, 0, 40], [1, 0, 0, -7], [0, 0, 1, 3.5], [0, 0, 0, 1]])


def centerOf(volume, k):
    return (ijkToWorld(volume) @ [(SHAPE[2] - 1) / 2, (SHAPE[1] - 1) / 2, k, 1])[:3]


def turn(sliceNode, right, up, through, origin):
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([right, up, through], axis=1)
    matrix[:3, 3] = origin
    sliceNode.GetSliceToRAS().DeepCopy(toMatrix(matrix))
    sliceNode.UpdateMatrices()


@pytest.mark.parametrize("isTransformed", [False, True], ids=["plain", "transformed"])
@pytest.mark.parametrize("name", GRIDS)
def test_a_rotated_view_shows_every_slice_with_its_number(scene, name, isTransformed):
    volume, view = addVolume(GRIDS[name]), addSliceView()
    if isTransformed:
        addTransform(TURN, volume)
    rotateViewToSlices(view, volume)
    for k in (0, 3, SHAPE[0] - 1):
        jumpToSlice(view, volume, k)
        assert shownSlice(volume, view) == ShownSlice(k)
        assert np.allclose(toArray(view.GetSliceToRAS())[:3, 2] @ centerOf(volume, k), view.GetSliceOffset())


@pytest.mark.parametrize("name", GRIDS)
def test_a_view_is_rotated_as_the_engine_orients_slices(scene, name):
    orientation = pytest.importorskip("fasttextdiff.image.orientation")
    from fasttextdiff.image.volume import Modality, Volume

    volume, view = addVolume(GRIDS[name]), addSliceView("Coronal")
    rotateViewToSlices(view, volume)
    plane = orientation.display_plane(Volume(np.zeros(SHAPE, np.int16), GRIDS[name], Modality.CT), "acquisition")
    directions = (GRIDS[name][:3, :3] / np.linalg.norm(GRIDS[name][:3, :3], axis=0)).T[::-1]  # k, j, i
    down, right = (
        directions[axis] * (-1 if isFlipped else 1)
        for axis, isFlipped in zip(plane.axes[1:], plane.flipped, strict=True)
    )
    screen = toArray(view.GetSliceToRAS())
    assert np.allclose(screen[:3, 0], right)
    assert np.allclose(screen[:3, 1], -down)


def test_rotating_a_view_keeps_its_slice_or_the_nearest_one(scene):
    volume, view = addVolume(), addSliceView("Sagittal")
    turn(view, (0, -1, 0), (0, 0, 1), (1, 0, 0), centerOf(volume, 4))
    rotateViewToSlices(view, volume)
    assert shownSlice(volume, view).index == 4
    assert view.GetOrientation() == "Axial"
    turn(view, (0, -1, 0), (0, 0, 1), (1, 0, 0), (0, 0, 900))
    rotateViewToSlices(view, volume)
    assert shownSlice(volume, view).index == SHAPE[0] - 1


def test_a_view_across_the_slices_tilted_or_outside_shows_no_slice(scene):
    volume, view = addVolume(), addSliceView("Coronal")
    assert shownSlice(volume, view) == ShownSlice(None, acrossPlane=True)
    for degrees, isAcross in ((0.5, False), (2.0, True)):
        angle = np.radians(degrees)
        up, through = (0, np.cos(angle), np.sin(angle)), (0, -np.sin(angle), np.cos(angle))
        turn(view, (-1, 0, 0), up, through, centerOf(volume, 2))
        assert shownSlice(volume, view).acrossPlane is isAcross
    turn(view, (-1, 0, 0), (0, 1, 0), (0, 0, 1), centerOf(volume, SHAPE[0] - 1 + 0.4))
    assert shownSlice(volume, view) == ShownSlice(SHAPE[0] - 1)
    turn(view, (-1, 0, 0), (0, 1, 0), (0, 0, 1), centerOf(volume, SHAPE[0] - 1 + 0.6))
    assert shownSlice(volume, view) == ShownSlice(None, outside=True)


def test_a_picture_is_shown_within_half_its_thickness(scene):
    picture, view = addVolume(shape=(1, 7, 9), components=3), addSliceView()
    for offset, expected in ((0.0, ShownSlice(0)), (1.2, ShownSlice(0)), (1.3, ShownSlice(None, outside=True))):
        turn(view, (-1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 100.0 + offset))
        assert shownSlice(picture, view) == expected


def test_volume_and_area_follow_the_grid(scene):
    volume = addVolume(GRIDS["oblique"])
    assert voxelMl(ijkToRas(volume)) == pytest.approx(0.7 * 0.9 * 2.5 / 1000)
    assert pixelMm2(volume) == pytest.approx(0.7 * 0.9)


def test_the_sequence_item_is_known(scene):
    volume = addVolume()
    assert sequenceItemOf(volume) is None
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode")
    for value in ("0", "1", "2"):
        sequence.SetDataNodeAtValue(volume, value)
    browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    browser.AddProxyNode(volume, sequence, False)
    browser.SetSelectedItemNumber(2)
    assert sequenceItemOf(volume) == 2


def test_images_that_cannot_be_segmented_are_refused_in_one_line(scene):
    empty = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Empty")
    five = addVolume(components=5, name="Five")
    for node, words in ((None, "no image"), (empty, "'Empty' has no voxels"), (five, "'Five' has 5 values")):
        with pytest.raises(SceneError, match=words) as refused:
            requireImage(node)
        assert "\n" not in str(refused.value)
    requireImage(addVolume(shape=(1, 1, 1)))
    requireImage(addVolume(components=4))


def test_a_non_linear_transform_is_refused_at_any_level(scene):
    volume, view = addVolume(), addSliceView()
    addTransform(TURN, volume)
    requireLinear(volume)
    bend(volume.GetParentTransformNode())
    for ask in (requireLinear, lambda node: shownSlice(node, view), lambda node: rotateViewToSlices(view, node)):
        with pytest.raises(SceneError, match="non-linear"):
            ask(volume)
