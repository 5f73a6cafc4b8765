"""slicer.app, slicer.modules and slicer.mrmlScene on top of slicer-core's logics. Knows nothing about windows.

Methods have the names and behaviour of Slicer's; anything missing raises.
"""

import dataclasses
import sys
import tempfile
import types
import typing
from pathlib import Path

import qt
import slicer
import vtk
from PySide6.QtCore import Signal

from .qmrml import qMRMLSegmentEditorWidget, qMRMLWidget

_LOGICS = {
    "Colors": "vtkMRMLColorLogic", "Volumes": "vtkSlicerVolumesLogic", "Units": "vtkSlicerUnitsLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic", "Sequences": "vtkSlicerSequencesLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
}  # fmt: skip


def returning(value):
    """A function that returns a value, like many accessors of slicer.app."""
    return lambda: value


@dataclasses.dataclass(slots=True)
class Module:
    """slicer.modules.<name>, and the `parent` that a scripted module describes itself to."""

    name: str
    path: str = ""
    logic: typing.Callable = returning(None)
    widgetRepresentation: typing.Callable = returning(None)
    title: str = ""
    categories: typing.Sequence[str] = ()
    dependencies: typing.Sequence[str] = ()
    contributors: typing.Sequence[str] = ()
    helpText: str = ""
    acknowledgementText: str = ""
    selfTest: typing.Callable = returning(None)


class ScriptedModulePanel(qMRMLWidget):
    """The panel of a module written in Python, which `self()` returns."""

    def __init__(self, moduleName):
        super().__init__()
        self._moduleName = moduleName
        self.setLayout(qt.QVBoxLayout())
        self.reload()

    def reload(self):
        """Makes a new Python widget from the module as it is imported now."""
        name = f"{self._moduleName}Widget"
        widget = getattr(sys.modules[self._moduleName], name)(self)
        setattr(slicer.modules, name, widget)
        self.self = returning(widget)
        widget.setup()


class SegmentEditorPanel(qt.QWidget):
    """The Segment Editor, as far as other modules set it up, with its history; a node stores everything else."""

    def __init__(self):
        super().__init__()
        node = slicer.vtkMRMLSegmentEditorNode()
        node.SetSingletonTag("SegmentEditor")
        node = slicer.mrmlScene.AddNode(node)
        self.self = returning(self)
        self._logic = slicer.vtkSlicerSegmentEditorLogic()
        self._logic.SetMRMLScene(slicer.mrmlScene)
        self._logic.SetSegmentEditorNode(node)
        self.editor = types.SimpleNamespace(
            mrmlSegmentEditorNode=returning(node),
            setSegmentationNode=self._logic.SetSegmentationNode,
            saveStateForUndo=self._logic.SaveStateForUndo,
            undo=self._logic.Undo,
            segmentationNode=node.GetSegmentationNode,
            setSourceVolumeNode=node.SetAndObserveSourceVolumeNode,
            sourceVolumeNode=node.GetSourceVolumeNode,
            setCurrentSegmentID=node.SetSelectedSegmentID,
            currentSegmentID=node.GetSelectedSegmentID,
        )


class ModuleManager:
    """Knows the modules by name. It is its own factory manager."""

    def __init__(self):
        self._modules = {}
        self.module, self.factoryManager = self._modules.get, returning(self)
        self.loadedModuleNames = lambda: tuple(self._modules)

    def add(self, module):
        """Registers a module, also as slicer.modules.<name>."""
        self._modules[module.name] = module
        setattr(slicer.modules, module.name.lower(), module)

    def remove(self, name):
        """Removes a module."""
        del self._modules[name]
        delattr(slicer.modules, name.lower())


