"""Writing segments into a real MRML scene: the right voxels, and no others. Also the stored output."""

from dataclasses import replace

import numpy as np
import pytest

slicer = pytest.importorskip("slicer")
pytest.importorskip("PySide6")
pytest.importorskip("slicerhost").start()

import vtk  # noqa: E402
from editing_session import Session  # noqa: E402
from FastTextDiffSegmentLib.contract.segments import LESION_ENTRY  # noqa: E402
from scene_volumes import (  # noqa: E402
    GRIDS,
    SHAPE,
    addSliceView,
    addTransform,
    addVolume,
    bend,
    grid,
    outputOf,
    randomMask,
)

from FastTextDiffSegmentLib.scene.EditorMasking import Masking  # noqa: E402
from FastTextDiffSegmentLib.scene.Geometry import (  # noqa: E402
    SceneError,
    jumpToSlice,
    pixelMm2,
    rotateViewToSlices,
    shownSlice,
    toMatrix,
)
from FastTextDiffSegmentLib.scene.OutputArchive import OutputArchive  # noqa: E402
from FastTextDiffSegmentLib.scene.SceneVolume import volumeSource  # noqa: E402
from FastTextDiffSegmentLib.scene.SegmentVoxels import segmentArray, segmentVoxels  # noqa: E402
from FastTextDiffSegmentLib.scene.SegmentWriter import (  # noqa: E402
    SegmentWriter,
    geometryMatches,
    tagOf,
    validTerminology,
)

pytestmark = pytest.mark.slicer
TURN = [[0.0, -1, 0, 40], [1, 0, 0, -7], [0, 0, 1, 3.5], [0, 0, 0, 1]]


@pytest.fixture
def volume(scene):
    return addVolume()


@pytest.fixture
def writer():
    return SegmentWriter()


@pytest.fixture
def segmentation(writer, volume):
    return writer.newSegmentation(volume)


def worldPoints(segmentationNode, segmentId):
    """Centres of a segment's voxels where Slicer shows them, sorted."""
    image = slicer.vtkOrientedImageData()
    slicer.vtkSlicerSegmentationsModuleLogic.GetSegmentBinaryLabelmapRepresentation(
        segmentationNode, segmentId, image, True
    )
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    extent = image.GetExtent()
    points = []
    for k in range(extent[4], extent[5] + 1):
        for j in range(extent[2], extent[3] + 1):
            for i in range(extent[0], extent[1] + 1):
                if image.GetScalarComponentAsDouble(i, j, k, 0):
                    points.append(matrix.MultiplyPoint((i, j, k, 1))[:3])
    return sorted(tuple(round(number, 3) + 0.0 for number in point) for point in points)


def expectedPoints(mask, matrix):
    k, j, i = np.nonzero(mask)
    points = (matrix @ np.stack([i, j, k, np.ones_like(i)]))[:3].T
    return sorted(tuple(round(float(number), 3) + 0.0 for number in point) for point in points)


@pytest.mark.parametrize("isTransformed", [False, True], ids=["plain", "transformed"])
@pytest.mark.parametrize("name", GRIDS)
def test_a_segment_is_where_the_volumes_voxels_are_shown(scene, writer, name, isTransformed):
    volume = addVolume(GRIDS[name])
    if isTransformed:
        addTransform(np.array(TURN), volume)
    segmentation = writer.newSegmentation(volume)
    mask = randomMask()
    (written,) = writer.write(segmentation, volume, [outputOf(mask)])
    world = (np.array(TURN) if isTransformed else np.eye(4)) @ GRIDS[name]
    assert worldPoints(segmentation, written.segmentId) == expectedPoints(mask, world)
    assert segmentVoxels(segmentation, written.segmentId) == written.changedVoxels == mask.sum()


def test_only_the_given_slice_of_the_given_segment_is_replaced(segmentation, volume, writer):
    opacity, other, new = randomMask(1), randomMask(2), randomMask(3)[2:3]
    first, neighbour = writer.write(segmentation, volume, [outputOf(opacity), outputOf(other, finding="opacity")])
    (again,) = writer.write(segmentation, volume, [outputOf(new, first=2)])
    expected = opacity.copy()
    expected[2:3] = new
    assert (again.segmentId, again.created) == (first.segmentId, False)
    assert again.changedVoxels == np.count_nonzero(opacity[2] != new[0])
    assert np.array_equal(segmentArray(segmentation, first.segmentId, volume), expected)
    assert np.array_equal(segmentArray(segmentation, neighbour.segmentId, volume), other)


