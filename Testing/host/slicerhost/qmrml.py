"""The qMRML widgets that the module uses, on a real vtkMRMLScene. Knows nothing about modules."""

import qt
import slicer
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


@cppClass
class qMRMLSegmentationShow3DButton(qt.QPushButton):
    """Makes and removes the surfaces of a segmentation, and shows whether it has some. The smoothing menu is missing.

    As in Slicer, it enables and disables itself, and keeps its state when it loses its segmentation.
    """

    def __init__(self, parent=None):
        super().__init__(parent)
        self._node, self._tags = None, []
        self.setText("Show 3D")
        self.setCheckable(True)
        self.setEnabled(False)
        self.toggled.connect(self._makeOrRemove)

    def segmentationNode(self):
        """The segmentation, or None."""
        return self._node

    def setSegmentationNode(self, node):
        """Sets the segmentation to show and to follow."""
        if node is self._node:
            return
        for tag in self._tags:
            self._node.RemoveObserver(tag)
        segments = slicer.vtkSegmentation
        events = ("ModifiedEvent", segments.SegmentAdded, segments.SegmentRemoved)
        events = (*events, segments.ContainedRepresentationNamesModified) if node is not None else ()
        self._node = node
        self._tags = [node.AddObserver(event, self._follow) for event in events]
        self._follow()

    def _follow(self, *_):
        segmentation = None if self._node is None else self._node.GetSegmentation()
        self.setEnabled(segmentation is not None and segmentation.GetNumberOfSegments() > 0)
        if segmentation is not None:
            wasBlocked = self.blockSignals(True)
            self.setChecked(segmentation.ContainsRepresentation("Closed surface"))
            self.blockSignals(wasBlocked)

    def _makeOrRemove(self, isShown):
        if self._node is None:
            return
        if not isShown:
            self._node.GetSegmentation().RemoveRepresentation("Closed surface")
        elif self._node.GetSegmentation().CreateRepresentation("Closed surface"):
            self._node.GetDisplayNode().SetPreferredDisplayRepresentationName3D("Closed surface")
            self._node.GetDisplayNode().SetPreferredDisplayRepresentationName2D("Binary labelmap")


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
