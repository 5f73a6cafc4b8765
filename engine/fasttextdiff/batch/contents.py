"""Lists the images in a folder tree, a DICOMDIR or one file. Knows paths; does not select."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fasttextdiff.batch.headers import FOREIGN, LABELLED, DicomFile, ImageFile, is_named_like_labels, look_at
from fasttextdiff.batch.plan import Skipped, merged
from fasttextdiff.batch.tree import files_below, is_file, is_folder, reason_of
from fasttextdiff.errors import Cancelled, UsageError
from fasttextdiff.io.dicom_folders import lost_slices
from fasttextdiff.io.read import quiet
from fasttextdiff.progress import Progress

DICOMDIR = "DICOMDIR"
_MISSING = "listed in the DICOMDIR, but missing"


@dataclass(frozen=True)
class Contents:
    """The files of an input, sorted by path.

    Attributes:
        dicom: all DICOM files whose series may matter, including unusable ones.
        others: images of other formats.
        skipped: everything else.
    """

    dicom: tuple[DicomFile, ...]
    others: tuple[ImageFile, ...]
    skipped: tuple[Skipped, ...]


def contents_of(place: Path, progress: Progress | None) -> Contents:
    """Read the header of every file in a folder tree or a DICOMDIR, or of one file.

    Raises:
        UsageError: the DICOMDIR is damaged, or lists no files.
        Cancelled: `progress` returned False.
    """
    missing: list[DicomFile] = []
    skipped: list[Skipped] = []
    if is_folder(place):
        files, skipped = files_below(place)
        files = [file for file in files if file.name.upper() != DICOMDIR]
    elif place.name.upper() == DICOMDIR:
        files, missing = _files_named_in(place)
    else:
        files = [place]
    with quiet():
        seen = list(_look_at_all(files, progress))
    if is_folder(place):
        seen = [_without_labels(one, place) for one in seen]
    dicom, left_out = _with_lost_slices(
        [one for one in seen if isinstance(one, DicomFile)],
        [*skipped, *(one for one in seen if isinstance(one, Skipped))],
    )
    return Contents(
        dicom=(*dicom, *missing),
        others=tuple(one for one in seen if isinstance(one, ImageFile)),
        skipped=tuple(_with_foreign_merged(left_out)),
    )


def _with_lost_slices(dicom: list[DicomFile], skipped: list[Skipped]) -> tuple[list[DicomFile], list[Skipped]]:
    """Assign unreadable files to all series of their folder, since each of them may lack a slice."""
    nameless = [file for file in dicom if file.problem and not file.series_uid]
    whole = [file for file in dicom if file not in nameless]
    unread = set(lost_slices([file.path for file in dicom], [one.path for one in skipped]))
    series: dict[Path, set[tuple[str, str]]] = {}
    for file in whole:
        if file.images and file.series_uid:
            series.setdefault(file.path.parent, set()).add((file.study_uid, file.series_uid))
    lost = [(file.path, file.problem) for file in nameless]
    lost += [(one.path, one.reason) for one in skipped if one.path in unread]
    added: list[DicomFile] = []
    for path, problem in lost:
        owners = sorted(series.get(path.parent, {("", "")}))
        added += [DicomFile(path, study, uid, images=1, problem=problem) for study, uid in owners]
    return whole + added, [one for one in skipped if one.path not in unread]


def report(progress: Progress | None, done: int, total: int) -> None:
    """Report the progress.

    Raises:
        Cancelled: `progress` returned False.
    """
    if progress is not None and not progress(done, total):
        raise Cancelled("stopped; nothing was written")


def _look_at_all(files: Sequence[Path], progress: Progress | None) -> Iterator[DicomFile | ImageFile | Skipped]:
    for done, file in enumerate(files, start=1):
        yield look_at(file)
        report(progress, done, len(files))


def _without_labels(one: DicomFile | ImageFile | Skipped, root: Path) -> DicomFile | ImageFile | Skipped:
    is_label = isinstance(one, ImageFile) and is_named_like_labels(one.path, root)
    return Skipped(one.path, "", LABELLED) if is_label else one


def _with_foreign_merged(skipped: Sequence[Skipped]) -> list[Skipped]:
    """One entry for each damaged file; one entry per folder for files that are not images."""
    damaged = [one for one in skipped if one.reason != FOREIGN]
    return damaged + merged(one for one in skipped if one.reason == FOREIGN)


# --- DICOMDIR (PS3.3 annex F) ----------------------------------------------------------------------------------------


def _files_named_in(dicomdir: Path) -> tuple[list[Path], list[DicomFile]]:
    """The files that exist, and an unusable one for each that is missing."""
    there: list[Path] = []
    missing = []
    for record, study_uid, series_uid in _records(dicomdir):
        path = _find(dicomdir.parent, _parts(record))
        if is_file(path):
            there.append(path)
        else:
            is_image = record.get("DirectoryRecordType") == "IMAGE"
            uid = str(record.get("ReferencedSOPInstanceUIDInFile") or "")
            missing.append(DicomFile(path, study_uid, series_uid, uid, images=int(is_image), problem=_MISSING))
    if not there and not missing:
        raise UsageError(f"{dicomdir}: this DICOMDIR lists no files; give the folder instead")
    return sorted(set(there)), missing


def _records(dicomdir: Path) -> list[tuple[Any, str, str]]:
    """Records that refer to a file, each with the UIDs of its study and series."""
    import pydicom

    try:
        dataset = pydicom.dcmread(dicomdir)
        records = {record.seq_item_tell: record for record in dataset.DirectoryRecordSequence}
        first = dataset.OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity
        return list(_below(records, first, "", ""))
    except OSError as error:
        raise UsageError(f"{dicomdir}: {reason_of(error)}") from error
    except Exception as problem:  # pydicom's parsers may raise anything
        raise UsageError(f"{dicomdir}: the DICOMDIR is damaged; give the folder instead") from problem


def _below(records: dict[int, Any], first: int, study_uid: str, series_uid: str) -> Iterator[tuple[Any, str, str]]:
    """Records of a chain and of all chains below it, each once, so that a loop of offsets ends."""
    record = records.pop(first, None)
    while record is not None:
        study = str(record.get("StudyInstanceUID") or study_uid)
        series = str(record.get("SeriesInstanceUID") or series_uid)
        if record.get("ReferencedFileID"):
            yield record, study, series
        yield from _below(records, record.get("OffsetOfReferencedLowerLevelDirectoryEntity") or 0, study, series)
        record = records.pop(record.get("OffsetOfTheNextDirectoryRecord") or 0, None)


def _parts(record: Any) -> list[str]:
    """The components of a Referenced File ID (0004,1500); none may lead to a parent folder."""
    value = record.ReferencedFileID
    parts = [value] if isinstance(value, str) else list(value)
    return [part for part in parts if part not in ("", ".", "..")]


def _find(folder: Path, parts: list[str]) -> Path:
    """A file by its name in capital letters, or in the small letters that some systems show."""
    path = folder.joinpath(*parts)
    lowered = folder.joinpath(*(part.lower() for part in parts))
    return lowered if not is_file(path) and is_file(lowered) else path
