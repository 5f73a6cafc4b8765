"""Checks values of requests beyond their types: model folders, arrays in files, matrices.

Knows nothing about threads, streams and models in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.contract.answers import ArrayFile
from fasttextdiff.errors import FastTextDiffError, ModelError, UsageError
from fasttextdiff.model.info import local_folder
from fasttextdiff.paths import as_path


def model_folder_of(name: str | None) -> Path:
    """The model's folder. A name that is not a folder is refused, so that nothing is downloaded.

    Raises:
        ModelError: the folder does not exist.
    """
    try:
        return local_folder(name)
    except UsageError as error:
        raise ModelError(str(error)) from None


def mapped_array(array: ArrayFile) -> NDArray[Any]:
    """The voxels of a file, memory-mapped and read-only.

    Raises:
        UsageError: the file does not exist, or does not hold what the request says.
        FastTextDiffError: the volume is empty.
    """
    path, shape = as_path(array.file), array.shape
    if len(shape) not in (3, 4) or min(shape) < 0:
        raise UsageError(f"'shape' must be [k, j, i] or [k, j, i, components], got {list(shape)}")
    if 0 in shape:
        raise FastTextDiffError("the volume is empty: load its image again")
    dtype = _dtype(array.dtype)
    with suppress(OSError):
        if path.stat().st_size == dtype.itemsize * int(np.prod(shape, dtype=object)):
            return np.memmap(path, dtype=dtype, mode="r", shape=shape)
    raise UsageError(f"{path} does not hold the {list(shape)} voxels ({dtype}) of the request")


def _dtype(name: str) -> np.dtype[Any]:
    with suppress(TypeError, ValueError, SyntaxError):
        dtype = np.dtype(name)
        if dtype.kind in "biuf":
            return dtype
    raise UsageError(f"'{name:.60}' is not a voxel type")


def matrix_of(values: Sequence[float]) -> NDArray[np.float64]:
    """The IJK-to-RAS matrix (4, 4).

    Raises:
        UsageError: it is not 16 numbers.
    """
    if len(values) != 16:
        raise UsageError(f"'ijk_to_ras' must be 16 numbers, row by row, got {len(values)}")
    return np.reshape(np.array(values, np.float64), (4, 4))
