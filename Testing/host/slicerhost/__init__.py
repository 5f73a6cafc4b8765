"""A stand-in for the parts of 3D Slicer that slicer-core lacks, for tests. Knows no particular module.

Real: MRML (scene, nodes, storage, logics, displayable managers) and slicer/util.py, from the package
slicer-core; Qt, from PySide6-Essentials. Reimplemented: PythonQt's conventions, the ctk and qMRML widgets,
slicer.app, the main window, ScriptedLoadableModule, parameterNodeWrapper and translation. Linux only; on a bare
Debian 12 it needs libgl1 libegl1 libgl1-mesa-dri libx11-6 libxext6 libxrender1 libxcursor1 libxkbcommon0 libdbus-1-3
libfontconfig1 libglib2.0-0 and a font. Set QT_QPA_PLATFORM=offscreen where there is no display.
"""

import concurrent.futures
import contextlib
import importlib
import sys
import time
import traceback
from pathlib import Path

import qt
import slicer

from . import application, scripted, views
from .application import returning

_hosts: list = []


class Host:
    """The running application; `start` makes the only instance."""

    def __init__(self, window):
        self.slicer, self.qt, self._errors, self.window = slicer, qt, [], None
        sys.excepthook = self._onException
        self.app = slicer.app = application.Application()
        application.addModules()
        for name, module in scripted.submodules():
            sys.modules[f"slicer.{name}"] = module
            setattr(slicer, name, module)
        if window:
            self.app.layoutManager = returning(views.LayoutManager())
            self.window = views.MainWindow(self.app.layoutManager())

    def _onException(self, kind, error, trace):
        """Collects exceptions in slots and observers: Slicer prints them and continues, but a test should fail."""
        self._errors.append("".join(traceback.format_exception(kind, error, trace)))
        print(self._errors[-1], file=sys.stderr)

    def takeErrors(self):
        """The exceptions in slots and observers since the last call, as text."""
        sys.excepthook = self._onException  # again: typer puts its own there whenever a command line runs
        errors, self._errors = self._errors, []
        return errors

    def setTestingEnabled(self, testing):
        """Set whether slicer.util answers questions by itself (the default) or shows its dialogs."""
        self.app.testingEnabled = returning(testing)

    @contextlib.contextmanager
    def withoutWindow(self):
        """Like `Slicer --no-main-window`: no main window, no layout manager."""
        name, layoutManager = self.window.name, self.app.layoutManager
        self.window.name, self.app.layoutManager = "hidden", returning(None)
        try:
            yield
        finally:
            self.window.name, self.app.layoutManager = name, layoutManager

    def loadModule(self, path):
        """Loads a scripted module from its file and opens its panel; returns the Python module and its widget."""
        name, folder = Path(path).stem, str(Path(path).parent)
        if folder not in sys.path:
            sys.path.insert(0, folder)
        python = importlib.import_module(name)
        module = application.Module(name, str(path))
        module.selfTest = getattr(python, name)(module).runTest
        self.app.moduleManager().add(module)
        panel = application.ScriptedModulePanel(name)
        module.widgetRepresentation = returning(panel)
        if slicer.util.mainWindow() is not None:
            slicer.util.selectModule(name)
        return python, panel.self()

    def reloadModule(self, name):
        """Like the Reload button; returns the new Python module and widget."""
        panel = slicer.util.getModule(name).widgetRepresentation()
        panel.self().onReload()
        return sys.modules[name], panel.self()

    def unloadModule(self, name):
        """Unloads a module as when Slicer exits; it can be loaded again."""
        panel = slicer.util.getModule(name).widgetRepresentation()
        if self.window is not None and self.window.selectedModule == name:
            self.window.leaveModule()
        panel.self().cleanup()
        self.app.moduleManager().remove(name)
        delattr(slicer.modules, f"{name}Widget")
        del sys.modules[name]
        panel.delete()

    def closeScene(self):
        """File / Close scene: removes all but the singleton nodes."""
        slicer.mrmlScene.Clear(False)

    def resetViews(self):
        """Turns the slice views as they are in a new application."""
        manager = slicer.app.layoutManager()
        for name in manager.sliceViewNames():
            manager.sliceWidget(name).resetOrientation()

    def runEventLoop(self, until=None, timeout=1.0):
        """Runs the event loop, which keeps the GIL, for `timeout` seconds, or shorter if `until()` becomes true.

        Returns:
            Whether `until()` became true; without `until`, True.
        """
        end, timer, met = time.monotonic() + timeout, self.qt.QTimer(), [until is None]

        def check():
            if time.monotonic() > end:
                self.app.exit()  # not quit, which closes the window
            elif until is not None and until():
                met.append(True)
                self.app.exit()

        timer.connect("timeout()", check)
        timer.start(5)
        self.app.exec_()
        timer.stop()
        return any(met)

    def call(self, function):
        """Calls a function from within the event loop, as Slicer does, and returns its result.

        Dialogs of slicer.util need it: they call deleteLater first, which deletes them at once outside a loop.
        """
        outcome = concurrent.futures.Future()

        def run():
            try:
                outcome.set_result(function())
            except Exception as error:
                outcome.set_exception(error)

        self.qt.QTimer.singleShot(0, run)
        self.runEventLoop(until=outcome.done, timeout=600)
        return outcome.result(timeout=0)

    def screenshot(self, path, size=(1366, 768)):
        """Saves a picture of the main window at a size in pixels, with its views rendered again; returns it."""
        before = self.window.size
        self.window.resize(*size)
        self.window.show()
        for _ in range(3):  # layouts settle over several rounds
            self.app.processEvents()
        for view in self.app.layoutManager().views.values():
            if view.visible:
                view.refresh()
        self.app.processEvents()
        pixmap = self.window.grab()
        pixmap.save(str(path))
        self.window.resize(before)
        return pixmap.toImage()


def start(window=True):
    """The host of this process, made by the first call. Modules can be imported only afterwards."""
    if not _hosts:
        _hosts.append(Host(window))
    return _hosts[0]
