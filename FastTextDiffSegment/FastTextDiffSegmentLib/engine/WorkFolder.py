"""A private folder for the arrays exchanged between Slicer and the engine; no patient data is left in it afterwards.

Knows nothing about what is in the files.
"""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

_PREFIX = "FastTextDiffSegment-"


class WorkFolder:
    """A folder that only this user can read, removed by :meth:`close`.

    Folders left by a Slicer that crashed are removed first; they have its process id in their names.

    Args:
        root: its parent folder; the system's temporary folder if None.
    """

    def __init__(self, root: "str | None" = None):
        self._root = Path(root or tempfile.gettempdir())
        _removeAbandoned(self._root)
        self.path = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=self._root))

    def newFolder(self, kind: str) -> Path:
        """Make an empty folder inside it."""
        return Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=self.path))

    def close(self) -> None:
        """Remove it with its content."""
        remove(self.path)


def remove(folder: Path) -> None:
    """Remove a folder; on Windows, files that are still mapped are removed at the next start."""
    shutil.rmtree(folder, ignore_errors=True)


def _removeAbandoned(root: Path) -> None:
    for folder in root.glob(f"{_PREFIX}*-*"):
        owner = folder.name[len(_PREFIX) :].split("-")[0]
        if owner.isdecimal() and int(owner) != os.getpid() and not _isAlive(int(owner)):
            remove(folder)


def _isAlive(pid: int) -> bool:
    if os.name == "nt":  # on Windows, signal 0 would end the process
        import ctypes

        handle = ctypes.windll.kernel32.OpenProcess(0x1000, False, pid)
        if handle:
            ctypes.windll.kernel32.CloseHandle(handle)
        return bool(handle)
    with contextlib.suppress(PermissionError):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
    return True
