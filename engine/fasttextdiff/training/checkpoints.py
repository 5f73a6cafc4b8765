"""Checkpoint files of a run: written whole or not at all, read with one line for an answer when they do not fit.

Knows files; knows nothing about what is trained.
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
    """Replace a checkpoint by a new one; whatever happens on the way, the previous one stays.

    Raises:
        FastTextDiffError: it cannot be written, e.g. because the disk is full.
    """
    temporary = path.with_suffix(".tmp")
    try:
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())  # else a power cut can leave the new name on an empty file
        temporary.replace(path)
    except (OSError, RuntimeError) as error:  # torch tells of a full disk with a RuntimeError
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
        parts: names and the objects whose `load_state_dict` takes what is stored under that name.
        choices: values that must be what they were when the checkpoint was written. Those that it does not hold are not
            compared: older versions wrote none.

    Returns:
        the number of steps done, 0 without a file.

    Raises:
        FastTextDiffError: it cannot be read, is of another model, or was made by another choice.
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
