"""The worker's answers, one class each. Knows nothing about how they are sent."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .measurements import SegmentMeasurements


@dataclass(frozen=True)
class ArrayFile:
    """An array in its own file, in C order and native byte order, without a header.

    Attributes:
        file: absolute path.
        dtype: numpy's name, e.g. "int16".
        shape: (k, j, i) or (k, j, i, components), k the slices.
    """

    file: Path
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Done:
    """The request was carried out; there is nothing to return."""


@dataclass(frozen=True)
class Package:
    """A required Python package.

    Attributes:
        name: on PyPI.
        requirement: for pip, e.g. "torch>=2.4".
        problem: what is wrong with it, in one line; empty if it is usable.
    """

    name: str
    requirement: str
    problem: str


@dataclass(frozen=True)
class Device:
    """A device to compute on.

    Attributes:
        id: for `open` and `Segmenter`: "cpu", "cuda:0", "mps".
        name: for the user.
        memory_total: bytes; null if the system does not say.
        memory_free: bytes available now; null if the system does not say.
        problem: why it cannot be used, in one line; empty if it can.
    """

    id: str
    name: str
    memory_total: int | None
    memory_free: int | None
    problem: str = ""


@dataclass(frozen=True)
class Environment:
    """The packages and devices of the computer that the engine runs on.

    Attributes:
        packages: always needed.
        dicom_seg: needed only to save DICOM Segmentations.
        devices: the CPU and every GPU.
        version: the engine's.
    """

    packages: tuple[Package, ...]
    dicom_seg: Package
    devices: tuple[Device, ...]
    version: str = ""


@dataclass(frozen=True)
class CacheSizes:
    """What the engine keeps on this computer; it is made again when needed.

    Attributes:
        folder: where it is.
        converted: bytes of networks that were converted for OpenVINO.
        compiled: bytes of networks that were compiled for this computer.
    """

    folder: Path
    converted: int
    compiled: int


@dataclass(frozen=True)
class TaughtFinding:
    """A finding that a model was trained on, for one modality.

    Attributes:
        name: the displayed term.
        synonyms: further terms for it.
        window: (level, width) in Hounsfield units used for it in a CT; null for the modality's window.
        slices: training images with a mask of it; null if not recorded.
        patients: number of patients of these images; null if not recorded.
        dice: mean Dice on validation images with the finding; null if not measured.
        validation_slices: number of these validation images.
    """

    name: str
    synonyms: tuple[str, ...] = ()
    window: tuple[float, float] | None = None
    slices: int | None = None
    patients: int | None = None
    dice: float | None = None
    validation_slices: int = 0

    @property
    def terms(self) -> tuple[str, ...]:
        """All terms for the finding, its name first."""
        return (self.name, *self.synonyms)


@dataclass(frozen=True)
class ModelDescription:
    """A model's name, licence, taught findings and mask threshold.

    Attributes:
        name: short name.
        licence: SPDX identifier of the weights; empty if not stated.
        taught: findings that it was trained on, by modality.
        threshold: probability above which a pixel belongs to its masks.
    """

    name: str
    licence: str
    taught: dict[str, tuple[TaughtFinding, ...]]
    threshold: float = 0.5


@dataclass(frozen=True)
class CheckedFinding:
    """Whether the model can be relied on for a finding.

    Attributes:
        finding: the text as it was read.
        warning: why the result cannot be relied on, in one line; empty if there is no reason.
        quality: recorded quality of the model for it, in one line; empty if unknown.
        weak: whether it had few training images or a low validation Dice.
        learned: name of the learned finding that answers; empty if the model does.
    """

    finding: str
    warning: str
    quality: str = ""
    weak: bool = False
    learned: str = ""


@dataclass(frozen=True)
class CheckedFindings:
    """One entry for each finding of the request, in that order."""

    findings: tuple[CheckedFinding, ...]


@dataclass(frozen=True)
class Opened:
    """The model is loaded.

    Attributes:
        device: where it runs, e.g. "cpu".
        notes: for the user, one line each.
        runtime: what runs it, e.g. "openvino 2026.4.1".
    """

    device: str
    notes: tuple[str, ...]
    runtime: str


@dataclass(frozen=True)
class VolumeOpened:
    """How the engine reads a volume.

    Attributes:
        volume: its name in later requests.
        modality: "ct", "mr", "xray", "histology" or "other".
        planar: without a position in the patient; sizes are areas, not millilitres.
        window: (level, width) used by the model; null for colour.
        notes: for the user, one line each.
    """

    volume: str
    modality: str
    planar: bool
    window: tuple[float, float] | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class FoundFinding:
    """The result for one finding on the requested slices.

    Attributes:
        finding: the text as it was read.
        name: segment name, at most 64 bytes.
        color: (red, green, blue), 0 to 255.
        terminology: Slicer's terminology entry.
        tags: segment tags, escaped, without the terminology.
        probability: (n, rows, columns) float32: the volume's axes, those of the plane's slices first.
        mask: the same, uint8, at `threshold`.
        presence: probability for each slice that the finding is there at all; null if not computed.
        presence_threshold: slices with a lower presence are empty.
        threshold: probability above which a voxel is in the mask.
        warnings: one line each.
    """

    finding: str
    name: str
    color: tuple[int, int, int]
    terminology: str
    tags: dict[str, str]
    probability: ArrayFile
    mask: ArrayFile
    presence: tuple[float | None, ...]
    presence_threshold: float
    threshold: float
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class ProposedSlice:
    """A slice to review.

    Attributes:
        slice: its number along the slice axis of the plane.
        finding: the finding with most pixels in doubt.
        reason: "unsure", "unlike its neighbours" or "sudden change of size".
        pixels: how many pixels of all findings are probably wrong.
    """

    slice: int
    finding: str
    reason: str
    pixels: float


@dataclass(frozen=True)
class Segmented:
    """The results of a segmentation.

    Attributes:
        slices: (first, end) along the slice axis of the plane.
        window: (level, width) used by the model; null for colour.
        findings: in the order of the request, each once.
        notes: for the user, one line each.
        review: slices to review, the most doubtful first; none for a single slice.
    """

    slices: tuple[int, int]
    window: tuple[float, float] | None
    findings: tuple[FoundFinding, ...]
    notes: tuple[str, ...]
    review: tuple[ProposedSlice, ...] = ()


@dataclass(frozen=True)
class SeriesFiles:
    """The files of a DICOM series.

    Attributes:
        files: in slice order.
        instance_uids: SOP Instance UIDs, in the same order.
    """

    files: tuple[Path, ...]
    instance_uids: tuple[str, ...]


@dataclass(frozen=True)
class DicomSegSaved:
    """The file is written; notes are for the user, one line each."""

    notes: tuple[str, ...]


@dataclass(frozen=True)
class Measured:
    """The measurements of segments.

    Attributes:
        segments: in the order of the request.
        notes: for the user, one line each.
    """

    segments: tuple[SegmentMeasurements, ...]
    notes: tuple[str, ...]
