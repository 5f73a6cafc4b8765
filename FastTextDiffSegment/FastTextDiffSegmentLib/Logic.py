"""The module without its user interface: segments findings in a volume node and writes them to a segmentation node.

Scripts use :meth:`FastTextDiffSegmentLogic.segment`. Knows nothing about widgets.
"""

import weakref
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

from .Computer import Computer
from .contract.answers import CacheSizes, ProposedSlice
from .contract.images import ACQUISITION
from .contract.requests import ClearCache, MeasureCache
from .Correction import Correcting
from .EditedFindings import editedFindings
from .engine.EngineClient import EngineClient, ProgressCallback
from .engine.EnginePath import engineCommand, engineEnvironment
from .engine.EngineProcess import EngineProcess
from .engine.EngineSession import EngineSession
from .engine.Jobs import Job, JobRunner, Steps
from .engine.Place import Place
from .engine.SegmentationOutput import SegmentationOutput
from .engine.WorkFolder import WorkFolder
from .Examining import Examining
from .Findings import findingLines, stepText
from .Parameters import FastTextDiffSegmentParameters
from .Requests import SegmentationRequest
from .scene.EditorMasking import Masking
from .scene.Geometry import SceneError, sliceShape
from .scene.OutputArchive import OutputArchive
from .scene.Region import Region
from .scene.Reviews import Reviews
from .scene.SceneVolume import contentKey, volumeSource
from .scene.SegmentHistory import EditGuard, SegmentHistory
from .scene.SegmentOutputs import keptIfUnchanged, requireUnchanged, segmentOutputs
from .scene.SegmentWriter import SegmentedFinding, SegmentOutput, SegmentWriter, Target
from .Several import ImageResult, SequenceResult, sequenceSteps, severalSteps, writeImages
from .Speed import Cost, Speed
from .Teaching import Teaching

Progress = Callable[[int, int], bool] | None
"""Called with (done, total) slices; returning False cancels."""