def test_segments_in_a_shared_layer_stay_separate(segmentation, volume, writer):
    first = np.zeros(SHAPE, np.uint8)
    first[1:3, 2:4, 1:5] = 1
    second = np.zeros(SHAPE, np.uint8)
    second[4, 4:6, 2:8] = 1
    ids = [
        each.segmentId
        for each in writer.write(segmentation, volume, [outputOf(first), outputOf(second, finding="opacity")])
    ]
    segmentation.GetSegmentation().CollapseBinaryLabelmaps(False)
    assert segmentation.GetSegmentation().GetNumberOfLayers() == 1
    everywhere = np.ones((1, *SHAPE[1:]), np.uint8)
    writer.write(segmentation, volume, [outputOf(everywhere, first=4)])
    first[4] = 1
    assert np.array_equal(segmentArray(segmentation, ids[0], volume), first)
    assert np.array_equal(segmentArray(segmentation, ids[1], volume), second)


def test_slices_can_be_written_in_any_order_and_emptied_again(segmentation, volume, writer):
    mask = randomMask(5)
    for k in (3, 0, 5, 1, 2, 4):
        (written,) = writer.write(segmentation, volume, [outputOf(mask[k : k + 1], first=k)])
    assert np.array_equal(segmentArray(segmentation, written.segmentId, volume), mask)
    assert tagOf(segmentation.GetSegmentation().GetSegment(written.segmentId), "FastTextDiff.Slices") == "0:6"
    (emptied,) = writer.write(segmentation, volume, [outputOf(mask * 0)])
    assert (emptied.found, emptied.changedVoxels) == (False, mask.sum())
    assert segmentVoxels(segmentation, written.segmentId) == 0


def test_an_empty_mask_makes_no_segment(segmentation, volume, writer):
    (written,) = writer.write(segmentation, volume, [outputOf(np.zeros(SHAPE, np.uint8))])
    assert (written.segmentId, written.found, written.blocked) == (None, False, False)
    assert segmentation.GetSegmentation().GetNumberOfSegments() == 0


def test_names_and_colours_are_unique_and_tags_record_provenance(segmentation, volume, writer):
    mask = randomMask()
    long = "x" * 80
    outputs = [outputOf(mask, finding=long + "1"), outputOf(mask, finding=long + "2"), outputOf(mask, first=0)]
    ids = [each.segmentId for each in writer.write(segmentation, volume, outputs)]
    segments = [segmentation.GetSegmentation().GetSegment(each) for each in ids]
    assert [len(each.GetName().encode()) for each in segments[:2]] == [64, 64]
    assert len({each.GetName() for each in segments}) == len({each.GetColor() for each in segments}) == 3
    assert tagOf(segments[2], "TerminologyEntry") == LESION_ENTRY
    assert tagOf(segments[2], "DICOM.SegmentAlgorithmType") == "AUTOMATIC"
    assert tagOf(segments[2], "FastTextDiff.Finding") == "consolidation"
    writer.write(segmentation, volume, [outputOf(mask[1:2], first=1, finding="edema")])
    writer.write(segmentation, volume, [outputOf(mask[4:6], first=4, finding="edema")])
    last = segmentation.GetSegmentation().GetNthSegment(3)
    assert tagOf(last, "FastTextDiff.Slices") == "1:2 4:6"


def test_terminology_that_slicer_cannot_read_is_replaced():
    assert validTerminology("nonsense") == LESION_ENTRY
    assert validTerminology("a~SCT^1^B~~~c~^^~^^") == LESION_ENTRY
    mass = LESION_ENTRY.replace("52988006^Lesion", "4147007^Mass")
    assert validTerminology(mass) == mass


def test_a_transformed_volume_and_its_hardened_copy_share_a_segmentation(segmentation, volume, writer):
    move = np.array(TURN)
    mask = randomMask()
    addTransform(move, volume, segmentation)
    (written,) = writer.write(segmentation, volume, [outputOf(mask)])
    hardened = addVolume(move @ GRIDS["axial"], name="hardened")
    assert geometryMatches(segmentation, hardened)
    (again,) = writer.write(segmentation, hardened, [outputOf(mask)])
    assert (again.segmentId, again.changedVoxels) == (written.segmentId, 0)


