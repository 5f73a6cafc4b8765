"""Edits by hand of what the model made are noticed, kept and asked about, whoever made them and whenever."""

import pytest

slicer = pytest.importorskip("slicer")
pytest.importorskip("PySide6")
pytest.importorskip("slicerhost").start()

from editing_session import Session  # noqa: E402
from scene_volumes import addVolume, outputOf, randomMask  # noqa: E402

from FastTextDiffSegmentLib.EditedFindings import editedFindings  # noqa: E402
from FastTextDiffSegmentLib.Requests import SegmentationRequest  # noqa: E402
from FastTextDiffSegmentLib.scene.OutputArchive import OutputArchive  # noqa: E402
from FastTextDiffSegmentLib.scene.SegmentWriter import SegmentWriter, tagOf  # noqa: E402

pytestmark = pytest.mark.slicer
ALGORITHM = "DICOM.SegmentAlgorithmType"


@pytest.fixture
def session(scene):
    volume = addVolume()
    session = Session(SegmentWriter().newSegmentation(volume), volume)
    yield session
    session.history.close()
    session.archive.close()


def algorithm(node, segmentId):
    return tagOf(node.GetSegmentation().GetSegment(segmentId), ALGORITHM)


def asked(archive, node, volume, slices=None):
    """The findings about which a new run on some slices asks."""
    return editedFindings(archive, node, SegmentationRequest(volume, ("consolidation",), slices))


def reopened(session, path):
    """Save and open the scene, as a user does, while nothing is observed."""
    name = session.segmentation.GetName()
    session.history.close()
    session.archive.close()
    assert slicer.util.saveScene(str(path))
    slicer.mrmlScene.Clear(False)
    slicer.util.loadScene(str(path))
    session.segmentation, session.volume = slicer.util.getNode(name), slicer.util.getNode("CT")


def test_an_edit_made_while_nothing_was_observed_is_noticed(session, tmp_path):
    (segmentId,) = session.write(outputOf(randomMask(1)))
    reopened(session, tmp_path / "scene.mrb")
    session.paint(segmentId, k=5)
    archive = OutputArchive()
    assert asked(archive, session.segmentation, session.volume) == ["consolidation"]  # whatever the tag says
    assert asked(archive, session.segmentation, session.volume, (0, 5)) == []
    assert algorithm(session.segmentation, segmentId) == "AUTOMATIC"
    archive.attachAll()
    assert algorithm(session.segmentation, segmentId) == "SEMIAUTOMATIC"
    archive.close()


@pytest.mark.parametrize("way", ["scene", "file", "copy"])
def test_an_edit_of_what_was_loaded_or_copied_counts_before_the_panel_is_entered(panel, session, tmp_path, way):
    (segmentId,) = session.write(outputOf(randomMask(1)))
    panel.slicer.util.selectModule("SegmentEditor")
    if way == "scene":
        reopened(session, tmp_path / "scene.mrb")
    elif way == "file":
        storage = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
        storage.SetFileName(str(tmp_path / "file.seg.nrrd"))
        assert storage.WriteData(session.segmentation)
        session.segmentation = slicer.util.loadSegmentation(str(tmp_path / "file.seg.nrrd"))
    else:
        hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
        item = hierarchy.GetItemByDataNode(session.segmentation)
        clone = slicer.vtkSlicerSubjectHierarchyModuleLogic.CloneSubjectHierarchyItem(hierarchy, item, "copy")
        session.segmentation = hierarchy.GetItemDataNode(clone)
    panel.waitFor(lambda: panel.widget.logic.archive.node(session.segmentation))
    assert algorithm(session.segmentation, segmentId) == "AUTOMATIC"
    session.paint(segmentId, k=5)
    assert algorithm(session.segmentation, segmentId) == "SEMIAUTOMATIC"
    archive = panel.widget.logic.archive
    assert asked(archive, session.segmentation, session.volume) == ["consolidation"]
