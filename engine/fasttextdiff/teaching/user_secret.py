"""A secret of this user, with which folders of examples name patients. Knows files; knows nothing about examples."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from fasttextdiff.errors import FastTextDiffError
from fasttextdiff.paths import user_folder

SETTINGS_VARIABLE = "FASTTEXTDIFF_SETTINGS"
_NAME, _BYTES = "examples.key", 32


def settings_folder() -> Path:
    """This user's folder of what must outlive the cache; set FASTTEXTDIFF_SETTINGS for another one."""
    return user_folder(SETTINGS_VARIABLE, ("APPDATA", "Roaming"), "Application Support", ("XDG_CONFIG_HOME", ".config"))


def user_secret() -> bytes:
    """The secret: 32 random bytes in a file that only this user can read, made at the first call.

    Raises:
        FastTextDiffError: it can be neither read nor made, or is damaged.
    """
    path = settings_folder() / _NAME
    try:
        if not path.exists():
            _make(path)
        secret = path.read_bytes()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise FastTextDiffError(
            f"{path} cannot be used: {reason}; set {SETTINGS_VARIABLE} to a folder of your own"
        ) from error
    if len(secret) != _BYTES:
        raise FastTextDiffError(f"{path} is damaged: restore it, or remove it; patients then get other names")
    return secret


def _make(path: Path) -> None:
    """Write a new secret whole, readable by this user only; of two processes, the first one's stays."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{secrets.token_hex(4)}-{path.name}")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_bytes(_BYTES))
            file.flush()
            os.fsync(file.fileno())
        _place(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _place(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)  # unlike a rename, this never replaces another process's secret
    except FileExistsError:
        pass
    except OSError:  # a file system without links
        temporary.replace(path)