def test_a_cropped_volume_writes_to_the_same_voxels(segmentation, volume, writer):
    (written,) = writer.write(segmentation, volume, [outputOf(np.zeros(SHAPE, np.uint8) + (np.arange(9) == 8))])
    shift = np.eye(4)
    shift[:3, 3] = (2, 1, 3)
    cropped = addVolume(GRIDS["axial"] @ shift, shape=(2, 4, 5), name="cropped")
    mask = randomMask(4, (2, 4, 5))
    writer.write(segmentation, cropped, [outputOf(mask)])
    expected = np.zeros(SHAPE, bool) | (np.arange(9) == 8)
    expected[3:5, 1:5, 2:7] = mask
    assert np.array_equal(segmentArray(segmentation, written.segmentId, volume), expected)


def test_another_grid_is_refused_or_resampled_but_never_shifted(segmentation, volume, writer):
    (written,) = writer.write(segmentation, volume, [outputOf(np.ones(SHAPE, np.uint8))])
    fine = GRIDS["axial"] @ np.diag([0.5, 0.5, 0.5, 1])
    fine[:3, 3] -= (GRIDS["axial"] @ [0.25, 0.25, 0.25, 0])[:3]  # eight fine voxels fill one coarse one
    shape = tuple(2 * size for size in SHAPE)
    other = addVolume(fine, shape=shape, name="fine")
    coarse = randomMask(6)
    mask = coarse.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    assert not geometryMatches(segmentation, other)
    with pytest.raises(SceneError, match="another grid"):
        writer.write(segmentation, other, [outputOf(mask)])
    assert segmentVoxels(segmentation, written.segmentId) == np.prod(SHAPE)
    writer.write(segmentation, other, [outputOf(mask[2:6], first=2)], resample=True)
    expected = np.ones(SHAPE, bool)
    expected[1:3] = coarse[1:3]
    assert np.array_equal(segmentArray(segmentation, written.segmentId, volume), expected)


def test_a_segmentation_without_reference_grid_uses_that_of_its_segments(segmentation, volume, writer):
    writer.write(segmentation, volume, [outputOf(randomMask())])
    segmentation.GetSegmentation().SetConversionParameter("Reference image geometry", "")
    turned = addVolume(GRIDS["oblique"], name="turned")
    assert not geometryMatches(segmentation, turned)
    with pytest.raises(SceneError, match="another grid"):
        writer.write(segmentation, turned, [outputOf(randomMask(), finding="opacity")])
    (written,) = writer.write(segmentation, volume, [outputOf(randomMask(1), finding="opacity")])
    assert np.array_equal(segmentArray(segmentation, written.segmentId, volume), randomMask(1))


def test_nothing_is_written_under_a_non_linear_transform(segmentation, volume, writer):
    bend(volume)
    with pytest.raises(SceneError, match=r"'CT' is under the non-linear transform 'Regularization'.*Harden"):
        writer.write(segmentation, volume, [outputOf(randomMask())])
    assert segmentation.GetSegmentation().GetNumberOfSegments() == 0


def test_a_removed_segmentation_and_one_of_surfaces_are_refused(segmentation, volume, writer):
    segmentation.GetSegmentation().SetSourceRepresentationName("Closed surface")
    with pytest.raises(SceneError, match="consists of surfaces"):
        writer.write(segmentation, volume, [outputOf(randomMask())])
    slicer.mrmlScene.RemoveNode(segmentation)
    with pytest.raises(SceneError, match="is gone"):
        writer.write(segmentation, volume, [outputOf(randomMask())])


def test_surfaces_are_rebuilt_only_where_they_are_shown(segmentation, volume, writer):
    block = np.zeros(SHAPE, np.uint8)
    block[1:5, 1:6, 1:6] = 1
    (written,) = writer.write(segmentation, volume, [outputOf(block)])
    surface = lambda: segmentation.GetClosedSurfaceInternalRepresentation(written.segmentId)  # noqa: E731
    assert not segmentation.GetSegmentation().ContainsRepresentation("Closed surface")
    segmentation.CreateClosedSurfaceRepresentation()
    high = surface().GetBounds()[5]
    block[2:] = 0
    writer.write(segmentation, volume, [outputOf(block)])
    assert surface().GetBounds()[5] < high
    segmentation.GetDisplayNode().SetVisibility3D(False)
    writer.write(segmentation, volume, [outputOf(1 - block)])
    assert not segmentation.GetSegmentation().ContainsRepresentation("Closed surface")


# --- masking --------------------------------------------------------------------------------------------------------


