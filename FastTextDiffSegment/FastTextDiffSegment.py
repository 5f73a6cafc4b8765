"""Registers the module in 3D Slicer. Its code is in FastTextDiffSegmentLib."""

import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import ScriptedLoadableModule

from FastTextDiffSegmentLib.effect.Registration import registerEffect
from FastTextDiffSegmentLib.Logic import FastTextDiffSegmentLogic
from FastTextDiffSegmentLib.SelfTest import FastTextDiffSegmentTest
from FastTextDiffSegmentLib.Widget import FastTextDiffSegmentWidget

__all__ = [
    "FastTextDiffSegment",
    "FastTextDiffSegmentLogic",
    "FastTextDiffSegmentTest",
    "FastTextDiffSegmentWidget",
]


class FastTextDiffSegment(ScriptedLoadableModule):
    """The module's description in Slicer."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("FastTextDiff Segment")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        parent.dependencies = []
        parent.contributors = ["The FastTextDiffSegment contributors"]
        parent.helpText = _(
            "Type clinical findings, one per line, to segment them slice by slice. Sides are the patient's. "
            "Research use only, not for diagnosis. "
            "Nothing leaves this computer unless you choose another one in Set-up."
        )
        parent.acknowledgementText = _(
            "Implements the FastTextDiff method (arXiv 2512.00084). The bundled weights are licensed CC BY-NC-SA 4.0."
        )
        slicer.app.connect("startupCompleted()", registerEffect)  # earlier, the Segment Editor is not loaded
