"""Doubles of slicer.ScriptedLoadableModule, slicer.parameterNodeWrapper and slicer.i18n. They know no module.

parameterNodeWrapper supports the types and widgets that the module uses; others raise. Two pitfalls of the real one are
kept: every change of the node writes *every* connected widget, even the one being used; and the node's observer stays
when the widgets are disconnected.
"""

import dataclasses
import importlib
import itertools
import json
import types
import typing
import unittest
from pathlib import Path

import ctk
import qt
import slicer
import vtk

from .qmrml import qMRMLNodeComboBox

_WIDGETS = {
    qt.QCheckBox: (bool, "toggled", "checked"),
    qt.QSpinBox: (int, "valueChanged", "value"),
    ctk.ctkSliderWidget: (float, "valueChanged", "value"),
    qMRMLNodeComboBox: (slicer.vtkMRMLNode, "currentNodeChanged", "shownNode"),
}
"""The parameter type that a widget shows, its signal and its property."""


@dataclasses.dataclass
class WithinRange:
    """A range including both ends; spin boxes and sliders use it."""

    minimum: float
    maximum: float


class _Parameter:
    """A typed attribute stored in the vtkMRMLScriptedModuleNode of its object, as a node reference or as JSON."""

    def __init__(self, name, annotation, default):
        self.name, self.type, self.range = name, annotation, None
        if typing.get_origin(annotation) is typing.Annotated:
            self.type, (self.range,) = annotation.__origin__, annotation.__metadata__
        members = typing.get_args(self.type) if typing.get_origin(self.type) is typing.Union else (self.type,)
        if len(members) > 1 and type(None) not in members:
            raise TypeError(f"parameter '{name}': a union of nodes has to name None, or it cannot be empty")
        members = tuple(member for member in members if member is not type(None))
        self.isNode = all(isinstance(m, type) and issubclass(m, slicer.vtkMRMLNode) for m in members)
        known = {str: str, int: int, float: (int, float), bool: bool, list[str]: list}
        if not self.isNode and self.type not in known:
            raise TypeError(f"parameter '{name}': the test host does not know {annotation}")
        self._allowed = (*members, type(None)) if self.isNode else known[self.type]
        self._default = self.type() if default is None and not self.isNode else default

    def __get__(self, wrapper, cls):
        """The stored value. A list is read as a tuple: unlike in Slicer, it must be assigned as a whole."""
        if self.isNode:
            return wrapper.parameterNode.GetNodeReference(self.name)
        text = wrapper.parameterNode.GetParameter(self.name)
        value = json.loads(text) if text else self._default
        return tuple(value) if isinstance(value, list) else value

    def __set__(self, wrapper, value):
        """Stores a value; raises TypeError or ValueError if it does not fit."""
        if not isinstance(value, self._allowed):
            raise TypeError(f"parameter '{self.name}': {value!r} is not of {self.type}")
        if self.range and not self.range.minimum <= value <= self.range.maximum:
            raise ValueError(f"parameter '{self.name}': {value} is not within {self.range}")
        if self.isNode:
            wrapper.parameterNode.SetNodeReferenceID(self.name, value.GetID() if value is not None else None)
        else:
            wrapper.parameterNode.SetParameter(self.name, json.dumps(value))


