"""Changes PySide6's classes in place to PythonQt's conventions. Knows nothing about Slicer.

What PythonQt does and PySide6 does not: every Q_PROPERTY is an attribute; any other new attribute on a C++ object is
refused; ``connect("clicked(bool)", f)`` keeps ``f`` alive and gives it as many arguments as it takes; children are
attributes by their object name; and event loops run *without releasing the GIL*, so that Python threads starve.
"""

import ctypes
import functools
import inspect
import os
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

os.environ.setdefault("PYSIDE6_OPTION_PYTHON_ENUM", "3")  # enums are integers, as PythonQt's are

import PySide6
import shiboken6
from PySide6 import QtCore, QtGui, QtTest, QtUiTools, QtWidgets

if sys.platform != "linux":
    raise ImportError("the test host calls Qt's event loop by its Linux symbol names")

CPP_CLASSES: dict[str, type] = {}
"""Widget classes made in Python that stand for C++ ones (ctk, qMRML), by name: what a .ui file may also use."""

_PYSIDE_ONLY = {"Signal", "Slot", "Property", "SignalInstance", "ClassInfo", "qApp"}


def cppClass(*signals):
    """Class decorator: the class obeys the rules of C++ classes, and `signals` are its signatures with C++ types.

    Args:
        signals: such as ``"currentNodeChanged(vtkMRMLNode*)"``, for which the class has a Signal of that name.
    """

    def decorate(cls):
        inherited = getattr(cls, "_hostSignals", {})
        cls._hostSignals = {**inherited, **{_normalized(s): s.split("(")[0] for s in signals}}
        cls._hostCpp = cls
        CPP_CLASSES[cls.__name__] = cls
        return cls

    return decorate


def _normalized(signature):
    return bytes(QtCore.QMetaObject.normalizedSignature(signature).data()).decode()


# Properties


class _QtProperty:
    """A Q_PROPERTY as an attribute of instances; on the class, the method it hides (QTimer.singleShot) stays."""

    def __init__(self, cls, name, writable):
        self.name = name
        self.hidden = getattr(cls, name, None)
        getter = inspect.getattr_static(cls, name, None)
        self.getter = getter if type(getter).__name__ == "method_descriptor" else None
        self.setter = getattr(cls, f"set{name[0].upper()}{name[1:]}", None) if writable else None
        self.writable = writable

    def __get__(self, obj, cls=None):
        if obj is None:
            return self if self.hidden is None else self.hidden
        return self.getter(obj) if self.getter else QtCore.QObject.property(obj, self.name)

    def __set__(self, obj, value):
        if not self.writable:
            raise AttributeError(f"property '{self.name}' of {type(obj).__name__} is not writable")
        if self.setter:
            self.setter(obj, value)
        elif not QtCore.QObject.setProperty(obj, self.name, value):
            raise AttributeError(f"property '{self.name}' of {type(obj).__name__} does not accept {value!r}")


def _addProperties(cls):
    meta = cls.staticMetaObject
    for index in range(meta.propertyCount()):
        prop = meta.property(index)
        # A class may hide an inherited property again, as QPushButton.sizeHint does.
        own = index >= meta.propertyOffset() or prop.name() in cls.__dict__
        # isinstance(x, Signal) aborts in PySide6 6.12 on Python 3.11, so types are compared.
        if own and type(inspect.getattr_static(cls, prop.name(), None)) is not QtCore.Signal:
            setattr(cls, prop.name(), _QtProperty(cls, prop.name(), prop.isWritable()))


def _cppBase(cls):
    """The C++ class that a class is or derives from."""
    return next(c for c in cls.__mro__ if c.__module__.startswith("PySide6.") or c.__dict__.get("_hostCpp") is c)


def _setAttribute(self, name, value):
    cls = type(self)
    static = inspect.getattr_static(cls, name, None)
    if isinstance(static, QtCore.Property):  # resolved in PySide's own C code, not by __set__
        if not QtCore.QObject.setProperty(self, name, list(value) if isinstance(value, tuple) else value):
            raise AttributeError(f"property '{name}' of {cls.__name__} does not accept {value!r}")
    elif hasattr(static, "__set__"):
        static.__set__(self, value)
    elif name in [bytes(p.data()).decode() for p in self.dynamicPropertyNames()]:
        self.setProperty(name, value)
    elif _cppBase(cls) is cls and not name.startswith("_") and type(value) is not QtCore.SignalInstance:
        raise AttributeError(f"'{name}' does not exist on {cls.__name__}, and C++ objects take no new attributes")
    else:
        self.__dict__[name] = value


def _missingAttribute(self, name):
    if not name.startswith("_"):
        value = QtCore.QObject.property(self, name)
        if value is not None:
            return value
        for child in QtCore.QObject.children(self):
            if child.objectName == name:
                return child
    raise AttributeError(f"{type(self).__name__} has no attribute named '{name}'")


# Signals


def _argumentsTaken(target):
    """How many positional arguments a Python function or method takes; None for any number, as PythonQt counts."""
    function = target.__func__ if inspect.ismethod(target) else target
    if not inspect.isfunction(function) or function.__code__.co_flags & inspect.CO_VARARGS:
        return None
    return function.__code__.co_argcount - inspect.ismethod(target)


