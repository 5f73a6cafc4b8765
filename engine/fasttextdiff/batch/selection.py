"""Selects the DICOM series to segment: complete series of patient images as acquired, each once.

Knows headers; knows nothing about folders, findings or models.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fasttextdiff.batch.headers import UNKNOWN_KIND, DicomFile
from fasttextdiff.batch.plan import Skipped, merged
from fasttextdiff.image.volume import Modality
from fasttextdiff.io.dicom_headers import shows_a_patient

# Values of Image Type (0008,0008), from PS3.3 C.7.6.1.1.2 and C.8.16.1 and from scanners.
_SCREENS = {"SCREEN SAVE", "DOSE_INFO"}
_REFORMATTED = {"REFORMATTED", "MPR", "CPR", "MIP", "MINIP", "PROJECTION IMAGE", "MAXIMUM", "MINIMUM", "VRT"}
_COPY = "a copy of images in another place"
# SOP classes (PS3.4 B.5) of cine clips: their frames follow one another in time, without a position in the patient.
_CINE = re.compile("Ultrasound Multi-frame|X-Ray (Angiographic|Radiofluoroscopic)|Video")


@dataclass(frozen=True)
class Choice:
    """The user's choice of DICOM images.

    Attributes:
        modality: only this modality; images without a modality are taken to have it.
        series: only series whose description or UID matches; None for all.
        largest: only the series with most images of each study.
        any_kind: also localizers, secondary captures and the like, of any modality; for a file given as the input.
    """

    modality: Modality | None = None
    series: re.Pattern[str] | None = None
    largest: bool = False
    any_kind: bool = False


@dataclass(frozen=True)
class Series:
    """The files of one series, sorted by path."""

    files: tuple[DicomFile, ...]

    @property
    def images(self) -> int:
        """Number of slices and frames in all files."""
        return sum(file.images for file in self.files)

    @property
    def order(self) -> tuple[str, str, str]:
        """Sort key: study, series, path."""
        first = self.files[0]
        return *first.series, str(first.path)

    @property
    def study(self) -> object:
        """Equal for series of one study; a series without a study UID may be of any patient, and is its own."""
        first = self.files[0]
        return first.study_uid or first.series

    def skipped(self, reason: str) -> list[Skipped]:
        """Entries that skip the whole series."""
        return merged(Skipped(file.path, file.series_uid, reason) for file in self.files)


def choose_series(files: Sequence[DicomFile], choice: Choice) -> tuple[list[Series], list[Skipped]]:
    """Group files into series, and keep those that are wanted and complete.

    A series with a damaged or missing file is skipped, because slices missing at its end could go unnoticed.

    Returns:
        Series sorted by study, series and path, and everything else with the reason.
    """
    unwanted = {file.path: _why_not(file, choice) for file in files}
    damaged = [file for file in files if file.problem]
    skipped = [Skipped(file.path, file.series_uid, file.problem) for file in damaged]
    rejected = [file for file in files if unwanted[file.path] and not file.problem]
    skipped += merged(Skipped(file.path, file.series_uid, unwanted[file.path]) for file in rejected)
    images, copies = _each_once([file for file in files if not unwanted[file.path] and not file.problem])
    skipped += merged(Skipped(file.path, file.series_uid, _COPY) for file in copies)
    missing = _count_missing([file for file in damaged if not unwanted[file.path]], images)
    series = sorted(_grouped(images), key=lambda one: one.order)
    kept = []
    for one in series:
        reason = _why_not_series(one, choice, missing[one.files[0].series])
        if reason:
            skipped += one.skipped(reason)
        else:
            kept.append(one)
    return _largest(kept, skipped) if choice.largest else kept, skipped


def _why_not(file: DicomFile, choice: Choice) -> str:
    """Why a file is skipped, according to its header; empty if it is not."""
    words = {*file.image_type, *(word for value in file.image_type for word in value.split())}
    if not file.images or not shows_a_patient(file.kind):
        return f"not an image: {file.kind or UNKNOWN_KIND}"
    if choice.any_kind:
        return ""
    if words & _SCREENS:
        return "a dose report or screen capture"
    if "LOCALIZER" in words:
        return "a localizer"
    if file.images > 1 and not file.is_placed and _CINE.search(file.kind):
        return f"a cine clip of {file.images} frames; export the frame that is wanted as a single image"
    if "Secondary Capture" in file.kind and not _is_wanted_capture(file, choice.modality):
        return "a secondary capture; to segment scanned X-rays or photographs, add --modality xray, histology or other"
    return _why_not_modality(file, words, choice.modality)


def _why_not_modality(file: DicomFile, words: set[str], wanted: Modality | None) -> str:
    if "DERIVED" in words and words & _REFORMATTED:
        return "derived: a reformatted or projected view of another series"
    if wanted is not None and file.modality is not None and file.modality is not wanted:
        return f"{file.modality.value}, not {wanted.value}"
    return ""


def _is_wanted_capture(file: DicomFile, wanted: Modality | None) -> bool:
    """Whether a capture is the image itself, as in many X-ray data sets; those of CT and MR are screen captures."""
    if wanted is Modality.XRAY and file.is_color:
        return False
    return wanted in (Modality.XRAY, Modality.HISTOLOGY, Modality.OTHER) and file.modality in (None, wanted)


def _each_once(files: Sequence[DicomFile]) -> tuple[list[DicomFile], list[DicomFile]]:
    """The files without copies of an SOP instance in the same series, and the copies."""
    seen: set[tuple[tuple[str, str], str, str]] = set()
    once: list[DicomFile] = []
    copies: list[DicomFile] = []
    for file in files:
        (copies if file.instance_uid and file.image in seen else once).append(file)
        seen.add(file.image)
    return once, copies


def _count_missing(damaged: Sequence[DicomFile], whole: Sequence[DicomFile]) -> Counter[tuple[str, str]]:
    """How many images each series lacks: damaged ones without an intact copy."""
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
        return "not the requested series"
    if lacking:
        return f"the series is incomplete: {lacking} of its files damaged or missing"
    return ""


def _largest(series: Sequence[Series], skipped: list[Skipped]) -> list[Series]:
    """The largest series of each study, the first of equals; the others are added to `skipped`."""
    best: dict[object, Series] = {}
    for one in series:
        if one.study not in best or one.images > best[one.study].images:
            best[one.study] = one
    for one in series:
        largest = best[one.study]
        if one is not largest:
            skipped += one.skipped(f"not the largest series of its study ({one.images} images, not {largest.images})")
    return [one for one in series if one is best[one.study]]
