"""Finds the files of a folder tree, each once, with links followed and unreadable folders reported.

Knows names and links; knows nothing about the content of files.
"""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path

from fasttextdiff.batch.plan import Skipped
from fasttextdiff.io.json_files import parse_json

_OUTPUT_FILE = "batch.json"
_OUTPUT_KEY = "weights_sha256"
"""A file and a key in it that identify a batch's output folder; a job table may have the same file name."""


def files_below(folder: Path) -> tuple[list[Path], list[Skipped]]:
    """All files of a tree, sorted by path, and the folders that could not be read.

    Hidden files and folders, those of macOS archives, and output folders of batches are ignored. Links are followed
    last, and ignored if their target has already been found.
    """
    walk = _Walk()
    walk.enter(folder)
    while walk.links:
        walk.follow(walk.links.popleft())
    return sorted(walk.files), walk.skipped


def reason_of(error: OSError) -> str:
    """The reason of a system error, without the file name."""
    if isinstance(error, PermissionError):
        return "no permission to read it"
    return (error.strerror or type(error).__name__).lower()


def is_folder(path: Path) -> bool:
    """Whether the folder exists; False where pathlib would raise, e.g. for a name that is too long."""
    try:
        return path.is_dir()
    except OSError:
        return False


def is_file(path: Path) -> bool:
    """Whether the file exists; False where pathlib would raise."""
    try:
        return path.is_file()
    except OSError:
        return False


class _Walk:
    """A search in progress.

    Attributes:
        files: found so far.
        skipped: what could not be read.
        links: symbolic links still to follow.
    """

    def __init__(self) -> None:
        self.files: list[Path] = []
        self.skipped: list[Skipped] = []
        self.links: deque[Path] = deque()
        self._seen: set[str] = set()  # real paths of folders searched, and of files found through links

    def enter(self, folder: Path) -> None:
        """Search a folder and its subfolders, without following links."""
        pending = [folder]
        while pending:
            here = pending.pop()
            try:
                if self._is_new(here):
                    pending += self._subfolders(here)
            except OSError as error:
                self.skipped.append(Skipped(here, "", reason_of(error)))

    def _subfolders(self, folder: Path) -> list[Path]:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        if _is_batch_output(found):
            return []
        return [Path(entry.path) for entry in found if self._is_folder(entry)]

    def follow(self, link: Path) -> None:
        """Add the target of a link, unless it has been found already."""
        target = Path(os.path.realpath(link))
        if is_folder(target):
            self.enter(link)
        elif not is_file(target):
            self.skipped.append(Skipped(link, "", "a link without a target"))
        elif str(target.parent) not in self._seen and self._is_new(target):
            self.files.append(link)

    def _is_new(self, path: Path) -> bool:
        """Whether a path is new; remembers it."""
        real = os.path.realpath(path)
        known = real in self._seen
        self._seen.add(real)
        return not known

    def _is_folder(self, entry: os.DirEntry[str]) -> bool:
        """Add an entry to files, links or skipped; True for a folder to search."""
        if entry.name.startswith(".") or entry.name == "__MACOSX":
            return False
        if entry.is_symlink():
            self.links.append(Path(entry.path))
        elif entry.is_dir():
            return True
        elif entry.is_file():
            self.files.append(Path(entry.path))
        else:
            self.skipped.append(Skipped(Path(entry.path), "", "a device or pipe, not a file"))
        return False


def _is_batch_output(entries: list[os.DirEntry[str]]) -> bool:
    """Whether the folder is the output of a batch; its images are results, and each run adds more."""
    record = next((entry.path for entry in entries if entry.name == _OUTPUT_FILE), None)
    if record is None:
        return False
    try:
        content = parse_json(Path(record).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and _OUTPUT_KEY in content
