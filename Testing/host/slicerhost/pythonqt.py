"""Changes PySide6's classes in place to follow PythonQt's conventions. Knows nothing about Slicer.

In PythonQt, unlike PySide6, every Q_PROPERTY is an attribute, and any other new attribute on a C++ object is refused.
``connect("clicked(bool)", f)`` keeps ``f`` alive and passes as many arguments as it accepts. Children are attributes
by their object name. Event loops run *without releasing the GIL*, so that Python threads starve.
"""

import ctypes
import functools
import inspect
import os
import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

os.environ.setdefault("PYSIDE6_OPTION_PYTHON_ENUM", "3")  # enums are integers, as in PythonQt

import PySide6
import shiboken6
from PySide6 import QtCore, QtGui, QtTest, QtUiTools, QtWidgets

if sys.platform != "linux":
    raise ImportError("the test host calls Qt's event loop by its Linux symbol names")

CPP_CLASSES: dict[str, type] = {}  # written in Python, but stand for C++ classes (ctk, qMRML)
_PYSIDE_ONLY = {"Signal", "Slot", "Property", "SignalInstance", "ClassInfo", "qApp"}


def cppClass(cls):
    """Class decorator: the class follows the rules for C++ classes, and .ui files may use it."""
    CPP_CLASSES[cls.__name__] = cls
    return cls


def forwarded(kind, child, name):
    """A property forwarded to an inner widget."""
    return QtCore.Property(
        kind,
        lambda self: getattr(getattr(self, child), name),
        lambda self, value: setattr(getattr(self, child), name, value),
    )


def placeInRow(widget, *children):
    """Fills a widget with others, from left to right."""
    row = QtWidgets.QHBoxLayout(widget)
    row.setContentsMargins(0, 0, 0, 0)
    for child in children:
        row.addWidget(child)


class _QtProperty:
    """A Q_PROPERTY as an attribute of instances; on the class, a hidden method (QTimer.singleShot) stays."""

    def __init__(self, cls, name):
        self._name, self._hidden = name, getattr(cls, name, None)

    def __get__(self, obj, cls=None):
        return self._hidden if obj is None else QtCore.QObject.property(obj, self._name)

    def __set__(self, obj, value):
        if not QtCore.QObject.setProperty(obj, self._name, value):
            raise AttributeError(f"property '{self._name}' of {type(obj).__name__} does not accept {value!r}")


def _addProperties(cls):
    meta = cls.staticMetaObject
    for index in range(meta.propertyCount()):
        prop = meta.property(index)
        # A class may hide an inherited property again, as QPushButton.sizeHint does.
        own = index >= meta.propertyOffset() or prop.name() in cls.__dict__
        # isinstance(x, Signal) aborts in PySide6 6.12 on Python 3.11, so types are compared.
        if own and type(inspect.getattr_static(cls, prop.name(), None)) is not QtCore.Signal:
            setattr(cls, prop.name(), _QtProperty(cls, prop.name()))


def _cppBase(cls):
    """The C++ class that a class is or derives from."""
    return next(c for c in cls.__mro__ if c.__module__.startswith("PySide6.") or CPP_CLASSES.get(c.__name__) is c)


def _setAttribute(self, name, value):
    cls = type(self)
    static = inspect.getattr_static(cls, name, None)
    if isinstance(static, QtCore.Property):  # resolved in PySide's own C code, not by __set__
        QtCore.QObject.setProperty(self, name, value)
    elif hasattr(static, "__set__"):
        static.__set__(self, value)
    elif _cppBase(cls) is cls and not name.startswith("_") and type(value) is not QtCore.SignalInstance:
        if UiLoader.loading:  # PySide makes attributes of a panel's widgets, PythonQt finds them as children
            return
        raise AttributeError(f"'{name}' does not exist on {cls.__name__}, and C++ objects take no new attributes")
    else:
        self.__dict__[name] = value


def _childNamed(self, name):
    for child in QtCore.QObject.children(self):
        if child.objectName == name:
            return child
    raise AttributeError(f"{type(self).__name__} has no attribute named '{name}'")


def _normalized(signature):
    signature = re.sub(r"\bvtk\w+ *\*", "PyObject", signature)  # what a Signal(object) of the host's widgets carries
    return bytes(QtCore.QMetaObject.normalizedSignature(signature).data()).decode()


def _argumentsTaken(target):
    """How many positional arguments a Python function or method takes; None for any number, as PythonQt counts."""
    function = target.__func__ if inspect.ismethod(target) else target
    if not inspect.isfunction(function) or function.__code__.co_flags & inspect.CO_VARARGS:
        return None
    return function.__code__.co_argcount - inspect.ismethod(target)


