"""The Segment Editor's effect "Text finding", as Slicer loads it: connects the editor with the effect's parts.

Slicer runs this file by its path, so it has no package; what it does is in FastTextDiffSegmentLib.effect.
"""

from pathlib import Path

import qSlicerSegmentationsEditorEffectsPythonQt as effects
import qt
from SegmentEditorEffects import AbstractScriptedSegmentEditorEffect
from slicer.i18n import tr as _

from FastTextDiffSegmentLib.effect.TextFindingControl import TextFindingControl
from FastTextDiffSegmentLib.effect.TextFindingForm import TextFindingForm

_TEXT, _PREVIEW, _REPLACES = "FindingText", "Preview", "Replaces"
"""Names of the effect's parameters in the editor's node, which is saved with the scene."""
_FILE = Path(__file__).resolve()


class TextFindingEffect(AbstractScriptedSegmentEditorEffect):
    """Segments a typed finding into the selected segment.

    Args:
        scriptedEffect: Slicer's adaptor of this effect.

    Attributes:
        form: the options' widgets; None before Slicer asks for them.
    """

    def __init__(self, scriptedEffect):
        scriptedEffect.name = "Text finding"  # not translated: other modules find the effect by it
        scriptedEffect.title = _("Text finding")
        scriptedEffect.perSegment = True
        AbstractScriptedSegmentEditorEffect.__init__(self, scriptedEffect)
        self.form = self._control = None
        self._isActive = False

    def clone(self):
        """Called by Slicer for each Segment Editor."""
        other = effects.qSlicerSegmentEditorScriptedEffect(None)
        other.setPythonSource(_FILE.as_posix())
        return other

    def icon(self):
        """The button's picture."""
        path = _FILE.parents[1] / "Resources" / "Icons" / "TextFinding.png"
        return qt.QIcon(str(path)) if path.is_file() else qt.QIcon()

    def helpText(self):
        """The help below the effect's name."""
        return "<html>{}<br>{}<br>{}</html>".format(
            _("Type a finding to segment it into the selected segment. Sides are the patient's."),
            _(
                "An outline on the shown slice is a preview. <b>Apply</b> writes it, within the editable area and with "
                "the overwriting and intensity range set below. Undo with the editor's own button."
            ),
            _("Threshold and advanced options are those of the module FastTextDiff Segment. Not for diagnosis."),
        )

    def setupOptionsFrame(self):
        """Called by Slicer once, to fill the options."""
        self.form = TextFindingForm(
            self._onText,
            lambda: self._control.applyToSlice(self.form.text.text, self.form.replaces.checked),
            lambda: self._control.apply(self.form.text.text, None, self.form.replaces.checked),
            lambda: self._control.cancel(),
        )
        self.form.replaces.connect("toggled(bool)", lambda _isOn: self.updateMRMLFromGUI())
        for label, widget in self.form.widgets:
            if label:
                self.scriptedEffect.addLabeledOptionsWidget(label, widget)
            else:
                self.scriptedEffect.addOptionsWidget(widget)
        self._control = TextFindingControl(
            self.scriptedEffect.parameterSetNode,
            self.scriptedEffect.saveStateForUndo,
            lambda: self.form.text.text if self._isActive and self.form.preview.checked else "",
            self.form.message.setText,
            self._update,
        )

    def activate(self):
        """Called by Slicer when the effect is chosen."""
        self._isActive = True
        self._control.start()
        self.form.setTerms(self._control.terms())
        self._update()
        self._control.schedulePreview()

    def deactivate(self):
        """Called by Slicer when another effect is chosen, or the editor is left."""
        self._isActive = False
        if self._control is not None:
            self._control.stop()

    def cleanup(self):
        """Called by Slicer before the effect is deleted."""
        self.deactivate()

    def createCursor(self, widget):
        """The mouse keeps its arrow: nothing is drawn with it."""
        return qt.QCursor(qt.Qt.ArrowCursor)

    def setMRMLDefaults(self):
        """The values of the options before the user changes them."""
        self.scriptedEffect.setParameterDefault(_TEXT, "")
        self.scriptedEffect.setParameterDefault(_PREVIEW, 1)
        self.scriptedEffect.setParameterDefault(_REPLACES, 0)

    def updateGUIFromMRML(self):
        """Called by Slicer when the editor's node has changed."""
        form = self.form
        values = (
            (form.text, "text", self.scriptedEffect.parameter(_TEXT)),
            (form.preview, "checked", bool(self.scriptedEffect.integerParameter(_PREVIEW))),
            (form.replaces, "checked", bool(self.scriptedEffect.integerParameter(_REPLACES))),
        )
        for widget, name, value in values:
            if getattr(widget, name) != value:  # setting the text moves the cursor
                wasBlocked = widget.blockSignals(True)
                setattr(widget, name, value)
                widget.blockSignals(wasBlocked)
        if self._isActive:
            self._update()
            self._control.schedulePreview()

    def updateMRMLFromGUI(self):
        """Store the options in the editor's node."""
        self.scriptedEffect.setParameter(_TEXT, self.form.text.text)
        self.scriptedEffect.setParameter(_PREVIEW, int(self.form.preview.checked))
        self.scriptedEffect.setParameter(_REPLACES, int(self.form.replaces.checked))

    def sourceVolumeNodeChanged(self):
        """Called by Slicer when another source volume is chosen."""
        if self._isActive:
            self._update()
            self._control.schedulePreview()

    def processViewNodeEvents(self, callerViewNode, eventId, viewWidget):
        """Called by Slicer when a view shows something else, e.g. another slice."""
        if self._isActive and callerViewNode.IsA("vtkMRMLSliceNode"):
            self._control.schedulePreview(callerViewNode)
            self._update()

    def _onText(self):
        self.updateMRMLFromGUI()
        self._update()
        self._control.schedulePreview()

    def _update(self):
        text = self.form.text.text
        noVolume = self._control.whyNot(text)
        self.form.update(noVolume or self._control.whyNoSlice(text), noVolume, self._control.isRunning)
