"""Connects the scene's parameter node with the widgets that show it. Knows their names, not their purpose."""

from typing import Any

import slicer

from FastTextDiffSegmentLib.Parameters import FastTextDiffSegmentParameters

_KEPT = "_fastTextDiffSegmentParameterNode"
_WIDGETS = {
    "inputVolume": "inputSelector",
    "outputSegmentation": "outputSelector",
    "sliceView": "viewSelector",
    "threshold": "thresholdSlider",
    "livePreview": "livePreviewCheckBox",
    "samples": "samplesSpinBox",
    "seed": "seedSpinBox",
    "editorMasking": "editorMaskingCheckBox",
    "sliceBySlice": "sliceBySliceCheckBox",
    "tryAnyway": "tryAnywayCheckBox",
}


class ParameterBinding:
    """One connection at a time.

    Args:
        ui: the panel's widgets by name.
    """

    def __init__(self, ui: Any):
        self._ui = ui
        self._connected: tuple[FastTextDiffSegmentParameters, int] | None = None

    def connect(self, parameters: FastTextDiffSegmentParameters) -> None:
        """Show these parameters, and write the user's changes into them."""
        self.disconnect()
        _keepInPython(parameters.parameterNode)
        # not connectGui: it gives no tag, so that a closed panel could never be disconnected (Slicer issue 7547)
        widgets = {parameter: getattr(self._ui, name) for parameter, name in _WIDGETS.items()}
        self._connected = parameters, parameters.connectParametersToGui(widgets)

    def disconnect(self) -> None:
        """Disconnect the widgets."""
        if self._connected is not None:
            parameters, tag = self._connected
            parameters.disconnectGui(tag)
            self._connected = None


def _keepInPython(parameterNode: Any) -> None:
    """Keep a reference to the node for as long as Slicer runs, even if this module is reloaded.

    Up to Slicer 5.10, disconnectGui leaves an observer on the node. Once nothing in Python refers to the node, Python's
    garbage collection empties that observer's function, which VTK still calls: Slicer crashes.
    """
    setattr(slicer.modules, _KEPT, parameterNode)
