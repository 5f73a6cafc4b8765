"""Make output files and folders appear whole or not at all, and find out beforehand whether they can.

Knows nothing about what is in the files.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fasttextdiff.errors import FastTextDiffError, UsageError

_LONGEST_NAME = 255
"""Bytes of a file name that the file systems of Linux, macOS and Windows take."""


def check_writable(path: Path) -> None:
    """Refuse a place where no file could be written, before time is spent on what goes there.

    Raises:
        UsageError: the folder is missing or may not be written to, or `path` is itself a folder.
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
        # Permission bits do not show read-only file systems and network shares; a nameless file does.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(f"cannot write {path}: {_reason(error)}; choose another folder") from error


@contextlib.contextmanager
def whole_files(*paths: Path) -> Iterator[list[Path]]:
    """Give temporary names next to `paths` to write to, and rename them when the block ends.

    Whatever ends the block early, Ctrl-C and a full disk included, leaves nothing behind and earlier files of these
    names untouched. If the last of several files cannot be renamed, those already in place are removed with it.

    Raises:
        UsageError: as :func:`check_writable`.
        FastTextDiffError: the system refused to write or rename.
    """
    for path in paths:
        check_writable(path)
    token = secrets.token_hex(4)
    # The end of the name stays, because libraries choose the format by it; more might be longer than a name may be.
    temporary = [path.with_name(f".{token}-{index}-{path.name[-24:]}") for index, path in enumerate(paths)]
    placed: list[Path] = []
    try:
        yield temporary
        for written, path in zip(temporary, paths, strict=True):
            written.replace(path)
            placed.append(path)
    except BaseException as error:
        for leftover in (*temporary, *placed):
            leftover.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise FastTextDiffError(f"cannot write {paths[0]}: {_reason(error)}") from error
        raise


def check_new_folder(folder: Path) -> None:
    """Refuse a place for a folder of results that is taken: what is there is never mixed with new files.

    Raises:
        UsageError: a file is there, or a folder that is not empty.
    """
    try:
        taken = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    except OSError as error:
        raise UsageError(f"cannot write {folder}: {_reason(error)}; choose another folder") from error
    if taken:
        raise UsageError(f"{folder} is there already and not empty: choose another folder")


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Give a temporary folder next to `folder` to write to, and rename it when the block ends.

    Whatever ends the block early leaves nothing behind, so that a half-written folder is never taken for a whole one.

    Raises:
        UsageError: as :func:`check_new_folder`.
        FastTextDiffError: the system refused to write or rename.
    """
    check_new_folder(folder)
    folder = folder.absolute()  # gives "." a name
    temporary = folder.with_name(f".{folder.name[-24:]}-{secrets.token_hex(4)}")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if folder.exists():
            folder.rmdir()
        temporary.rename(folder)
    except OSError as error:
        raise FastTextDiffError(f"cannot write {folder}: {_reason(error)}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _reason(error: OSError) -> str:
    """What the system said, in lower case and without numbers."""
    return (error.strerror or str(error) or type(error).__name__).lower()
