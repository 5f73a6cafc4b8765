"""The qMRML widgets that the module uses, on a real vtkMRMLScene. Knows nothing about modules."""

import vtk
from PySide6.QtCore import Property, Signal

import qt

from .pythonqt import cppClass


@cppClass("mrmlSceneChanged(vtkMRMLScene*)")
class qMRMLWidget(qt.QWidget):
    """A widget that knows the scene and tells its children, through the .ui file's connections."""

    mrmlSceneChanged = Signal(object)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._scene = None

    def mrmlScene(self):
        """The scene, or None."""
        return self._scene

    def setMRMLScene(self, scene):
        """Sets the scene; emits mrmlSceneChanged if it is another."""
        if scene is not self._scene:
            self._scene = scene
            self.mrmlSceneChanged.emit(scene)


def _forget(tags):
    while tags:
        observed, tag = tags.pop()
        observed.RemoveObserver(tag)


def _option(name, kind):
    def setOption(self, value):
        self._options[name] = list(value) if kind == "QStringList" else value
        self._refresh()

    return Property(kind, lambda self: self._options[name], setOption)


@cppClass(
    "currentNodeChanged(vtkMRMLNode*)", "currentNodeIDChanged(QString)",
    "nodeAdded(vtkMRMLNode*)", "nodeAddedByUser(vtkMRMLNode*)", "nodeActivated(vtkMRMLNode*)",
)  # fmt: skip
class qMRMLNodeComboBox(qMRMLWidget):
    """Selects a node of the scene. As in Slicer, without "None" the first fitting node is selected by itself."""

    currentNodeChanged = Signal(object)
    currentNodeIDChanged = Signal(str)
    nodeAdded = Signal(object)
    nodeAddedByUser = Signal(object)
    nodeActivated = Signal(object)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._options = {
            "nodeTypes": [], "hideChildNodeTypes": [], "noneEnabled": False, "addEnabled": True, "removeEnabled": True,
            "editEnabled": False, "renameEnabled": False, "showHidden": False, "showChildNodeTypes": True,
            "selectNodeUponCreation": True, "noneDisplay": "None", "baseName": "",
        }  # fmt: skip
        self._box = qt.QComboBox()
        row = qt.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._box)
        self._ids, self._current, self._attributes = [], "", []
        self._sceneTags = sceneTags = []
        self._nodeTags = nodeTags = []
        self.destroyed.connect(lambda: (_forget(sceneTags), _forget(nodeTags)))
        self._box.activated.connect(self._onActivated)

    nodeTypes = _option("nodeTypes", "QStringList")
    hideChildNodeTypes = _option("hideChildNodeTypes", "QStringList")
    noneEnabled = _option("noneEnabled", bool)
    addEnabled = _option("addEnabled", bool)
    removeEnabled = _option("removeEnabled", bool)
    editEnabled = _option("editEnabled", bool)
    renameEnabled = _option("renameEnabled", bool)
    showHidden = _option("showHidden", bool)
    showChildNodeTypes = _option("showChildNodeTypes", bool)
    selectNodeUponCreation = _option("selectNodeUponCreation", bool)
    noneDisplay = _option("noneDisplay", str)
    baseName = _option("baseName", str)

    def setMRMLScene(self, scene):
        """Follows the scene's nodes from now on."""
        _forget(self._sceneTags)
        if scene is not None:
            names = ("NodeAdded", "NodeRemoved", "EndClose", "EndImport", "EndBatchProcess")
            events = [getattr(scene, f"{name}Event") for name in names]
            self._sceneTags.extend((scene, scene.AddObserver(event, self._onScene)) for event in events)
        super().setMRMLScene(scene)
        self._refresh()

    def _onScene(self, *_):
        if not self._scene.IsBatchProcessing():
            self._refresh()

    def _accepts(self, node):
        o = self._options
        exact = not o["showChildNodeTypes"]
        if not any(node.GetClassName() == t if exact else node.IsA(t) for t in o["nodeTypes"]):
            return False
        if any(node.IsA(t) for t in o["hideChildNodeTypes"]) or (node.GetHideFromEditors() and not o["showHidden"]):
            return False
        wanted = [(a, v) for t, a, v in self._attributes if node.IsA(t)]
        return all(node.GetAttribute(a) is not None and v in (None, node.GetAttribute(a)) for a, v in wanted)

    def _nodes(self):
        count = self._scene.GetNumberOfNodes() if self._scene else 0
        return [n for n in map(self._scene.GetNthNode, range(count)) if self._accepts(n)] if count else []

    def _refresh(self):
        nodes, o = self._nodes(), self._options
        _forget(self._nodeTags)
        self._nodeTags.extend((n, n.AddObserver(vtk.vtkCommand.ModifiedEvent, self._onNodeModified)) for n in nodes)
        entries = [("", o["noneDisplay"])] if o["noneEnabled"] else []
        entries += [(n.GetID(), n.GetName() or "") for n in nodes]
        entries += [("@add", f"Create new {self._typeLabel()}")] if o["addEnabled"] and o["nodeTypes"] else []
        entries += [("@remove", "Delete current")] if o["removeEnabled"] else []
        self._ids = [entry[0] for entry in entries]
        self._box.clear()
        self._box.addItems([entry[1] for entry in entries])
        known = self._current in self._ids and self._current
        self._select(self._current if known else "" if o["noneEnabled"] or not nodes else nodes[0].GetID())

    def _typeLabel(self):
        return self._options["nodeTypes"][0].replace("vtkMRML", "").replace("Node", "")

    def _onNodeModified(self, node, _):
        if node.GetID() in self._ids:
            self._box.setItemText(self._ids.index(node.GetID()), node.GetName() or "")

    def _select(self, nodeId):
        self._box.setCurrentIndex(self._ids.index(nodeId) if nodeId in self._ids else -1)
        if nodeId != self._current:
            self._current = nodeId
            self.currentNodeChanged.emit(self.currentNode())
            self.currentNodeIDChanged.emit(nodeId)

    def _onActivated(self, index):
        if self._ids[index] == "@add":
            self.nodeAddedByUser.emit(self.addNode())
        elif self._ids[index] == "@remove":
            self.removeCurrentNode()
        else:
            self._select(self._ids[index])
            self.nodeActivated.emit(self.currentNode())

    def addNode(self, nodeType=None):
        """Makes a node, as "Create new" in the list does."""
        name = self._options["baseName"] or self._typeLabel()
        node = self._scene.AddNewNodeByClass(nodeType or self._options["nodeTypes"][0], name)
        self.nodeAdded.emit(node)
        if self._options["selectNodeUponCreation"]:
            self.setCurrentNode(node)
        return node

    def removeCurrentNode(self):
        """Removes the node from the scene."""
        if self.currentNode():
            self._scene.RemoveNode(self.currentNode())

    def currentNode(self):
        """The selected node, or None."""
        return self._scene.GetNodeByID(self._current) if self._scene and self._current else None

    def setCurrentNode(self, node):
        """Selects a node; one that does not fit selects none."""
        self.setCurrentNodeID(node.GetID() if node is not None else "")

    def setCurrentNodeID(self, nodeId):
        """Selects a node by its ID; one that does not fit selects none."""
        self._select(nodeId if nodeId in self._ids else "")

    def nodeCount(self):
        """How many nodes can be selected."""
        return len(self._nodes())

    def addAttribute(self, nodeType, name, value=None):
        """Nodes of a type must have an attribute, of that value if one is given."""
        self._attributes.append((nodeType, name, value))
        self._refresh()

    currentNodeID = Property(str, lambda self: self._current, setCurrentNodeID)


def _addSetters(cls):
    for name in ("nodeTypes", "noneEnabled", "addEnabled", "removeEnabled", "showHidden", "baseName"):
        setattr(cls, f"set{name[0].upper()}{name[1:]}", lambda self, value, name=name: setattr(self, name, value))


_addSetters(qMRMLNodeComboBox)
