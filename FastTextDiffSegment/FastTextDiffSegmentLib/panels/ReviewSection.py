"""The Review section: the slices to review, with pictures; goes to them, and marks them as looked at.

Owns the table and the buttons below it; does not know how slices are proposed.
"""

from collections.abc import Callable
from typing import Any

import qt
from slicer.i18n import tr as _

from FastTextDiffSegmentLib.ReviewList import ReviewedSlice, ReviewList
from FastTextDiffSegmentLib.scene.Geometry import SceneError, jumpToSlice, rotateViewToSlices, shownSlice

from .ButtonReasons import ButtonReasons
from .PanelContext import PanelContext
from .Thumbnails import SIDE, Thumbnails

KEYS = (
    ("N", _("go to the next slice to review")),
    ("Shift+N", _("go to the previous one")),
    ("A", _("accept the shown slice, and go to the next one")),
    ("Ctrl+Enter", _("segment the shown slice")),
    ("Ctrl+Z, Ctrl+Y", _("undo, redo")),
)
_STATES = {"unseen": "", "accepted": "✓", "corrected": "✎"}


class ReviewSection:
    """Shows the review list of the chosen segmentation.

    Args:
        context: what all sections use.
        window: returns the model's grey-level window of the image; None if it has none.
        onChanged: called when a slice was marked.
    """

    def __init__(
        self, context: PanelContext, window: Callable[[], tuple[float, float] | None], onChanged: Callable[[], None]
    ):
        self._context, self._onChanged = context, onChanged
        self._thumbnails = Thumbnails(context.logic, window)
        self._buttons, self._shown, self._problem = ButtonReasons(), None, ""
        ui, guarded = context.ui, context.guarded
        self._table = ui.reviewTable
        self._prepareTable()
        self._table.connect("cellClicked(int,int)", guarded(lambda row, column: self._goTo(self._shown.slices[row])))
        for button, act in (
            (ui.nextReviewButton, self.next),
            (ui.previousReviewButton, self.previous),
            (ui.acceptReviewButton, self.accept),
        ):
            button.connect("clicked()", guarded(act))
        ui.keysButton.toolTip = "\n".join(f"{keys}: {text}" for keys, text in KEYS)
        ui.keysButton.connect("clicked()", lambda: qt.QToolTip.showText(qt.QCursor.pos(), ui.keysButton.toolTip))

    def _prepareTable(self) -> None:
        table = self._table
        table.setColumnCount(4)
        table.setHorizontalHeaderLabels([_("Slice"), _("Why"), _("Finding"), _("Looked at")])
        table.verticalHeader().hide()
        table.verticalHeader().setDefaultSectionSize(SIDE + 4)
        table.setIconSize(qt.QSize(SIDE, SIDE))
        for column in (1, 2):
            table.horizontalHeader().setSectionResizeMode(column, qt.QHeaderView.Stretch)

    # --- what the user does ---------------------------------------------------------------------------------------

    def next(self) -> None:
        """Go to the next slice to review."""
        self._step(1)

    def previous(self) -> None:
        """Go to the previous one."""
        self._step(-1)

    def accept(self) -> None:
        """Mark the shown slice as looked at, and go to the next one."""
        known, number = self._list(), self._shownNumber()
        if known is None:
            raise SceneError(self._why())
        if number is None or known.at(number) is None:
            raise SceneError(_("The shown slice is not in the review list: press N for the next one."))
        parameters = self._context.parameters
        state = self._context.logic.reviews.accept(parameters.outputSegmentation, parameters.inputVolume, number)
        self._thumbnails.drop(number)
        self._onChanged()
        self._context.message.show(_("Slice {number}: {state}").format(number=number + 1, state=state))
        following = self._list().beside(number)
        if following is not None and following.state == "unseen":
            self._goTo(following)

    def _step(self, step: int) -> None:
        known = self._list()
        if known is None:
            raise SceneError(self._why())
        following = known.beside(self._shownNumber(), step)
        if following is None:
            raise SceneError(_("There is no other slice in this direction of the review list."))
        self._goTo(following)

    def _goTo(self, entry: ReviewedSlice) -> None:
        """Show a slice in the chosen view, which is rotated to the slices first if it has to be."""
        parameters, plane = self._context.parameters, self._shown.image["plane"]
        view, volume = parameters.sliceView, parameters.inputVolume
        if view is None:
            raise SceneError(_("Choose a slice view."))
        if shownSlice(volume, view, plane).acrossPlane:
            rotateViewToSlices(view, volume, plane)
        jumpToSlice(view, volume, entry.number, plane)
        self._table.selectRow(self._shown.slices.index(entry))

    # --- what is shown --------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Take over edits of segments: an accepted slice that was edited since is corrected."""
        parameters = self._context.parameters
        if parameters is not None and self._list() is not None:
            self._context.logic.reviews.refresh(parameters.outputSegmentation, parameters.inputVolume)
        self.update()

    def update(self) -> None:
        """Show the list of the chosen segmentation, if it has changed."""
        ui, known = self._context.ui, self._list()
        why = self._why()
        self._buttons.show(dict.fromkeys((ui.nextReviewButton, ui.previousReviewButton, ui.acceptReviewButton), why))
        ui.reviewLabel.text = why if known is None else known.summary()
        title = _("Review") if known is None else _("Review: {seen} of {total}")
        ui.reviewCollapsibleButton.text = (
            title if known is None else title.format(seen=known.lookedAt, total=known.total)
        )
        if known != self._shown:
            self._fill(known)

    def forget(self) -> None:
        """Forget the list, e.g. because the scene is closed."""
        self._thumbnails.forget()
        self._fill(None)

    def _list(self) -> ReviewList | None:
        parameters, self._problem = self._context.parameters, ""
        if parameters is None or parameters.outputSegmentation is None or parameters.inputVolume is None:
            return None
        try:
            return self._context.logic.reviews.of(parameters.outputSegmentation, parameters.inputVolume)
        except SceneError as error:
            self._problem = str(error)
            return None

    def _why(self) -> str:
        """Why there is no list; empty if there is one."""
        if self._list() is not None:
            return ""
        return self._problem or _("Segment a volume: the slices to review are listed here.")

    def _shownNumber(self) -> int | None:
        parameters, known = self._context.parameters, self._list()
        if known is None or parameters.sliceView is None:
            return None
        return shownSlice(parameters.inputVolume, parameters.sliceView, known.image["plane"]).index

    def _fill(self, known: ReviewList | None) -> None:
        if _places(known) != _places(self._shown):
            self._thumbnails.forget()  # another run: the outlines are others
        self._shown = known
        entries = () if known is None else known.slices
        self._table.setRowCount(len(entries))
        for row, entry in enumerate(entries):
            state = f"{_STATES[entry.state]} {entry.state}".strip()
            texts = str(entry.number + 1), entry.reason, entry.finding, state
            for column, text in enumerate(texts):
                item = qt.QTableWidgetItem(text)
                item.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsSelectable)
                if column == 0:
                    item.setIcon(self._icon(known, entry))
                self._table.setItem(row, column, item)

    def _icon(self, known: ReviewList, entry: ReviewedSlice) -> Any:
        parameters = self._context.parameters
        nodes = parameters.inputVolume, parameters.outputSegmentation
        return self._thumbnails.icon(*nodes, entry.number, known.image["plane"])


def _places(known: ReviewList | None) -> list[tuple[int, float]]:
    return [] if known is None else [(each.number, each.pixels) for each in known.slices]
