"""slicer.app, slicer.modules and slicer.mrmlScene over slicer-core's own logics. Knows nothing about a window."""

import os
import sys
import tempfile
import types
from pathlib import Path

import slicer
import vtk
from PySide6.QtCore import Signal

import qt

from . import qmrml
from .pythonqt import cppClass

_LOGICS = {
    "Colors": "vtkMRMLColorLogic", "Volumes": "vtkSlicerVolumesLogic", "Models": "vtkSlicerModelsLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic", "Sequences": "vtkSlicerSequencesLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic", "Units": "vtkSlicerUnitsLogic",
    "Transforms": "vtkSlicerTransformLogic", "Tables": "vtkSlicerTablesLogic", "Markups": "vtkSlicerMarkupsLogic",
    "Texts": "vtkSlicerTextsLogic",
}  # fmt: skip


class HostModule:
    """A module: what slicer.modules.<name> is, and what a scripted module describes itself to as `parent`."""

    __slots__ = (
        "_logic",
        "_widget",
        "acknowledgementText",
        "categories",
        "contributors",
        "dependencies",
        "helpText",
        "hidden",
        "icon",
        "name",
        "path",
        "title",
    )  # fmt: skip

    def __init__(self, name, logic=None, path=""):
        self.name, self.path, self.title, self.hidden = name, path, name, False
        self.categories, self.dependencies, self.contributors = [], [], []
        self._logic, self._widget = logic, None

    def logic(self):
        """The C++ logic, or None for a scripted module."""
        return self._logic

    def widgetRepresentation(self):
        """The panel."""
        return self._widget


class qSlicerScriptedLoadableModule(HostModule):
    """A module written in Python."""

    __slots__ = ()


@cppClass()
class qSlicerScriptedLoadableModuleWidget(qmrml.qMRMLWidget):
    """The panel of a module written in Python, which `self()` gives."""

    def __init__(self, moduleName):
        super().__init__()
        self._moduleName, self._python = moduleName, None
        self.setLayout(qt.QVBoxLayout())
        self.setMRMLScene(slicer.mrmlScene)
        self.reload()

    def self(self):
        """The Python widget."""
        return self._python

    def reload(self):
        """Makes the Python widget anew from the module as it is imported now."""
        name = f"{self._moduleName}Widget"
        self._python = getattr(sys.modules[self._moduleName], name)(self)
        setattr(slicer.modules, name, self._python)
        self._python.setup()

    def notify(self, what):
        """Calls enter or exit, if the Python widget has it."""
        getattr(self._python, what, lambda: None)()


@cppClass()
class qMRMLSegmentEditorWidget(qmrml.qMRMLWidget):
    """The Segment Editor as far as other modules set it up: everything is kept in its vtkMRMLSegmentEditorNode."""

    def __init__(self):
        super().__init__()
        self._node = None

    def setMRMLSegmentEditorNode(self, node):
        """The node that holds the editor's state; without it nothing can be set."""
        self._node = node

    def mrmlSegmentEditorNode(self):
        """The node that holds the editor's state."""
        return self._node

    def setSegmentationNode(self, node):
        """What is edited; the first segment is selected."""
        self._node.SetAndObserveSegmentationNode(node)
        self._node.SetSelectedSegmentID(node.GetSegmentation().GetNthSegmentID(0) if node is not None else "")

    def segmentationNode(self):
        """What is edited."""
        return self._node.GetSegmentationNode()

    def setSourceVolumeNode(self, node):
        """The image below."""
        self._node.SetAndObserveSourceVolumeNode(node)

    def sourceVolumeNode(self):
        """The image below."""
        return self._node.GetSourceVolumeNode()

    def setCurrentSegmentID(self, segmentId):
        """The segment to edit."""
        self._node.SetSelectedSegmentID(segmentId)

    def currentSegmentID(self):
        """The segment to edit."""
        return self._node.GetSelectedSegmentID()


class _SegmentEditorPanel(qmrml.qMRMLWidget):
    """The Segment Editor's panel, a scripted module in Slicer: `self().editor`."""

    def __init__(self):
        super().__init__()
        node = slicer.vtkMRMLSegmentEditorNode()
        node.SetSingletonTag("SegmentEditor")
        self.editor = qMRMLSegmentEditorWidget()
        self.editor.setMRMLSegmentEditorNode(slicer.mrmlScene.AddNode(node))
        qt.QVBoxLayout(self).addWidget(self.editor)

    def self(self):
        """The Python widget."""
        return self

    def notify(self, what):
        """Nothing is to be done on enter and exit."""


