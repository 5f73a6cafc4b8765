"""Installs missing Python packages into Slicer, after asking. Knows nothing about what they are for."""

import importlib.metadata
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import slicer
from slicer.i18n import tr as _

REQUESTER = "FastTextDiffSegment"
_CORE = ("numpy", "SimpleITK", "pydicom", "highdicom", "scipy", "vtk")
"""Packages that belong to Slicer: pip must not replace them."""


class Installer:
    """Uses the PyTorch extension for torch and Slicer's own installer for the rest.

    Args:
        confirm: asks the user a question; (text, title) -> bool.
    """

    def __init__(self, confirm: Callable[[str, str], bool]):
        self._confirm = confirm

    def install(self, requirements: Sequence[str]) -> None:
        """Install what is missing; returns without doing anything if the user declines.

        Args:
            requirements: e.g. ["torch>=2.4", "diffusers>=0.34"].

        Raises:
            RuntimeError: an installation failed.
        """
        question = _("These Python packages will be installed into Slicer:\n\n{packages}\n\nGo on?")
        if not self._confirm(question.format(packages="\n".join(requirements)), REQUESTER):
            return
        torch = [requirement for requirement in requirements if _name(requirement) == "torch"]
        others = [requirement for requirement in requirements if _name(requirement) != "torch"]
        for requirement in torch:
            _installTorch(requirement)
        if others:
            _installOthers(others)


def _name(requirement: str) -> str:
    return requirement.split(">")[0].split("=")[0].split("<")[0].strip()


def _installTorch(requirement: str) -> None:
    try:
        import PyTorchUtils
    except ImportError:
        raise RuntimeError(
            _("torch is installed by the PyTorch extension: install it in the Extensions Manager, then restart Slicer.")
        ) from None
    version = requirement.removeprefix("torch").strip()
    # the user has been asked already
    if PyTorchUtils.PyTorchUtilsLogic().installTorch(askConfirmation=False, torchVersionRequirement=version) is None:
        raise RuntimeError(_("torch was not installed: see the Python console for the reason."))


def _installOthers(requirements: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "constraints.txt"
        # highdicom is asked for only where Slicer's own is too old to write DICOM Segmentations
        asked = {"highdicom"} & set(map(_name, requirements))
        kept = [(name, version) for name, version in _coreVersions() if name not in asked]
        constraints.write_text("".join(f"{name}=={version}\n" for name, version in kept), encoding="utf-8")
        try:
            from slicer import packaging
        except ImportError:  # Slicer 5.10
            # the path in quotes: this form is one string for the command line
            slicer.util.pip_install(f'{" ".join(requirements)} --constraint "{constraints}"')
        else:
            packaging.pip_install(list(requirements), constraints=str(constraints), requester=REQUESTER)


def _coreVersions() -> list[tuple[str, str]]:
    found = []
    for name in _CORE:
        try:
            found.append((name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