@pytest.fixture
def editor(scene):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")
    node.SetOverwriteMode(node.OverwriteNone)
    return node


def test_the_intensity_mask_applies_only_on_request(segmentation, volume, writer, editor):
    editor.SetSourceVolumeIntensityMask(True)
    editor.SetSourceVolumeIntensityMaskRange(100, 200)
    editors = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentEditorNode")
    mask = np.ones(SHAPE, np.uint8)
    (written,) = writer.write(segmentation, volume, [outputOf(mask[1:4], first=1)], Masking(editor))
    values = np.arange(mask.size).reshape(SHAPE)
    expected = (values >= 100) & (values <= 200)
    expected[[0, 4, 5]] = False
    assert np.array_equal(segmentArray(segmentation, written.segmentId, volume), expected)
    writer.write(segmentation, volume, [outputOf(mask)])
    assert segmentArray(segmentation, written.segmentId, volume).all()
    assert editor.GetSegmentationNode() is None  # the user's own editor stays as it was
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentEditorNode") == editors


def test_other_segments_are_overwritten_only_on_request(segmentation, volume, writer, editor):
    everything, half = np.ones(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    half[:3] = 1
    below, above = writer.write(segmentation, volume, [outputOf(everything), outputOf(half, finding="opacity")])
    assert segmentArray(segmentation, below.segmentId, volume).all()
    editor.SetOverwriteMode(editor.OverwriteAllSegments)
    writer.write(segmentation, volume, [outputOf(half * 0, finding="opacity")])
    writer.write(segmentation, volume, [outputOf(half[1:2], first=1, finding="opacity")], Masking(editor))
    expected = everything.astype(bool)
    expected[1] = False
    assert np.array_equal(segmentArray(segmentation, below.segmentId, volume), expected)
    assert segmentVoxels(segmentation, above.segmentId) == half[1].sum()


def test_a_write_fully_blocked_by_masking_is_an_error_and_leaves_no_segment(segmentation, volume, writer, editor):
    editor.SetSourceVolumeIntensityMask(True)
    editor.SetSourceVolumeIntensityMaskRange(9000, 9001)
    with pytest.raises(SceneError, match="allowed no change"):
        writer.write(segmentation, volume, [outputOf(randomMask())], Masking(editor))
    assert segmentation.GetSegmentation().GetNumberOfSegments() == 0


def test_an_editable_area_that_the_segmentation_does_not_have_is_refused(segmentation, volume, writer, editor):
    editor.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedInsideSingleSegment)
    area = np.zeros(SHAPE, np.uint8)
    area[2:4] = 1
    (inside,) = writer.write(segmentation, volume, [outputOf(area, finding="opacity")])
    for unknown in ("of another image", ""):
        editor.SetMaskSegmentID(unknown)
        with pytest.raises(SceneError, match="editable area is a segment that 'CT findings' does not have"):
            writer.write(segmentation, volume, [outputOf(np.ones(SHAPE, np.uint8))], Masking(editor))
    assert segmentation.GetSegmentation().GetNumberOfSegments() == 1
    editor.SetMaskSegmentID(inside.segmentId)
    (written,) = writer.write(segmentation, volume, [outputOf(np.ones(SHAPE, np.uint8))], Masking(editor))
    assert np.array_equal(segmentArray(segmentation, written.segmentId, volume), area)


# --- the stored output ----------------------------------------------------------------------------------------------


@pytest.fixture
def session(segmentation, volume):
    session = Session(segmentation, volume)
    yield session
    session.history.close()
    session.archive.close()


def test_an_edit_by_others_is_noticed_marked_and_can_be_reverted(session):
    ours, untouched = session.write(outputOf(randomMask(1)), outputOf(randomMask(2), finding="opacity"))
    archive, segments = session.archive, session.segmentation.GetSegmentation()
    assert not archive.isEdited(session.segmentation, ours)
    session.paint(ours, k=5)
    assert session.edited == [ours]
    assert archive.isEdited(session.segmentation, ours)
    assert archive.isEdited(session.segmentation, ours, (5, 6), session.volume)
    assert not archive.isEdited(session.segmentation, ours, (0, 5), session.volume)
    algorithm = "DICOM.SegmentAlgorithmType"
    assert tagOf(segments.GetSegment(ours), algorithm) == "SEMIAUTOMATIC"
    assert tagOf(segments.GetSegment(untouched), algorithm) == "AUTOMATIC"
    session.write(outputOf(randomMask(3)[0:1]))
    assert tagOf(segments.GetSegment(ours), algorithm) == "SEMIAUTOMATIC"
    assert archive.isEdited(session.segmentation, ours, (5, 6), session.volume)
    assert archive.restore(session.segmentation, ours)
    expected = randomMask(1)
    expected[0] = randomMask(3)[0]
    assert np.array_equal(session.array(ours), expected)
    assert tagOf(segments.GetSegment(ours), algorithm) == "AUTOMATIC"


