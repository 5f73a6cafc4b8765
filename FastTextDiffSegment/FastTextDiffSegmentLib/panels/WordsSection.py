"""Examples for this kind of image, one click away, and what the words of the findings do on the shown slice.

Owns its two labels and the button; leaves segmenting to others.
"""

from collections.abc import Sequence
from html import escape

import slicer
from slicer.i18n import tr as _

from FastTextDiffSegmentLib.contract.images import ACQUISITION
from FastTextDiffSegmentLib.contract.segments import FINDING_TAG, LESION_ENTRY
from FastTextDiffSegmentLib.contract.words import WordsWeighed
from FastTextDiffSegmentLib.engine.WordsSession import Weighed
from FastTextDiffSegmentLib.Logic import SegmentationRequest
from FastTextDiffSegmentLib.scene.PreviewSegmentation import PreviewSegmentation
from FastTextDiffSegmentLib.scene.SegmentWriter import SegmentOutput

from .ButtonReasons import ButtonReasons
from .Consent import maySend
from .FindingsBox import FindingsBox
from .PanelContext import PanelContext
from .PanelRequests import PanelRequests
from .RunControl import RunControl
from .SetupSection import SetupSection

_EXAMPLES = 5
_GREY = (150, 150, 150)
_WITHOUT_WORDS = "without words"


class WordsSection:
    """Offers examples, and checks words on request.

    Args:
        context: what all sections use.
        setup: knows the taught findings.
        box: the typed findings.
        requests: makes requests.
        run: the user's runs.

    Attributes:
        outline: the result without any words, while it is shown.
    """

    def __init__(
        self, context: PanelContext, setup: SetupSection, box: FindingsBox, requests: PanelRequests, run: RunControl
    ):
        self._context, self._setup, self._box = context, setup, box
        self._requests, self._run = requests, run
        self._buttons = ButtonReasons()
        self._request: SegmentationRequest | None = None
        self._offered: list[str] = []
        self.outline = PreviewSegmentation()
        ui, guarded = context.ui, context.guarded
        ui.examplesLabel.connect("linkActivated(QString)", guarded(self._add))
        ui.checkWordsButton.connect("clicked()", guarded(self.check))
        self._show("")

    def offer(self, modality: str | None) -> None:
        """Offer the first findings taught for a kind of image; none while it is not known."""
        taught = self._setup.model.taught.get(modality or "", ()) if self._setup.model else ()
        offered = _varied([finding.name for finding in taught])
        if offered != self._offered:
            self._offered = offered
            links = " · ".join(f'<a href="{escape(name)}">{escape(name)}</a>' for name in offered)
            self._context.ui.examplesLabel.text = _("Suggestions: {links}").format(links=links) if links else ""
            self._context.ui.examplesLabel.visible = bool(links)

    def check(self) -> None:
        """Try each finding without each of its words, on the shown slice."""
        reason, request = self._whyNot(), self._requests.forShownSlice()
        if reason or request is None:
            self._context.message.show(reason)
            return
        if not maySend(self._context, self._setup):
            return
        self.drop()
        self._run.start(
            lambda report: self._context.logic.examining.weighSteps(request),
            lambda found: self._onWeighed(request, found),
            self._context.showError,
        )

    def update(self) -> None:
        """Update the button, and drop what is about another slice or other findings."""
        self._buttons.show({self._context.ui.checkWordsButton: self._whyNot()})
        if self._request is not None and self._requests.forShownSlice() != self._request:
            self.drop()

    def _whyNot(self) -> str:
        """Why words cannot be checked now, in one line; empty if they can."""
        if self._context.parameters is not None and self._context.parameters.plane != ACQUISITION:
            return _("Words are checked on slices as acquired: choose that plane.")
        return self._requests.whyNoSlice()

    def drop(self) -> None:
        """Remove the outline and the words."""
        self._request = None
        self.outline.drop()
        self._show("")

    def _add(self, finding: str) -> None:
        if finding not in self._box.lines:
            self._box.add(finding)

    def _onWeighed(self, request: SegmentationRequest, found: Sequence[Weighed]) -> None:
        if not slicer.mrmlScene.IsNodePresent(request.volumeNode) or not found:
            return
        self._request = request
        self.outline.show(request.volumeNode, [_outputOf(found[0])])
        self._show("<br>".join(_words(each.answer) for each in found))
        hint = _("Grey outline: the result without words. Grey words changed nothing on this slice.")
        self._context.message.show(". ".join(dict.fromkeys([*(f.answer.note for f in found if f.answer.note), hint])))

    def _show(self, text: str) -> None:
        self._context.ui.wordsLabel.text = text
        self._context.ui.wordsLabel.visible = bool(text)


def _varied(names: Sequence[str]) -> list[str]:
    """A few names, with a side or of one word, none of which repeats earlier words as "lungs" does."""
    chosen: list[str] = []
    used: set[str] = set()
    short = [name for name in names if name.startswith(("left ", "right ")) or " " not in name]
    for name in short or names:
        words = {word.rstrip("s") for word in name.lower().split()}
        if not words <= used:
            chosen.append(name)
            used |= words
    return chosen[:_EXAMPLES]


def _words(answer: WordsWeighed) -> str:
    """A finding as HTML, with ignored words in grey."""
    style = '<span style="color:#999999;text-decoration:line-through">{}</span>'
    return " ".join(style.format(escape(each.word)) if each.ignored else escape(each.word) for each in answer.words)


def _outputOf(weighed: Weighed) -> SegmentOutput:
    return SegmentOutput(
        finding=_WITHOUT_WORDS,
        name=_WITHOUT_WORDS,
        color=_GREY,
        terminology=LESION_ENTRY,
        tags={FINDING_TAG: _WITHOUT_WORDS},
        mask=weighed.textFree,
        sliceRange=(weighed.slice, weighed.slice + 1),
    )
