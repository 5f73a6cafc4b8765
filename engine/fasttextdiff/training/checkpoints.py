"""Reads and writes the checkpoint files of a run, with atomic writes and one-line errors.

Knows files; knows nothing about models.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from fasttextdiff.errors import FastTextDiffError, one_line


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Replace a checkpoint; if this fails in any way, the previous one is kept.

    Raises:
        FastTextDiffError: it cannot be written, e.g. because the disk is full.
    """
    temporary = path.with_suffix(".tmp")
    try:
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())  # else a power cut could leave an empty file under the new name
        temporary.replace(path)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        temporary.unlink(missing_ok=True)
        kept = "; the previous one is kept" if path.is_file() else ""
        raise FastTextDiffError(f"the checkpoint {path} cannot be written: {one_line(error)}{kept}") from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def load_checkpoint(path: Path, *parts: tuple[str, Any], choices: Mapping[str, Any] | None = None) -> int:
    """Load the parts' states from a checkpoint if there is one.

    Args:
        path: the file.
        parts: names, and objects whose `load_state_dict` loads the state stored under that name.
        choices: settings that must equal those in the checkpoint. Settings that it lacks are not compared, because
            older versions stored none.

    Returns:
        The number of steps done, 0 without a file.

    Raises:
        FastTextDiffError: it cannot be read, is from another model, or was made with other settings.
    """
    if not path.is_file():
        return 0
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        before = state.get("choices", {})
        for name, value in (choices or {}).items():
            if before.get(name, value) != value:
                raise ValueError(f"{name} was {before[name]} and is {value} now")
        for name, part in parts:
            part.load_state_dict(state[name])
        return int(state["step"])
    except (RuntimeError, KeyError, ValueError, EOFError, OSError, pickle.UnpicklingError) as error:
        raise FastTextDiffError(
            f"the checkpoint {path} does not fit this configuration: {one_line(error)}; choose another output folder"
        ) from error
