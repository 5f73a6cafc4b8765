"""Protects inputs from being overwritten by results. Knows files and names, not their content."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from fasttextdiff.contract.files import identities, is_own_record
from fasttextdiff.contract.images import starts_like_dicom
from fasttextdiff.errors import UsageError

_SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""SOP classes (PS3.4 B.5) of Segmentation and Label Map Segmentation Storage."""
_SIDECARS = (".json", ".bval", ".bvec", ".hdr", ".img", ".img.gz", ".raw", ".raw.gz", ".zraw")
_HEADER_BYTES = 1 << 20


def require_apart(outputs: Iterable[Path], inputs: Iterable[Path], what: str = "the input image") -> None:
    """Refuse outputs that are the same file as an input or another output.

    Links, other spellings of a path, and names that differ only in case or Unicode form are the same file. An output
    may not replace any other DICOM image either.

    Raises:
        UsageError: an output may not be written.
    """
    taken: dict[object, str] = {}
    for path in inputs:
        taken |= dict.fromkeys(identities(path), f"it is {path}, which belongs to {what}")
    for output in outputs:
        mine = identities(output)
        reason = next((taken[one] for one in mine if one in taken), None) or _why_protected(output)
        if reason:
            raise UsageError(f"cannot write {output}: {reason}; choose another name")
        taken |= dict.fromkeys(mine, "two outputs have this path")


def require_own_record(path: Path) -> None:
    """Refuse to replace a file that is not our own `.json`, e.g. an image, a BIDS sidecar or a dataset's table.

    Raises:
        UsageError: the file exists and is not ours.
    """
    if path.exists() and not is_own_record(path):
        raise UsageError(
            f"cannot write {path}: it already exists and is not the record of a result; choose another name"
        )


def require_own_folder(output: Path, inputs: Iterable[Path | str | None], results: Sequence[str]) -> None:
    """Refuse to train into a folder that the training reads, or over a model from elsewhere.

    Args:
        output: output folder of the training; a checkpoint in it (`.pt`) shows that it is from the same training.
        inputs: files and folders that are read; None if not given.
        results: names of the folders that the training writes in `output`.

    Raises:
        UsageError: it may not be written to.
    """
    if output.exists() and not output.is_dir():
        raise UsageError(f"cannot write {output}: it is a file; choose another folder")
    read = {identity for one in inputs if one is not None for identity in identities(Path(one))}
    places = [output / name for name in results]
    if any(read & identities(place) for place in (output, *places)):
        raise UsageError(f"cannot write {output}: the training reads from this folder; choose another one")
    there = next((place for place in places if place.exists()), None)
    if there is not None and not any(output.glob("*.pt")):
        raise UsageError(f"cannot write {output}: it already holds {there} from elsewhere; choose another folder")


def files_of(image: Path) -> list[Path]:
    """The files of an image, and files next to it with the same name.

    Args:
        image: a file; for a folder the result is empty, because its DICOM files are known only after reading.
    """
    if image.is_dir():
        return []
    stem = re.sub(r"(\.nii|\.img|\.raw)?\.gz$|\.[^.]*$", "", image.name, flags=re.IGNORECASE)
    neighbours = [image.with_name(stem + ending) for ending in _SIDECARS]
    return [image, *data_files(image), *(path for path in neighbours if path.exists())]


def data_files(header: Path) -> list[Path]:
    """The files with the voxels of a NRRD or MetaImage header; empty if they are in the header's file."""
    name = header.name.lower()
    key = {".nhdr": "datafile:", ".nrrd": "datafile:", ".mhd": "elementdatafile=", ".mha": "elementdatafile="}.get(
        name[-5:] if name.endswith((".nhdr", ".nrrd")) else name[-4:]
    )
    if key is None or not header.is_file():
        return []
    with header.open("rb") as file:
        lines = [line.decode("utf-8", "surrogateescape").strip() for line in file.read(_HEADER_BYTES).split(b"\n")]
    for number, line in enumerate(lines):
        if re.sub(r"\s", "", line).lower().startswith(key):
            return [header.parent / one for one in _named(re.split(r"[:=]", line, maxsplit=1)[1], lines[number + 1 :])]
        if not line and key == "datafile:":  # the end of a NRRD header
            break
    return []


def _named(value: str, following: Sequence[str]) -> list[str]:
    """File names from the value of the key: one name, LIST, or a pattern with first, last and step."""
    words = value.split()
    if not words or words[0].upper() == "LOCAL":
        return []
    if words[0].upper() == "LIST":
        return [line for line in following if line]
    if "%" in words[0] and len(words) > 2:
        with suppress(TypeError, ValueError):
            first, last, step = (int(number) for number in (*words[1:4], "1")[:3])
            return [words[0] % number for number in range(first, last + (1 if step > 0 else -1), step)[:100_000]]
    return [value.strip()]


def _why_protected(path: Path) -> str:
    """Why an existing file may never be replaced; empty if it may."""
    with suppress(OSError):
        if path.is_file() and _is_dicom_image(path):
            return "a DICOM file of this name exists that is not a segmentation"
    return ""


def _is_dicom_image(path: Path) -> bool:
    with path.open("rb") as file:
        if not starts_like_dicom(file):
            return False
    import pydicom

    try:
        header = pydicom.dcmread(path, specific_tags=["SOPClassUID"], stop_before_pixels=True)
        return str(header.get("SOPClassUID", "")) not in _SEGMENTATIONS
    except Exception:  # damaged, but still a DICOM file
        return True
