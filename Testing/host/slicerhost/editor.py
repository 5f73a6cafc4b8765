"""The Segment Editor for scripted effects, which slicer-core lacks. Knows no particular effect.

Real: vtkMRMLSegmentEditorNode and vtkSlicerSegmentEditorLogic, with its history. Reimplemented with the names and the
behaviour of Slicer 5.10's C++ classes: the adaptor that an effect written in Python talks to, and its base class.
"""

import importlib.util
import sys
import types
from pathlib import Path

import qt
import slicer


class ScriptedEffect:
    """qSlicerSegmentEditorScriptedEffect: calls the Python effect, and is called by it."""

    def __init__(self, parent):
        self.name, self.title, self.perSegment = "UnnamedScriptedEffect", "", True
        self.editor = self._python = None

    def setPythonSource(self, path):
        """Loads the effect; its module is named after the folder, its class after the file, as in Slicer."""
        folder, name = Path(path).parent.name, Path(path).stem
        className = name if name.endswith("Effect") else f"{name}Effect"
        if not hasattr(sys.modules.get(folder), className):
            spec = importlib.util.spec_from_file_location(folder, path)
            module = sys.modules[folder] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        self._python = getattr(sys.modules[folder], className)(self)
        setattr(slicer, folder, self._python)
        return True

    def self(self):
        return self._python

    def parameterSetNode(self):
        return self.editor and self.editor.node

    def saveStateForUndo(self):
        self.editor.logic.SaveStateForUndo()

    def addOptionsWidget(self, widget):
        self.editor.layout.addRow(widget)

    def addLabeledOptionsWidget(self, label, widget):
        self.editor.layout.addRow(label, widget)
        return widget

    def parameter(self, name):
        return self.editor.node.GetAttribute(f"{self.name}.{name}") or ""

    def integerParameter(self, name):
        return int(self.parameter(name))

    def setParameter(self, name, value):
        """Stores a value in the editor's node, which lets the editor update the active effect."""
        text = str(value)
        if self.parameter(name) != text:
            self.editor.node.SetAttribute(f"{self.name}.{name}", text)
            self.editor.onParameters()

    def setParameterDefault(self, name, value):
        if self.editor.node.GetAttribute(f"{self.name}.{name}") is None:
            self.editor.node.SetAttribute(f"{self.name}.{name}", str(value))


class AbstractEffect:
    """AbstractScriptedSegmentEditorEffect, the base class of effects written in Python."""

    def __init__(self, scriptedEffect):
        self.scriptedEffect = scriptedEffect

    def register(self):
        slicer.qSlicerSegmentEditorEffectFactory.instance().registerEffect(self.scriptedEffect)

    def cleanup(self):
        pass


class EffectFactory:
    """qSlicerSegmentEditorEffectFactory: the registered effects by name."""

    def __init__(self):
        self.effects = {}

    def registerEffect(self, effect):
        assert effect.name not in self.effects, f"there is already an effect {effect.name}"
        self.effects[effect.name] = effect
        return True


class Editor:
    """The Segment Editor with one effect of a name, in a window of its own; the views of the host are its views."""

    def __init__(self, effectName):
        self.node = slicer.vtkMRMLSegmentEditorNode()
        self.node.SetName("An editor")
        slicer.mrmlScene.AddNode(self.node)
        self.logic = slicer.vtkSlicerSegmentEditorLogic()
        self.logic.SetMRMLScene(slicer.mrmlScene)
        self.logic.SetSegmentEditorNode(self.node)
        self.frame = qt.QFrame()
        self.layout = qt.QFormLayout(self.frame)
        registered = slicer.qSlicerSegmentEditorEffectFactory.instance().effects[effectName]
        self.effect = registered.self().clone()
        self.effect.editor = self
        self._isActive = self._isUpdating = False
        self._watched = []
        python = self.effect.self()
        python.setMRMLDefaults()
        python.setupOptionsFrame()

    def choose(self, segmentation, volume, segmentId):
        """Choose segmentation, source volume and segment."""
        self.node.SetAndObserveSegmentationNode(segmentation)
        self.node.SetAndObserveSourceVolumeNode(volume)
        self.node.SetSelectedSegmentID(segmentId)
        self.logic.SetSegmentationNode(segmentation)
        self.logic.SetSourceVolumeNode(volume)
        self.effect.self().sourceVolumeNodeChanged()

    def activate(self):
        """Choose the effect."""
        self._isActive = True
        for view in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
            tag = view.AddObserver("ModifiedEvent", lambda node, _event: self._onView(node))
            self._watched.append((view, tag))
        self.effect.self().activate()
        self.onParameters()

    def deactivate(self):
        """Choose no effect."""
        self._isActive = False
        for view, tag in self._watched:
            view.RemoveObserver(tag)
        self._watched = []
        self.effect.self().deactivate()

    def undo(self):
        self.logic.Undo()

    def close(self):
        if self._isActive:
            self.deactivate()
        self.effect.self().cleanup()
        self.logic.SetSegmentEditorNode(None)
        self.logic.SetMRMLScene(None)
        self.frame.delete()

    def _onView(self, node):
        self.effect.self().processViewNodeEvents(node, 33, None)

    def onParameters(self):
        """The editor's node has changed: the active effect updates its widgets."""
        if self._isActive and not self._isUpdating:
            self._isUpdating = True
            self.effect.self().updateGUIFromMRML()
            self._isUpdating = False


def install():
    """Make the modules that effects import, and the factory."""
    factory = EffectFactory()
    slicer.qSlicerSegmentEditorEffectFactory = types.SimpleNamespace(instance=lambda: factory)
    for name, values in (
        ("qSlicerSegmentationsEditorEffectsPythonQt", {"qSlicerSegmentEditorScriptedEffect": ScriptedEffect}),
        ("SegmentEditorEffects", {"AbstractScriptedSegmentEditorEffect": AbstractEffect}),
    ):
        sys.modules[name] = types.ModuleType(name)
        vars(sys.modules[name]).update(values)
    return factory
