"""Writes output files and folders completely or not at all, and checks beforehand whether they can be written.

Knows nothing about the content of files.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fasttextdiff.contract.files import put_in_place
from fasttextdiff.errors import FastTextDiffError, UsageError

_LONGEST_NAME = 255
"""Bytes of a file name that the file systems of Linux, macOS and Windows allow."""


def check_writable(path: Path) -> None:
    """Refuse a path that cannot be written, before time is spent on its content.

    Raises:
        UsageError: the folder is missing or not writable, or `path` is a folder.
    """
    folder = path.parent
    if len(os.fsencode(path.name)) > _LONGEST_NAME:
        raise UsageError(f"cannot write {path.name[:40]}...: the name is longer than {_LONGEST_NAME} bytes; shorten it")
    if not folder.is_dir():
        raise UsageError(f"cannot write {path}: the folder {folder} does not exist; create it or choose another")
    if path.is_dir():
        raise UsageError(f"cannot write {path}: it is a folder; add a file name")
    if path.exists() and not path.is_file():
        raise UsageError(
            f"cannot write {path}: it is a device or pipe, which a file would replace; choose another name"
        )
    try:
        # Permission bits do not reveal read-only file systems and network shares; a temporary file does.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(f"cannot write {path}: {_reason(error)}; choose another folder") from error


@contextlib.contextmanager
def whole_files(*paths: Path) -> Iterator[list[Path]]:
    """Yield temporary paths next to `paths`, and rename them when the block ends.

    If the block fails in any way, including Ctrl-C and a full disk, no files are left and existing files stay as they
    were, also if one of several files cannot be renamed.

    Raises:
        UsageError: as :func:`check_writable`.
        FastTextDiffError: writing or renaming failed.
    """
    for path in paths:
        check_writable(path)
    token = secrets.token_hex(4)
    # Keep the end of the name, because libraries choose the format by it; a longer name might not be allowed.
    temporary = [path.with_name(f".{token}-{index}-{path.name[-24:]}") for index, path in enumerate(paths)]
    try:
        yield temporary
        put_in_place(temporary, paths)
    except BaseException as error:
        for leftover in temporary:
            leftover.unlink(missing_ok=True)
        if isinstance(error, OSError):
            named = next((path for path in paths if str(path) in (error.filename, error.filename2)), paths[0])
            raise FastTextDiffError(f"cannot write {named}: {_reason(error)}") from error
        raise


def to_disk(folder: Path) -> None:
    """Wait until a folder's files, at any depth, and their names are on the disk, so that they survive a power cut.

    Raises:
        OSError: the system cannot write one of them.
    """
    for path in folder.iterdir():
        if path.is_dir():
            to_disk(path)
            continue
        with path.open("r+b") as file:
            os.fsync(file.fileno())
    if os.name == "nt":  # folders cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network drives keep no folders that could be flushed
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_new_folder(folder: Path) -> None:
    """Refuse an output folder that already has content, so that old and new files are never mixed.

    Raises:
        UsageError: the path is a file, or a folder that is not empty.
    """
    try:
        taken = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    except OSError as error:
        raise UsageError(f"cannot write {folder}: {_reason(error)}; choose another folder") from error
    if taken:
        raise UsageError(f"{folder} already exists and is not empty: choose another folder")


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder next to `folder`, and rename it when the block ends.

    If the block fails in any way, nothing is left but an empty folder that was there before, so that an incomplete
    folder is never mistaken for a complete one.

    Raises:
        UsageError: as :func:`check_new_folder`.
        FastTextDiffError: writing or renaming failed.
    """
    check_new_folder(folder)
    folder = folder.absolute()  # gives "." a name
    temporary = folder.with_name(f".{folder.name[-24:]}-{secrets.token_hex(4)}")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        _rename_folder(temporary, folder)
    except OSError as error:
        raise FastTextDiffError(f"cannot write {folder}: {_reason(error)}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _rename_folder(temporary: Path, folder: Path) -> None:
    """Rename a folder, in place of an empty one, which stays if this fails."""
    was_there = folder.exists()
    try:
        if was_there:  # Windows does not rename over it
            folder.rmdir()
        temporary.rename(folder)
    except BaseException:
        if was_there:
            folder.mkdir(exist_ok=True)
        raise


def _reason(error: OSError) -> str:
    """The system's message, in lower case and without the error number."""
    return (error.strerror or str(error) or type(error).__name__).lower()
