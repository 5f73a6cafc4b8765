"""What the Slicer module can ask of the engine's worker, one class a request. Knows nothing about how they travel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeAlias

from .answers import (
    ArrayFile,
    CheckedFindings,
    DicomSegSaved,
    Done,
    Environment,
    ModelDescription,
    Opened,
    Segmented,
    SeriesFiles,
    VolumeOpened,
)


@dataclass(frozen=True)
class CheckEnvironment:
    """Which packages and devices are there?"""

    op: ClassVar[str] = "check_environment"
    answer: ClassVar[type] = Environment


@dataclass(frozen=True)
class DescribeModel:
    """What does a model say about itself? It is not loaded.

    Attributes:
        model: its folder; null for the bundled one.
    """

    op: ClassVar[str] = "describe_model"
    answer: ClassVar[type] = ModelDescription
    model: str | None


@dataclass(frozen=True)
class CheckFindings:
    """Does a model know these findings?

    Attributes:
        model: its folder; null for the bundled one.
        findings: at least one.
        modality: of the image; null if it is not known yet.
    """

    op: ClassVar[str] = "check_findings"
    answer: ClassVar[type] = CheckedFindings
    model: str | None
    findings: tuple[str, ...]
    modality: str | None


@dataclass(frozen=True)
class Open:
    """Load a model in place of the one that is loaded, and warm it up.

    Attributes:
        model: its folder; null for the bundled one.
        device: "auto" or the id of a device.
    """

    op: ClassVar[str] = "open"
    answer: ClassVar[type] = Opened
    model: str | None
    device: str


@dataclass(frozen=True)
class OpenVolume:
    """Take in a volume; its file is mapped, never written to. The last few volumes are kept.

    Attributes:
        volume: a name for later requests.
        voxels: of the volume.
        ijk_to_ras: 4x4 in mm, row by row, from (column, row, slice).
        name: for messages.
        path: the file it was loaded from, whose header says what the image is; null if there is none.
        dicom_modality: Modality (0008,0060); null if not known.
        modality: what the user says the image is; null to let the engine tell.
    """

    op: ClassVar[str] = "open_volume"
    answer: ClassVar[type] = VolumeOpened
    volume: str
    voxels: ArrayFile
    ijk_to_ras: tuple[float, ...]
    name: str = "the volume"
    path: Path | None = None
    dicom_modality: str | None = None
    modality: str | None = None


@dataclass(frozen=True)
class CloseVolume:
    """Forget a volume, so that its file can be removed; one that is not known needs no forgetting."""

    op: ClassVar[str] = "close_volume"
    answer: ClassVar[type] = Done
    volume: str


@dataclass(frozen=True)
class Segment:
    """Segment findings, and write the arrays of the answer into a folder.

    Attributes:
        volume: as it was handed over.
        findings: at least one.
        output: an existing folder.
        slices: (first, end) along the volume's first axis; null for all.
        samples: noise samples averaged.
        seed: of the noise.
        threshold: probability above which a voxel is in the mask; null for the model's own.
    """

    op: ClassVar[str] = "segment"
    answer: ClassVar[type] = Segmented
    volume: str
    findings: tuple[str, ...]
    output: Path
    slices: tuple[int, int] | None = None
    samples: int = 1
    seed: int = 0
    threshold: float | None = None


@dataclass(frozen=True)
class ListSeries:
    """Which files does a DICOM series consist of?

    Attributes:
        path: the folder or one file of it.
        series: Series Instance UID; null where there is only one.
    """

    op: ClassVar[str] = "list_series"
    answer: ClassVar[type] = SeriesFiles
    path: Path
    series: str | None


@dataclass(frozen=True)
class SavedSegment:
    """A segment to be saved, as it now is.

    Attributes:
        name: in the scene.
        color: (red, green, blue), 0 to 255.
        terminology: Slicer's terminology entry; empty if there is none.
        tags: segment tags, escaped.
        voxels: bool.
    """

    name: str
    color: tuple[int, int, int]
    terminology: str
    tags: dict[str, str]
    voxels: ArrayFile


@dataclass(frozen=True)
class SaveDicomSeg:
    """Write segments as a DICOM Segmentation that refers to the images they were made on.

    Attributes:
        output: file; one of that name is replaced, by a whole one or not at all.
        files: of the series.
        name: of the image, for messages.
        ijk_to_ras: the image's 4x4 in mm, row by row.
        segments: at least one.
    """

    op: ClassVar[str] = "save_dicom_seg"
    answer: ClassVar[type] = DicomSegSaved
    output: Path
    files: tuple[Path, ...]
    name: str
    ijk_to_ras: tuple[float, ...]
    segments: tuple[SavedSegment, ...]


@dataclass(frozen=True)
class Cancel:
    """Ask a job to stop; one that has ended, or never was, needs no stopping. The job itself answers "cancelled".

    Attributes:
        target: the job's id.
    """

    op: ClassVar[str] = "cancel"
    answer: ClassVar[type] = Done
    target: int


QUESTIONS = (CheckEnvironment, DescribeModel, CheckFindings, Cancel)
"""Answered at once."""
JOBS = (Open, OpenVolume, CloseVolume, Segment, ListSeries, SaveDicomSeg)
"""Done one after the other, in the order asked."""
Request: TypeAlias = (
    CheckEnvironment
    | DescribeModel
    | CheckFindings
    | Cancel
    | Open
    | OpenVolume
    | CloseVolume
    | Segment
    | ListSeries
    | SaveDicomSeg
)
REQUESTS: dict[str, type[Request]] = {kind.op: kind for kind in (*QUESTIONS, *JOBS)}
