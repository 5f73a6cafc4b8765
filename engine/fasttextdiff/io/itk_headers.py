"""Checks the headers of NRRD and MetaImage files before ITK relies on their sizes and geometry.

NRRD: teem.sourceforge.net/nrrd/format.html; MetaImage: itk.org/Wiki/ITK/MetaIO/Documentation. Knows nothing about the
meaning of voxels.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from fasttextdiff.errors import FastTextDiffError
from fasttextdiff.io.file_checks import GZIP, ZLIB, require_compressible, require_intact, require_numbers, require_room
from fasttextdiff.io.overwriting import data_files

_LONGEST_HEADER = 1 << 24
_NRRD_BYTES = {"char": 1, "int8": 1, "short": 2, "int16": 2, "long": 8, "int64": 8, "double": 8, "float": 4, "int": 4}
"""Bytes by the first of these words in the type's name: "long long int" and "uint64_t" have 8 bytes."""
_META_BYTES = {"SHORT": 2, "INT": 4, "LONG": 4, "FLOAT": 4, "LONG_LONG": 8, "DOUBLE": 8}
_META_PLACE = ("Offset", "Position", "Origin", "TransformMatrix", "Rotation", "Orientation", "CenterOfRotation")
_META_SPACING = ("ElementSpacing", "ElementSize")
_META_SCALE = ("ElementToIntensityFunctionSlope", "ElementToIntensityFunctionOffset")
_SPATIAL = ("domain", "space")
Fields = Mapping[str, str]


def require_sound_header(path: Path) -> None:
    """Refuse a header with invalid numbers, axes without a direction, or more voxels than its file holds.

    Compressed voxels are unpacked to verify their checksum, because ITK ignores it and would return wrong voxels.

    Raises:
        FastTextDiffError: the header is not valid.
        Exception: there is no header, or the voxels are damaged; the caller turns this into one line.
    """
    with path.open("rb") as file:
        if path.name.lower().endswith((".nrrd", ".nhdr")):
            _require_sound_nrrd(path, file)
        else:
            _require_sound_metaimage(path, file)


# --- NRRD ------------------------------------------------------------------------------------------------------------


def _require_sound_nrrd(path: Path, file: BinaryIO) -> None:
    fields = _nrrd_fields(file)
    sizes = [int(size) for size in fields["sizes"].split()]
    _require_nrrd_place(path, fields, len(sizes))
    voxel_bytes = next((width for word, width in _NRRD_BYTES.items() if word in fields.get("type", "")), 1)
    files = _data_files(path)
    encoding = fields.get("encoding", "raw")
    is_skipped = any(int(fields.get(skip, "0")) for skip in ("lineskip", "byteskip"))
    start = file.tell() if not files else 0
    if encoding in ("gzip", "gz"):
        _require_unpackable(path, sizes, voxel_bytes, files or [path], start, 0 if is_skipped else GZIP)
    else:
        per_byte = {"bzip2": 0.0, "bz2": 0.0, "hex": 0.5, "text": 0.5 * voxel_bytes, "txt": 0.5 * voxel_bytes}
        per_byte["ascii"] = per_byte["text"]
        held = sum(one.stat().st_size for one in files) if files else path.stat().st_size - start
        if per_byte.get(encoding, 1.0):
            require_room(path, sizes, voxel_bytes, held * per_byte.get(encoding, 1.0) + voxel_bytes)
        else:
            require_compressible(path, sizes, voxel_bytes, held)


def _nrrd_fields(file: BinaryIO) -> dict[str, str]:
    """Fields by name, in lower case and without blanks."""
    if not file.readline(16).startswith(b"NRRD000"):
        raise ValueError("not a NRRD header")
    fields: dict[str, str] = {}
    while line := file.readline(_LONGEST_HEADER):
        text = line.decode("utf-8", "replace").strip()
        if not text or file.tell() > _LONGEST_HEADER:
            break
        name, _, value = text.partition(":")
        if text.startswith("#") or value.startswith("="):
            continue
        fields["".join(name.lower().split())] = value.strip().lower()
    return fields


def _require_nrrd_place(path: Path, fields: Fields, axes: int) -> None:
    kinds = fields.get("kinds", "").split() or ["domain"] * axes
    for name in ("spacings", "axismins", "axismaxs"):
        words = fields.get(name, "").split()
        # NaN marks an axis without a spacing, which is valid only for colours and time
        words = [word for word, kind in zip(words, kinds, strict=False) if kind in _SPATIAL or word != "nan"]
        require_numbers(path, f"'{name}'", words, are_nonzero=name == "spacings")
    vectors = re.findall(r"\(([^)]*)\)|(none)", fields.get("spacedirections", ""))
    rows = [vector.split(",") for vector, none in vectors if not none]
    for row in rows:
        require_numbers(path, "'space directions'", row)
    _require_independent(path, "'space directions'", [[float(word) for word in row] for row in rows])
    require_numbers(path, "'space origin'", re.sub(r"[(),]", " ", fields.get("spaceorigin", "")).split())


