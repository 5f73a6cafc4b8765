"""Checks this computer: Python packages, devices, memory.

Standard library only; installs nothing. Knows nothing about models or images.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from fasttextdiff.contract.answers import Device
from fasttextdiff.errors import MissingPackagesError, one_line


@dataclass(frozen=True)
class Requirement:
    """A package that the engine needs.

    Attributes:
        name: on PyPI.
        minimum: oldest version that works.
        module: name to import.
    """

    name: str
    minimum: str
    module: str

    def __str__(self) -> str:
        """The requirement for pip, e.g. "torch>=2.4"."""
        return f"{self.name}>={self.minimum}"


# The dependencies of pyproject.toml, repeated because an installed extension has no package metadata.
REQUIREMENTS = (
    Requirement("safetensors", "0.4", "safetensors"),
    Requirement("numpy", "1.26", "numpy"),
    Requirement("scipy", "1.11", "scipy"),
    Requirement("SimpleITK", "2.3", "SimpleITK"),
    Requirement("nibabel", "5.2", "nibabel"),
    Requirement("pydicom", "3.0", "pydicom"),
    Requirement("Pillow", "10.1", "PIL"),
    Requirement("openpyxl", "3.1", "openpyxl"),
    Requirement("PyYAML", "6.0", "yaml"),
    Requirement("typer", "0.15", "typer"),
    Requirement("rich", "13.0", "rich"),
)

# The extras `openvino` and `torch`: either runs a model.
OPENVINO = (
    Requirement("openvino", "2025.4", "openvino"),  # the last one with builds for Macs with Intel processors
    Requirement("tokenizers", "0.20", "tokenizers"),
)
TORCH = (
    Requirement("torch", "2.4", "torch"),
    Requirement("diffusers", "0.34", "diffusers"),
    Requirement("transformers", "4.48", "transformers"),
)

# Also in the extra `dicom` of pyproject.toml; 3D Slicer 5.12 ships 0.27.
HIGHDICOM = Requirement("highdicom", "0.27", "highdicom")


@dataclass(frozen=True)
class Package:
    """A requirement and the installed version.

    Attributes:
        requirement: what is needed.
        installed: installed version, None if there is none.
        problem: what is wrong with it, in one line; empty if it is usable.
    """

    requirement: Requirement
    installed: str | None
    problem: str


# --- packages --------------------------------------------------------------------------------------------------------


def check_packages() -> list[Package]:
    """Check every requirement, and those of one runtime: OpenVINO, unless only PyTorch is usable.

    The runtime also does a little work, since a partial installation looks complete.
    """
    importlib.invalidate_caches()  # something may have been installed since the process started
    runtime = [_tried(check_package(requirement)) for requirement in OPENVINO]
    if any(package.problem for package in runtime):
        torch = [_tried(check_package(requirement)) for requirement in TORCH]
        runtime = runtime if any(package.problem for package in torch) else torch
    return [*runtime, *map(check_package, REQUIREMENTS)]


def problem_with(requirements: Sequence[Requirement]) -> str:
    """The first problem with some packages, in one line; empty if all are usable."""
    for requirement in requirements:
        if problem := check_package(requirement).problem:
            return f"{requirement.name}: {problem}"
    return ""


def require_packages() -> None:
    """Refuse to start if a required package is missing.

    Raises:
        MissingPackagesError: names every package with a problem, and how to install it.
    """
    wrong = [package for package in check_packages() if package.problem]
    if wrong:
        problems = "; ".join(f"{package.requirement.name}: {package.problem}" for package in wrong)
        needed = " ".join(f'"{package.requirement}"' for package in wrong)
        raise MissingPackagesError(f"{problems}. Install {needed} with the module's set-up panel or with pip")


def needs_torch(error: ModuleNotFoundError) -> str:
    """What to install if an import failed because there is no PyTorch, in one line; empty for other modules."""
    module = str(error.name).partition(".")[0]
    if module not in {requirement.module for requirement in TORCH} | {"accelerate", "tensorboard"}:
        return ""
    return f"this needs PyTorch ({module} is not installed): pip install 'fasttextdiff[training]'"


def check_package(requirement: Requirement) -> Package:
    """Compare one requirement with what is installed."""
    installed = _installed_version(requirement)
    if installed is None:
        return Package(requirement, None, "not installed")
    if not _is_there(requirement.module):
        return Package(requirement, installed, "only partly installed: install it again")
    if _is_older(installed, requirement.minimum):
        return Package(requirement, installed, f"version {installed} is too old, {requirement.minimum} is needed")
    return Package(requirement, installed, "")


def _installed_version(requirement: Requirement) -> str | None:
    """The version from the metadata, or from the module if it has no metadata, as in parts of 3D Slicer."""
    with suppress(importlib.metadata.PackageNotFoundError, KeyError):
        # a damaged installation has metadata without a version
        return str(importlib.metadata.version(requirement.name) or "") or None
    if not _is_there(requirement.module):
        return None
    try:
        return str(importlib.import_module(requirement.module).__version__)
    except Exception:  # a damaged package may raise anything on import
        return None


def _is_there(module: str) -> bool:
    try:
        found = importlib.util.find_spec(module)
    except ValueError:  # already imported, without a module specification
        return True
    # a folder left behind by an uninstaller is a namespace package: it has no file to run
    return found is not None and found.origin is not None


def _is_older(installed: str, minimum: str) -> bool:
    try:
        from packaging.version import InvalidVersion, Version
    except ImportError:
        return _numbers(installed) < _numbers(minimum)
    try:
        return Version(installed) < Version(minimum)
    except InvalidVersion:
        return _numbers(installed) < _numbers(minimum)


def _numbers(version: str) -> tuple[int, ...]:
    """The release numbers at the start of a version: (2, 13, 0) of "2.13.0+cpu"."""
    start = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, start.group().split("."))) if start else ()


def _tried(package: Package) -> Package:
    """A package after a small test of it, if it runs networks."""
    trials: dict[str, Callable[[], object]] = {"torch": lambda: _try_device("cpu"), "openvino": openvino_core}
    trial = trials.get(package.requirement.name)
    if trial is None or package.problem:
        return package
    try:
        trial()
    except Exception as error:  # an incomplete package may raise anything
        problem = f"installed but not usable ({type(error).__name__}: {one_line(error)}): install it again"
        return Package(package.requirement, package.installed, problem)
    return package


def load_openvino() -> Any:
    """The module `openvino`, unable to send anything.

    On import and on every conversion, OpenVINO sends usage data through the package `openvino_telemetry`, unless the
    user has opted out. Where that package cannot be imported, OpenVINO does without it.
    """
    if "openvino" not in sys.modules:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # importing it fails (import system, 5.3.1)
    return importlib.import_module("openvino")


@lru_cache(maxsize=1)
def openvino_core() -> Any:
    """The process's only `openvino.Core`.

    With the last one, OpenVINO would unload its libraries, and the process would crash when it starts another one.
    """
    return load_openvino().Core()


def _try_device(device: str) -> None:
    """Add two numbers on the device and copy the sum back to numpy, as the engine does all the time."""
    import torch

    if float(torch.ones(2, device=device).sum().cpu().numpy()) != 2.0:
        raise RuntimeError("1 + 1 is not 2")


# --- devices ---------------------------------------------------------------------------------------------------------


def find_devices() -> list[Device]:
    """The devices of this computer: GPUs in torch's order, then the CPU; only the CPU if torch does not work."""
    gpus: list[Device] = []
    if not has_gpu_driver():
        return [Device("cpu", cpu_name(), *_memory())]
    with suppress(Exception):  # if torch cannot list its GPUs, there is none to use
        import torch

        if torch.cuda.is_available():
            gpus = [_cuda_device(torch, index) for index in range(torch.cuda.device_count())]
        elif torch.backends.mps.is_available():
            gpus = [Device("mps", "Apple GPU", *_memory())]
    return [*gpus, Device("cpu", cpu_name(), *_memory())]


