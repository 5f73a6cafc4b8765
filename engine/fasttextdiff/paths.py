"""Handles the paths that users give in one way: `str` or `os.PathLike`, with `~` for the home folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from fasttextdiff.errors import UsageError

PathText = str | os.PathLike[str]


def as_path(path: PathText) -> Path:
    """A path given on the command line, in a table or to a function.

    `~` and `~/...` stand for the user's home folder. A shell does not expand them in `--output=~/out`, so they are
    expanded here.

    Raises:
        UsageError: it is not a text, empty, not UTF-8, holds a null character, or begins with `~` while the current
        folder holds a folder of that name.
    """
    try:
        text = os.fspath(path)
    except TypeError:
        raise UsageError(f"a path must be a text or a pathlib.Path, not {type(path).__name__}") from None
    if not isinstance(text, str):
        raise UsageError(f"a path must be a text or a pathlib.Path, not {type(text).__name__}: use os.fsdecode")
    if not text or "\0" in text:
        raise UsageError(f"a path {'is empty' if not text else 'holds a null character'}")
    try:
        text.encode("utf-8"), os.fsencode(text)
    except UnicodeError:  # C++ libraries abort the process on such a name
        way = "run Python with -X utf8" if sys.getfilesystemencoding() == "ascii" else "rename it"
        raise UsageError(f"a path must be in UTF-8, {text!a} is not: {way}") from None
    # pathlib turns "./~/x" into "~/x"
    is_at_home = text == "~" or text[:2] in ("~/", f"~{os.sep}")
    if is_at_home and os.path.lexists("~"):
        raise UsageError(f"'{text}' may be in your home folder or in the folder '~' here: give the whole path")
    return Path(text).expanduser() if is_at_home else Path(text)


def user_folder(variable: str, windows: tuple[str, str], mac: str, xdg: tuple[str, str]) -> Path:
    """This user's folder of one kind of files, where the system keeps them.

    Args:
        variable: environment variable that names another folder.
        windows: environment variable of the folder that holds it, and that folder below "AppData".
        mac: the folder that holds it, below "Library".
        xdg: the same as for Windows, below the home folder (XDG Base Directory Specification).
    """
    if chosen := os.environ.get(variable):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get(windows[0]) or Path.home() / "AppData" / windows[1])
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / mac
    else:
        base = Path(os.environ.get(xdg[0]) or Path.home() / xdg[1])
    return base / "fasttextdiff"


def as_name(name_or_path: PathText) -> str:
    """The text of a path, or of a name on a hub ("owner/name"), unchanged on Windows too.

    Raises:
        UsageError: as :func:`as_path`.
    """
    path, text = as_path(name_or_path), os.fspath(name_or_path)
    return str(path) if text.startswith("~") else text
