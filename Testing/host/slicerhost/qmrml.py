"""The qMRML widgets that the module uses, on a real vtkMRMLScene. Knows nothing about modules."""

import qt
from PySide6.QtCore import Property, Signal

from .pythonqt import cppClass, placeInRow


@cppClass
class qMRMLWidget(qt.QWidget):
    """A widget that knows the scene and passes it to its children through the .ui file's connections."""

    mrmlSceneChanged = Signal(object)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._scene = None

    def setMRMLScene(self, scene):
        """Sets the scene; emits mrmlSceneChanged if it has changed."""
        if scene is not self._scene:
            self._scene = scene
            self.mrmlSceneChanged.emit(scene)


def _option(name, kind):
    def setOption(self, value):
        self._options[name] = value
        self._refresh()

    return Property(kind, lambda self: self._options[name], setOption)


@cppClass
class qMRMLNodeComboBox(qMRMLWidget):
    """Selects a node of the scene. As in Slicer, without "None" the first matching node is selected automatically.

    The entries that add, rename and remove nodes are missing, and so are their options.
    """

    currentNodeChanged = Signal(object)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._options = {"nodeTypes": [], "showChildNodeTypes": True, "noneEnabled": False, "noneDisplay": "None"}
        self._box, self._ids, self._current = qt.QComboBox(), [], ""
        placeInRow(self, self._box)
        self.setSizePolicy(qt.QSizePolicy.Expanding, qt.QSizePolicy.Fixed)
        self._box.activated.connect(lambda index: self._select(self._ids[index]))
        self.mrmlSceneChanged.connect(self._follow)

    nodeTypes = _option("nodeTypes", "QStringList")
    showChildNodeTypes = _option("showChildNodeTypes", bool)
    noneEnabled = _option("noneEnabled", bool)
    noneDisplay = _option("noneDisplay", str)

    def _follow(self, scene):
        names = ("NodeAdded", "NodeRemoved", "EndClose", "EndImport", "EndBatchProcess")
        tags = [scene.AddObserver(getattr(scene, f"{name}Event"), self._refresh) for name in names]
        self.destroyed.connect(lambda: [scene.RemoveObserver(tag) for tag in tags])
        self._refresh()

    def _accepts(self, node):
        types = self.nodeTypes
        fits = any(map(node.IsA, types)) if self.showChildNodeTypes else node.GetClassName() in types
        return fits and not node.GetHideFromEditors()

    def _refresh(self, *_):
        scene = self._scene
        if scene is None or scene.IsBatchProcessing():
            return
        nodes = [n for n in map(scene.GetNthNode, range(scene.GetNumberOfNodes())) if self._accepts(n)]
        entries = [("", self.noneDisplay)] if self.noneEnabled else []
        entries += [(node.GetID(), node.GetName() or "") for node in nodes]
        self._ids = [nodeId for nodeId, _ in entries]
        self._box.clear()
        self._box.addItems([name for _, name in entries])
        self._select(self._current if self._current in self._ids else next(iter(self._ids), ""))

    def _select(self, nodeId):
        self._box.setCurrentIndex(self._ids.index(nodeId) if nodeId in self._ids else -1)
        if nodeId != self._current:
            self._current = nodeId
            self.currentNodeChanged.emit(self.currentNode())

    def currentNode(self):
        """The selected node, or None."""
        return self._scene.GetNodeByID(self._current) if self._current else None

    def setCurrentNode(self, node):
        """Selects a node; None, or a node that does not match, selects none."""
        self._select(node.GetID() if node is not None and node.GetID() in self._ids else "")

    shownNode = property(currentNode, setCurrentNode)  # for the double of parameterNodeWrapper


class _Effect:
    """An active effect of the Segment Editor, whose parameters the editor's node keeps."""

    def __init__(self, node, name):
        self._node, self._name = node, name

    def setParameter(self, name, value):
        """Stores a parameter as text."""
        self._node.SetAttribute(f"{self._name}.{name}", str(value))


@cppClass
class qMRMLSegmentEditorWidget(qMRMLWidget):
    """The Segment Editor, as far as other modules set it up: its node stores everything, and nothing is drawn."""

    def __init__(self, parent=None):
        super().__init__(parent)
        self._node = None

    def setMRMLSegmentEditorNode(self, node):
        """Sets the node that stores the editor's state."""
        self._node = node

    def setSegmentationNode(self, node):
        """Chooses the segmentation; as in Slicer, another one ends the active effect."""
        if self._node.GetSegmentationNode() is not node:
            self._node.SetActiveEffectName("")
            self._node.SetAndObserveSegmentationNode(node)

    def setSourceVolumeNode(self, node):
        """Chooses the image."""
        self._node.SetAndObserveSourceVolumeNode(node)

    def setActiveEffectByName(self, name):
        """Starts an effect, or ends it with an empty name."""
        self._node.SetActiveEffectName(name)

    def activeEffect(self):
        """The active effect; None if there is none."""
        name = self._node.GetActiveEffectName()
        return _Effect(self._node, name) if name else None
