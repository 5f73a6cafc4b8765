"""Takes the paths that users give, in one way everywhere: text or `os.PathLike`, with their home folder as `~`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from fasttextdiff.errors import UsageError

PathText = str | os.PathLike[str]


def as_path(path: PathText) -> Path:
    """A path as a user gives it, on the command line, in a table or to a function.

    `~` and `~/...` are in the user's home folder, as a shell has it; where a shell did not see them
    (`--output=~/out`), they are taken here.

    Raises:
        UsageError: it is no text, empty, not in UTF-8, holds what no file's name can, or begins with `~` where a
            folder of this very name is here.
    """
    try:
        text = os.fspath(path)
    except TypeError:
        raise UsageError(f"a path is a text or a pathlib.Path, not {type(path).__name__}") from None
    if not isinstance(text, str):
        raise UsageError(f"a path is a text or a pathlib.Path, not {type(text).__name__}: use os.fsdecode")
    if not text or "\0" in text:
        raise UsageError(f"a path is {'empty' if not text else 'not one: it holds a null character'}")
    try:
        text.encode("utf-8"), os.fsencode(text)
    except UnicodeError:  # libraries in C++ end the whole process at such a name
        way = "run Python with -X utf8" if sys.getfilesystemencoding() == "ascii" else "rename it"
        raise UsageError(f"a path is to be in UTF-8, {text!a} is not: {way}") from None
    # a pathlib.Path does not tell "./~/x" from "~/x"
    is_at_home = text == "~" or text[:2] in ("~/", f"~{os.sep}")
    if is_at_home and os.path.lexists("~"):
        raise UsageError(f"'{text}' may be in your home folder or in the folder '~' here: give the whole path")
    return Path(text).expanduser() if is_at_home else Path(text)


def as_name(name_or_path: PathText) -> str:
    """The text of a path, or of a name on a hub ("owner/name"), which stays as it is typed, also on Windows.

    Raises:
        UsageError: as :func:`as_path`.
    """
    path, text = as_path(name_or_path), os.fspath(name_or_path)
    return str(path) if text.startswith("~") else text
