"""Reports about missing, old and half-installed packages, and about devices."""

import importlib.metadata
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny_models import one_line

from fasttextdiff import environment
from fasttextdiff.environment import REQUIREMENTS, Requirement, check_packages, find_devices, require_packages
from fasttextdiff.errors import MissingPackagesError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(params=["packaging", "no packaging"])
def with_and_without_packaging(request, monkeypatch):
    if request.param == "no packaging":
        monkeypatch.setitem(sys.modules, "packaging.version", None)


def problem_of(name):
    return next(package.problem for package in check_packages() if package.requirement.name == name)


def pretend_version(monkeypatch, name, version):
    true = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda asked: version if asked == name else true(asked))


def test_the_requirements_match_the_package():
    tomllib = pytest.importorskip("tomllib")  # from Python 3.11 on
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    for requirements, listed in (
        (REQUIREMENTS, project["dependencies"]),
        (environment.OPENVINO, extras["openvino"]),
        (environment.TORCH, extras["torch"]),
    ):
        assert [str(requirement) for requirement in requirements] == listed


def test_the_environment_of_the_tests_is_complete():
    assert not [package for package in check_packages() if package.problem]
    require_packages()


@pytest.mark.usefixtures("with_and_without_packaging")
@pytest.mark.parametrize(
    ("version", "is_old"),
    [("2.3.1", True), ("2.4.0+cpu", False), ("2.13.0+cu130", False), ("1.99", True), ("3.0.0rc1", False)],
)
def test_versions_are_compared_as_numbers(monkeypatch, version, is_old):
    monkeypatch.setattr(environment, "REQUIREMENTS", environment.TORCH)
    pretend_version(monkeypatch, "torch", version)
    assert ("too old" in problem_of("torch")) == is_old


@pytest.mark.parametrize(
    ("absent", "asked"),
    [
        ((), ["openvino", "tokenizers"]),
        (("torch", "openvino"), ["openvino", "tokenizers"]),  # the smaller one is installed
        (("tokenizers",), ["torch", "diffusers", "transformers"]),  # what is complete is used
    ],
)
def test_the_packages_of_one_runtime_are_enough(monkeypatch, absent, asked):
    for name in absent:
        pretend_version(monkeypatch, name, "0.1")
    names = [package.requirement.name for package in check_packages()]
    assert names == [*asked, *(requirement.name for requirement in REQUIREMENTS)]


def test_a_leftover_folder_is_not_a_package(monkeypatch, tmp_path):
    (tmp_path / "left_behind" / "lib").mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(environment, "REQUIREMENTS", (Requirement("pytest", "1.0", "left_behind"),))
    assert "partly installed" in problem_of("pytest")


def test_a_package_without_metadata_is_asked_for_its_version(monkeypatch, tmp_path):
    (tmp_path / "built_in_slicer.py").write_text("__version__ = '2.5'\n")
    monkeypatch.syspath_prepend(tmp_path)
    wanted = Requirement("not-on-any-index", "2.6", "built_in_slicer")
    monkeypatch.setattr(environment, "REQUIREMENTS", (wanted, Requirement("nor-this", "1.0", "nowhere_at_all")))
    old, absent = check_packages()[-2:]
    assert old.installed == "2.5"
    assert "2.6 is needed" in old.problem
    assert (absent.installed, absent.problem) == (None, "not installed")


def test_all_missing_packages_are_reported_in_one_line(monkeypatch):
    pretend_version(monkeypatch, "scipy", "1.2")
    wanted = (*REQUIREMENTS, Requirement("absent", "3.0", "absent"))
    monkeypatch.setattr(environment, "REQUIREMENTS", wanted)
    with pytest.raises(MissingPackagesError) as caught:
        require_packages()
    one_line(caught, "scipy: version 1.2 is too old", '"scipy>=1.11" "absent>=3.0"')


def test_a_gpu_that_does_not_work_is_listed_with_its_problem(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("CUDA error: no kernel image is available\nfor execution on the device\nmore advice")

    monkeypatch.setattr(environment, "has_gpu_driver", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "Old GPU")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(total_memory=4 << 30))
    monkeypatch.setattr(torch, "ones", fail)
    device, cpu = find_devices()
    assert (device.id, device.name, device.memory_total, device.memory_free) == ("cuda:0", "Old GPU", 4 << 30, None)
    assert device.problem.endswith("no kernel image is available for execution on the device")
    assert cpu.id == "cpu"


def test_the_cpu_is_always_listed_with_its_memory():
    cpu = find_devices()[-1]
    assert cpu.id == "cpu"
    assert cpu.memory_total > 1 << 28
    assert cpu.memory_free is None or 0 < cpu.memory_free <= cpu.memory_total


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no /proc")
def test_linux_memory_is_read_in_bytes(monkeypatch):
    meminfo = "MemTotal:  16000 kB\nMemFree:  1 kB\nMemAvailable:  9000 kB\nHugePages: 0\n"
    real = Path.read_text
    shown = {"/proc/meminfo": meminfo}
    monkeypatch.setattr(Path, "read_text", lambda path, *rest: shown.get(str(path)) or real(path, *rest))
    cpu = find_devices()[-1]
    assert (cpu.memory_total, cpu.memory_free) == (16000 * 1024, 9000 * 1024)
    shown["/proc/meminfo"] = "nothing of use"
    assert find_devices()[-1].memory_total > 1 << 28
