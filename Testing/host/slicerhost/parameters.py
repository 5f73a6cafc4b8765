"""Double of slicer.parameterNodeWrapper: the types and widgets that the module uses; others raise. Knows no module.

Three things of the real one are kept because they bite: every change of the node writes *every* connected widget, even
the one being typed in (the cursor of a text box goes to its start, Slicer #8620); `connectGui` returns no tag, so that
only `connectParametersToGui` can be undone (#7547); and values are cached until the node says that it was modified.
"""

import dataclasses
import types
import typing
import weakref

import slicer
import vtk

import ctk
import qt


@dataclasses.dataclass
class WithinRange:
    """Both ends are allowed; spin boxes and sliders take over the range."""

    minimum: float
    maximum: float

    def validate(self, value):
        """Raises ValueError outside."""
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"{value} is not within {self.minimum} and {self.maximum}")


class _FrozenList(list):
    """What a list parameter reads as. Slicer writes changes in place back; here the list has to be assigned whole."""

    def _refuse(self, *_):
        raise NotImplementedError("assign a new list to the parameter: the test host does not follow changes in place")

    append = extend = insert = remove = pop = clear = sort = reverse = _refuse
    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse


class _Parameter:
    """One parameter: how its values are checked, written to a vtkMRMLScriptedModuleNode and read from it."""

    def __init__(self, name, annotation, owner):
        self.name, self.annotation = name, annotation
        annotated = typing.get_origin(annotation) is typing.Annotated
        self.type = annotation.__origin__ if annotated else annotation
        self.ranges = annotation.__metadata__ if annotated else ()
        union = typing.get_origin(self.type) in (typing.Union, types.UnionType)
        members = [m for m in (typing.get_args(self.type) if union else (self.type,)) if m is not type(None)]
        self.nodeClasses = tuple(m for m in members if isinstance(m, type) and issubclass(m, slicer.vtkMRMLNode))
        self.isList = self.type == list[str]
        known = self.isList or self.type in (str, int, float, bool) or len(self.nodeClasses) == len(members)
        if not known or not all(isinstance(r, WithinRange) for r in self.ranges):
            raise TypeError(f"parameter '{name}': the test host does not know {annotation}")
        ofType = None if self.nodeClasses else [] if self.isList else self.type()
        self.default = owner.__dict__.get(name, ofType)

    def check(self, value):
        """Raises TypeError or ValueError if the value does not belong here."""
        wanted = list if self.isList else (int, float) if self.type is float else self.type
        if not isinstance(value, (*self.nodeClasses, type(None)) if self.nodeClasses else wanted):
            raise TypeError(f"parameter '{self.name}': {value!r} is not of {self.annotation}")
        for bounds in self.ranges:
            bounds.validate(value)

    def isIn(self, node):
        """Whether the node has a value."""
        return bool(node.HasParameter(self.name))

    def write(self, node, value):
        """Checks the value and stores it, with one Modified event at most."""
        self.check(value)
        with slicer.util.NodeModify(node):
            if self.nodeClasses:
                node.SetParameter(self.name, "")
                node.SetNodeReferenceID(self.name, value.GetID() if value is not None else None)
            elif self.isList:
                node.SetParameter(self.name, str(len(value)))
                for index, item in enumerate(value):
                    node.SetParameter(f"{self.name}.{index}", item)
            else:
                node.SetParameter(self.name, str(value))

    def read(self, node):
        """The stored value."""
        if self.nodeClasses:
            return node.GetNodeReference(self.name)
        text = node.GetParameter(self.name)
        if self.isList:
            return _FrozenList(node.GetParameter(f"{self.name}.{index}") for index in range(int(text)))
        return text == "True" if self.type is bool else self.type(text)


# Widgets


def _setRange(widget, parameter):
    if not parameter.ranges and isinstance(widget, ctk.ctkSliderWidget):
        raise RuntimeError("a ctkSliderWidget needs a WithinRange annotation")
    bounds = parameter.ranges[0] if parameter.ranges else WithinRange(-(2**31), 2**31 - 1)
    widget.minimum, widget.maximum = bounds.minimum, bounds.maximum


def _connector(widget, parameter):
    """How a widget shows a parameter: its signal, a function that reads it and one that writes it.

    As in Slicer the widget's class must be exactly the known one; a subclass is refused.
    """
    cls, kind = type(widget), parameter.type
    if cls is slicer.qMRMLNodeComboBox and parameter.nodeClasses:
        widget.nodeTypes = [c.__name__ for c in parameter.nodeClasses]
        return widget.currentNodeChanged, widget.currentNode, widget.setCurrentNode
    if cls is qt.QTextEdit and kind is str:
        return widget.textChanged, widget.toPlainText, widget.setPlainText
    if cls is qt.QLineEdit and kind is str:
        return widget.textChanged, lambda: widget.text, widget.setText
    if cls in (qt.QCheckBox, qt.QPushButton) and kind is bool:
        return widget.toggled, lambda: widget.checked, widget.setChecked
    if (cls, kind) in ((qt.QSpinBox, int), (qt.QDoubleSpinBox, float), (ctk.ctkSliderWidget, float)):
        _setRange(widget, parameter)
        return widget.valueChanged, lambda: widget.value, widget.setValue
    raise RuntimeError(f"no way to show {parameter.annotation} in a {cls.__name__}")


