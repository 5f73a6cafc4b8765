"""The running stand-in for Slicer, an empty scene for every test, and the module's panel with the real engine."""

import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
_HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(_HERE.parent / "host"), str(_HERE)]


@pytest.fixture(scope="session")
def host():
    """The application with its main window, one for all tests."""
    if not sys.platform.startswith("linux"):
        pytest.skip("the Slicer stand-in needs Linux")
    pytest.importorskip("PySide6", reason="the Slicer stand-in needs PySide6-Essentials")
    pytest.importorskip("slicer", reason="the Slicer stand-in needs slicer-core", exc_type=ImportError)
    import slicerhost

    return slicerhost.start()


@pytest.fixture
def scene(host):
    """An empty scene; the test fails if a slot or an observer raised, which Slicer would only print."""
    host.closeScene()
    host.resetViews()  # their nodes stay when a scene is closed
    host.takeErrors()
    yield host.slicer.mrmlScene
    host.setTestingEnabled(True)
    host.closeScene()
    errors = host.takeErrors()
    assert not errors, "".join(errors)


@pytest.fixture
def session(scene):
    """A segmentation of a volume, written and undone as the logic does it, without a panel."""
    from editing_session import Session
    from scene_volumes import addVolume

    from FastTextDiffSegmentLib.scene.SegmentWriter import SegmentWriter

    volume = addVolume()
    session = Session(SegmentWriter().newSegmentation(volume), volume)
    yield session
    session.history.close()
    session.archive.close()


@pytest.fixture(scope="module")
def module(host):
    """The module, loaded once for all tests, like a Slicer that stays open all day."""
    from module_panel import MODULE

    host.loadModule(str(MODULE))
    yield
    host.unloadModule("FastTextDiffSegment")


@pytest.fixture
def panel(host, module, scene):
    from module_panel import Panel

    widget = host.slicer.modules.FastTextDiffSegmentWidget
    host.slicer.util.selectModule("FastTextDiffSegment")
    host.window.show()
    host.window.activateWindow()
    assert host.runEventLoop(until=lambda: host.window.isActiveWindow, timeout=60)
    panel = Panel(host, widget)
    panel.waitFor(lambda: widget.logic.session.isOpen)
    widget.setupSection.acceptLicence()
    sections = {name: part.collapsed for name, part in vars(panel.ui).items() if name.endswith("CollapsibleButton")}
    yield panel
    for name, collapsed in sections.items():  # the next test gets the panel as it is when Slicer starts
        getattr(panel.ui, name).collapsed = collapsed
    if panel.widget.run.isRunning:
        panel.widget.run.cancel()
        panel.finishRun()
    assert "Internal error" not in panel.message


@pytest.fixture
def chestCt(panel):
    from module_panel import CHEST_CT

    return panel.open(panel.slicer.util.loadVolume(str(CHEST_CT)))