class FastTextDiffSegmentLogic(ScriptedLoadableModuleLogic):
    """Segments typed findings.

    From Slicer's Python console::

        import SampleData
        from FastTextDiffSegment import FastTextDiffSegmentLogic

        volume = SampleData.SampleDataLogic().downloadCTChest()
        for found in FastTextDiffSegmentLogic().segment(volume, ["left lung", "right lung"]):
            print(found.finding, found.found, found.presence)

    Attributes:
        session: the engine.
        runner: advances jobs.
        history: the steps that can be undone and redone.
        archive: the model's own output of every segment, before any edits.
        reviews: slices to review, and which of them were accepted or corrected.
        teaching: learns findings, and manages what was learned.
        correcting: corrects slices by strokes.
        examining: measures segments, and tries findings without their words.
        computer: chooses the computer that segments.
    """

    def __init__(self):
        super().__init__()
        self.session = newSession()
        self.runner = JobRunner(self.session.client.poll)
        guard = EditGuard()
        self.archive = OutputArchive(guard)
        self.history = SegmentHistory(guard)
        self.reviews = Reviews(self.archive)
        self.teaching = Teaching(self.session, self.runner)
        self.examining = Examining(self.session, self.runner)
        self.computer = Computer(self.session, self.runner)
        self._writer, self._speeds = SegmentWriter(), defaultdict[str, Speed](Speed)
        self.correcting = Correcting(
            self.session, self.teaching.session, self.runner, self.history, self.archive, self._writer
        )
        # even if a script forgets to close it: patient data must not stay in the temporary folder
        self._closeSession = weakref.finalize(self, self.session.close)

    def close(self) -> None:
        """Stop the engine and disconnect from the scene; the logic cannot be used afterwards."""
        self.history.close()
        self.archive.close()
        self._closeSession()

    def getParameterNode(self) -> FastTextDiffSegmentParameters:
        """The state of the panel, stored in the scene."""
        return FastTextDiffSegmentParameters(super().getParameterNode())

    def segment(
        self,
        volumeNode: Any,
        findings: Sequence[str],
        outputSegmentationNode: Any = None,
        sliceRange: tuple[int, int] | None = None,
        modality: str | None = None,
        samples: int = 1,
        seed: int = 0,
        threshold: float | None = None,
        masking: Masking | None = None,
        sliceBySlice: bool = False,
        tryAnyway: bool = False,
        plane: str = ACQUISITION,
        regionNode: Any = None,
        progress: Progress = None,
    ) -> list[SegmentedFinding]:
        """Segment findings and write them as segments. Blocks until done.

        Args:
            volumeNode: scalar or vector volume; never changed.
            findings: one segment each; sides are the patient's.
            outputSegmentationNode: receives the segments; a new node if None. Its other segments and slices stay
                unchanged; a segment that this module made for the same finding is updated.
            sliceRange: (first, end) of the slices of the plane, from 0; all if None.
            modality: "ct", "mr", "xray", "histology" or "other"; None takes it from DICOM or guesses it.
            samples: number of noise samples to average.
            seed: seed of the noise; equal seeds give equal results.
            threshold: probability above which a pixel belongs to a segment; None for the model's own.
            masking: masking and overwriting of the Segment Editor; None lets segments overlap.
            sliceBySlice: segment each slice on its own; otherwise findings are smoothed across slices, and parts that
                a finding cannot have are left out.
            tryAnyway: segment findings that the model was not taught, too; otherwise they are left empty.
            plane: "acquisition", "axial", "coronal" or "sagittal".
            regionNode: vtkMRMLMarkupsROINode; voxels outside its box stay as they are.
            progress: called with (done, total) slices; returning False cancels.

        Returns:
            One entry for each finding.

        Raises:
            SceneError: the scene does not allow it, e.g. the image has no voxels.
            EngineError: the engine refused or failed.
            JobCancelled: `progress` returned False; nothing was changed.
        """
        lines = tuple(findingLines("\n".join(findings)))
        region = None if regionNode is None else Region.of(regionNode)
        request = SegmentationRequest(
            volumeNode, lines, sliceRange, modality, samples, seed, threshold, sliceBySlice, tryAnyway, plane, region
        )
        isValid, reason = request.isValid()
        if not isValid:
            raise SceneError(reason)
        output = self._waited(lambda report: self.segmentationSteps(request, report), progress)
        try:
            node = outputSegmentationNode or self.newSegmentation(volumeNode)
            return self.write(output, request, node, masking)
        finally:
            output.release()

    def segmentImages(
        self,
        volumeNodes: Sequence[Any],
        findings: Sequence[str],
        masking: Masking | None = None,
        progress: Progress = None,
        **options: Any,
    ) -> list[ImageResult]:
        """Segment several images of the scene; nothing is written before all are done. Blocks until done.

        Args:
            volumeNodes: each gets a segmentation of its own, or new segments in the one that was made for it before.
            findings: as in :meth:`segment`.
            masking: as in :meth:`segment`, applied to each image.
            progress: as in :meth:`segment`, with the slices of all images.
            options: further arguments of :class:`SegmentationRequest`.

        Raises:
            SceneError: one of the images cannot be segmented; or as :func:`~.Several.writeImages`.
            EngineError, JobCancelled: as in :meth:`segment`; nothing was written.
        """
        lines = tuple(findingLines("\n".join(findings)))
        requests = [SegmentationRequest(node, lines, **options) for node in volumeNodes]
        kept = self._waited(lambda report: severalSteps(self, requests, report, masking=masking), progress)
        return writeImages(self, requests, kept, masking)

    def segmentSequence(
        self, volumeNode: Any, findings: Sequence[str], progress: Progress = None, **options: Any
    ) -> SequenceResult:
        """Segment all items of a sequence, whatever its browser shows. Blocks until done.

        Args:
            volumeNode: shows an item of the sequence.
            findings: as in :meth:`segment`.
            progress: as in :meth:`segment`, with the slices of all items.
            options: further arguments of :class:`SegmentationRequest`.

        Returns:
            What was found. The segmentations are a sequence of the same browser.

        Raises:
            SceneError: the image belongs to no sequence, or an item cannot be segmented; nothing was written.
            EngineError, JobCancelled: as in :meth:`segment`; nothing was written.
        """
        request = SegmentationRequest(volumeNode, tuple(findingLines("\n".join(findings))), **options)
        return self._waited(lambda report: sequenceSteps(self, request, report), progress)

    def _waited(self, makeSteps: Callable[[ProgressCallback], Steps], progress: Progress) -> Any:
        job: Job

        def report(done: int, total: int) -> None:
            if progress is not None and not progress(done, total):
                job.cancel()

        job = Job(makeSteps(report))
        self.runner.start(job)
        return self.runner.wait(job)

    def segmentationSteps(
        self, request: SegmentationRequest, onProgress: ProgressCallback = lambda done, total: None
    ) -> Steps:
        """Ask the engine; the scene is only read.

        Returns:
            :class:`SegmentationOutput`; pass it to :meth:`write`, then release it.
        """
        yield from self.session.opened()
        slices, content = request.slices(), contentKey(request.volumeNode)
        volume = yield from self.session.provided(volumeSource(request.volumeNode, request.modality))
        measure = self._speeds[self.computer.host].measured(request.kind(), request.samples)

        def report(done: int, total: int) -> None:
            measure(done, total)
            onProgress(done, total)

        output = yield from self.session.segmented(
            volume,
            request.findings,
            slices,
            report,
            samples=request.samples,
            seed=request.seed,
            threshold=request.threshold,
            sliceBySlice=request.sliceBySlice,
            tryAnyway=request.tryAnyway,
            plane=request.plane,
        )
        return keptIfUnchanged(output, request.volumeNode, content)

    def correct(
        self,
        volumeNode: Any,
        finding: str,
        sliceIndex: int,
        strokes: Sequence[tuple[Any, bool]],
        outputSegmentationNode: Any = None,
        modality: str | None = None,
        sliceBySlice: bool = False,
    ) -> list[SegmentedFinding]:
        """Correct a finding on one slice by strokes, see :meth:`~.Correction.Correcting.correct`."""
        node = outputSegmentationNode or self.newSegmentation(volumeNode)
        return self.correcting.correct(volumeNode, finding, sliceIndex, strokes, node, modality, sliceBySlice)

    def cost(self, *requests: SegmentationRequest) -> Cost:
        """How many slices requests have, and how long they will take one after the other, from the runs so far.

        Raises:
            SceneError: the slices are not in an image.
        """
        speed = self._speeds[self.computer.host]
        costs = [speed.cost(each.kind(), each.slices()[1] - each.slices()[0], each.samples) for each in requests]
        return Cost.total(costs)

    def volumeSteps(self, request: SegmentationRequest) -> Steps:
        """Send the volume to the engine ahead of time.

        Returns:
            The contract's `VolumeOpened`: what the engine reports about it.
        """
        yield from self.session.opened()
        return (yield from self.session.provided(volumeSource(request.volumeNode, request.modality)))

    def newSegmentation(self, volumeNode: Any) -> Any:
        """Add an empty segmentation on the grid of a volume."""
        return self._writer.newSegmentation(volumeNode)

    def write(
        self,
        output: SegmentationOutput,
        request: SegmentationRequest,
        segmentationNode: Any,
        masking: Masking | None = None,
        threshold: float | None = None,
        resample: bool = False,
        into: Target | None = None,
    ) -> list[SegmentedFinding]:
        """Write what the engine found, as one step that can be undone; the same output again continues that step.

        Args:
            output: from :meth:`segmentationSteps`.
            request: the request that it answers.
            segmentationNode: receives the segments.
            masking: as in :meth:`segment`.
            threshold: replaces the engine's threshold.
            resample: resample the masks to the segmentation's grid if it differs from the volume's.
            into: the segment to write to; None for the segment of each finding.

        Raises:
            SceneError: the image is no longer what was segmented, or the scene does not allow it.
        """
        requireUnchanged(request.volumeNode, output.content)
        outputs = self.segmentOutputs(output, request, threshold)
        return self.writeOutputs(outputs, request, segmentationNode, masking, resample, output, output.review, into)

    def writeOutputs(
        self,
        outputs: Sequence[SegmentOutput],
        request: SegmentationRequest,
        segmentationNode: Any,
        masking: Masking | None = None,
        resample: bool = False,
        key: Any = None,
        review: tuple[ProposedSlice, ...] = (),
        into: Target | None = None,
    ) -> list[SegmentedFinding]:
        """Write the outputs of a request as one step; those with the `key` of the last step continue it.

        `review` are the slices to review; `into` as in :meth:`write`.
        """
        isContinued, asked = self.history.continues(key), [each.finding for each in outputs if each.isAsked]
        total, slices = sliceShape(request.volumeNode, request.plane)[0], outputs[0].sliceRange
        text = stepText(request.findings, slices, total, request.plane)
        with self.history.step(text, segmentationNode, self.archive.prepare(segmentationNode), key):
            written = self._writer.write(segmentationNode, request.volumeNode, outputs, masking, resample, into)
            self.archive.record(segmentationNode, written)
            if not isContinued:
                self.reviews.begin(segmentationNode, request.volumeNode, review, slices, asked, request.plane)
        return [replace(each, patch=None) for each in written]  # a patch may be as large as the image

    def writeUnrecorded(
        self, outputs: Sequence[SegmentOutput], volumeNode: Any, segmentationNode: Any
    ) -> list[SegmentedFinding]:
        """Write outputs into a new segmentation that is removed from the scene again; undo does not know of it."""
        return self._writer.write(segmentationNode, volumeNode, outputs)

    def undo(self) -> str | None:
        """Undo the last step, and keep what others edited since; its text, or None if there is nothing to undo."""
        return self._moved(self.history.undo())

    def redo(self) -> str | None:
        """Make the last undone step again; its text, or None if there is nothing to redo."""
        return self._moved(self.history.redo())

    def _moved(self, text: str | None) -> str | None:
        if text is not None:
            self.reviews.retag()
        return text

    def revert(self, segmentationNode: Any, segmentId: str) -> bool:
        """Restore a segment from the model's own output, as one step; False if no output is stored."""
        if not self.archive.isStored(segmentationNode, segmentId):
            return False
        name = segmentationNode.GetSegmentation().GetSegment(segmentId).GetName()
        with self.history.step(_("{name} as the model made it").format(name=name), segmentationNode):
            return self.archive.restore(segmentationNode, segmentId)

    def segmentOutputs(
        self, output: SegmentationOutput, request: SegmentationRequest, threshold: float | None = None
    ) -> list[SegmentOutput]:
        """The engine's findings as segment outputs, at a threshold."""
        return segmentOutputs(output, request.volumeNode, threshold, request.plane, request.region)

    def cacheSizes(self) -> CacheSizes:
        """How much the engine keeps on this computer: converted and compiled networks. Blocks until known."""
        return self._waited(lambda report: self.session.client.ask(MeasureCache()), None)

    def removeCaches(self) -> CacheSizes:
        """Remove the converted and compiled networks, which are made again when needed; what is left of them."""
        return self._waited(lambda report: self.session.client.ask(ClearCache()), None)

    def editedFindings(self, segmentationNode: Any, request: SegmentationRequest) -> list[str]:
        """Names of segments of these findings that were edited by hand on the requested slices."""
        return editedFindings(self.archive, segmentationNode, request)


def newSession() -> EngineSession:
    """An engine run by Slicer's own Python; its process starts with the first request."""
    work, place = WorkFolder(slicer.app.temporaryPath), Place()

    def start() -> EngineProcess:
        return EngineProcess(engineCommand(*place.arguments), engineEnvironment(), Path(work.path))

    return EngineSession(EngineClient(start, place.require), work, place=place)
