"""Takes the fields of a worker's request and refuses what does not belong there. Knows nothing of models and images."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.errors import FastTextDiffError, ModelError, UsageError
from fasttextdiff.image.volume import Modality
from fasttextdiff.model.info import local_folder
from fasttextdiff.paths import as_path

Kind = TypeVar("Kind")
Request = Mapping[str, Any]


def required(request: Request, name: str, kind: type[Kind]) -> Kind:
    """A field that must be there.

    Raises:
        UsageError: it is not, or is of another type.
    """
    value = optional(request, name, kind)
    if value is None:
        raise UsageError(f"the request lacks '{name}'")
    return value


def optional(request: Request, name: str, kind: type[Kind]) -> Kind | None:
    """A field, None where it is absent or null. Whole numbers will do for float.

    Raises:
        UsageError: it is of another type, or no finite number (JSON as Python reads it has NaN and Infinity).
    """
    value = request.get(name)
    if kind is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < sys.float_info.max:
        value = float(value)
    if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
        raise UsageError(f"'{name}' must be {kind.__name__}, got {value!r:.60}")
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"'{name}' must be a finite number, got {value}")
    return value


def numbers(request: Request, name: str, kind: type[Kind]) -> list[Kind] | None:
    """A list of int or float, None where it is absent or null.

    Raises:
        UsageError: it is no such list.
    """
    values = optional(request, name, list)
    return None if values is None else [required({name: value}, name, kind) for value in values]


def findings_of(request: Request) -> list[str]:
    """The findings as they were typed.

    Raises:
        UsageError: there are none, or not texts.
    """
    texts = required(request, "findings", list)
    if not texts:
        raise UsageError("no finding was given: type what to look for, for example 'left lung'")
    return [required({"findings": text}, "findings", str) for text in texts]


def modality_of(request: Request) -> Modality | None:
    """The modality, None where the engine is to find out.

    Raises:
        UsageError: there is no such modality.
    """
    name = optional(request, "modality", str)
    if name is not None and name not in [m.value for m in Modality]:
        raise UsageError(f"'{name}' is not a modality: use {', '.join(m.value for m in Modality)}")
    return None if name is None else Modality(name)


def model_folder_of(request: Request) -> Path:
    """The model's folder; never the network, which a name of no folder might reach for.

    Raises:
        ModelError: there is no such folder.
    """
    name = optional(request, "model", str)
    try:
        return local_folder(name)
    except UsageError as error:
        raise ModelError(str(error)) from None


def mapped_array(request: Request) -> NDArray[Any]:
    """The voxels in the request's file, read-only.

    Raises:
        UsageError: there is no such file, or it does not hold what the request says.
        FastTextDiffError: the volume is empty.
    """
    path, shape = as_path(required(request, "file", str)), numbers(request, "shape", int) or []
    if len(shape) not in (3, 4) or min(shape) < 0:
        raise UsageError(f"'shape' must be [k, j, i] or [k, j, i, components], got {shape}")
    if 0 in shape:
        raise FastTextDiffError("the volume is empty: load its image again")
    dtype = _dtype(required(request, "dtype", str))
    with suppress(OSError):
        if path.stat().st_size == dtype.itemsize * int(np.prod(shape, dtype=object)):
            return np.memmap(path, dtype=dtype, mode="r", shape=tuple(shape))
    raise UsageError(f"{path} does not hold the {shape} voxels ({dtype}) that were announced")


def _dtype(name: str) -> np.dtype[Any]:
    with suppress(TypeError):
        dtype = np.dtype(name)
        if dtype.kind in "biuf":
            return dtype
    raise UsageError(f"'{name}' is no type of voxels")


def matrix_of(request: Request) -> NDArray[np.float64]:
    """The IJK-to-RAS matrix (4, 4).

    Raises:
        UsageError: it is not 16 finite numbers.
    """
    values = numbers(request, "ijkToRas", float)
    if values is None or len(values) != 16 or not np.isfinite(values).all():
        raise UsageError("'ijkToRas' must be 16 finite numbers, row by row")
    return np.reshape(np.array(values, np.float64), (4, 4))
