"""Decides which DICOM series are to be segmented: images of patients as they were acquired, each once, and whole.

Knows what headers say; knows nothing about folders, findings or models.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fasttextdiff.batch.headers import DicomFile
from fasttextdiff.batch.plan import Skipped, merged
from fasttextdiff.image.volume import Modality
from fasttextdiff.io.dicom_headers import shows_a_patient

# Values of Image Type (0008,0008); those of PS3.3 C.7.6.1.1.2 and C.8.16.1, and those that scanners add.
_SCREENS = {"SCREEN SAVE", "DOSE_INFO"}
_REFORMATTED = {"REFORMATTED", "MPR", "CPR", "MIP", "MINIP", "PROJECTION IMAGE", "MAXIMUM", "MINIMUM", "VRT"}
_COPY = "a copy of images that are elsewhere too"


@dataclass(frozen=True)
class Choice:
    """What the user wants of the DICOM images.

    Attributes:
        modality: series of this kind only; those that do not say what they are count as such.
        series: series whose description or UID it is found in; None for all.
        largest: only the series with most images of each study.
        any_kind: also localizers, secondary captures and the like, of any modality: a file that was named itself.
    """

    modality: Modality | None = None
    series: re.Pattern[str] | None = None
    largest: bool = False
    any_kind: bool = False


@dataclass(frozen=True)
class Series:
    """The files of one series, in the order of their paths."""

    files: tuple[DicomFile, ...]

    @property
    def images(self) -> int:
        """Slices and frames of all files."""
        return sum(file.images for file in self.files)

    @property
    def order(self) -> tuple[str, str, str]:
        """Sort by study, series, path."""
        first = self.files[0]
        return *first.series, str(first.path)

    def skipped(self, reason: str) -> list[Skipped]:
        """The whole series, left out."""
        return merged(Skipped(file.path, file.series_uid, reason) for file in self.files)


def choose_series(files: Sequence[DicomFile], choice: Choice) -> tuple[list[Series], list[Skipped]]:
    """Group files into series, and keep those that are wanted and whole.

    A series of which a file is damaged or missing is left out: nobody would see that slices lack at its end.

    Returns:
        Series in the order of study, series and path, and everything else with the reason.
    """
    unwanted = {file.path: _why_not(file, choice) for file in files}
    damaged = [file for file in files if file.problem]
    skipped = [Skipped(file.path, file.series_uid, file.problem) for file in damaged]
    rejected = [file for file in files if unwanted[file.path] and not file.problem]
    skipped += merged(Skipped(file.path, file.series_uid, unwanted[file.path]) for file in rejected)
    images, copies = _each_once([file for file in files if not unwanted[file.path] and not file.problem])
    skipped += merged(Skipped(file.path, file.series_uid, _COPY) for file in copies)
    spoilt = _spoilt([file for file in damaged if not unwanted[file.path]], images)
    series = sorted(_grouped(images), key=lambda one: one.order)
    kept = []
    for one in series:
        reason = _why_not_series(one, choice, spoilt[one.files[0].series])
        if reason:
            skipped += one.skipped(reason)
        else:
            kept.append(one)
    return _largest(kept, skipped) if choice.largest else kept, skipped


def _why_not(file: DicomFile, choice: Choice) -> str:
    """Why a file is no image to be segmented, as far as its header says; empty if it is one."""
    words = {*file.image_type, *(word for value in file.image_type for word in value.split())}
    if not file.images or not shows_a_patient(file.kind):
        return f"no image: {file.kind or 'DICOM of unknown kind'}"
    if choice.any_kind:
        return ""
    if words & _SCREENS:
        return "a dose report or screen capture"
    if "LOCALIZER" in words:
        return "a localizer"
    if "Secondary Capture" in file.kind and not _is_wanted_capture(file, choice.modality):
        return "a secondary capture; scanned X-rays and photographs are taken with --modality xray, histology or other"
    return _why_not_modality(file, words, choice.modality)


def _why_not_modality(file: DicomFile, words: set[str], wanted: Modality | None) -> str:
    if "DERIVED" in words and words & _REFORMATTED:
        return "derived: a reformatted or projected view of another series"
    if wanted is not None and file.modality is not None and file.modality is not wanted:
        return f"{file.modality.value}, not {wanted.value}"
    return ""


def _is_wanted_capture(file: DicomFile, wanted: Modality | None) -> bool:
    """Whether a capture is the image itself, as in many sets of X-rays; those of CT and MR are pictures of a screen."""
    if wanted is Modality.XRAY and file.is_color:
        return False
    return wanted in (Modality.XRAY, Modality.HISTOLOGY, Modality.OTHER) and file.modality in (None, wanted)


def _each_once(files: Sequence[DicomFile]) -> tuple[list[DicomFile], list[DicomFile]]:
    """The files without those that repeat an SOP instance of the same series, and the latter."""
    seen: set[tuple[tuple[str, str], str, str]] = set()
    once: list[DicomFile] = []
    copies: list[DicomFile] = []
    for file in files:
        (copies if file.instance_uid and file.image in seen else once).append(file)
        seen.add(file.image)
    return once, copies


def _spoilt(damaged: Sequence[DicomFile], whole: Sequence[DicomFile]) -> Counter[tuple[str, str]]:
    """How many images each series lacks: those that are damaged and of which there is no whole copy."""
    there = {file.image for file in whole if file.instance_uid}
    return Counter(file.series for file in damaged if file.image not in there)


def _grouped(files: Iterable[DicomFile]) -> list[Series]:
    groups: dict[tuple[str, str], list[DicomFile]] = {}
    for file in files:
        groups.setdefault(file.series, []).append(file)
    return [Series(tuple(group)) for group in groups.values()]


def _why_not_series(series: Series, choice: Choice, lacking: int) -> str:
    if choice.series is not None and not any(
        choice.series.search(text) for file in series.files for text in (file.description, file.series_uid)
    ):
        return "not the series asked for"
    if lacking:
        return f"the series is not whole: {lacking} of its files damaged or missing"
    return ""


def _largest(series: Sequence[Series], skipped: list[Skipped]) -> list[Series]:
    """The first of the series with most images, for each study; the others are added to `skipped`."""
    best: dict[str, Series] = {}
    for one in series:
        study = one.files[0].study_uid
        if study not in best or one.images > best[study].images:
            best[study] = one
    for one in series:
        largest = best[one.files[0].study_uid]
        if one is not largest:
            skipped += one.skipped(f"not the largest series of its study ({one.images} images, not {largest.images})")
    return [one for one in series if one is best[one.files[0].study_uid]]
