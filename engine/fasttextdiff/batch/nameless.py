"""Takes out of messages what may name a patient: paths, file names, and texts that libraries quote from headers.

Knows paths and exceptions; knows nothing about outputs, and reads of a file no more than where its voxels are.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from fasttextdiff.batch.plan import Case
from fasttextdiff.errors import FastTextDiffError, one_line
from fasttextdiff.io.overwriting import data_files

_READERS = {"pydicom", "highdicom", "nibabel", "SimpleITK", "PIL"}
"""Libraries whose exceptions quote headers and file names."""
_OUR_READERS = ("fasttextdiff", "io")


def without_names(text: str, case: Case) -> str:
    """Text without the names of a case's files.

    The path becomes the case's name. Its n-th DICOM file, sorted by path, becomes "file n of" that name, and a file
    with the voxels of a header becomes "another file of" that name. A folder above them becomes "...".
    """
    labels = {file: f"file {n} of {case.name}" for n, file in enumerate(case.files, start=1)}
    beside = () if case.files else _beside(case.path)
    return _replaced(text, {**dict.fromkeys(beside, f"another file of {case.name}"), **labels, case.path: case.name})


def reason_without_names(error: FastTextDiffError, path: Path) -> str:
    """The message on a file, without the file's name."""
    text = str(error).removeprefix(f"{path}: ")
    return _replaced(text, {**dict.fromkeys(_beside(path), "another file of the image"), path: "the file"})


def message_of(error: BaseException, case: Case) -> str:
    """Why a case failed, in one line."""
    text = _said(error) if isinstance(error, FastTextDiffError) else f"internal error, {_line(error)}"
    return without_names(text, case)


def traceback_of(error: BaseException, case: Case) -> str:
    """Where a case failed, after the exceptions that caused it."""
    parts = ["".join(traceback.format_tb(one.__traceback__)) + _line(one) + "\n" for one in _chain(error)]
    return without_names("\n".join(parts), case)


# --- names of files --------------------------------------------------------------------------------------------------


def _beside(path: Path) -> list[Path]:
    """The files that hold an image's voxels if they are not in the file itself; a message may name them."""
    with suppress(OSError):  # what cannot be read has not been named either
        return data_files(path)
    return []


def _replaced(text: str, labels: Mapping[Path, str]) -> str:
    """Text with paths and file names replaced by labels, and what remains of their folders by "..."."""
    folders = {str(folder) for path in labels for folder in path.parents if folder.name}
    names = {name: "..." for name in folders if Path(name).is_absolute()}
    for path, label in labels.items():
        names |= {path.name: label, str(path): label}
    names |= {repr(name)[1:-1]: label for name, label in names.items()}  # as Python's exceptions quote it
    text = re.sub(rf"{_any_of(names)}(?!\w)", lambda match: names[match[0]], text)
    return re.sub(rf"{_any_of(folders)}(?=[/\\])", "...", text)


def _any_of(names: Iterable[str]) -> str:
    """A regular expression for whole names, the longest first; it matches nothing without names."""
    there = sorted((name for name in names if name not in ("", ".", "..")), key=len, reverse=True)
    return rf"(?<!\w)(?:{'|'.join(map(re.escape, there))})" if there else r"(?!)"


# --- exceptions ------------------------------------------------------------------------------------------------------


def _chain(error: BaseException) -> list[BaseException]:
    """An exception, preceded by those that caused it."""
    chain = [error]
    while (before := chain[-1].__cause__ or chain[-1].__context__) is not None and before not in chain:
        chain.append(before)
    return chain[::-1]


def _line(error: BaseException) -> str:
    """Type and message; of an exception that may quote a header or a file name, only the system's reason."""
    if isinstance(error, FastTextDiffError) or not _may_quote(error):
        return f"{type(error).__name__}: {_said(error)}"
    reason = error.strerror if isinstance(error, OSError) else None
    return f"{type(error).__name__}: {reason}" if reason else type(error).__name__


def _said(error: BaseException) -> str:
    """The message; a library's message in it becomes its type if it may quote."""
    text = str(error) if isinstance(error, FastTextDiffError) else one_line(error)
    for cause in _chain(error)[:-1]:
        if not isinstance(cause, FastTextDiffError) and _may_quote(cause):
            text = text.replace(one_line(cause), type(cause).__name__)
    return text


def _may_quote(error: BaseException) -> bool:
    """Whether an exception comes from the system, or from reading or writing a file."""
    files = [Path(frame.filename).parts for frame in traceback.extract_tb(error.__traceback__)]
    return isinstance(error, OSError) or any(
        parts[-3:-1] == _OUR_READERS or not _READERS.isdisjoint(parts) for parts in files
    )