# --- MetaImage -------------------------------------------------------------------------------------------------------


def _require_sound_metaimage(path: Path, file: BinaryIO) -> None:
    fields = _metaimage_fields(file)
    sizes = [int(size) for size in fields["DimSize"].split()]
    _require_metaimage_place(path, fields, len(sizes))
    kind = fields.get("ElementType", "").removeprefix("MET_").removesuffix("_ARRAY")
    voxel_bytes = _META_BYTES.get(kind.removeprefix("U"), 1) * int(fields.get("ElementNumberOfChannels", "1"))
    files = _data_files(path)
    start = file.tell() if not files else 0
    if fields.get("CompressedData", "")[:1] in ("T", "t", "1"):
        length = int(fields["CompressedDataSize"])  # ITK returns wrong voxels without it
        is_whole = len(files) <= 1 and int(fields.get("HeaderSize", "0")) <= 0
        _require_unpackable(path, sizes, voxel_bytes, files or [path], start, ZLIB if is_whole else 0, length)
        return
    held = sum(one.stat().st_size for one in files) if files else path.stat().st_size - start
    is_text = fields.get("BinaryData", "")[:1] in ("F", "f", "0")
    require_room(path, sizes, 2 if is_text else voxel_bytes, held + is_text)


def _metaimage_fields(file: BinaryIO) -> dict[str, str]:
    """The lines up to the one that gives the location of the voxels."""
    fields: dict[str, str] = {}
    while "ElementDataFile" not in fields:
        line = file.readline(_LONGEST_HEADER)
        if not line or file.tell() > _LONGEST_HEADER:
            raise ValueError("not a MetaImage header")
        name, *value = re.split("[=:]", line.decode("utf-8", "replace"), maxsplit=1)
        fields[name.strip()] = "".join(value).strip()
    return fields


def _require_metaimage_place(path: Path, fields: Fields, axes: int) -> None:
    for name in (*_META_PLACE, *_META_SPACING, *_META_SCALE):
        require_numbers(path, name, fields.get(name, "").split(), are_nonzero=name in _META_SPACING)
    for name in ("TransformMatrix", "Rotation", "Orientation"):
        numbers = [float(word) for word in fields.get(name, "").split()]
        _require_independent(path, name, [numbers[n * axes : (n + 1) * axes] for n in range(len(numbers) // axes)])


# --- both ------------------------------------------------------------------------------------------------------------


def _require_unpackable(
    path: Path,
    sizes: Sequence[int],
    voxel_bytes: int,
    files: Sequence[Path],
    start: int,
    kind: int,
    length: int | None = None,
) -> None:
    """Check compressed voxels; if they are in several files or after a skipped part (kind 0), only their size."""
    there = sum(one.stat().st_size for one in files) - start
    packed = there if length is None else length
    if not 0 < packed <= there:
        raise EOFError("the compressed voxels are truncated")
    require_compressible(path, sizes, voxel_bytes, packed)
    if kind:
        announced = math.prod(sizes) * voxel_bytes
        with files[0].open("rb") as file:
            file.seek(start)
            held = require_intact(io.BytesIO(file.read(packed)), kind, announced + _LONGEST_HEADER)
        require_room(path, sizes, voxel_bytes, held)


def _data_files(path: Path) -> list[Path]:
    """The files of detached voxels; none if they are in the header's file.

    Raises:
        FastTextDiffError: one is missing, or is not a regular file (a device would never end).
    """
    files = data_files(path)
    for file in files:
        if not file.is_file():
            raise FastTextDiffError(
                f"{path}: its voxels should be in {file.name}, which is missing: copy that file too"
            )
    return files


def _require_independent(path: Path, what: str, rows: Sequence[Sequence[float]]) -> None:
    """Refuse axis directions of which one is zero or in the plane of the others."""
    lengths = [math.hypot(*row) for row in rows]
    is_flat = any(length == 0 for length in lengths) or len({len(row) for row in rows}) > 1
    if rows and not is_flat:
        units = np.array(rows) / np.array(lengths)[:, None]
        is_flat = bool(np.linalg.matrix_rank(units, tol=1e-4) < len(rows))
    if is_flat:
        raise FastTextDiffError(f"{path}: {what} in the header do not span the image: save it again")
