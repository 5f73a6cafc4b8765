"""Makes the list of cases from an input, and the list of skipped files with reasons.

Knows folders, tables, headers and which series to use; reads no voxels, knows no model and writes nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from fasttextdiff.batch.contents import contents_of, report
from fasttextdiff.batch.headers import DicomFile, ImageFile
from fasttextdiff.batch.plan import Case, CaseOptions, Plan, Skipped, common_folder
from fasttextdiff.batch.selection import Choice, Series, choose_series
from fasttextdiff.batch.table import TABLE_ENDINGS, BatchInput, checked_findings, pattern_of, read_table
from fasttextdiff.batch.tree import is_file, is_folder
from fasttextdiff.errors import UsageError
from fasttextdiff.image.volume import Modality
from fasttextdiff.paths import PathText, as_path
from fasttextdiff.progress import Progress

_SLICES = ("CT Image Storage", "MR Image Storage")

__all__ = ["Case", "CaseOptions", "Plan", "Skipped", "find_cases"]


def find_cases(
    source: PathText,
    findings: Sequence[str],
    defaults: CaseOptions,
    *,
    modality: str | None = None,
    series: str | None = None,
    largest_series: bool = False,
    progress: Progress | None = None,
) -> Plan:
    """List the images to segment.

    DICOM files are grouped into series, whatever their folders. Localizers, dose reports, secondary captures,
    reformatted views, copies, and series with a damaged file are skipped; a DICOM file given as the input itself is
    always used.

    Args:
        source: a folder tree, a job table (`.csv`, `.json`), a DICOMDIR, or one image.
        findings: what to look for; in a table, for rows without findings.
        defaults: options; in a table, for rows that do not set them.
        modality: only DICOM series of this modality; images without a modality are taken to have it.
        series: only DICOM series whose description or UID matches this regular expression.
        largest_series: only the DICOM series with most images of each study.
        progress: called after every file, or every row of a table.

    Returns:
        Cases sorted by study, series and path; cases of a table in the order of its rows.

    Raises:
        UsageError: there is nothing to segment, or the table, a finding or an option is not valid.
        Cancelled: `progress` returned False.
    """
    source = as_path(source)
    if not is_folder(source) and not is_file(source):
        raise UsageError(f"{source}: no such file or folder")
    choice = Choice(Modality.named(modality), pattern_of(series), largest_series)
    root = source if is_folder(source) else source.parent
    if source.suffix.lower() in TABLE_ENDINGS and is_file(source):
        plan = _plan_of_table(read_table(source, findings, defaults, choice), root, progress)
    else:
        entry = BatchInput("", source, checked_findings(findings), defaults, choice)
        plan = Plan(*_cases_of(entry, root, progress))
    plan = replace(plan, cases=tuple(_with_unique_names(plan.cases, root)))
    if not plan.cases:
        raise UsageError(f"{source}: no image to segment here{_reasons(plan.skipped)}")
    return plan


def _plan_of_table(inputs: Sequence[BatchInput], root: Path, progress: Progress | None) -> Plan:
    cases: dict[tuple[object, ...], Case] = {}
    skipped: list[Skipped] = []
    for n, entry in enumerate(inputs, start=1):
        found, left_out = _cases_of(entry, root, None)
        skipped += [replace(one, reason=f"{entry.where}: {one.reason}") for one in left_out]
        for case in found:
            asked = (case.path, case.files, case.findings, case.options)
            if asked in cases:
                skipped.append(Skipped(case.path, case.series_uid, f"{entry.where}: same as an earlier row"))
            cases.setdefault(asked, case)
        report(progress, n, len(inputs))
    return Plan(tuple(cases.values()), tuple(skipped))


def _cases_of(entry: BatchInput, root: Path, progress: Progress | None) -> tuple[tuple[Case, ...], tuple[Skipped, ...]]:
    """The cases of one entry; names of files other than DICOM are made from their paths relative to `root`."""
    contents = contents_of(entry.path, progress)
    choice = replace(entry.choice, any_kind=[file.path for file in contents.dicom] == [entry.path])
    series, left_out = choose_series(contents.dicom, choice)
    asked = entry.options.modality or choice.modality
    blank = Case("", root, "", entry.findings, replace(entry.options, modality=asked))
    cases = [case for one in series for case in _series_cases(blank, one, choice, root)]
    skipped = [*contents.skipped, *left_out]
    if choice.series is None:
        cases += [_file_case(blank, file, root) for file in contents.others]
    else:
        skipped += [Skipped(file.path, "", "not DICOM, so not the requested series") for file in contents.others]
    return tuple(cases), tuple(skipped)


def _series_cases(blank: Case, series: Series, choice: Choice, root: Path) -> Iterator[Case]:
    """One case for a volume; one per file for pictures, and for a file given as the input."""
    first = series.files[0]
    if not _is_pictures(series, blank.options.modality) and not choice.any_kind:
        yield _dicom_case(blank, first.series if first.series_uid else (), series.files, root)
        return
    for file in series.files:
        yield _dicom_case(blank, (*first.series, file.instance_uid) if file.instance_uid else (), (file,), root)


def _is_pictures(series: Series, asked: Modality | None) -> bool:
    """Whether every file is an image of its own: X-rays, or several pictures such as those of ultrasound.

    A CT or MR without positions is a volume that cannot be read. Several frames may be placed, each for itself.
    """
    first = series.files[0]
    if any(file.is_placed for file in series.files):
        return False
    if first.modality is Modality.XRAY:
        return True
    is_slices = (asked or first.modality) in (Modality.CT, Modality.MR) or first.kind in _SLICES
    return not is_slices and len(series.files) > 1 and all(file.images == 1 for file in series.files)


def _dicom_case(blank: Case, uids: tuple[str, ...], files: tuple[DicomFile, ...], root: Path) -> Case:
    """A case named after its UIDs or, without UIDs, after the path of its first file."""
    paths = tuple(file.path for file in files)
    first = files[0]
    identity = "\n".join(uids) if uids else _place(first.path, root)
    return replace(
        blank,
        name=f"{first.modality.value if first.modality else 'image'}-{_hash(identity, 12)}",
        path=paths[0] if len(paths) == 1 else common_folder(list(paths)),
        series_uid=first.series_uid,
        files=paths,
        modality=first.modality,
        images=sum(file.images for file in files),
        description=first.description,
    )


def _file_case(blank: Case, file: ImageFile, root: Path) -> Case:
    identity = f"{_place(file.path, root)}\n{file.size}"
    return replace(blank, name=f"image-{_hash(identity, 12)}", path=file.path, images=file.images)


def _place(path: Path, root: Path) -> str:
    """A path relative to the input, so that a moved input gives the same names."""
    try:
        return Path(os.path.relpath(path, root)).as_posix()
    except ValueError:  # another drive of Windows
        return path.as_posix()


def _hash(text: str, digits: int) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:digits]


def _with_unique_names(cases: Iterable[Case], root: Path) -> Iterator[Case]:
    """Repeated images keep their name once; the others get a hash of their findings and options appended."""
    taken: set[str] = set()
    for case in cases:
        name = case.name
        if name in taken:
            place = _place(case.files[0] if case.files else case.path, root)
            name += "-" + _hash(json.dumps([place, case.findings, asdict(case.options)]), 6)
        taken.add(name)
        yield replace(case, name=name)


def _reasons(skipped: Sequence[Skipped]) -> str:
    """Why there are no cases, the most frequent reasons first."""
    if not skipped:
        return ": it holds no DICOM, NIfTI, NRRD, MetaImage, PNG, JPEG or TIFF file"
    counts = Counter(one.reason for one in skipped).most_common(3)
    return "; skipped: " + ", ".join(f"{reason} ({count})" for reason, count in counts)
