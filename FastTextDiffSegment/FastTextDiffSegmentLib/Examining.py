"""Looks closer at what there is, without a user interface: measures segments, and tries findings without their words.

Knows the engine and the scene; knows nothing about widgets. Changes nothing.
"""

from typing import Any

from .contract.answers import Measured
from .engine.EngineSession import EngineSession
from .engine.Jobs import Job, JobRunner, Steps
from .engine.WordsSession import Weighed, weighSteps
from .Requests import SegmentationRequest
from .scene.Measuring import measureSteps
from .scene.SceneVolume import volumeSource


class Examining:
    """Measurements and words.

    Args:
        session: the engine.
        runner: advances jobs.
    """

    def __init__(self, session: EngineSession, runner: JobRunner):
        self._session, self._runner = session, runner

    def measure(self, segmentationNode: Any, volumeNode: Any, modality: str | None = None) -> Measured:
        """Measure all segments of a segmentation on its image. Blocks until done.

        Returns:
            The contract's `Measured`: one entry of `segments` for each segment, in order, and notes.

        Raises:
            SceneError: no segments, or they are on another grid.
            EngineError: the engine refused or failed.
        """
        return self._runner.wait(self._runner.start(Job(self.measureSteps(segmentationNode, volumeNode, modality))))

    def measureSteps(self, segmentationNode: Any, volumeNode: Any, modality: str | None = None) -> Steps:
        """Like :meth:`measure`, step by step."""
        return measureSteps(self._session, segmentationNode, volumeNode, modality)

    def weighWords(self, request: SegmentationRequest) -> list[Weighed]:
        """Try each finding of a request without each of its words, on the request's slice. Blocks until done.

        Raises:
            EngineError: the engine refused or failed, e.g. because the request has not exactly one slice.
        """
        return self._runner.wait(self._runner.start(Job(self.weighSteps(request))))

    def weighSteps(self, request: SegmentationRequest) -> Steps:
        """Like :meth:`weighWords`, step by step."""
        yield from self._session.opened()
        volume = yield from self._session.provided(volumeSource(request.volumeNode, request.modality))
        found = []
        for finding in request.findings:
            found.append((yield from weighSteps(self._session, volume, finding, request.sliceRange[0], request.seed)))
        return found
