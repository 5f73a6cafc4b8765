"""Doubles of slicer.ScriptedLoadableModule and slicer.i18n. They know nothing about what a module does."""

import types
import unittest
from pathlib import Path

import slicer

import qt


class ScriptedLoadableModule:
    """What describes a module to the application; `parent` takes title, categories and so on."""

    def __init__(self, parent):
        self.parent = parent
        self.moduleName = type(self).__name__
        for extension in (".svg", ".png"):
            icon = self.resourcePath(f"Icons/{self.moduleName}{extension}")
            if Path(icon).is_file():
                parent.icon = qt.QIcon(icon)

    def resourcePath(self, filename):
        """The path of a file in the module's Resources folder."""
        return str(Path(self.parent.path).parent / "Resources" / filename)


class ScriptedLoadableModuleWidget:
    """A module's panel; developer mode is off, as in a user's Slicer."""

    def __init__(self, parent):
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.developerMode = False
        self.parent, self.layout = parent, parent.layout()
        slicer.app.moduleManager().connect("moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded)

    def _onModuleAboutToBeUnloaded(self, moduleName):
        if moduleName == self.moduleName:
            self.cleanup()
            slicer.app.moduleManager().disconnect("moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded)

    def resourcePath(self, filename):
        """The path of a file in the module's Resources folder."""
        return str(Path(slicer.util.modulePath(self.moduleName)).parent / "Resources" / filename)

    def setup(self):
        """Without developer mode there is nothing that Slicer itself adds."""

    def cleanup(self):
        """Called when the module is unloaded or reloaded."""

    def onReload(self):
        """What the Reload button does."""
        slicer.util.reloadScriptedModule(self.moduleName)


class ScriptedLoadableModuleLogic:
    """A module's work, with one parameter node in the scene."""

    def __init__(self, parent=None):
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Logic")

    def getParameterNode(self):
        """The module's vtkMRMLScriptedModuleNode, made if it is not there."""
        node = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
        if node is None:
            return slicer.mrmlScene.AddNode(self.createParameterNode())
        if node.GetAttribute("ModuleName") != self.moduleName:  # closing the scene removes it
            node.SetAttribute("ModuleName", self.moduleName)
        return node

    def createParameterNode(self):
        """A new parameter node, not in the scene."""
        node = slicer.vtkMRMLScriptedModuleNode()
        node.SetSingletonTag(self.moduleName)
        node.SetAttribute("ModuleName", self.moduleName)
        node.SetName(slicer.mrmlScene.GenerateUniqueName(self.moduleName))
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    """What Reload and Test runs."""

    def delayDisplay(self, message, requestedDelay=None, msec=None):
        """Shows a message for a while (100 ms if nothing is said) and lets the event loop run."""
        delay = getattr(self, "messageDelay", msec if msec is not None else requestedDelay)
        slicer.util.delayDisplay(message, 100 if delay is None else delay)

    def runTest(self):
        """To be overridden."""
        raise NotImplementedError(f"no test is defined in {type(self).__name__}")


def tr(text, context=None):
    """The text itself: the host has no translations."""
    return text


def translate(context, text, disambiguation=None, n=-1):
    """The text itself: the host has no translations."""
    return text


def submodules():
    """The modules that Slicer has and slicer-core has not, by name."""
    scripted = types.ModuleType("slicer.ScriptedLoadableModule")
    for cls in (
        ScriptedLoadableModule, ScriptedLoadableModuleWidget, ScriptedLoadableModuleLogic, ScriptedLoadableModuleTest,
    ):  # fmt: skip
        setattr(scripted, cls.__name__, cls)
    i18n = types.ModuleType("slicer.i18n")
    i18n.tr, i18n.translate = tr, translate
    return {"ScriptedLoadableModule": scripted, "i18n": i18n}