@cppClass("moduleAboutToBeUnloaded(QString)")
class ModuleManager(qt.QObject):
    """Knows the modules by name."""

    moduleAboutToBeUnloaded = Signal(str)

    def __init__(self):
        super().__init__()
        self._modules = {}

    def module(self, name):
        """A module, or None."""
        return self._modules.get(name)

    def factoryManager(self):
        """What slicer.util.moduleNames asks: here the manager itself."""
        return self

    def loadedModuleNames(self):
        """The names of all modules."""
        return tuple(self._modules)

    def add(self, module):
        """Makes a module known, also as slicer.modules.<name>."""
        self._modules[module.name] = module
        setattr(slicer.modules, module.name.lower(), module)

    def unload(self, name):
        """What happens to a module at exit."""
        self.moduleAboutToBeUnloaded.emit(name)
        self._modules.pop(name)
        delattr(slicer.modules, name.lower())


class IOManager:
    """Loads and saves through the real storage nodes and module logics."""

    def fileType(self, fileName):
        """The kind of file, from its name."""
        name = str(fileName).lower()
        return (
            "SceneFile" if name.endswith((".mrml", ".mrb")) else "SegmentationFile" if ".seg." in name else "VolumeFile"
        )

    def loadNodes(self, fileType, properties, loaded, messages=None):
        """Loads a file; the node is added to the collection `loaded`."""
        fileName = properties["fileName"]
        if fileType == "SceneFile":
            return self._loadScene(fileName, properties.get("clear", False), messages)
        name = properties.get("name") or Path(fileName).name.split(".")[0]
        if fileType == "SegmentationFile":
            node = slicer.modules.segmentations.logic().LoadSegmentationFromFile(fileName, True, name)
        elif fileType == "VolumeFile":
            node = self._loadVolume(fileName, name, properties)
        else:
            raise NotImplementedError(fileType)
        if node is not None:
            loaded.AddItem(node)
        return node is not None

    def _loadScene(self, fileName, clear, messages):
        scene = slicer.mrmlScene
        if fileName.endswith(".mrb"):
            return bool(scene.ReadFromMRB(fileName, clear, messages))
        scene.SetURL(fileName)
        return bool(scene.Connect(messages) if clear else scene.Import(messages))

    def _loadVolume(self, fileName, name, properties):
        files = vtk.vtkStringArray()
        for item in properties.get("fileNames", ()):
            files.InsertNextValue(item)
        options = 1 * bool(properties.get("labelmap")) + 4 * bool(properties.get("singleFile"))
        node = slicer.modules.volumes.logic().AddArchetypeVolume(fileName, name, options, files)
        if node is not None and properties.get("show", True):
            slicer.app.applicationLogic().GetSelectionNode().SetActiveVolumeID(node.GetID())
            slicer.app.applicationLogic().PropagateVolumeSelection()
        return node

    def fileWriterFileType(self, node):
        """The kind of file that a node is saved to."""
        return node.GetClassName()

    def saveNodes(self, fileType, properties, messages=None):
        """Saves a node, or the scene; says whether it worked."""
        if fileType == "SceneFile":
            return self._saveScene(properties["fileName"])
        node = slicer.mrmlScene.GetNodeByID(properties["nodeID"])
        if node.GetStorageNode() is None:
            node.AddDefaultStorageNode()
        storage = node.GetStorageNode()
        storage.SetFileName(str(properties["fileName"]))
        return bool(storage.WriteData(node))

    def _saveScene(self, fileName):
        if fileName.endswith(".mrb"):
            return bool(slicer.mrmlScene.WriteToMRB(fileName))
        slicer.mrmlScene.SetURL(fileName)
        return bool(slicer.mrmlScene.Commit())


