"""The Slicer module's requests to the worker, one class each. Knows nothing about how they are sent."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeAlias

from . import teaching, words
from .answers import (
    ArrayFile,
    CacheSizes,
    CheckedFindings,
    DicomSegSaved,
    Done,
    Environment,
    Measured,
    ModelDescription,
    Opened,
    Segmented,
    SeriesFiles,
    VolumeOpened,
)


@dataclass(frozen=True)
class CheckEnvironment:
    """Which packages and devices are available?"""

    op: ClassVar[str] = "check_environment"
    answer: ClassVar[type] = Environment


@dataclass(frozen=True)
class DescribeModel:
    """What are a model's name, licence and taught terms? The model is not loaded.

    Attributes:
        model: its folder; null for the bundled one.
    """

    op: ClassVar[str] = "describe_model"
    answer: ClassVar[type] = ModelDescription
    model: str | None


@dataclass(frozen=True)
class MeasureCache:
    """How large are the converted and compiled networks on this computer?"""

    op: ClassVar[str] = "measure_cache"
    answer: ClassVar[type] = CacheSizes


@dataclass(frozen=True)
class ClearCache:
    """Remove the converted and compiled networks; answers with what is left."""

    op: ClassVar[str] = "clear_cache"
    answer: ClassVar[type] = CacheSizes


@dataclass(frozen=True)
class CheckFindings:
    """Can a model be relied on for these findings?

    Attributes:
        model: its folder; null for the bundled one.
        findings: at least one.
        modality: modality of the image; null if not known yet.
        learned: learned findings in use, which may answer instead.
    """

    op: ClassVar[str] = "check_findings"
    answer: ClassVar[type] = CheckedFindings
    model: str | None
    findings: tuple[str, ...]
    modality: str | None
    learned: tuple[teaching.LearnedFinding, ...] = ()


@dataclass(frozen=True)
class Open:
    """Load a model, replacing the current one, and warm it up.

    Attributes:
        model: its folder; null for the bundled one.
        device: "auto" or the id of a device.
        runtime: "auto", "torch" or "openvino".
    """

    op: ClassVar[str] = "open"
    answer: ClassVar[type] = Opened
    model: str | None
    device: str
    runtime: str = "auto"


@dataclass(frozen=True)
class OpenVolume:
    """Open a volume; its file is memory-mapped, never written to. The worker keeps the last few volumes.

    Attributes:
        volume: its name in later requests.
        voxels: the array.
        ijk_to_ras: 4x4 in mm, row by row, from (column, row, slice).
        name: name in messages.
        path: the file it was loaded from, whose header may give the modality; null if there is none.
        dicom_modality: Modality (0008,0060); null if not known.
        modality: the user's choice; null to let the engine determine it.
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
    """Close a volume, so that its file can be removed; an unknown volume is not an error."""

    op: ClassVar[str] = "close_volume"
    answer: ClassVar[type] = Done
    volume: str


@dataclass(frozen=True)
class Segment:
    """Segment findings, and write the arrays of the answer into a folder.

    Attributes:
        volume: name given in `open_volume`.
        findings: at least one.
        output: an existing folder.
        slices: (first, end) along the slice axis of the plane; null for all.
        samples: noise samples averaged.
        seed: of the noise.
        threshold: probability above which a voxel is in the mask; null for the model's own.
        slice_by_slice: each slice as the model answers it: no smoothing across slices, no parts left out.
        try_anyway: also segment findings that the model was not taught; by default they are left empty.
        library: folder of learned findings, of which those switched on are used; null for none.
        candidate: a learned finding that is not in the library, used before it; null for none.
        plane: "acquisition", "axial", "coronal" or "sagittal".
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
    slice_by_slice: bool = False
    try_anyway: bool = False
    library: Path | None = None
    candidate: Path | None = None
    plane: str = "acquisition"


@dataclass(frozen=True)
class ListSeries:
    """Which files belong to a DICOM series?

    Attributes:
        path: the folder, or one file of it.
        series: Series Instance UID; null if there is only one series.
    """

    op: ClassVar[str] = "list_series"
    answer: ClassVar[type] = SeriesFiles
    path: Path
    series: str | None


@dataclass(frozen=True)
class SavedSegment:
    """A segment to save, in its current state.

    Attributes:
        name: name in the scene.
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
    """Write segments as a DICOM Segmentation that refers to its source images.

    Attributes:
        output: file; an existing one is replaced only by a complete one.
        files: files of the series.
        name: name of the image in messages.
        ijk_to_ras: the image's 4x4 in mm, row by row.
        segments: at least one.
        report: new file for a DICOM SR with the measurements of the segments; null for none.
    """

    op: ClassVar[str] = "save_dicom_seg"
    answer: ClassVar[type] = DicomSegSaved
    output: Path
    files: tuple[Path, ...]
    name: str
    ijk_to_ras: tuple[float, ...]
    segments: tuple[SavedSegment, ...]
    report: Path | None = None


@dataclass(frozen=True)
class Measure:
    """Measure segments of a volume.

    Attributes:
        volume: name given in `open_volume`.
        segments: at least one, on the grid of the volume.
    """

    op: ClassVar[str] = "measure"
    answer: ClassVar[type] = Measured
    volume: str
    segments: tuple[SavedSegment, ...]


@dataclass(frozen=True)
class Cancel:
    """Stop a job, which then answers "cancelled"; a job that has ended or never existed is not an error.

    Attributes:
        target: id of the job.
    """

    op: ClassVar[str] = "cancel"
    answer: ClassVar[type] = Done
    target: int


QUESTIONS = (CheckEnvironment, DescribeModel, MeasureCache, ClearCache, CheckFindings, Cancel)
"""Requests answered immediately."""
JOBS = (Open, OpenVolume, CloseVolume, Segment, ListSeries, SaveDicomSeg, Measure, words.WeighWords, *teaching.JOBS)
"""Requests carried out one after the other, in order."""
Request: TypeAlias = (
    CheckEnvironment
    | DescribeModel
    | MeasureCache
    | ClearCache
    | CheckFindings
    | Cancel
    | Open
    | OpenVolume
    | CloseVolume
    | Segment
    | ListSeries
    | SaveDicomSeg
    | Measure
    | words.WeighWords
    | teaching.Correct
    | teaching.AddExamples
    | teaching.Learn
    | teaching.ListLearned
    | teaching.ImportLearned
    | teaching.ExportLearned
    | teaching.RenameLearned
    | teaching.SwitchLearned
    | teaching.RollBackLearned
    | teaching.RemoveLearned
)
REQUESTS: dict[str, type[Request]] = {kind.op: kind for kind in (*QUESTIONS, *JOBS)}
