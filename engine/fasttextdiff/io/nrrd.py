"""Writes arrays to a NRRD file (teem.sourceforge.net/nrrd/format.html) with geometry and text fields.

Does not use SimpleITK, which refuses axes that are not at right angles; the format is a short text header and gzip.
Knows nothing about segments or findings.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_TYPES = {"uint8": "uint8", "uint16": "uint16", "float32": "float"}
# RAS to LPS, which Slicer writes and ITK reads without conversion.
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def write_nrrd(
    path: Path, volumes: list[NDArray[np.generic]], ijk_to_ras: NDArray[np.float64], fields: Mapping[str, str]
) -> None:
    """Write one 3D volume, or several with a leading "list" axis, as in Slicer's files.

    Args:
        path: file to write; the caller makes the write atomic.
        volumes: arrays (k, j, i) of one shape and type: uint8, uint16 or float32.
        ijk_to_ras: 4x4 in millimetres; may be oblique, left-handed or sheared.
        fields: key/value pairs for the header; any text.

    Raises:
        OSError: the file cannot be written.
    """
    header = _header(volumes, ijk_to_ras, fields)
    compressor = zlib.compressobj(
        level=6, wbits=31
    )  # 31: gzip format without a time stamp, so that equal input gives equal bytes
    with path.open("wb") as file:
        file.write(header.encode("utf-8"))
        for chunk in _slices(volumes):
            file.write(compressor.compress(chunk))
        file.write(compressor.flush())


def _header(volumes: list[NDArray[np.generic]], ijk_to_ras: NDArray[np.float64], fields: Mapping[str, str]) -> str:
    """Everything before the data, including the final blank line."""
    is_list = len(volumes) > 1
    lps = _LPS @ ijk_to_ras
    k, j, i = volumes[0].shape
    directions = [_vector(lps[:3, axis]) for axis in range(3)]
    lines = [
        "NRRD0005",
        f"type: {_TYPES[volumes[0].dtype.name]}",
        f"dimension: {4 if is_list else 3}",
        "space: left-posterior-superior",
        "sizes: " + (f"{len(volumes)} " if is_list else "") + f"{i} {j} {k}",
        "space directions: " + ("none " if is_list else "") + " ".join(directions),
        "kinds: " + ("list " if is_list else "") + "domain domain domain",
        "endian: little",
        "encoding: gzip",
        f"space origin: {_vector(lps[:3, 3])}",
        'space units: "mm" "mm" "mm"',
    ]
    return "\n".join(lines + [f"{key}:={_escaped(value)}" for key, value in fields.items()]) + "\n\n"


def _vector(values: NDArray[np.float64]) -> str:
    """`(x,y,z)` with all digits of a double."""
    return "(" + ",".join(repr(float(value)) for value in values) + ")"


def _escaped(value: str) -> str:
    """A value on one line, as the format requires; carriage returns cannot be escaped and become newlines."""
    value = value.replace("\r\n", "\n").replace("\r", "\n")
    return value.replace("\\", "\\\\").replace("\n", "\\n")


def _slices(volumes: list[NDArray[np.generic]]) -> Iterator[bytes]:
    """The data slice by slice, list axis fastest, which avoids a second copy of a large volume."""
    little_endian = volumes[0].dtype.newbyteorder("<")
    for k in range(volumes[0].shape[0]):
        yield np.stack([volume[k] for volume in volumes], axis=-1).astype(little_endian).tobytes()
