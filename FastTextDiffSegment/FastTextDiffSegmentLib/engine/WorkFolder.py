"""A private folder for the arrays that go between Slicer and the engine; patient data never stays behind in it.

Knows nothing about what is in the files.
"""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

_PREFIX = "FastTextDiffSegment-"


class WorkFolder:
    """A folder only this user can read, removed by :meth:`close`.

    Folders that an earlier Slicer left behind when it crashed are removed first: its process number is in the name.

    Args:
        root: where to make it; the system's temporary folder if None.
    """

    def __init__(self, root: "str | None" = None):
        self._root = Path(root or tempfile.gettempdir())
        _removeAbandoned(self._root)
        self.path = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=self._root))

    def newFolder(self, kind: str) -> Path:
        """An empty folder inside it."""
        return Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=self.path))

    def close(self) -> None:
        """Remove it with everything inside."""
        remove(self.path)


def remove(folder: Path) -> None:
    """Remove a folder; files still mapped on Windows are left for the next start to remove."""
    shutil.rmtree(folder, ignore_errors=True)


def _removeAbandoned(root: Path) -> None:
    for folder in root.glob(f"{_PREFIX}*-*"):
        owner = folder.name[len(_PREFIX) :].split("-")[0]
        if owner.isdecimal() and int(owner) != os.getpid() and not _isAlive(int(owner)):
            remove(folder)


def _isAlive(pid: int) -> bool:
    if os.name == "nt":  # there, signal 0 would end the process
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