class _Wrapper:
    """Base of the decorated classes."""

    def __init__(self, parameterNode):
        self.parameterNode, self._connected, self._updating = parameterNode, {}, False
        self._tags = itertools.count()

    def connectParametersToGui(self, mapping):
        """Connects widgets by parameter name; returns a tag for `disconnectGui`."""
        tag = next(self._tags)
        self._connected[tag] = [self._connect(vars(type(self))[name], widget) for name, widget in mapping.items()]
        self._update()
        # Never removed, as in Slicer up to 5.10. Python's garbage collection knows of this reference: it empties the
        # lambda, while VTK still calls it, once nothing else in Python refers to the node: a segmentation fault.
        self.parameterNode.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda caller, event: self._update())
        return tag

    def _update(self):
        if self._updating:
            return
        self._updating = True
        for parameter, widget, name, _, _ in itertools.chain.from_iterable(self._connected.values()):
            setattr(widget, name, getattr(self, parameter.name))
        self._updating = False

    def _connect(self, parameter, widget):
        """Connects a widget, whose class must be exactly a known one: as in Slicer, a subclass is refused."""
        kind, signal, name = _WIDGETS.get(type(widget), (None, "", ""))
        if kind is not (slicer.vtkMRMLNode if parameter.isNode else parameter.type):
            raise RuntimeError(f"no way to show {parameter.type} in a {type(widget).__name__}")
        if parameter.range:
            widget.minimum, widget.maximum = parameter.range.minimum, parameter.range.maximum

        def onChanged(*_):
            if not self._updating:
                setattr(self, parameter.name, getattr(widget, name))

        getattr(widget, signal).connect(onChanged)
        return parameter, widget, name, getattr(widget, signal), onChanged

    def disconnectGui(self, tag):
        """Undoes `connectParametersToGui`, except for the observer of the node."""
        for _, _, _, signal, onChanged in self._connected.pop(tag):
            signal.disconnect(onChanged)


def parameterNodeWrapper(cls):
    """Class decorator: annotated names become parameters; raises TypeError for a type that this double lacks."""
    annotations = typing.get_type_hints(cls, include_extras=True)
    parameters = {name: _Parameter(name, kind, vars(cls).get(name)) for name, kind in annotations.items()}
    return type(cls.__name__, (_Wrapper,), {"__doc__": cls.__doc__, **parameters})


class ScriptedLoadableModule:
    """Describes a module to the application; `parent` takes title, categories and so on."""

    def __init__(self, parent):
        self.parent, self.moduleName = parent, type(self).__name__

    def runTest(self, msec=100, **kwargs):
        """Called by Reload and Test, and by the generic test of a module."""
        testCase = getattr(importlib.import_module(type(self).__module__), f"{self.moduleName}Test")()
        testCase.messageDelay = msec
        testCase.runTest(**kwargs)


class ScriptedLoadableModuleWidget:
    """A module's panel; developer mode is off, as in a user's Slicer."""

    def __init__(self, parent):
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.parent, self.layout = parent, parent.layout()

    def resourcePath(self, filename):
        """The path of a file in the module's Resources folder."""
        return str(Path(slicer.util.modulePath(self.moduleName)).parent / "Resources" / filename)

    def setup(self):
        """Without developer mode, Slicer itself adds nothing."""

    def cleanup(self):
        """Called when the module is unloaded or reloaded."""

    def onReload(self):
        """Called by the Reload button."""
        slicer.util.reloadScriptedModule(self.moduleName)


class ScriptedLoadableModuleLogic:
    """A module's logic, with one parameter node in the scene."""

    def __init__(self, parent=None):
        self.moduleName = type(self).__name__.removesuffix("Logic")

    def getParameterNode(self):
        """The module's vtkMRMLScriptedModuleNode, made if it does not exist."""
        node = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
        if node is None:
            node = slicer.vtkMRMLScriptedModuleNode()
            node.SetSingletonTag(self.moduleName)
            node.SetName(slicer.mrmlScene.GenerateUniqueName(self.moduleName))
            node = slicer.mrmlScene.AddNode(node)
        if node.GetAttribute("ModuleName") != self.moduleName:  # closing the scene removes it
            node.SetAttribute("ModuleName", self.moduleName)
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    """The test that Reload and Test runs."""

    def delayDisplay(self, message):
        """Shows a message for a moment and lets the event loop run."""
        slicer.util.delayDisplay(message, getattr(self, "messageDelay", 100))

    def runTest(self):
        """Slicer's own does nothing: a module must override it."""
        raise NotImplementedError(f"No test is defined in {type(self).__name__}")


def submodules():
    """The modules of Slicer that slicer-core lacks; the host has no translations."""
    contents = {
        "ScriptedLoadableModule": {name: value for name, value in globals().items() if name.startswith("Scripted")},
        "parameterNodeWrapper": {"parameterNodeWrapper": parameterNodeWrapper, "WithinRange": WithinRange},
        "i18n": {"tr": lambda text: text, "translate": lambda context, text: text},
    }
    for name, content in contents.items():
        module = types.ModuleType(f"slicer.{name}")
        vars(module).update(content)
        yield name, module