def test_a_resampled_segment_counts_as_edited_and_reverts_to_the_outputs_grid(session):
    (segmentId,) = session.write(outputOf(randomMask(1)))
    coarse = slicer.vtkSegmentation()
    coarse.DeepCopy(session.segmentation.GetSegmentation())
    image = coarse.GetSegment(segmentId).GetRepresentation("Binary labelmap")
    image.SetImageToWorldMatrix(toMatrix(GRIDS["axial"] @ np.diag([2.0, 2, 2, 1])))
    session.segmentation.GetSegmentation().GetSegment(segmentId).GetRepresentation("Binary labelmap").DeepCopy(image)
    assert session.edited == [segmentId]
    assert session.archive.isEdited(session.segmentation, segmentId)
    assert session.archive.restore(session.segmentation, segmentId)
    assert np.array_equal(session.array(segmentId), randomMask(1))


def test_replacing_a_whole_labelmap_counts_as_an_edit(session):
    """Observers see it once with the new size and the old voxels."""
    small = np.zeros(SHAPE, np.uint8)
    small[2, 3, 4] = 1
    (segmentId,) = session.write(outputOf(small))
    SegmentWriter().write(session.segmentation, session.volume, [outputOf(randomMask(2))])  # not ours: no guard
    assert session.edited == [segmentId]


def test_renaming_does_not_count_as_an_edit(session):
    (segmentId,) = session.write(outputOf(randomMask()))
    session.segmentation.GetSegmentation().GetSegment(segmentId).SetName("renamed")
    assert session.edited == []
    assert not session.archive.isEdited(session.segmentation, segmentId)


def reopened(session, path):
    """Save and open the scene: the user's segmentation and the volume."""
    assert slicer.mrmlScene.WriteToMRB(str(path))
    session.history.close()
    session.archive.close()
    assert slicer.mrmlScene.ReadFromMRB(str(path), True)
    nodes = slicer.mrmlScene.GetNodesByClass("vtkMRMLSegmentationNode")
    nodes.UnRegister(None)
    loaded = [nodes.GetItemAsObject(index) for index in range(nodes.GetNumberOfItems())]
    assert len(loaded) == 2
    user = next(node for node in loaded if not node.GetHideFromEditors())
    return user, slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")


@pytest.mark.parametrize("isCropped", [False, True])
def test_the_stored_output_survives_saving_the_scene(session, tmp_path, isCropped):
    """Slicer may keep only the box around the segments in a file."""
    small = np.zeros(SHAPE, np.uint8)
    small[2:4, 3:5, 4:7] = 1
    ours, painted = session.write(outputOf(small), outputOf(randomMask(1), finding="opacity"))
    session.paint(painted)
    if isCropped:
        stored = session.archive.node(session.segmentation)
        stored.GetSegmentation().SetConversionParameter("Reference image geometry", "")
        stored.GetSegmentation().RemoveSegment(painted)
    user, volume = reopened(session, tmp_path / "scene.mrb")
    archive = OutputArchive()
    archive.attachAll()
    assert not archive.isEdited(user, ours)
    assert not archive.isEdited(user, ours, (2, 4), volume)
    assert archive.isEdited(user, painted) is not isCropped
    with archive.ownEdit():
        (written,) = SegmentWriter().write(user, volume, [outputOf(randomMask(2)[3:5], first=3)])
        assert archive.isEdited(user, ours)
        archive.record(user, [written])
    assert not archive.isEdited(user, ours)
    assert archive.restore(user, ours)
    small[3:5] = randomMask(2)[3:5]
    assert np.array_equal(segmentArray(user, ours, volume), small)
    archive.close()


