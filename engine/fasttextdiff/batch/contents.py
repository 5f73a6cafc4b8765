"""Finds everything at a place: a folder tree, a DICOMDIR, or one file. Knows where files are; judges nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fasttextdiff.batch.headers import FOREIGN, LABELLED, DicomFile, ImageFile, is_named_like_labels, look_at
from fasttextdiff.batch.plan import Skipped, merged
from fasttextdiff.batch.tree import files_below, is_file, is_folder, reason_of
from fasttextdiff.errors import Cancelled, UsageError
from fasttextdiff.io.dicom_headers import lost_slices
from fasttextdiff.io.read import quiet

Progress = Callable[[int, int], bool]
"""`progress(done, total)` in files or rows; False cancels."""

DICOMDIR = "DICOMDIR"
_MISSING = "the DICOMDIR names it, but it is not there"


@dataclass(frozen=True)
class Contents:
    """What is at a place, in the order of the paths.

    Attributes:
        dicom: all DICOM files whose series may matter, unusable ones included.
        others: images of other formats.
        skipped: everything else.
    """

    dicom: tuple[DicomFile, ...]
    others: tuple[ImageFile, ...]
    skipped: tuple[Skipped, ...]


def contents_of(place: Path, progress: Progress | None) -> Contents:
    """Look at every file of a folder tree, of those that a DICOMDIR names, or at one file.

    Raises:
        UsageError: the DICOMDIR is damaged, or names no files.
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
        skipped=tuple(_without_crowds(left_out)),
    )


def _with_lost_slices(dicom: list[DicomFile], skipped: list[Skipped]) -> tuple[list[DicomFile], list[Skipped]]:
    """Count files without a known series to all series of their folder: each may lack a slice now."""
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
        Cancelled: the answer was False.
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


def _without_crowds(skipped: Sequence[Skipped]) -> list[Skipped]:
    """Damaged files each by itself; files that never were images as one entry a folder."""
    damaged = [one for one in skipped if one.reason != FOREIGN]
    return damaged + merged(one for one in skipped if one.reason == FOREIGN)


# --- DICOMDIR (PS3.3 annex F) ----------------------------------------------------------------------------------------


def _files_named_in(dicomdir: Path) -> tuple[list[Path], list[DicomFile]]:
    """The files that are there, and an unusable one for each that is not."""
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
        raise UsageError(f"{dicomdir}: this DICOMDIR names no files; give the folder instead")
    return sorted(set(there)), missing


def _records(dicomdir: Path) -> list[tuple[Any, str, str]]:
    """Records that name a file, each with the UIDs of its study and series."""
    import pydicom

    try:
        dataset = pydicom.dcmread(dicomdir)
        records = {record.seq_item_tell: record for record in dataset.DirectoryRecordSequence}
        first = dataset.OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity
        return list(_below(records, first, "", ""))
    except OSError as error:
        raise UsageError(f"{dicomdir}: {reason_of(error)}") from error
    except Exception as problem:  # pydicom raises whatever its parsers raise
        raise UsageError(f"{dicomdir}: the DICOMDIR is damaged; give the folder instead") from problem


def _below(records: dict[int, Any], first: int, study_uid: str, series_uid: str) -> Iterator[tuple[Any, str, str]]:
    """Records of a chain and of all chains below it. A record is taken once, so that no loop of offsets holds us."""
    record = records.pop(first, None)
    while record is not None:
        study = str(record.get("StudyInstanceUID") or study_uid)
        series = str(record.get("SeriesInstanceUID") or series_uid)
        if record.get("ReferencedFileID"):
            yield record, study, series
        yield from _below(records, record.get("OffsetOfReferencedLowerLevelDirectoryEntity") or 0, study, series)
        record = records.pop(record.get("OffsetOfTheNextDirectoryRecord") or 0, None)


def _parts(record: Any) -> list[str]:
    """The components of a Referenced File ID (0004,1500), none of which may lead upwards."""
    value = record.ReferencedFileID
    parts = [value] if isinstance(value, str) else list(value)
    return [part for part in parts if part not in ("", ".", "..")]


def _find(folder: Path, parts: list[str]) -> Path:
    """A file by its capital name, or by the small one that some systems show for it."""
    path = folder.joinpath(*parts)
    lowered = folder.joinpath(*(part.lower() for part in parts))
    return lowered if not is_file(path) and is_file(lowered) else path