class _Wrapper:
    """What the decorator makes of a class: typed attributes over a vtkMRMLScriptedModuleNode."""

    allParameters: typing.ClassVar[dict] = {}

    def __init__(self, parameterNode):
        self.parameterNode = parameterNode
        self._connected, self._nextTag, self._updating, self._cache = {}, 0, False, {}
        own = weakref.ref(self)  # an observer that held the wrapper would keep it for as long as the node lives
        self._tags = []
        for name in self.allParameters:
            self._refresh(name)
            # One observer a parameter, as in Slicer: VTK calls the node's very first observer last, so that other
            # observers read an old value of the first parameter if something else than this wrapper changed it.
            self._tags.append(self._observe(lambda *_, name=name: own() and own()._refresh(name)))
        self._tags.append(self._observe(lambda *_: own() and own()._updateGui()))

    def __del__(self):
        for tag in self._tags:
            self.parameterNode.RemoveObserver(tag)

    def _observe(self, callback):
        return self.parameterNode.AddObserver(vtk.vtkCommand.ModifiedEvent, callback)

    def _refresh(self, name):
        """Reads a value into the cache; what the node lacks (a new node, a closed scene) gets its default first."""
        parameter = self.allParameters[name]
        if not parameter.isIn(self.parameterNode):
            parameter.write(self.parameterNode, parameter.default)
        self._cache[name] = parameter.read(self.parameterNode)

    def _updateGui(self):
        if self._updating:
            return
        self._updating = True
        try:
            for widgets in list(self._connected.values()):
                for name, (_, _, write, _) in widgets.items():
                    write(self._cache[name])
        finally:
            self._updating = False

    def _parameter(self, name):
        if name not in self.allParameters:
            raise ValueError(f"there is no parameter '{name}' among {sorted(self.allParameters)}")
        return self.allParameters[name]

    def getValue(self, name):
        """The value of a parameter by its name."""
        self._parameter(name)
        return self._cache[name]

    def setValue(self, name, value):
        """Sets a parameter by its name."""
        parameter = self._parameter(name)
        with slicer.util.NodeModify(self.parameterNode):  # observers already read the new value
            parameter.write(self.parameterNode, value)
            self._cache[name] = parameter.read(self.parameterNode)

    def connectGui(self, gui):
        """Connects the widgets that have the property SlicerParameterName. Returns nothing, as in Slicer."""
        named = {widget.property("SlicerParameterName"): widget for widget in gui.__dict__.values()}
        self.connectParametersToGui({name: widget for name, widget in named.items() if name})

    def connectParametersToGui(self, mapping):
        """Connects widgets by parameter name; gives a tag for `disconnectGui`."""
        widgets = {}
        for name, widget in mapping.items():
            signal, read, write = _connector(widget, self._parameter(name))
            write(self._cache[name])
            widgets[name] = (signal, read, write, self._follow(signal, name, read))
        self._nextTag += 1
        self._connected[self._nextTag] = widgets
        return self._nextTag

    def _follow(self, signal, name, read):
        def onChanged(*_):
            if not self._updating:
                self.setValue(name, read())

        signal.connect(onChanged)
        return onChanged

    def disconnectGui(self, tag):
        """Undoes `connectParametersToGui`; an unknown tag (None, too) does nothing, as in Slicer."""
        for signal, _, _, onChanged in self._connected.pop(tag, {}).values():
            signal.disconnect(onChanged)

    def StartModify(self):
        """Holds Modified events back; gives what EndModify takes."""
        return self.parameterNode.StartModify()

    def EndModify(self, wasModifying):
        """Lets Modified events out."""
        self.parameterNode.EndModify(wasModifying)

    def Modified(self):
        """Says that the node was modified."""
        self.parameterNode.Modified()

    def AddObserver(self, event, callback, priority=0.0):
        """Observes the node."""
        return self.parameterNode.AddObserver(event, callback, priority)

    def RemoveObserver(self, tag):
        """Ends an observation."""
        self.parameterNode.RemoveObserver(tag)


def parameterNodeWrapper(cls):
    """Class decorator: annotated names become parameters.

    Raises:
        TypeError: a type that this double does not know.
    """
    parameters = {n: _Parameter(n, a, cls) for n, a in typing.get_type_hints(cls, include_extras=True).items()}
    body = {k: v for k, v in cls.__dict__.items() if k not in ("__dict__", "__weakref__")}
    body["allParameters"] = parameters
    for name in parameters:
        body[name] = property(lambda s, n=name: s.getValue(n), lambda s, value, n=name: s.setValue(n, value))
    return type(cls.__name__, (_Wrapper,), body)


def submodule():
    """The module slicer.parameterNodeWrapper."""
    module = types.ModuleType("slicer.parameterNodeWrapper")
    module.parameterNodeWrapper, module.WithinRange = parameterNodeWrapper, WithinRange
    return module
