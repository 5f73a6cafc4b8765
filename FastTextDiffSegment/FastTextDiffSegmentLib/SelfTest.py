"""The self-test in a running Slicer: segment a finding, check it, undo it. Skipped without the engine's packages.

Run by *Reload and Test*, and as a ctest by a runner that calls only the `test_` methods. Uses a chest X-ray that comes
with the module, so nothing is downloaded.
"""

import unittest
from pathlib import Path

import slicer
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleTest

from .contract.requests import CheckEnvironment
from .engine.Jobs import Job

XRAY = Path(__file__).resolve().parent.parent / "Resources" / "TestData" / "chest_xray.nrrd"


class FastTextDiffSegmentTest(ScriptedLoadableModuleTest):
    """Every test has an empty scene and its own engine."""

    def setUp(self):
        """Clear the scene; skip the test if the engine's packages are not installed, as on build machines."""
        from .Logic import FastTextDiffSegmentLogic

        slicer.mrmlScene.Clear()
        self._logic = FastTextDiffSegmentLogic()
        self.addCleanup(self._logic.close)
        missing = self._missingPackages()
        if missing:
            self.skipTest(f"these Python packages are not installed: {', '.join(missing)}")

    def runTest(self):
        """Called by *Reload and Test*: run every test, and fail if one failed."""
        suite = unittest.defaultTestLoader.loadTestsFromTestCase(type(self))
        result = suite.run(unittest.TestResult())
        for _test, reason in result.skipped:
            self.delayDisplay(f"Not run: {reason}")
        failures = [report for _test, report in (*result.errors, *result.failures)]
        self.assertFalse(failures, "\n".join(failures))

    def test_leftLungIsOnThePatientsLeft(self):
        """Sides are the patient's: the left lung is on the right of the picture."""
        self.delayDisplay("Segmenting the left lung of an X-ray")
        volume, segmentation, found = self._segmented()
        self.assertTrue(found[0].found)
        mask = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, found[0].segmentId, volume)[0]
        right = mask[:, mask.shape[1] // 2 :].sum()
        self.assertGreater(int(right), 0.9 * int(mask.sum()))
        segment = segmentation.GetSegmentation().GetSegment(found[0].segmentId)
        self.assertEqual(segment.GetName(), "left lung")

    def test_undoRemovesTheResult(self):
        """One step can be undone."""
        self.delayDisplay("Undoing")
        _volume, segmentation, _found = self._segmented()
        self.assertTrue(self._logic.history.undo())
        self.assertEqual(segmentation.GetSegmentation().GetNumberOfSegments(), 0)

    def _missingPackages(self):
        job = self._logic.runner.start(Job(self._logic.session.client.ask(CheckEnvironment())))
        return [package.requirement for package in self._logic.runner.wait(job).packages if package.problem]

    def _segmented(self):
        volume = slicer.util.loadVolume(str(XRAY))
        segmentation = self._logic.newSegmentation(volume)
        found = self._logic.segment(volume, ["left lung"], segmentation, modality="xray")
        return volume, segmentation, found
