"""Corrects a finding on one slice by strokes, without a user interface. Nothing is learned from them.

Knows the engine and how segments are written; knows nothing about widgets, or where strokes are drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from slicer.i18n import tr as _

from .contract.images import ACQUISITION
from .engine.EngineSession import EngineSession
from .engine.Jobs import Job, JobRunner, Steps
from .engine.SegmentationOutput import SegmentationOutput
from .engine.TeachingSession import Stroke, TeachingSession
from .Findings import stepText
from .scene.Geometry import requireImage, requireLinear, sliceShape
from .scene.OutputArchive import OutputArchive
from .scene.SceneVolume import contentKey, volumeSource
from .scene.SegmentHistory import SegmentHistory
from .scene.SegmentOutputs import keptIfUnchanged, requireUnchanged, segmentOutputs
from .scene.SegmentWriter import SegmentedFinding, SegmentWriter


@dataclass(frozen=True)
class CorrectionRequest:
    """A finding on one slice, and strokes that correct it.

    Attributes:
        volumeNode: scalar or vector volume.
        finding: its text.
        sliceIndex: number of the slice, as acquired.
        strokes: in the order drawn.
        modality: the kind of image; None lets the engine decide.
        seed: seed of the noise.
        threshold: probability above which a pixel belongs to the segment; None for the model's own.
        sliceBySlice: whether nothing is left out because it lies outside an organ.
    """

    volumeNode: Any
    finding: str
    sliceIndex: int
    strokes: tuple[Stroke, ...]
    modality: str | None = None
    seed: int = 0
    threshold: float | None = None
    sliceBySlice: bool = False

    @property
    def findings(self) -> tuple[str, ...]:
        """The finding, as other requests have it."""
        return (self.finding,)

    @property
    def sliceRange(self) -> tuple[int, int]:
        """The slice, as other requests have it: (first, end)."""
        return self.sliceIndex, self.sliceIndex + 1

    @property
    def plane(self) -> str:
        """Slices are those of the acquisition."""
        return ACQUISITION

    def slices(self) -> tuple[int, int]:
        """The slice, as other requests have it."""
        return self.sliceRange


class Correcting:
    """Asks the engine for corrected slices, and writes them.

    Args:
        session: the engine.
        teaching: the part of it that is about teaching.
        runner: advances jobs.
        history: gets one step for each slice that is written.
        archive: the model's own output, which stays as it is.
        writer: writes segments.
    """

    def __init__(
        self,
        session: EngineSession,
        teaching: TeachingSession,
        runner: JobRunner,
        history: SegmentHistory,
        archive: OutputArchive,
        writer: SegmentWriter,
    ):
        self._session, self._teaching, self._runner = session, teaching, runner
        self._history, self._archive, self._writer = history, archive, writer

    def correct(
        self,
        volumeNode: Any,
        finding: str,
        sliceIndex: int,
        strokes: Sequence[tuple[Any, bool]],
        segmentationNode: Any,
        modality: str | None = None,
        sliceBySlice: bool = False,
    ) -> list[SegmentedFinding]:
        """Correct a finding on one slice by strokes, and write it as one step. Blocks until done.

        Args:
            volumeNode: scalar or vector volume; never changed.
            finding: its segment is changed on this slice only.
            sliceIndex: number of the slice as acquired, from 0.
            strokes: (mask, whether the finding is there); masks (rows, columns), nonzero on the stroke. They hold
                exactly. The model's own answer is corrected, not edits of the segment.
            segmentationNode: has the segment, or gets it.
            modality: "ct", "mr", "xray", "histology" or "other"; None takes it from DICOM or guesses it.
            sliceBySlice: whether nothing is left out because it lies outside an organ.

        Raises:
            SceneError: the scene does not allow it.
            EngineError: a stroke is empty, on another grid or contradicts another; or the engine failed.
        """
        made = tuple(Stroke(np.asarray(mark), bool(present)) for mark, present in strokes)
        request = CorrectionRequest(volumeNode, finding, sliceIndex, made, modality, sliceBySlice=sliceBySlice)
        output = self._runner.wait(self._runner.start(Job(self.steps(request))))
        try:
            return self.write(output, request, segmentationNode)
        finally:
            output.release()

    def steps(self, request: CorrectionRequest) -> Steps:
        """Ask the engine for a corrected slice; the scene is only read.

        Returns:
            :class:`SegmentationOutput`; pass it to :meth:`write`, then release it.
        """
        requireImage(request.volumeNode)
        requireLinear(request.volumeNode)
        yield from self._session.opened()
        content = contentKey(request.volumeNode)
        volume = yield from self._session.provided(volumeSource(request.volumeNode, request.modality))
        more = request.seed, request.threshold, request.sliceBySlice
        asked = self._teaching.corrected(volume, request.finding, request.sliceIndex, request.strokes, *more)
        output = yield from asked
        return keptIfUnchanged(output, request.volumeNode, content)

    def write(
        self, output: SegmentationOutput, request: CorrectionRequest, segmentationNode: Any
    ) -> list[SegmentedFinding]:
        """Write a corrected slice as one step. It is an edit: the stored output of the model stays as it was.

        Raises:
            SceneError: the image is no longer what was corrected, or the scene does not allow it.
        """
        requireUnchanged(request.volumeNode, output.content)
        total = sliceShape(request.volumeNode)[0]
        text = _("{name}, corrected").format(name=stepText(request.findings, request.sliceRange, total))
        with self._history.step(text, segmentationNode, self._archive.prepare(segmentationNode), key=output):
            outputs = segmentOutputs(output, request.volumeNode, request.threshold)
            written = self._writer.write(segmentationNode, request.volumeNode, outputs)
        return [replace(each, patch=None) for each in written]