def _signalOf(obj, signature):
    meta = obj.metaObject()
    if meta.indexOfSignal(signature) < 0:
        # PythonQt prints this and continues; here it fails the test.
        raise ValueError(f"{meta.className()} has no signal '{signature}'")
    name, types = signature[:-1].split("(")
    return getattr(obj, name)[types] if types else getattr(obj, name)


def _connect(obj, signature, target, *rest):
    if isinstance(signature, QtCore.QObject):  # PySide's own static form, which QTimer.singleShot calls
        return QtCore.QObject.connect(signature, target, *rest)
    signature = _normalized(signature)
    taken = 0 if signature.endswith("()") else _argumentsTaken(target)
    _signalOf(obj, signature).connect(lambda *args: target(*args[:taken]))
    return True


def _disconnect(obj, *_):
    raise NotImplementedError("the test host disconnects signals only as obj.signal.disconnect(slot)")


def _getAttribute(self, name, original=QtCore.QObject.__getattribute__):
    # PySide answers obj.connect in its own C code, so it has to be caught before.
    if name in ("connect", "disconnect"):
        return functools.partial(_connect if name == "connect" else _disconnect, self)
    return original(self, name)


def _keepGilInEventLoops():
    """A call through PyDLL, unlike PySide's own, does not release the GIL."""
    folder = Path(PySide6.__file__).parent / "Qt" / "lib"
    core, widgets = (ctypes.PyDLL(str(folder / f"libQt6{name}.so.6")) for name in ("Core", "Widgets"))
    execute, execDialog = core._ZN16QCoreApplication4execEv, widgets._ZN7QDialog4execEv
    process = core._ZN16QCoreApplication13processEventsE6QFlagsIN10QEventLoop17ProcessEventsFlagEE
    for cls in (QtCore.QCoreApplication, QtGui.QGuiApplication, QtWidgets.QApplication):
        cls.exec_ = staticmethod(lambda *_: execute())
        cls.processEvents = staticmethod(lambda *_: process(0))
    QtWidgets.QDialog.exec_ = lambda self: execDialog(ctypes.c_void_p(shiboken6.getCppPointer(self)[0]))


class UiLoader(QtUiTools.QUiLoader):
    """QUiLoader with the ctk and qMRML widgets; raises RuntimeError for unknown widget classes."""

    loading = False

    def load(self, device):
        """The widget of a .ui file, with its connections: Qt does not know signatures with MRML types."""
        root = ElementTree.fromstring(bytes(device.readAll().data()))
        unknown = {w.get("class") for w in root.iter("widget")} - set(CPP_CLASSES) - set(dir(QtWidgets))
        if unknown:
            raise RuntimeError(f"the .ui file uses widget classes that the test host does not have: {unknown}")
        connections = root.findall("connections/connection")
        for element in root.findall("connections"):
            root.remove(element)
        for cls in CPP_CLASSES.values():
            self.registerCustomWidget(cls)
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(root))
        UiLoader.loading = True
        try:
            widget = super().load(buffer)
        finally:
            UiLoader.loading = False
        widgets = {child.objectName: child for child in (widget, *widget.findChildren(QtWidgets.QWidget))}
        for connection in connections:
            sender, signal, receiver, slot = (connection[index].text for index in range(4))
            _connect(widgets[sender], signal, getattr(widgets[receiver], slot.split("(")[0]))
        return widget


def exportedNames():
    """Patches the classes (once, when `qt` is imported) and returns the names of module `qt`."""
    names = {}
    for module in (QtCore, QtGui, QtWidgets, QtTest):
        names.update({n: getattr(module, n) for n in dir(module) if n[0] != "_" and n not in _PYSIDE_ONLY})
    classes = [c for c in names.values() if isinstance(c, type) and issubclass(c, QtCore.QObject)]
    for cls in sorted(set(classes), key=lambda c: len(c.__mro__)):
        _addProperties(cls)
        if cls is QtCore.QObject or "__setattr__" in cls.__dict__:  # PySide gives each class its own slot
            cls.__setattr__ = _setAttribute
    base = QtCore.QObject
    base.name = inspect.getattr_static(base, "objectName")
    base.className = lambda self: _cppBase(type(self)).__name__
    base.delete = lambda self: shiboken6.delete(self)
    base.__getattribute__ = _getAttribute
    base.__getattr__ = _childNamed
    _keepGilInEventLoops()
    for name in ("getSaveFileName", "getOpenFileName"):  # PySide gives the chosen filter, too
        ask = getattr(QtWidgets.QFileDialog, name)
        setattr(QtWidgets.QFileDialog, name, staticmethod(lambda *arguments, ask=ask: ask(*arguments)[0]))
    return {**names, "QUiLoader": UiLoader}
