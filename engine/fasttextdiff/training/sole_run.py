"""Keeps a second process from training in a folder that is in use. Knows files only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fasttextdiff.errors import FastTextDiffError, UsageError, one_line

LOCK = "training.lock"


@contextmanager
def sole_run(folder: Path) -> Iterator[None]:
    """Hold a folder's lock; the system releases it when the process ends, however it ends.

    Two processes would overwrite each other's checkpoints, and the later one wins.

    Args:
        folder: output folder of the run; it exists.

    Raises:
        UsageError: another process trains there.
        FastTextDiffError: nothing can be written there.
    """
    from filelock import FileLock, Timeout

    try:
        held = FileLock(folder / LOCK).acquire(blocking=False)
    except Timeout as error:
        raise UsageError(f"another process is training in {folder}: stop it, or choose another folder") from error
    except (OSError, NotImplementedError) as error:
        raise FastTextDiffError(f"{folder} cannot be written to: {one_line(error)}") from error
    with held:
        yield