def test_segments_loaded_from_a_file_are_observed_even_empty_ones(session, tmp_path):
    (filled,) = session.write(outputOf(randomMask(1)))
    segments = session.segmentation.GetSegmentation()
    empty = segments.AddEmptySegment("empty", "nodule")
    segments.GetSegment(empty).SetTag("DICOM.SegmentAlgorithmType", "AUTOMATIC")
    segments.GetSegment(empty).SetTag("FastTextDiff.Finding", "nodule")
    storage = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
    storage.SetFileName(str(tmp_path / "file.seg.nrrd"))
    assert storage.WriteData(session.segmentation)
    loaded = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "loaded")
    assert storage.ReadData(loaded)
    session.segmentation = loaded
    session.archive.adopt(loaded)
    for segmentId in (empty, filled):
        assert not session.archive.isEdited(loaded, segmentId)
        session.paint(segmentId)
    assert session.edited == [empty, filled]
    assert session.archive.restore(loaded, empty)
    assert not session.array(empty).any()


def test_the_stored_output_is_hidden_and_removed_with_its_segmentation(session):
    session.write(outputOf(randomMask(1)))
    assert session.archive.node(session.segmentation).GetHideFromEditors()
    slicer.mrmlScene.RemoveNode(session.segmentation)
    assert slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSegmentationNode") is None


def test_a_grid_shifted_by_half_a_voxel_does_not_match(segmentation, volume, writer):
    writer.write(segmentation, volume, [outputOf(randomMask())])
    assert geometryMatches(segmentation, addVolume(name="same"))
    moved = addVolume(grid(np.diag([-1.0, -1.0, 1.0]), origin=(-31.5 + 0.35, 12.25, 100.0)), name="moved")
    assert not geometryMatches(segmentation, moved)
    moved.SetIJKToRASMatrix(toMatrix(GRIDS["left-handed"]))
    assert not geometryMatches(segmentation, moved)


@pytest.mark.parametrize("name", ["RSA", "SRA", "RAS", "ASR"])
def test_slices_along_any_axis_have_one_number_everywhere(scene, writer, name):
    """NIfTI and NRRD store axes in any order; the slices of this one are axial, 4 mm apart."""
    axes = ["RAS".index(letter) for letter in name]  # of i, j, k
    matrix, size = np.eye(4), (9, 7, 6)  # R, A, S
    matrix[:3, :3] = np.eye(3)[:, axes] * np.array([0.7, 0.9, 4.0])[axes]
    shape = tuple(size[axis] for axis in reversed(axes))
    values = np.arange(np.prod(size), dtype=np.int16).reshape(size)  # R, A, S
    volume = addVolume(matrix, shape, array=values.transpose(axes[::-1]))
    view = addSliceView("Coronal")
    rotateViewToSlices(view, volume)
    jumpToSlice(view, volume, 4)
    assert view.GetOrientation() == "Axial"
    assert shownSlice(volume, view).index == 4
    assert view.GetSliceOffset() == pytest.approx(16.0)
    assert pixelMm2(volume) == pytest.approx(0.7 * 0.9)
    source = volumeSource(volume)
    assert source.array.shape[0] == size[2]
    assert set(source.array[4].ravel()) == set(values[:, :, 4].ravel())
    assert np.allclose(source.ijkToRas[:3, 2], (0, 0, 4.0))
    mask = randomMask(1, (1, *source.array.shape[1:]))
    segmentation = writer.newSegmentation(volume)
    (written,) = writer.write(segmentation, volume, [outputOf(mask, first=4)])
    whole = np.concatenate([np.zeros((4, *mask.shape[1:])), mask])
    assert worldPoints(segmentation, written.segmentId) == expectedPoints(whole, source.ijkToRas)
    assert segmentArray(segmentation, written.segmentId, volume).shape == shape
    assert tagOf(segmentation.GetSegmentation().GetSegment(written.segmentId), "FastTextDiff.Slices") == "4:5"


def test_what_the_model_was_not_asked_for_changes_no_segment(segmentation, volume, writer):
    mask = randomMask()
    [written] = writer.write(segmentation, volume, [outputOf(mask)])
    before = segmentArray(segmentation, written.segmentId, volume).copy()
    [again] = writer.write(segmentation, volume, [replace(outputOf(np.zeros_like(mask)), isAsked=False)])
    assert (again.segmentId, again.isAsked, again.found, again.changedVoxels) == (written.segmentId, False, False, 0)
    assert np.array_equal(segmentArray(segmentation, written.segmentId, volume), before)
    [fresh] = writer.write(segmentation, volume, [replace(outputOf(mask, finding="gallbladder"), isAsked=False)])
    assert fresh.segmentId is None
    assert segmentation.GetSegmentation().GetNumberOfSegments() == 1