def has_gpu_driver() -> bool:
    """Whether a driver is installed through which torch could use a GPU; asking torch itself takes a second."""
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    names = ("nvcuda.dll",) if sys.platform == "win32" else ("libcuda.so.1", "libamdhip64.so")
    for name in names:
        with suppress(OSError):
            ctypes.CDLL(name)
            return True
    return False


def _cuda_device(torch: Any, index: int) -> Device:
    device, name = f"cuda:{index}", torch.cuda.get_device_name(index)
    try:
        _try_device(device)
        free, total = torch.cuda.mem_get_info(index)
    except RuntimeError as error:
        total = torch.cuda.get_device_properties(index).total_memory
        return Device(device, name, int(total), None, f"does not work with this torch: {one_line(error)}")
    return Device(device, name, int(total), int(free))


def cpu_name() -> str:
    """The processor's name, for the user."""
    return f"{os.cpu_count() or 1} cores"


def _memory() -> tuple[int | None, int | None]:
    """Bytes of main memory, total and available; None if the system does not say."""
    if sys.platform == "win32":
        return _windows_memory()
    return _posix_memory()


def _posix_memory() -> tuple[int | None, int | None]:
    with suppress(OSError, ValueError, KeyError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
        return kilobytes["MemTotal"] * 1024, kilobytes["MemAvailable"] * 1024
    with suppress(OSError, ValueError):  # macOS gives only the total here
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), None
    return None, None


def _windows_memory() -> tuple[int | None, int | None]:
    class MemoryStatus(ctypes.Structure):
        """MEMORYSTATUSEX of the Windows API."""

        _fields_ = [
            ("length", ctypes.c_ulong),
            ("load", ctypes.c_ulong),
            *((name, ctypes.c_ulonglong) for name in ("total", "free")),
            *((name, ctypes.c_ulonglong) for name in ("paged", "free_paged", "virtual", "free_virtual", "extended")),
        ]

    status = MemoryStatus(length=ctypes.sizeof(MemoryStatus))
    windows: Any = ctypes
    if not windows.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
        return None, None
    return int(status.total), int(status.free)
