"""The Teach section: a finding, its examples, learning it, trying it, and the library of what was learned.

Puts its parts together and owns the widgets between them; knows nothing about how a finding is learned.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from FastTextDiffSegmentLib.contract.segments import FINDING_TAG
from FastTextDiffSegmentLib.Correction import CorrectionRequest
from FastTextDiffSegmentLib.engine.TeachingSession import Candidate
from FastTextDiffSegmentLib.Parameters import chosenThreshold
from FastTextDiffSegmentLib.scene.Examples import Example, absentExample, exampleOf
from FastTextDiffSegmentLib.scene.Geometry import jumpToSlice, sliceShape
from FastTextDiffSegmentLib.scene.PreviewSegmentation import PreviewSegmentation
from FastTextDiffSegmentLib.scene.SegmentOutputs import segmentOutputs
from FastTextDiffSegmentLib.scene.SegmentWriter import SegmentOutput
from FastTextDiffSegmentLib.Teaching import Lesson, Trial

from .ButtonReasons import ButtonReasons
from .Consent import hasConsent
from .FindingsSection import FindingsSection
from .FolderEdit import askForFolders
from .ImageSection import ImageSection
from .PanelContext import PanelContext
from .PreviewSection import PreviewSection
from .ResultSection import ResultSection
from .RunControl import RunControl
from .SetupSection import SetupSection
from .StrokeSection import StrokeSection
from .TeachExamples import TeachExamples
from .TeachLibrary import TeachLibrary, wordsOf

_BEFORE, _AFTER = (190, 190, 190), (255, 190, 0)
"""Colours of the two outlines."""


class TeachSection:
    """Teaches findings.

    Args:
        context: what all sections use.
        setup: the engine's set-up.
        image: the image and its shown slice.
        findings: the typed findings.
        results: has the segments.
        preview: the live preview, which rests while strokes or a comparison are shown.
        run: the user's runs; learning is one of them.
        onChanged: called when the learned findings have changed.

    Attributes:
        strokes: corrects the shown slice.
        examples: the list of examples.
        library: the learned findings.
        candidate: what was learned, but not accepted yet; None if there is nothing.
    """

    def __init__(
        self,
        context: PanelContext,
        setup: SetupSection,
        image: ImageSection,
        findings: FindingsSection,
        results: ResultSection,
        preview: PreviewSection,
        run: RunControl,
        onChanged: Callable[[], None],
    ):
        self._context, self._setup, self._image, self._findings = context, setup, image, findings
        self._results, self._preview, self._run, self._onChanged = results, preview, run, onChanged
        self._buttons, self._outline = ButtonReasons(), PreviewSegmentation()
        self.candidate: Candidate | None = None
        self._isBusy = False
        self.strokes = StrokeSection(
            context,
            self._whyNoSlice,
            self._correction,
            lambda request: hasConsent(context, setup) and results.mayWrite(request),
            lambda isActive: preview.rest(isActive),
            lambda: None,
            results.updateTable,
        )
        self.examples = TeachExamples(context, self._newExample, self._newAbsent, lambda: self.words[0], self.update)
        self.library = TeachLibrary(context, lambda: setup.whyNotHere or self._whyBusy(), self._onLibrary)
        askForFolders(context.ui.teachFolderPathLineEdit)
        self._connect()

    def _connect(self) -> None:
        ui, guarded = self._context.ui, self._context.guarded
        ui.teachFindingLineEdit.connect("textChanged(QString)", lambda _text: self.update())
        ui.learnButton.connect("clicked()", guarded(self.learn))
        ui.cancelLearnButton.connect("clicked()", guarded(self._run.cancel))
        ui.beforeAfterButton.connect("clicked()", guarded(self.compare))
        ui.acceptLearnedButton.connect("clicked()", guarded(self.accept))
        ui.discardLearnedButton.connect("clicked()", guarded(self.discard))

    # --- what is taught -------------------------------------------------------------------------------------------

    @property
    def words(self) -> list[str]:
        """The finding and its synonyms; the first typed finding where none is given here."""
        ui = self._context.ui
        typed = wordsOf(ui.teachFindingLineEdit.text)[:1] or self._findings.box.findings[:1]
        return [*typed, *wordsOf(ui.teachSynonymsLineEdit.text)] if typed else []

    def _whyBusy(self) -> str:
        if self._context.parameters is None:
            return _("No scene.")
        busy = _("A run is under way; wait for it or cancel it.") if self._run.isRunning else ""
        return self._setup.whyNotReady or busy

    def _whyNoSlice(self) -> str:
        reason, shown = self._whyBusy(), self._image.shownSlice()
        if reason or self._context.parameters.inputVolume is None:
            return reason or _("Choose an image.")
        if not self.words:
            return _("Type a finding, here or in the list above.")
        return "" if shown is not None and shown.index is not None else _("The view shows no slice of the image.")

    def _correction(self) -> CorrectionRequest:
        parameters = self._context.parameters
        index, modality = self._image.shownSlice().index, parameters.modality or None
        more = modality, parameters.seed, chosenThreshold(parameters), parameters.sliceBySlice
        return CorrectionRequest(parameters.inputVolume, self.words[0], index, (), *more)

    def _newExample(self) -> Example:
        parameters, index = self._context.parameters, self._image.shownSlice().index
        archive, one = self._context.logic.archive, (index, index + 1)
        return exampleOf(
            parameters.inputVolume,
            index,
            parameters.outputSegmentation,
            self.words,
            lambda node, segmentId: (
                not archive.isStored(node, segmentId) or archive.isEdited(node, segmentId, one, parameters.inputVolume)
            ),
        )

    def _newAbsent(self) -> Example:
        return absentExample(self._context.parameters.inputVolume, self._image.shownSlice().index)

    # --- learning -------------------------------------------------------------------------------------------------

    def learn(self) -> None:
        """Learn the finding from the examples."""
        reason = self._whyNoLesson()
        if reason:
            self._context.message.show(reason)
            return
        self.examples.requireOf(self.words[0])
        if not hasConsent(self._context, self._setup):
            return
        self._endComparison()
        words, modality = self.words, self._context.parameters.modality or None
        lesson = Lesson(words[0], tuple(words[1:]), tuple(self.examples.all), self._folder(words[0]), modality)
        self._context.message.show("")
        self._run.start(
            lambda report: self._context.logic.teaching.learnSteps(lesson, report),
            self._onLearned,
            self._context.showError,
        )

    def _folder(self, finding: str) -> Path | None:
        """Where the examples of a finding are kept: a subfolder of the chosen one; None for nowhere."""
        chosen = self._context.ui.teachFolderPathLineEdit.currentPath.strip()
        name = "".join(letter if letter.isalnum() else "-" for letter in finding.casefold())
        return Path(chosen).absolute() / name if chosen else None

    def _whyNoLesson(self) -> str:
        reason = self._setup.whyNotHere or self._whyBusy()
        if not reason and not self.words:
            reason = _("Type a finding, here or in the list above.")
        kept = not reason and self._folder(self.words[0])
        if reason or self.examples.all or (kept and kept.is_dir()):
            return reason
        return _("Add an example: a slice with a mask of the finding.")

    def _onLearned(self, candidate: Candidate) -> None:
        self.strokes.discard()  # not before: a run that is cancelled changes nothing
        self.discard()
        self.candidate = candidate
        learned = candidate.learned
        text = _("'{finding}' was learned from {count} slices. Try it on a slice that was not an example, then accept.")
        self._context.message.show(text.format(finding=learned.finding, count=learned.examples))
        self._jumpToOther()
        self.update()

    def _jumpToOther(self) -> None:
        """Show the slice nearest to the shown one that was not an example."""
        parameters, shown = self._context.parameters, self._image.shownSlice()
        if shown is None or shown.index is None:
            return
        volume = parameters.inputVolume
        others = [k for k in range(sliceShape(volume)[0]) if not self.examples.has(volume, k)]
        if others:
            jumpToSlice(parameters.sliceView, volume, min(others, key=lambda k: abs(k - shown.index)))

    def compare(self) -> None:
        """Outline the finding on the shown slice, before and after it was learned."""
        parameters, shown = self._context.parameters, self._image.shownSlice()
        if self.candidate is None or shown is None or shown.index is None:
            self._context.message.show(_("Show a slice of the image, and learn a finding first."))
            return
        steps = self._context.logic.teaching.trialSteps(
            self.candidate, parameters.inputVolume, shown.index, parameters.modality or None
        )
        volume, index = parameters.inputVolume, shown.index
        self._run.start(lambda _report: steps, lambda trial: self._show(trial, volume, index), self._context.showError)

    def _show(self, trial: Trial, volume: Any, index: int) -> None:
        before, after = trial.pixels
        outputs = [
            _named(segmentOutputs(trial.before, volume)[0], _("before"), _BEFORE),
            _named(segmentOutputs(trial.after, volume)[0], _("after"), _AFTER),
        ]
        self._preview.rest(True)
        self._outline.show(volume, outputs)
        trial.release()
        text = _("Slice {number}: {before:,} pixels before (grey), {after:,} after (yellow).")
        text = text.format(number=index + 1, before=before, after=after)
        if self.examples.has(volume, index):
            text += " " + _("This slice was an example: look at another one too.")
        self._context.message.show(text)

    def accept(self) -> None:
        """Put what was learned into the library; it answers its words from now on."""
        if self.candidate is None:
            return
        candidate, self.candidate = self.candidate, None
        text = _("'{finding}' is in the library and will be used.").format(finding=candidate.learned.finding)
        self.library.start(self._accepting(candidate), text)
        self._endComparison()

    def _accepting(self, candidate: Candidate) -> Any:
        try:
            found = yield from self._context.logic.teaching.acceptSteps(candidate)
            self.examples.clear()
            return found
        except Exception:  # e.g. a word belongs to another finding: the user may switch that off and accept again
            self.candidate = candidate
            raise

    def discard(self) -> None:
        """Forget what was learned but not accepted; the library stays as it was."""
        if self.candidate is not None:
            self.candidate.discard()
            self.candidate = None
        self._endComparison()

    def _endComparison(self) -> None:
        self._outline.drop()
        self._preview.rest(self.strokes.isActive)
        self.update()

    def _onLibrary(self) -> None:
        self.update()
        self._onChanged()

    # --- the panel ------------------------------------------------------------------------------------------------

    def leave(self) -> None:
        """Drop what is shown only in passing: strokes and comparison. What was learned stays until it is discarded."""
        self.strokes.discard()
        self._outline.drop()
        self._preview.rest(False)

    def forget(self) -> None:
        """Forget examples and strokes, e.g. because the scene is closed."""
        self.strokes.discard()
        self.discard()
        self.examples.clear()

    def close(self) -> None:
        """Leave nothing behind."""
        self.forget()
        self.strokes.close()

    def update(self) -> None:
        """Update the buttons."""
        if self._isBusy or self._context.parameters is None:
            return
        self._isBusy = True
        try:
            self._update()
        finally:
            self._isBusy = False

    def _update(self) -> None:
        ui, isRunning, words = self._context.ui, self._run.isRunning, self.words
        ui.teachFindingLineEdit.placeholderText = words[0] if words else _("e.g. liver")
        ui.teachProgressBar.visible = isRunning
        ui.teachLabel.visible = bool(ui.teachLabel.text)
        self.strokes.update()
        self.examples.update(self._whyNoSlice())
        self.library.update()
        nothing = "" if self.candidate is not None else _("Learn a finding first.")
        busy = self._setup.whyNotHere or self._whyBusy()
        self._buttons.show(
            {
                ui.learnButton: self._whyNoLesson(),
                ui.cancelLearnButton: "" if isRunning else _("No run is under way."),
                ui.beforeAfterButton: nothing or busy,
                ui.acceptLearnedButton: nothing or busy,
                ui.discardLearnedButton: nothing,
            }
        )


def _named(output: SegmentOutput, when: str, color: tuple[int, int, int]) -> SegmentOutput:
    """An output as one of two outlines of the same finding."""
    name = f"{output.name}, {when}"
    return replace(output, name=name, color=color, tags={**output.tags, FINDING_TAG: name}, isAsked=True)