class IOManager:
    """Loads and saves volumes, segmentations and scene bundles through the real storage nodes and logics."""

    def loadNodes(self, fileType, properties, loaded, messages):
        fileName = properties["fileName"]
        if fileType == "SceneFile":
            return bool(slicer.mrmlScene.ReadFromMRB(fileName, False, messages))
        name, logic = Path(fileName).name.split(".")[0], slicer.app.applicationLogic()
        if fileType == "SegmentationFile":
            node = logic.GetModuleLogic("Segmentations").LoadSegmentationFromFile(fileName, True, name)
        else:
            node = logic.GetModuleLogic("Volumes").AddArchetypeVolume(fileName, name)
            logic.GetSelectionNode().SetActiveVolumeID(node and node.GetID())
            logic.PropagateVolumeSelection()
        if node is not None:
            loaded.AddItem(node)
        return node is not None

    def fileWriterFileType(self, node):
        return node.GetClassName()

    def saveNodes(self, fileType, properties, messages):
        if fileType == "SceneFile":
            return bool(slicer.mrmlScene.WriteToMRB(properties["fileName"]))
        node = slicer.mrmlScene.GetNodeByID(properties["nodeID"])
        node.AddDefaultStorageNode()
        node.GetStorageNode().SetFileName(properties["fileName"])
        return bool(node.GetStorageNode().WriteData(node))


class Application(qt.QApplication):
    """slicer.app; the host replaces testingEnabled and layoutManager. `startupCompleted` is never emitted."""

    startupCompleted = Signal()

    def __init__(self):
        super().__init__(["Slicer"])
        self.setApplicationName("Slicer")
        self._folder = tempfile.TemporaryDirectory(prefix="slicerhost-")
        self.temporaryPath = self._folder.name
        qt.QSettings.setDefaultFormat(qt.QSettings.IniFormat)
        qt.QSettings.setPath(qt.QSettings.IniFormat, qt.QSettings.UserScope, self._folder.name)
        self.slicerUserSettingsFilePath = str(Path(self._folder.name) / "Slicer.ini")
        self.applicationLogic = returning(_applicationLogic(self._folder.name))
        self.moduleManager, self.coreIOManager = returning(ModuleManager()), returning(IOManager())
        self.testingEnabled, self.layoutManager = returning(True), returning(None)


def _applicationLogic(folder):
    """Makes the scene and its logic; scene bundles are unpacked in the folder."""
    scene = slicer.mrmlScene = slicer.vtkMRMLScene()
    scene.SetCacheManager(slicer.vtkCacheManager())
    scene.GetCacheManager().SetRemoteCacheDirectory(folder)
    scene.SetDataIOManager(slicer.vtkDataIOManager())
    scene.GetDataIOManager().SetCacheManager(scene.GetCacheManager())
    scene.AddNode(slicer.vtkMRMLSelectionNode())
    logic = slicer.vtkSlicerApplicationLogic()
    logic.SetMRMLScene(scene)
    logic.GetColorLogic().SetMRMLScene(scene)
    logic.GetColorLogic().AddDefaultColorNodes()
    logic.SetSliceLogics(vtk.vtkCollection())
    logic.SetViewLogics(vtk.vtkCollection())
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
    return logic


def _fillSubjectHierarchy(scene):
    """Keeps an item for every displayable node in the subject hierarchy, which in Slicer a Qt class does."""

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onAdded(caller, event, node):
        hierarchy = scene.GetSubjectHierarchyNode()
        if node.IsA("vtkMRMLDisplayableNode") and not node.GetHideFromEditors() and not scene.IsBatchProcessing():
            hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)

    scene.AddObserver(scene.NodeAddedEvent, onAdded)
    scene.AddObserver(scene.StartCloseEvent, lambda *_: scene.GetSubjectHierarchyNode().RemoveAllItems(False))


def addModules():
    """Registers the C++ modules' logics, or every volume prints an error, and the Segment Editor's double."""
    slicer.modules = sys.modules["slicer.modules"] = types.ModuleType("slicer.modules")
    for name, cls in _LOGICS.items():
        logic = getattr(slicer, cls)()
        logic.SetMRMLScene(slicer.mrmlScene)
        logic.SetMRMLApplicationLogic(slicer.app.applicationLogic())
        slicer.app.applicationLogic().SetModuleLogic(name, logic)
        slicer.app.moduleManager().add(Module(name, logic=returning(logic)))
    _fillSubjectHierarchy(slicer.mrmlScene)
    slicer.qMRMLSegmentEditorWidget = qMRMLSegmentEditorWidget
    slicer.modules.SegmentEditorWidget = SegmentEditorPanel()
    widget = returning(slicer.modules.SegmentEditorWidget)
    slicer.app.moduleManager().add(Module("SegmentEditor", widgetRepresentation=widget))
