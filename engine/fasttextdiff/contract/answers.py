"""What the engine's worker answers, one class an answer. Knows nothing about how an answer travels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ArrayFile:
    """An array in a file of its own, in C order and the machine's byte order, without a header.

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
    """The request was carried out; there is nothing to say about it."""


@dataclass(frozen=True)
class Package:
    """A Python package that is needed.

    Attributes:
        name: on the package index.
        requirement: what pip takes, e.g. "torch>=2.4".
        problem: what is wrong with it, in one line; empty if nothing is.
    """

    name: str
    requirement: str
    problem: str


@dataclass(frozen=True)
class Device:
    """A device to compute on.

    Attributes:
        id: as `open` and `Segmenter` take it: "cpu", "cuda:0", "mps".
        name: for the user.
        memory_total: bytes; null if the system does not say.
        memory_free: bytes that can be used now; null likewise.
        problem: why it cannot be used, in one line; empty if it can.
    """

    id: str
    name: str
    memory_total: int | None
    memory_free: int | None
    problem: str = ""


@dataclass(frozen=True)
class Environment:
    """What the worker has to work with.

    Attributes:
        packages: needed for everything.
        dicom_seg: needed to save DICOM Segmentations only.
        devices: the CPU and every GPU.
    """

    packages: tuple[Package, ...]
    dicom_seg: Package
    devices: tuple[Device, ...]


@dataclass(frozen=True)
class ModelDescription:
    """What a model says about itself.

    Attributes:
        name: short name.
        licence: SPDX identifier of the weights; empty if not stated.
        taught: finding terms that it was trained on, by modality.
    """

    name: str
    licence: str
    taught: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class CheckedFinding:
    """What is known about a finding before an image is segmented.

    Attributes:
        finding: as it is understood.
        warning: why an answer cannot be relied on, in one line; empty if nothing speaks against it.
    """

    finding: str
    warning: str


@dataclass(frozen=True)
class CheckedFindings:
    """One entry for each finding asked about, in their order."""

    findings: tuple[CheckedFinding, ...]


@dataclass(frozen=True)
class Opened:
    """The model is loaded.

    Attributes:
        device: that it computes on, e.g. "cpu".
        notes: what the user should know, one line each.
    """

    device: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class VolumeOpened:
    """What the engine takes a volume for.

    Attributes:
        volume: as later requests name it.
        modality: "ct", "mr", "xray", "histology" or "other".
        planar: a picture without a position in the patient: areas, no millilitres.
        window: (level, width) in which the model sees it; null for colour.
        notes: what the user should know, one line each.
    """

    volume: str
    modality: str
    planar: bool
    window: tuple[float, float] | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class FoundFinding:
    """One finding on the slices asked for.

    Attributes:
        finding: the text as understood.
        name: of its segment, at most 64 bytes.
        color: (red, green, blue), 0 to 255.
        terminology: Slicer's terminology entry.
        tags: segment tags, escaped, terminology apart.
        probability: (n, j, i) float32.
        mask: (n, j, i) uint8, at `threshold`.
        presence: probability, slice by slice, that the finding is there at all; null where not asked.
        presence_threshold: slices below it are empty.
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
class Segmented:
    """What was found.

    Attributes:
        slices: (first, end) along the volume's first axis.
        window: (level, width) the model saw the image in; null for colour.
        findings: in the order asked, each once.
        notes: what the user should know, one line each.
    """

    slices: tuple[int, int]
    window: tuple[float, float] | None
    findings: tuple[FoundFinding, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class SeriesFiles:
    """A DICOM series.

    Attributes:
        files: in the order of its slices.
        instance_uids: SOP Instance UIDs, in the same order.
    """

    files: tuple[Path, ...]
    instance_uids: tuple[str, ...]


@dataclass(frozen=True)
class DicomSegSaved:
    """The file is written; notes are what the user should know about it, one line each."""

    notes: tuple[str, ...]
