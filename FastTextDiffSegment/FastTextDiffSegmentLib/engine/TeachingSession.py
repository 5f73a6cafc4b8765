"""Teaching, seen from Slicer: strokes, examples, learning and the library of what was learned.

Knows arrays and answers; knows nothing about Slicer's scene or windows. Methods that return steps are run by a `Job`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from FastTextDiffSegmentLib.contract.answers import ArrayFile, VolumeOpened
from FastTextDiffSegmentLib.contract.teaching import (
    AddExamples,
    Correct,
    Learn,
    LearnedFinding,
    ListLearned,
    StrokeMark,
)

from .EngineClient import ProgressCallback
from .EngineSession import EngineSession, VolumeSource, writeSteps
from .Jobs import Steps
from .SegmentationOutput import SegmentationOutput
from .WorkFolder import remove


@dataclass(frozen=True)
class Stroke:
    """One stroke on a slice.

    Attributes:
        mark: (rows, columns), nonzero on the stroke.
        present: whether the finding is there.
    """

    mark: np.ndarray
    present: bool


@dataclass(frozen=True)
class VolumeExamples:
    """Slices of one volume with masks.

    Attributes:
        source: the volume.
        slices: numbers of the slices, as acquired.
        masks: (n, rows, columns), nonzero on the finding.
        patient: equal for images of one patient; kept only as a hash that needs this user's secret.
    """

    source: VolumeSource
    slices: tuple[int, ...]
    masks: np.ndarray
    patient: str


class Candidate:
    """A finding that was learned, but not accepted yet.

    Attributes:
        learned: what the engine reports about it.
    """

    def __init__(self, learned: LearnedFinding, folder: Path):
        self.learned, self._folder = learned, folder

    def discard(self) -> None:
        """Remove it."""
        remove(self._folder)


class TeachingSession:
    """The part of the session with the engine that is about teaching.

    Args:
        session: its model and volumes.

    Attributes:
        findings: what the library has, as last reported.
    """

    def __init__(self, session: EngineSession):
        self._session = session
        self.findings: tuple[LearnedFinding, ...] = ()

    @property
    def inUse(self) -> list[LearnedFinding]:
        """The learned findings that are switched on and can be used; none on another computer."""
        if self._session.place.other is not None:
            return []
        return [one for one in self.findings if one.enabled and not one.problem]

    def corrected(
        self,
        volume: VolumeOpened,
        finding: str,
        sliceIndex: int,
        strokes: Sequence[Stroke],
        seed: int = 0,
        threshold: float | None = None,
        sliceBySlice: bool = False,
    ) -> Steps:
        """Correct a finding on one slice by all these strokes.

        Returns:
            :class:`SegmentationOutput` of one slice, whose arrays are in its own folder.
        """
        folder = self._session.folder.newFolder("output")
        try:
            marks = []
            for number, stroke in enumerate(strokes):
                array = yield from _written(stroke.mark[np.newaxis] != 0, folder / f"stroke-{number}.raw")
                marks.append(StrokeMark(array, stroke.present))
            library = self._session.library
            more = seed, threshold, library, sliceBySlice
            request = Correct(volume.volume, finding, sliceIndex, tuple(marks), folder, *more)
            answer = yield from self._session.client.ask(request)
            return SegmentationOutput(answer, volume, folder)
        except BaseException:
            remove(folder)
            raise

    def learned(
        self,
        examples: Sequence[VolumeExamples],
        finding: str,
        synonyms: Sequence[str] = (),
        keep: Path | None = None,
        onProgress: ProgressCallback = lambda done, total: None,
        seed: int = 0,
    ) -> Steps:
        """Learn a finding; the library stays as it is.

        Args:
            examples: by volume; may be empty if there are some in `keep`.
            finding: its name.
            synonyms: further words for it.
            keep: folder of examples of this finding, which are learned from too; the new ones are added at the end.
            onProgress: called with (done, total) steps.
            seed: of variants and training.

        Returns:
            :class:`Candidate`.
        """
        client, folder = self._session.client, self._session.folder.newFolder("learned")
        try:
            for number, one in enumerate(examples):
                volume = yield from self._session.provided(one.source)
                masks = yield from _written(one.masks != 0, folder / f"masks-{number}.raw")
                yield from client.ask(AddExamples(volume.volume, one.slices, masks, one.patient, number == 0))
            output = folder / "learned.safetensors"
            request = Learn(finding, tuple(synonyms), output, keep, seed, bool(examples))
            answer = yield from client.ask(request, onProgress)
            for number in range(len(examples)):
                (folder / f"masks-{number}.raw").unlink()
            return Candidate(answer, folder)
        except BaseException:
            remove(folder)
            raise

    def listed(self) -> Steps:
        """What the library has: a tuple of the contract's `LearnedFinding`."""
        library = self._session.library
        return (yield from self.changed(ListLearned(library))) if library is not None else ()

    def changed(self, request: Any) -> Steps:
        """Send a request about the library; returns its findings afterwards."""
        yield from self._session.opened()
        answer = yield from self._session.client.ask(request)
        self.findings = answer.findings
        return self.findings


def _written(array: np.ndarray, file: Path) -> Steps:
    """A file with an array of yes and no."""
    bytes01 = array.astype(np.uint8)
    yield from writeSteps([bytes01], file)
    return ArrayFile(file, "uint8", bytes01.shape)
