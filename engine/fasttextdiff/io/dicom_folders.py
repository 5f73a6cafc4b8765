"""Finds the DICOM files in a folder, and those that may be damaged slices.

Knows names and first bytes; reads no headers.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from fasttextdiff.contract.images import starts_like_dicom

DICOM_ENDINGS = (".dcm", ".dicom", ".ima")


def looks_like_dicom(path: Path) -> bool:
    """Whether the content of a file is DICOM: "DICM" after a preamble of 128 bytes (PS3.10 section 7.1)."""
    with path.open("rb") as file:
        return starts_like_dicom(file)


def series_files(path: Path) -> tuple[list[Path], list[str]]:
    """All DICOM files at or below the path, and a note on files that may be damaged slices."""
    if not path.is_dir():
        return [path] if looks_like_dicom(path) else [], []
    dicom: list[Path] = []
    others: list[Path] = []
    for file in sorted(path.rglob("*")):
        if file.is_file():
            (dicom if looks_like_dicom(file) else others).append(file)
        elif not file.exists() or (file.is_dir() and not os.access(file, os.R_OK | os.X_OK)):
            # a broken link, or a folder that rglob skips because it cannot be opened
            others.append(file)
    lost = lost_slices(dicom, others)
    if not lost:
        return dicom, []
    names = ", ".join(file.name for file in lost[:5]) + (", ..." if len(lost) > 5 else "")
    return dicom, [f"{len(lost)} files in the folder cannot be read as DICOM ({names}): slices may be missing"]


def lost_slices(dicom: Sequence[Path], others: Sequence[Path]) -> list[Path]:
    """Files that are not DICOM but are named like the DICOM files of their folder: probably damaged slices."""
    named = {(file.parent, _kind_of_name(file)) for file in dicom}
    folders = {file.parent for file in dicom}
    return [
        file
        for file in others
        if file.parent in folders
        and not file.name.startswith(".")
        and file.name.upper() != "DICOMDIR"
        and ((file.parent, _kind_of_name(file)) in named or file.suffix.lower() in DICOM_ENDINGS)
    ]


def _kind_of_name(file: Path) -> str:
    """The common part of file names in a series: the extension or, without one, the letters before the digits.

    A number is not an extension, as in UIDs and IM.001. A README next to IM001 is of another kind.
    """
    ending = file.suffix.lower()
    has_none = not ending or ending[1:].isdigit() or " " in ending
    return re.split(r"\d", file.name, maxsplit=1)[0].casefold() if has_none else ending
