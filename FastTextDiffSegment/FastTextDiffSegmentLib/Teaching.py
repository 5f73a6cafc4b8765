"""Teaching without a user interface: learn a finding from examples, try it, and manage what was learned.

Scripts use it as `FastTextDiffSegmentLogic().teaching`. Knows nothing about widgets, or how segments are written.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from .contract.teaching import (
    ExportLearned,
    ImportLearned,
    LearnedFinding,
    RemoveLearned,
    RenameLearned,
    RollBackLearned,
    SwitchLearned,
)
from .engine.EngineClient import ProgressCallback
from .engine.EngineSession import EngineSession
from .engine.Jobs import Job, JobRunner, Steps
from .engine.SegmentationOutput import SegmentationOutput, maskOf
from .engine.TeachingSession import Candidate, TeachingSession
from .scene.Examples import Example, absentExample, byVolume, exampleOf
from .scene.Geometry import SceneError
from .scene.SceneVolume import volumeSource


@dataclass(frozen=True)
class Lesson:
    """What to learn.

    Attributes:
        finding: its name.
        synonyms: further words for it.
        examples: slices with masks.
        folder: keeps the examples of this finding, without names or headers; those there already are learned from too.
        modality: the kind of image; None lets the engine decide.
        seed: of variants and training.
    """

    finding: str
    synonyms: tuple[str, ...] = ()
    examples: tuple[Example, ...] = ()
    folder: Path | None = None
    modality: str | None = None
    seed: int = 0


@dataclass(frozen=True)
class Trial:
    """A finding on one slice, before and after it was learned; release it when it is no longer needed.

    Attributes:
        before: by the model, or by what was learned earlier.
        after: by the candidate.
    """

    before: SegmentationOutput
    after: SegmentationOutput

    @property
    def pixels(self) -> tuple[int, int]:
        """Number of pixels found before and after."""
        return tuple(int((maskOf(each.findings[0]) != 0).sum()) for each in (self.before, self.after))

    def release(self) -> None:
        """Remove the files of the arrays."""
        self.before.release()
        self.after.release()


class Teaching:
    """Learned findings, and how to learn more.

    From Slicer's Python console::

        teaching = FastTextDiffSegmentLogic().teaching
        teaching.useLibrary("/path/of/my/findings")
        examples = [teaching.example(volume, 40, segmentation, "gallbladder"), teaching.absent(volume, 3)]
        candidate = teaching.learn("gallbladder", examples)
        teaching.accept(candidate)

    Args:
        session: the engine.
        runner: advances jobs.

    Attributes:
        session: the part of it that is about teaching.
    """

    def __init__(self, session: EngineSession, runner: JobRunner):
        self._engine, self._runner = session, runner
        self.session = TeachingSession(session)

    # --- the library ----------------------------------------------------------------------------------------------

    @property
    def library(self) -> Path | None:
        """Folder of learned findings; those switched on answer their words in every run. None for none."""
        return self._engine.library

    def useLibrary(self, folder: str | Path | None) -> tuple[LearnedFinding, ...]:
        """Use the learned findings in a folder from now on; None for none.

        Returns:
            What is in it.
        """
        self._engine.library = None if folder is None else Path(folder).absolute()
        self.session.findings = ()
        return self.findings()

    def findings(self) -> tuple[LearnedFinding, ...]:
        """What is in the library."""
        return self._wait(self.session.listed())

    def accept(self, candidate: Candidate) -> tuple[LearnedFinding, ...]:
        """Put a candidate into the library, as a new version if its finding is there; what is in it now."""
        return self._wait(self.acceptSteps(candidate))

    def importFile(self, file: str | Path) -> tuple[LearnedFinding, ...]:
        """Add an exported finding to the library."""
        return self._wait(self.importSteps(file))

    def export(self, finding: str, file: str | Path) -> tuple[LearnedFinding, ...]:
        """Write a learned finding to a file of its own, .safetensors."""
        return self._wait(self.change(ExportLearned, finding=finding, output=Path(file).absolute()))

    def rename(self, finding: str, name: str, synonyms: Sequence[str] | None = None) -> tuple[LearnedFinding, ...]:
        """Give a learned finding another name, and other synonyms if some are given."""
        more = None if synonyms is None else tuple(synonyms)
        return self._wait(self.change(RenameLearned, finding=finding, name=name, synonyms=more))

    def enable(self, finding: str, enabled: bool = True) -> tuple[LearnedFinding, ...]:
        """Switch a learned finding on or off."""
        return self._wait(self.change(SwitchLearned, finding=finding, enabled=enabled))

    def rollBack(self, finding: str) -> tuple[LearnedFinding, ...]:
        """Return to the previous version."""
        return self._wait(self.change(RollBackLearned, finding=finding))

    def remove(self, finding: str) -> tuple[LearnedFinding, ...]:
        """Remove a learned finding with all its versions."""
        return self._wait(self.change(RemoveLearned, finding=finding))

    def acceptSteps(self, candidate: Candidate) -> Steps:
        """The steps of :meth:`accept`."""
        found = yield from self.importSteps(candidate.learned.file)
        candidate.discard()
        return found

    def importSteps(self, file: str | Path) -> Steps:
        """The steps of :meth:`importFile`."""
        return self.change(ImportLearned, file=Path(file).absolute())

    def change(self, request: Callable[..., Any], **fields: Any) -> Steps:
        """The steps of one of the contract's requests about the library."""
        if self.library is None:
            raise SceneError(_("There is no library of learned findings: choose its folder first."))
        return self.session.changed(request(library=self.library, **fields))

    # --- learning -------------------------------------------------------------------------------------------------

    def example(self, volumeNode: Any, sliceIndex: int, segmentationNode: Any, *words: str) -> Example:
        """A slice with the mask that the segment of a finding has there now."""
        return exampleOf(volumeNode, sliceIndex, segmentationNode, words, lambda *_segment: False)

    def absent(self, volumeNode: Any, sliceIndex: int) -> Example:
        """A slice on which the finding is absent."""
        return absentExample(volumeNode, sliceIndex)

    def learn(
        self,
        finding: str,
        examples: Sequence[Example] = (),
        synonyms: Sequence[str] = (),
        folder: str | Path | None = None,
        progress: Callable[[int, int], bool] | None = None,
        seed: int = 0,
    ) -> Candidate:
        """Learn a finding; neither the model nor the library changes. Blocks until done.

        Args:
            finding: its name.
            examples: from :meth:`example` and :meth:`absent`; may be empty if there are some in `folder`.
            synonyms: further words for it.
            folder: keeps the examples of this finding, without names or headers.
            progress: called with (done, total) steps; returning False cancels.
            seed: of variants and training.

        Returns:
            Pass it to :meth:`tryOn`, and to :meth:`accept`; or discard it.

        Raises:
            EngineError: nothing can be learned from the examples.
            JobCancelled: `progress` returned False; nothing was changed.
        """
        job: Job

        def report(done: int, total: int) -> None:
            if progress is not None and not progress(done, total):
                job.cancel()

        place = None if folder is None else Path(folder).absolute()
        lesson = Lesson(finding, tuple(synonyms), tuple(examples), place, seed=seed)
        job = Job(self.learnSteps(lesson, report))
        self._runner.start(job)
        return self._runner.wait(job)

    def learnSteps(self, lesson: Lesson, onProgress: ProgressCallback = lambda done, total: None) -> Steps:
        """The steps of :meth:`learn`; the scene is only read."""
        groups = byVolume(lesson.examples, lesson.modality)
        yield from self._engine.opened()
        return (
            yield from self.session.learned(
                groups, lesson.finding, lesson.synonyms, lesson.folder, onProgress, lesson.seed
            )
        )

    def tryOn(self, candidate: Candidate, volumeNode: Any, sliceIndex: int) -> Trial:
        """A candidate's finding on one slice, before and after."""
        return self._wait(self.trialSteps(candidate, volumeNode, sliceIndex))

    def trialSteps(self, candidate: Candidate, volumeNode: Any, sliceIndex: int, modality: str | None = None) -> Steps:
        """The steps of :meth:`tryOn`; the scene is only read."""
        yield from self._engine.opened()
        volume = yield from self._engine.provided(volumeSource(volumeNode, modality))
        words, asked = [candidate.learned.finding], (sliceIndex, sliceIndex + 1)
        before = yield from self._engine.segmented(volume, words, asked, tryAnyway=True)
        try:
            file = candidate.learned.file
            after = yield from self._engine.segmented(volume, words, asked, tryAnyway=True, candidate=file)
        except BaseException:
            before.release()
            raise
        return Trial(before, after)

    def _wait(self, steps: Steps) -> Any:
        return self._runner.wait(self._runner.start(Job(steps)))


def defaultLibrary() -> Path:
    """This user's folder of learned findings, next to Slicer's settings."""
    return Path(slicer.app.slicerUserSettingsFilePath).parent / "FastTextDiffSegment" / "learned"
