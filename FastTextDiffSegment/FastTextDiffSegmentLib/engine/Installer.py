"""Installs missing Python packages into Slicer, after asking. Does not know what they are for."""

import contextlib
import importlib.metadata
import io
import logging
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import slicer
from slicer.i18n import tr as _

REQUESTER = "FastTextDiffSegment"
_CORE = ("numpy", "SimpleITK", "pydicom", "highdicom", "scipy", "vtk")
"""Packages that belong to Slicer: pip must not replace them."""
_CAUSES = (
    (("no space left", "not enough space"), _("the disk is full: free some space, and try again")),
    (
        ("permission denied", "access is denied"),
        _("Slicer's folder is not writable: install Slicer in a folder of your own, or ask your administrator"),
    ),
    (
        ("resolutionimpossible", "conflicting dependencies"),
        _("another installed package needs other versions: the Python console says which"),
    ),
    (
        ("proxyerror", "connect to proxy", "proxy authentication"),
        _("a proxy blocks the connection: set HTTPS_PROXY to its address before starting Slicer, and try again"),
    ),
    (
        ("certificate",),
        _("the package server's certificate is not trusted, as behind some company firewalls: ask your administrator"),
    ),
    (
        ("getaddrinfo", "name resolution", "name or service", "newconnectionerror", "timeouterror", "unreachable"),
        _("the package server cannot be reached: check the internet connection, and try again"),
    ),
)
"""Words in pip's output (lower case), and what they mean for the user; the first match counts."""


class InstallError(Exception):
    """An installation failed, in one line that says what to do."""


class Installer:
    """Uses the PyTorch extension for torch and Slicer's own installer for the rest.

    Args:
        confirm: asks the user a question; (text, title) -> bool.
    """

    def __init__(self, confirm: Callable[[str, str], bool]):
        self._confirm = confirm

    def install(self, requirements: Sequence[str]) -> bool:
        """Install what is missing.

        Args:
            requirements: e.g. ["torch>=2.4", "diffusers>=0.34"].

        Returns:
            False if the user declined, and nothing was done.

        Raises:
            InstallError: an installation failed.
        """
        question = _("These Python packages will be installed into Slicer:\n\n{packages}\n\nContinue?")
        if not self._confirm(question.format(packages="\n".join(requirements)), REQUESTER):
            return False
        torch = [requirement for requirement in requirements if _name(requirement) == "torch"]
        others = [requirement for requirement in requirements if _name(requirement) != "torch"]
        for requirement in torch:
            with _explained("torch"):
                _installTorch(requirement)
        if others:
            with _explained(", ".join(map(_name, others))):
                _installOthers(others)
        return True


def _name(requirement: str) -> str:
    return requirement.split(">")[0].split("=")[0].split("<")[0].strip()


@contextlib.contextmanager
def _explained(packages: str) -> Iterator[None]:
    """Turn any failure of an installation into one line; its output still goes to the console."""
    console = _Console(sys.stdout)
    try:
        with contextlib.redirect_stdout(console):
            yield
    except InstallError:
        raise
    except Exception as error:
        logging.error("The installation of %s failed", packages, exc_info=error)
        reason = _reason([*console.lines(), str(error)])
        message = _("{packages} could not be installed: {reason}.")
        raise InstallError(message.format(packages=packages, reason=reason)) from error


class _Console(io.TextIOBase):
    """Writes text to the console, and keeps it."""

    def __init__(self, console):
        self._console, self._parts = console, []

    def write(self, text: str) -> int:
        """Write to the console, and keep the text."""
        self._parts.append(text)
        self._console.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush the console."""
        self._console.flush()

    def lines(self) -> list[str]:
        """The lines written so far."""
        return "".join(self._parts).splitlines()


def _reason(lines: Iterable[str]) -> str:
    """Why pip failed: a known cause, else its last error, else where to look."""
    text = [line.strip() for line in lines if line.strip()]
    output = "\n".join(text).lower()
    for words, meaning in _CAUSES:
        if any(word in output for word in words):
            return meaning
    errors = [line.removeprefix("ERROR:").strip() for line in text if line.startswith("ERROR:")]
    return errors[-1].rstrip(".")[:200] if errors else _("the Python console says why")


def _installTorch(requirement: str) -> None:
    try:
        import PyTorchUtils
    except ImportError:
        raise InstallError(
            _("torch is installed by the PyTorch extension: install it in the Extensions Manager, then restart Slicer.")
        ) from None
    version = requirement.removeprefix("torch").strip()
    # the user has already been asked
    if PyTorchUtils.PyTorchUtilsLogic().installTorch(askConfirmation=False, torchVersionRequirement=version) is None:
        raise RuntimeError("PyTorchUtils returned no torch")


def _installOthers(requirements: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "constraints.txt"
        # highdicom is required only if Slicer's own is too old to write DICOM Segmentations
        asked = {"highdicom"} & set(map(_name, requirements))
        kept = [(name, version) for name, version in _coreVersions() if name not in asked]
        constraints.write_text("".join(f"{name}=={version}\n" for name, version in kept), encoding="utf-8")
        try:
            from slicer import packaging
        except ImportError:  # Slicer 5.10
            # quote the path: this form takes one string for the command line
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
