"""The running stand-in for Slicer, and a clean scene for every test. Knows no particular module."""

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
    """An empty scene; the test fails if a slot or an observer raised, which Slicer itself would only print."""
    host.closeScene()
    host.takeErrors()
    yield host.slicer.mrmlScene
    host.setTestingEnabled(True)
    host.closeScene()
    errors = host.takeErrors()
    assert not errors, "".join(errors)
