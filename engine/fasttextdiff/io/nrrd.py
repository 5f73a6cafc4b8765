"""Write arrays as a NRRD file (teem.sourceforge.net/nrrd/format.html) with their place in the patient and text fields.

Written by hand because SimpleITK refuses axes that are not at right angles, and the format is a short text header and
gzip. Knows nothing about segments or findings.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_TYPES = {"uint8": "uint8", "uint16": "uint16", "float32": "float"}
# RAS to LPS, the space that Slicer writes and ITK reads without conversion.
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def write_nrrd(
    path: Path, volumes: list[NDArray[np.generic]], ijk_to_ras: NDArray[np.float64], fields: Mapping[str, str]
) -> None:
    """Write one 3D volume, or several as a leading "list" axis, the layout of Slicer's own files.

    Args:
        path: file to write; the caller makes it appear whole or not at all.
        volumes: arrays (k, j, i) of one shape and type, uint8, uint16 or float32.
        ijk_to_ras: 4x4 in millimetres; may be oblique, left-handed or sheared.
        fields: key/value pairs for the header; any text.

    Raises:
        OSError: the file cannot be written.
    """
    header = _header(volumes, ijk_to_ras, fields)
    compressor = zlib.compressobj(
        level=6, wbits=31
    )  # 31: gzip framing, without a time stamp, so that equal input is equal bytes
    with path.open("wb") as file:
        file.write(header.encode("utf-8"))
        for chunk in _slices(volumes):
            file.write(compressor.compress(chunk))
        file.write(compressor.flush())


def _header(volumes: list[NDArray[np.generic]], ijk_to_ras: NDArray[np.float64], fields: Mapping[str, str]) -> str:
    """Everything before the data, its closing blank line included."""
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
    """`(x,y,z)` with every digit that a double has."""
    return "(" + ",".join(repr(float(value)) for value in values) + ")"


def _escaped(value: str) -> str:
    """One line, as the format prescribes for values; carriage returns have no escape there and become newlines."""
    value = value.replace("\r\n", "\n").replace("\r", "\n")
    return value.replace("\\", "\\\\").replace("\n", "\\n")


def _slices(volumes: list[NDArray[np.generic]]) -> Iterator[bytes]:
    """The data slice by slice, list axis fastest, so that a second copy of a large volume is never held."""
    little_endian = volumes[0].dtype.newbyteorder("<")
    for k in range(volumes[0].shape[0]):
        yield np.stack([volume[k] for volume in volumes], axis=-1).astype(little_endian).tobytes()
