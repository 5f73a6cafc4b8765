"""Packages are installed with Slicer's own tools, with consent, and never replace Slicer's own packages."""

import importlib.metadata
import subprocess
import sys
import types
from pathlib import Path

import pytest

slicer = pytest.importorskip("slicerhost").start().slicer

from FastTextDiffSegmentLib.engine.Installer import Installer, InstallError  # noqa: E402 - translates texts, so Slicer has to run


@pytest.fixture
def torchRequests(monkeypatch):
    """Versions that the PyTorch extension is asked for; it installs nothing here."""
    asked = []

    class PyTorchUtilsLogic:
        def installTorch(self, askConfirmation, torchVersionRequirement):
            assert not askConfirmation
            asked.append(torchVersionRequirement)
            return object()

    monkeypatch.setitem(sys.modules, "PyTorchUtils", types.SimpleNamespace(PyTorchUtilsLogic=PyTorchUtilsLogic))
    return asked


@pytest.fixture
def pipRequests(monkeypatch):
    """Requests to slicer.packaging: (requirements, constraints)."""
    asked = []

    def pip_install(requirements, constraints, requester):
        assert requester
        asked.append((requirements, Path(constraints).read_text()))

    monkeypatch.setattr(slicer, "packaging", types.SimpleNamespace(pip_install=pip_install), raising=False)
    return asked


def test_torch_comes_from_its_extension_and_the_rest_from_pip_with_slicers_versions_pinned(torchRequests, pipRequests):
    Installer(lambda text, title: True).install(["torch>=2.4", "diffusers>=0.34", "typer>=0.15"])
    assert torchRequests == [">=2.4"]
    [(requirements, constraints)] = pipRequests
    assert requirements == ["diffusers>=0.34", "typer>=0.15"]
    assert f"numpy=={importlib.metadata.version('numpy')}\n" in constraints
    assert f"SimpleITK=={importlib.metadata.version('SimpleITK')}\n" in constraints


def test_nothing_is_installed_without_consent(torchRequests, pipRequests):
    asked = []
    Installer(lambda text, title: asked.append(text)).install(["torch>=2.4", "diffusers>=0.34"])
    assert "torch>=2.4" in asked[0]
    assert torchRequests == pipRequests == []


def test_without_the_pytorch_extension_one_line_says_what_to_do(pipRequests):
    with pytest.raises(InstallError, match="Extensions Manager"):
        Installer(lambda text, title: True).install(["torch>=2.4", "diffusers>=0.34"])
    assert pipRequests == []


def test_slicer_5_10_installs_through_slicer_util(monkeypatch):
    commands = []
    monkeypatch.delattr(slicer, "packaging", raising=False)
    monkeypatch.setattr(slicer.util, "pip_install", commands.append)
    Installer(lambda text, title: True).install(["diffusers>=0.34"])
    assert commands[0].startswith('diffusers>=0.34 --constraint "')


PROXY = """WARNING: Retrying after connection broken by 'ProxyError('Cannot connect to proxy.', OSError())'
ERROR: Could not find a version that satisfies the requirement diffusers>=0.34 (from versions: none)
ERROR: No matching distribution found for diffusers>=0.34"""
OFFLINE = """WARNING: Retrying after connection broken by 'NewConnectionError': Failed to establish a new connection
ERROR: No matching distribution found for diffusers>=0.34"""


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        (PROXY, "HTTPS_PROXY"),
        (OFFLINE, "check the internet connection"),
        ("SSLError: CERTIFICATE_VERIFY_FAILED", "administrator"),
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "disk is full"),
        ("ERROR: No matching distribution found for diffusers>=0.34", "No matching distribution found for diffusers"),
        ("", "Python console"),
    ],
)
def test_a_failed_installation_is_one_line_that_says_what_to_do(monkeypatch, capsys, printed, expected):
    def pip_install(*_arguments, **_options):
        print(printed)
        raise subprocess.CalledProcessError(1, ["pip", "install"])

    monkeypatch.setattr(slicer, "packaging", types.SimpleNamespace(pip_install=pip_install), raising=False)
    with pytest.raises(InstallError, match="diffusers could not be installed") as failure:
        Installer(lambda text, title: True).install(["diffusers>=0.34"])
    assert expected in str(failure.value)
    assert "\n" not in str(failure.value)
    assert printed in capsys.readouterr().out  # the console still shows all of it


def test_the_pytorch_extension_that_installs_nothing_is_a_failure(monkeypatch):
    nothing = types.SimpleNamespace(installTorch=lambda **_options: None)
    monkeypatch.setitem(sys.modules, "PyTorchUtils", types.SimpleNamespace(PyTorchUtilsLogic=lambda: nothing))
    with pytest.raises(InstallError, match="torch could not be installed"):
        Installer(lambda text, title: True).install(["torch>=2.4"])