class qSlicerApplication(qt.QApplication):
    """slicer.app. Names that the host does not have raise AttributeError."""

    startupCompleted = Signal()
    majorVersion, minorVersion, revision = 5, 12, "host"

    def __init__(self):
        super().__init__(["Slicer"])
        self.setApplicationName("Slicer")
        self.setApplicationVersion("5.12.4-host")
        self._folder = tempfile.TemporaryDirectory(prefix="slicerhost-")
        self.temporaryPath = self.slicerHome = self._folder.name
        qt.QSettings.setDefaultFormat(qt.QSettings.IniFormat)
        qt.QSettings.setPath(qt.QSettings.IniFormat, qt.QSettings.UserScope, self._folder.name)
        self.testing, self.layoutManagerOfWindow, self.hiddenWindow = True, None, None
        self._logic, self._modules, self._io = _applicationLogic(), ModuleManager(), IOManager()
        _addCache(self._folder.name)

    def mrmlScene(self):
        """The scene."""
        return slicer.mrmlScene

    def applicationLogic(self):
        """The vtkSlicerApplicationLogic."""
        return self._logic

    def moduleManager(self):
        """The module manager."""
        return self._modules

    def ioManager(self):
        """What loads and saves."""
        return self._io

    coreIOManager = ioManager

    def layoutManager(self):
        """The views; None without a main window, as in Slicer."""
        return self.layoutManagerOfWindow

    def topLevelWidgets(self):
        """All windows, without the main window while the host hides it."""
        return [w for w in qt.QApplication.topLevelWidgets() if w is not self.hiddenWindow]

    def testingEnabled(self):
        """Whether slicer.util answers its own questions instead of asking."""
        return self.testing

    def userSettings(self):
        """The settings, in a file of this process."""
        return qt.QSettings()

    settings = userSettings

    def startupEnvironment(self):
        """The environment that Slicer was started with."""
        return dict(os.environ)

    def pauseRender(self):
        """Views are rendered on request only, so there is nothing to hold back."""

    resumeRender = pauseRender


def _applicationLogic():
    scene = slicer.vtkMRMLScene()
    slicer.mrmlScene = scene
    crosshair = slicer.vtkMRMLCrosshairNode()
    crosshair.SetCrosshairName("default")
    for node in (crosshair, slicer.vtkMRMLSelectionNode(), slicer.vtkMRMLInteractionNode()):
        scene.AddNode(node)
    logic = slicer.vtkSlicerApplicationLogic()
    logic.SetMRMLScene(scene)
    logic.GetColorLogic().SetMRMLScene(scene)
    logic.GetColorLogic().AddDefaultColorNodes()
    logic.SetSliceLogics(vtk.vtkCollection())
    logic.SetViewLogics(vtk.vtkCollection())
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
    return logic


def _addCache(folder):
    """Where scene bundles are unpacked; without it none can be read."""
    cache, dataIO = slicer.vtkCacheManager(), slicer.vtkDataIOManager()
    cache.SetRemoteCacheDirectory(folder)
    dataIO.SetCacheManager(cache)
    slicer.mrmlScene.SetCacheManager(cache)
    slicer.mrmlScene.SetDataIOManager(dataIO)


def _fillSubjectHierarchy(scene):
    """Keeps an item for every displayable node in the subject hierarchy, which in Slicer a Qt class does."""

    def fill(*_):
        hierarchy = scene.GetSubjectHierarchyNode()
        if hierarchy is None or scene.IsBatchProcessing():
            return
        for node in slicer.util.getNodesByClass("vtkMRMLDisplayableNode"):
            if not node.GetHideFromEditors() and not hierarchy.GetItemByDataNode(node):
                hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def drop(caller, event, node):
        hierarchy = scene.GetSubjectHierarchyNode()
        item = hierarchy.GetItemByDataNode(node) if hierarchy is not None and node is not hierarchy else 0
        if item:
            hierarchy.RemoveItem(item, False, False)

    for event in (scene.NodeAddedEvent, scene.EndImportEvent, scene.EndBatchProcessEvent):
        scene.AddObserver(event, fill)
    scene.AddObserver(scene.NodeAboutToBeRemovedEvent, drop)
    scene.AddObserver(scene.StartCloseEvent, lambda *_: scene.GetSubjectHierarchyNode().RemoveAllItems(False))


def addModules():
    """Registers the C++ modules' logics, by name or every volume prints an error, and the Segment Editor's double."""
    slicer.modules = sys.modules["slicer.modules"] = types.ModuleType("slicer.modules")
    logic = slicer.app.applicationLogic()
    for name, cls in _LOGICS.items():
        module = getattr(slicer, cls)()
        if hasattr(module, "SetModuleShareDirectory"):
            module.SetModuleShareDirectory(slicer.app.temporaryPath)
        module.SetMRMLScene(slicer.mrmlScene)
        module.SetMRMLApplicationLogic(logic)
        logic.SetModuleLogic(name, module)
        slicer.app.moduleManager().add(HostModule(name, module))
    _fillSubjectHierarchy(slicer.mrmlScene)
    editor = HostModule("SegmentEditor")
    editor._widget = _SegmentEditorPanel()
    slicer.app.moduleManager().add(editor)
    slicer.modules.SegmentEditorWidget = editor._widget
