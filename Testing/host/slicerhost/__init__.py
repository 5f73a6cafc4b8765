"""A stand-in for the parts of 3D Slicer that slicer-core lacks, for tests. Knows no particular module.

What is real: MRML (scene, nodes, storage, logics, displayable managers) and slicer/util.py, from the package
slicer-core; Qt, from PySide6-Essentials. What is made here: PythonQt's conventions, the ctk and qMRML widgets,
slicer.app, the main window, ScriptedLoadableModule, parameterNodeWrapper and translation. Linux only; on a bare
Debian 12 it needs libgl1 libegl1 libgl1-mesa-dri libx11-6 libxext6 libxrender1 libxcursor1 libxkbcommon0 libdbus-1-3
libfontconfig1 libglib2.0-0 and a font. Set QT_QPA_PLATFORM=offscreen where there is no display.
"""

import contextlib
import importlib
import sys
import time
import traceback
from pathlib import Path


class Host:
    """The running application; `start` makes the only one."""

    def __init__(self, window):
        import slicer

        import qt

        from . import application, parameters, qmrml, scripted

        self.slicer, self.qt = slicer, qt
        slicer.app = application.qSlicerApplication()
        for name, value in {**vars(qmrml), **vars(application)}.items():
            if name.startswith("q") and isinstance(value, type):
                setattr(slicer, name, value)
        application.addModules()
        for name, module in {**scripted.submodules(), "parameterNodeWrapper": parameters.submodule()}.items():
            sys.modules[f"slicer.{name}"] = module
            setattr(slicer, name, module)
        self._application = application
        self.errors: list[str] = []
        sys.excepthook = self._onException
        self.window = self._makeWindow() if window else None

    def _onException(self, kind, error, trace):
        """Exceptions in slots and observers end here: Slicer prints them and goes on, a test should fail."""
        self.errors.append("".join(traceback.format_exception(kind, error, trace)))
        print(self.errors[-1], file=sys.stderr)

    def takeErrors(self):
        """The exceptions of slots and observers since the last call, as text."""
        errors, self.errors = self.errors, []
        return errors

    def _makeWindow(self):
        from . import views, window

        self.slicer.app.layoutManagerOfWindow = views.LayoutManager()
        return window.MainWindow(self.slicer.app.layoutManager())

    def setTestingEnabled(self, testing):
        """Whether slicer.util answers questions by itself (the default) or shows its dialogs."""
        self.slicer.app.testing = testing

    @contextlib.contextmanager
    def withoutWindow(self):
        """As `Slicer --no-main-window`: no main window, no layout manager."""
        app, window = self.slicer.app, self.window
        layoutManager = app.layoutManagerOfWindow
        app.hiddenWindow, app.layoutManagerOfWindow = window, None
        try:
            yield
        finally:
            app.hiddenWindow, app.layoutManagerOfWindow = None, layoutManager

    def loadModule(self, path):
        """Loads a scripted module from its file, opens its panel, and gives the Python module and its widget."""
        name, folder = Path(path).stem, str(Path(path).parent)
        if folder not in sys.path:
            sys.path.insert(0, folder)
        python = importlib.import_module(name)
        module = self._application.qSlicerScriptedLoadableModule(name, path=str(path))
        setattr(self.slicer.modules, f"{name}Instance", getattr(python, name)(module))
        self.slicer.app.moduleManager().add(module)
        module._widget = self._application.qSlicerScriptedLoadableModuleWidget(name)
        self._open(name)
        return python, module.widgetRepresentation().self()

    def _open(self, name):
        if self.slicer.util.mainWindow() is not None:
            self.slicer.util.selectModule(name)
        else:
            self.slicer.util.getModule(name).widgetRepresentation().notify("enter")

    def reloadModule(self, name):
        """What the Reload button does; gives the new Python module and widget."""
        panel = self.slicer.util.getModule(name).widgetRepresentation()
        panel.self().onReload()
        return sys.modules[name], panel.self()

    def unloadModule(self, name):
        """What happens to a module when Slicer exits; it can be loaded again afterwards."""
        panel = self.slicer.util.getModule(name).widgetRepresentation()
        if self.window is not None:
            self.window.moduleSelector().leave(panel)
        self.slicer.app.moduleManager().unload(name)
        for attribute in (f"{name}Widget", f"{name}Instance"):
            delattr(self.slicer.modules, attribute)
        sys.modules.pop(name)
        panel.delete()

    def closeScene(self):
        """File / Close scene: removes all but the singleton nodes."""
        self.slicer.mrmlScene.Clear(False)

    def runEventLoop(self, until=None, timeout=1.0):
        """Runs the event loop, which keeps the GIL, for `timeout` seconds, or shorter if `until()` becomes true.

        Returns:
            Whether `until()` became true; without `until`, True.
        """
        end, timer, met = time.monotonic() + timeout, self.qt.QTimer(), []

        def check():
            if until is not None and until():
                met.append(True)
            if met or time.monotonic() > end:
                self.slicer.app.quit()

        timer.connect("timeout()", check)
        timer.start(5)
        self.slicer.app.exec_()
        timer.stop()
        return bool(met) or until is None

    def call(self, function):
        """Calls a function from within the event loop, as all of Slicer is, and gives its result.

        Dialogs of slicer.util need it: they call deleteLater first, which outside of a loop deletes them at once.
        """
        outcome = []

        def run():
            try:
                outcome.append((function(), None))
            except Exception as error:
                outcome.append((None, error))
            self.slicer.app.quit()

        self.qt.QTimer.singleShot(0, run)
        self.slicer.app.exec_()
        result, error = outcome[0]
        if error is not None:
            raise error
        return result

    def screenshot(self, path, size=(1366, 768)):
        """Saves a picture of the main window at a size in pixels, its views rendered anew; gives the picture."""
        self.window.resize(*size)
        self.window.show()
        for _ in range(3):  # layouts settle over several rounds
            self.slicer.app.processEvents()
        for view in self.slicer.app.layoutManagerOfWindow.views.values():
            if view.isVisible():
                view.refresh()
        self.slicer.app.processEvents()
        pixmap = self.window.grab()
        pixmap.save(str(path))
        return pixmap.toImage()


_host = None


def start(window=True):
    """The host of this process, made at the first call. Modules can be imported only after that.

    Raises:
        ImportError: slicer-core or PySide6 is not installed.
    """
    global _host
    if _host is None:
        _host = Host(window)
    return _host
