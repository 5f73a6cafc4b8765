"""The Uncertainty section: finding, colours and opacity of the layer. Does not know how uncertainty is computed."""

from collections.abc import Callable
from typing import Any

import slicer
from slicer.i18n import tr as _

from .LastRun import LastRun
from .UncertaintyLayer import COLORS, UncertaintyLayer


class UncertaintySection:
    """Connects the section's widgets with the layer in the slice views.

    Args:
        ui: the panel's widgets by name.
        view: the layer.
        sliceView: returns the slice view to move.
        guarded: wraps a slot so that its errors are shown.
    """

    def __init__(
        self,
        ui: Any,
        view: UncertaintyLayer,
        sliceView: Callable[[], Any],
        guarded: Callable[[Callable[..., None]], Callable[..., None]],
    ):
        self._box, self._view = ui.uncertaintyFindingComboBox, view
        ui.legendBar.styleSheet = _legendStyle()
        ui.uncertaintyCheckBox.connect("toggled(bool)", guarded(view.switch))
        ui.uncertaintySlider.connect("valueChanged(double)", guarded(view.setOpacity))
        ui.leastCertainButton.connect("clicked()", guarded(lambda: view.jump(sliceView())))
        self._box.connect("activated(int)", guarded(self._onFinding))
        self._fill(None)

    def follow(self, run: LastRun | None) -> None:
        """Show another run's uncertainty from now on; nothing for None."""
        if run is not self._view.run:
            self._fill(run)
        self._view.follow(run)

    def _fill(self, run: LastRun | None) -> None:
        self._box.clear()
        self._box.addItem(_("All findings"), "")
        for finding in run.request.findings if run is not None else ():
            self._box.addItem(finding, finding)

    def _onFinding(self, index: int) -> None:
        self._view.choose(str(self._box.itemData(index) or ""))


def _legendStyle() -> str:
    """The colours of the layer, from sure to undecided, as the background of a style sheet."""
    colors = slicer.mrmlScene.GetNodeByID(COLORS)
    if colors is None:
        return ""
    stops, rgba, steps = [], [0.0] * 4, 8
    for step in range(steps + 1):
        colors.GetColor(round(step / steps * (colors.GetNumberOfColors() - 1)), rgba)
        red, green, blue = (round(255 * part) for part in rgba[:3])
        stops.append(f"stop:{step / steps:g} rgb({red}, {green}, {blue})")
    return f"background: qlineargradient(x1:0, y1:0, x2:1, y2:0, {', '.join(stops)});"