def _signalOf(obj, signature):
    """The signal of a normalised signature, and how many arguments the signature asks for."""
    own = getattr(type(obj), "_hostSignals", {})
    if signature in own:
        return getattr(obj, own[signature]), None
    meta = obj.metaObject()
    index = meta.indexOfSignal(signature)
    if index < 0:
        # PythonQt prints this and goes on; here it stops the test.
        raise ValueError(f"{meta.className()} has no signal '{signature}'")
    signal = getattr(obj, signature.split("(")[0])
    types = signature[signature.index("(") + 1 : -1]
    return (signal[types] if types else signal), meta.method(index).parameterCount()


def _connect(obj, signature, target, *rest):
    if isinstance(signature, QtCore.QObject):  # PySide's own static form, which QTimer.singleShot calls
        return QtCore.QObject.connect(signature, target, *rest)
    signature = _normalized(signature)
    signal, given = _signalOf(obj, signature)
    taken = _argumentsTaken(target)

    def call(*args):
        target(*args[: min(n for n in (len(args), given, taken) if n is not None)])

    signal.connect(call)
    _connections(obj).append((signature, target, signal, call))
    return True


def _disconnect(obj, signature, target):
    signature = _normalized(signature)
    found = [c for c in _connections(obj) if c[0] == signature and c[1] == target]
    for connection in found:
        connection[2].disconnect(connection[3])
        _connections(obj).remove(connection)
    return bool(found)


def _connections(obj):
    return obj.__dict__.setdefault("_hostConnections", [])


def _getAttribute(self, name, original=QtCore.QObject.__getattribute__):
    # PySide answers obj.connect in its own C code, so it has to be caught before.
    if name == "connect":
        return functools.partial(_connect, self)
    if name == "disconnect":
        return functools.partial(_disconnect, self)
    value = original(self, name)
    if isinstance(value, list) and isinstance(inspect.getattr_static(type(self), name, None), QtCore.Property):
        return tuple(value)  # PythonQt hands a QStringList out as a tuple
    return value


# Event loops that keep the GIL: a PyDLL call, unlike PySide's own, does not release it.

_LIBRARIES = Path(PySide6.__file__).parent / "Qt" / "lib"
_core = ctypes.PyDLL(str(_LIBRARIES / "libQt6Core.so.6"))
_widgets = ctypes.PyDLL(str(_LIBRARIES / "libQt6Widgets.so.6"))


def _pointer(obj):
    return ctypes.c_void_p(shiboken6.getCppPointer(obj)[0])


def _execApplication(*_):
    return _core._ZN16QCoreApplication4execEv()


def _processEvents(*_):
    _core._ZN16QCoreApplication13processEventsE6QFlagsIN10QEventLoop17ProcessEventsFlagEE(0)


def _execDialog(self):
    return _widgets._ZN7QDialog4execEv(_pointer(self))


def _keepGilInEventLoops():
    for cls in (QtCore.QCoreApplication, QtGui.QGuiApplication, QtWidgets.QApplication):
        cls.exec_ = staticmethod(_execApplication)
        cls.processEvents = staticmethod(_processEvents)
    QtWidgets.QDialog.exec_ = _execDialog


# .ui files


class UiLoader(QtUiTools.QUiLoader):
    """QUiLoader with the ctk and qMRML widgets; a widget class that it does not know is an error."""

    def __init__(self, *args):
        super().__init__(*args)
        for cls in CPP_CLASSES.values():
            if issubclass(cls, QtWidgets.QWidget):
                self.registerCustomWidget(cls)

    def load(self, device, parent=None):
        """The widget of a .ui file, its connections made.

        Raises:
            RuntimeError: a widget class is unknown, or a connection names an object that is not there.
        """
        root = ElementTree.fromstring(bytes(device.readAll().data()))
        self._refuseUnknown({w.get("class") for w in root.iter("widget")})
        connections = root.find("connections")
        if connections is not None:
            root.remove(connections)  # Qt does not know signatures with MRML types; _connect does
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(root))
        buffer.open(QtCore.QIODevice.ReadOnly)
        widget = super().load(buffer, parent)
        for connection in connections if connections is not None else ():
            self._join(widget, *(connection.find(tag).text for tag in ("sender", "signal", "receiver", "slot")))
        return widget

    @staticmethod
    def _refuseUnknown(classes):
        unknown = [c for c in classes if c not in CPP_CLASSES and not hasattr(QtWidgets, c) and c != "Line"]
        if unknown:
            raise RuntimeError(f"the .ui file uses widget classes that the test host does not have: {sorted(unknown)}")

    @staticmethod
    def _join(widget, *names):
        def find(name):
            found = widget if widget.objectName == name else widget.findChild(QtCore.QObject, name)
            if found is None:
                raise RuntimeError(f"a connection in the .ui file names '{name}', which is not there")
            return found

        sender, signal, receiver, slot = names
        _connect(find(sender), signal, getattr(find(receiver), slot.split("(")[0]))


def exportedNames():
    """Patches the classes (once, at the import of `qt`) and gives the names that module `qt` has."""
    names = {}
    for module in (QtCore, QtGui, QtWidgets, QtUiTools, QtTest):
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
    base.__getattr__ = _missingAttribute
    _keepGilInEventLoops()
    return {**names, "QUiLoader": UiLoader}
