"""The plan of a batch: its cases, and what is skipped and why. Knows nothing about how cases are found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from os.path import commonpath
from pathlib import Path

from fasttextdiff.image.volume import Modality, Volume
from fasttextdiff.option_rules import check_options

_OF_READING = ("modality", "nan_as_air")


@dataclass(frozen=True)
class CaseOptions:
    """How a case is read and segmented; meanings and defaults as for `Segmenter.segment`.

    Raises:
        UsageError: a value is not valid, see `check_options`.

    Attributes:
        slices: (first, last + 1) along the plane's slice axis, from 0; all if None.
        plane: "acquisition", "axial", "coronal" or "sagittal".
        samples: noise samples.
        seed: of the noise.
        threshold: probability above which a voxel belongs to the mask; the model's own if None.
        window: (level, width); the one the model was trained with if None.
        modality: None to take it from the header or guess it, as `read_volume` does.
        nan_as_air: as for `read_volume`.
        slice_by_slice: as for `Segmenter.segment`.
        try_anyway: as for `Segmenter.segment`.
    """

    slices: tuple[int, int] | None = None
    plane: str = "acquisition"
    samples: int = 1
    seed: int = 0
    threshold: float | None = None
    window: tuple[float, float] | None = None
    modality: Modality | None = None
    nan_as_air: bool = False
    slice_by_slice: bool = False
    try_anyway: bool = False

    def __post_init__(self) -> None:
        """Refuse invalid values before any case is read."""
        check_options(**{name: value for name, value in vars(self).items() if name not in _OF_READING})


@dataclass(frozen=True)
class Case:
    """One image and its findings.

    Attributes:
        name: unique in the plan and the same in every run; made of hashes, so that it does not identify a patient.
        path: the file, or the folder of all files of the series. May name a patient.
        series_uid: DICOM Series Instance UID (0020,000E); empty if there is none.
        findings: what to look for, at least one.
        options: how to read and segment it.
        files: the DICOM files of the image; empty for other formats.
        modality: from the header; None if it does not say.
        images: number of slices or frames, from the headers.
        description: DICOM Series Description (0008,103E). Free text that may name a patient; for display only.
    """

    name: str
    path: Path
    series_uid: str
    findings: tuple[str, ...]
    options: CaseOptions = field(default_factory=CaseOptions)
    files: tuple[Path, ...] = ()
    modality: Modality | None = None
    images: int = 1
    description: str = ""

    def read(self) -> Volume:
        """Read the image.

        Raises:
            FastTextDiffError: as `read_volume`.
        """
        from fasttextdiff.io.read import read_volume

        return read_volume(
            self.path,
            modality=self.options.modality,
            series_uid=self.series_uid or None,
            files=self.files or None,
            nan_as_air=self.options.nan_as_air,
        )


@dataclass(frozen=True)
class Skipped:
    """A file or folder that is not a case.

    Attributes:
        path: the file, or the folder of several such files. May name a patient.
        series_uid: DICOM Series Instance UID, if known.
        reason: one line that names no files or patients.
    """

    path: Path
    series_uid: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """A whole batch, in an order that depends only on the input."""

    cases: tuple[Case, ...]
    skipped: tuple[Skipped, ...]


def merged(skipped: Iterable[Skipped]) -> list[Skipped]:
    """Merge entries with the same reason in the same series or, without a series, in the same folder."""
    groups: dict[tuple[str, str], list[Skipped]] = {}
    for one in skipped:
        groups.setdefault((one.series_uid or str(one.path.parent), one.reason), []).append(one)
    return [_merge(group) for group in groups.values()]


def _merge(group: list[Skipped]) -> Skipped:
    first = group[0]
    if len(group) == 1:
        return first
    return replace(
        first, path=common_folder([one.path for one in group]), reason=f"{first.reason} ({len(group)} files)"
    )


def common_folder(files: list[Path]) -> Path:
    """The deepest folder that holds all files."""
    return Path(commonpath([file.parent for file in files]))
