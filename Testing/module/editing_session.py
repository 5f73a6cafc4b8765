"""Writes, undoes and edits in a scene, as the logic and the Segment Editor do. No assertions."""

import numpy as np
import slicer
from scene_volumes import GRIDS

from FastTextDiffSegmentLib.scene.OutputArchive import OutputArchive
from FastTextDiffSegmentLib.scene.SegmentHistory import EditGuard, SegmentHistory
from FastTextDiffSegmentLib.scene.SegmentVoxels import segmentArray, toImage
from FastTextDiffSegmentLib.scene.SegmentWriter import SegmentWriter


class Session:
    """Writes like the logic: with undo, edit guard and stored output. Paints like the Segment Editor."""

    def __init__(self, segmentation, volume):
        self.segmentation, self.volume = segmentation, volume
        self.guard, self.edited, self.changes = EditGuard(), [], []
        self.history = SegmentHistory(self.guard, lambda: self.changes.append(self.history.canUndo))
        self.archive = OutputArchive(self.guard, lambda node, segmentId: self.edited.append(segmentId))

    def write(self, *outputs, key=None):
        archive = self.archive.prepare(self.segmentation)
        text = ", ".join(each.finding for each in outputs)
        with self.history.step(text, self.segmentation, archive, key):
            written = SegmentWriter().write(self.segmentation, self.volume, outputs)
            self.archive.record(self.segmentation, written)
        return [each.segmentId for each in written]

    def array(self, segmentId):
        return segmentArray(self.segmentation, segmentId, self.volume)

    def paint(self, segmentId, k=5):
        """What the Segment Editor's brush does, on one voxel that is not yet in the segment; its (k, j, i)."""
        j, i = np.argwhere(~self.array(segmentId)[k])[0]
        self.dab(segmentId, (k, j, i), "Add")
        return k, j, i

    def erase(self, segmentId, k):
        """What the Segment Editor's eraser does, on one voxel of the segment; its (k, j, i)."""
        j, i = np.argwhere(self.array(segmentId)[k])[-1]
        self.dab(segmentId, (k, j, i), "Remove")
        return k, j, i

    def dab(self, segmentId, voxel, mode):
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")
        node.SetOverwriteMode(node.OverwriteNone)
        logic = slicer.vtkSlicerSegmentEditorLogic()
        logic.SetMRMLScene(slicer.mrmlScene)
        logic.SetSegmentEditorNode(node)
        logic.SetSegmentationNode(self.segmentation)
        logic.SetSourceVolumeNode(self.volume)
        dab = toImage(np.ones((1, 1, 1), np.uint8), tuple(int(n) for n in voxel[::-1]), GRIDS["axial"])
        how = getattr(logic, f"ModificationMode{mode}")
        logic.ModifySegmentByLabelmap(self.segmentation, segmentId, dab, how, False, False)
