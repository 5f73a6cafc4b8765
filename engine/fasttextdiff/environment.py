"""What the engine needs of this computer and what it finds: Python packages, devices, memory.

Needs nothing but Python itself and never installs anything; knows nothing about models or images.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import re
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fasttextdiff.contract.answers import Device
from fasttextdiff.errors import MissingPackagesError, one_line


@dataclass(frozen=True)
class Requirement:
    """A package that the engine needs.

    Attributes:
        name: on the package index.
        minimum: oldest version that will do.
        module: what is imported.
    """

    name: str
    minimum: str
    module: str

    def __str__(self) -> str:
        """As pip takes it, e.g. "torch>=2.4"."""
        return f"{self.name}>={self.minimum}"


# The dependencies of pyproject.toml: an installed extension has no metadata of its own to read them from.
REQUIREMENTS = (
    Requirement("torch", "2.4", "torch"),
    Requirement("diffusers", "0.34", "diffusers"),
    Requirement("transformers", "4.48", "transformers"),
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

# Also in the extra `dicom` of pyproject.toml; 3D Slicer 5.12 brings 0.27.
HIGHDICOM = Requirement("highdicom", "0.27", "highdicom")


@dataclass(frozen=True)
class Package:
    """A requirement and what is installed.

    Attributes:
        requirement: what is needed.
        installed: the version that is there, None if there is none.
        problem: what is wrong with it, in one line; empty if nothing is.
    """

    requirement: Requirement
    installed: str | None
    problem: str


# --- packages --------------------------------------------------------------------------------------------------------


def check_packages() -> list[Package]:
    """Every requirement and what is installed; torch is tried out too, since a half-installed one looks complete."""
    importlib.invalidate_caches()  # something may have been installed since the process started
    packages = [check_package(requirement) for requirement in REQUIREMENTS]
    return [_tried(package) if package.requirement.name == "torch" else package for package in packages]


def require_packages() -> None:
    """Refuse to start without what the engine needs.

    Raises:
        MissingPackagesError: names every package with a problem, and how to install it.
    """
    wrong = [package for package in check_packages() if package.problem]
    if wrong:
        told = "; ".join(f"{package.requirement.name}: {package.problem}" for package in wrong)
        needed = " ".join(f'"{package.requirement}"' for package in wrong)
        raise MissingPackagesError(f"{told}. Install {needed} with the module's set-up panel or with pip")


def check_package(requirement: Requirement) -> Package:
    """One requirement and what is installed."""
    installed = _installed_version(requirement)
    if installed is None:
        return Package(requirement, None, "not installed")
    if not _is_there(requirement.module):
        return Package(requirement, installed, "only partly installed: install it again")
    if _is_older(installed, requirement.minimum):
        return Package(requirement, installed, f"version {installed} is too old, {requirement.minimum} is needed")
    return Package(requirement, installed, "")


def _installed_version(requirement: Requirement) -> str | None:
    """The version from the metadata; from the module where it came without any, as parts of 3D Slicer do."""
    with suppress(importlib.metadata.PackageNotFoundError, KeyError):
        # a damaged installation has metadata without a version
        return str(importlib.metadata.version(requirement.name) or "") or None
    if not _is_there(requirement.module):
        return None
    try:
        return str(importlib.import_module(requirement.module).__version__)
    except Exception:  # whatever a damaged package raises while it is imported
        return None


def _is_there(module: str) -> bool:
    try:
        found = importlib.util.find_spec(module)
    except ValueError:  # imported already, by something that gave it no specification
        return True
    # a folder that an uninstaller left behind is a namespace package: no file to run
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


def _tried(torch_package: Package) -> Package:
    if torch_package.problem:
        return torch_package
    try:
        _try_device("cpu")
    except Exception as error:  # an incomplete torch raises whatever is missing first
        problem = f"installed but not usable ({type(error).__name__}: {one_line(error)}): install it again"
        return Package(torch_package.requirement, torch_package.installed, problem)
    return torch_package


def _try_device(device: str) -> None:
    """One tiny sum on a device, brought back to numpy: what the engine does all the time."""
    import torch

    if float(torch.ones(2, device=device).sum().cpu().numpy()) != 2.0:
        raise RuntimeError("1 + 1 is not 2")


# --- devices ---------------------------------------------------------------------------------------------------------


def find_devices() -> list[Device]:
    """What can compute here: GPUs in torch's order, then the CPU; only the CPU where torch does not work."""
    gpus: list[Device] = []
    with suppress(Exception):  # a torch that cannot say which GPUs it sees, has none
        import torch

        if torch.cuda.is_available():
            gpus = [_cuda_device(torch, index) for index in range(torch.cuda.device_count())]
        elif torch.backends.mps.is_available():
            gpus = [Device("mps", "Apple GPU", *_memory())]
    return [*gpus, Device("cpu", cpu_name(), *_memory())]


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
    """The processor, for the user."""
    return f"{os.cpu_count() or 1} cores"


def _memory() -> tuple[int | None, int | None]:
    """Bytes of main memory, in all and available; None where the system does not say."""
    if sys.platform == "win32":
        return _windows_memory()
    return _posix_memory()


def _posix_memory(meminfo: Path = Path("/proc/meminfo")) -> tuple[int | None, int | None]:
    with suppress(OSError, ValueError, KeyError):
        kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in meminfo.read_text().splitlines()}
        return kilobytes["MemTotal"] * 1024, kilobytes["MemAvailable"] * 1024
    with suppress(OSError, ValueError):  # macOS tells only the whole in this way
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), None
    return None, None


def _windows_memory() -> tuple[int | None, int | None]:
    import ctypes

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
