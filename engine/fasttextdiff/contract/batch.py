"""A batch as another process asks for it and hears of it: its options, once for all, and the events of `batch --json`.

Knows names and types; knows nothing about files, models or processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from .fields import ContractError, from_fields, to_fields

REQUEST_FILE, NAMES_FILE = "request.local.json", "names.local.csv"
"""The options, and which case is which file, in an output folder. Both may name patients."""
WAITING, STARTED, DONE, FAILED = "waiting", "started", "done", "failed"
"""States of a case."""
COMPLETE, STOPPED = "complete", "stopped"
"""How a run ends."""
_ONE_EACH = {"findings": "--finding", "formats": "--format"}
"""Options that are given once for each value."""


@dataclass(frozen=True)
class BatchOptions:
    """The options of a batch, with the names, defaults and meanings that they have on the command line.

    Attributes:
        source: folder tree, job table, DICOMDIR or image.
        output: folder for all results.
        findings: what to look for; may be empty where a job table says it.
        formats: of the outputs.
        fractional: probabilities in DICOM SEG.
        modality: take this kind only.
        series: take DICOM series only that this regular expression is found in.
        largest_series: take the largest series of a study only.
        plane: "acquisition", "axial", "coronal" or "sagittal".
        samples: noise samples.
        seed: of the noise.
        threshold: of the probability; the model's own if None.
        model: folder or hub id; the bundled one if None.
        device: e.g. "auto".
        dtype: e.g. "auto".
        workers: processes on this machine.
        scheduler: address of a Dask scheduler, which replaces them.
        tls_ca_file: certificate of the authority that all parts of the cluster trust, for a `tls://` scheduler.
        tls_cert: our certificate.
        tls_key: its private key.
        nan_as_air: take voxels that are NaN as air around the patient.
    """

    source: Path
    output: Path
    findings: tuple[str, ...] = ()
    formats: tuple[str, ...] = (".seg.nrrd",)
    fractional: bool = False
    modality: str | None = None
    series: str | None = None
    largest_series: bool = False
    plane: str = "acquisition"
    samples: int = 1
    seed: int = 0
    threshold: float | None = None
    model: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    workers: int = 1
    scheduler: str | None = None
    tls_ca_file: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    nan_as_air: bool = False


def option_name(name: str) -> str:
    """An option as the command line has it: "--largest-series" for `largest_series`."""
    return _ONE_EACH.get(name) or "--" + name.replace("_", "-")


def command_line(options: BatchOptions) -> Iterator[str]:
    """The command line after `batch`; what is as by default is left out."""
    yield str(options.source)
    for each in fields(options)[1:]:
        value, name = getattr(options, each.name), option_name(each.name)
        if value is True:
            yield name
        elif isinstance(value, tuple):
            for part in value:
                yield from (name, part)
        elif value != each.default:
            yield from (name, str(value))


# --- events ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Looking:
    """So many files of the input have been looked at; told at every hundredth part."""

    done: int
    total: int


@dataclass(frozen=True)
class PlannedCase:
    """One image of a batch.

    Attributes:
        case: its name.
        state: `WAITING`, or `DONE` or `FAILED` in an earlier run.
        path: the file, or the folder that the files of the series lie in. May name a patient.
        series_uid: Series Instance UID; empty where there is none.
        modality: null where it is not known before the image is read.
        images: files or frames.
        description: of the series.
        findings: what is looked for.
    """

    case: str
    state: str
    path: str
    series_uid: str
    modality: str | None
    images: int
    description: str
    findings: tuple[str, ...]


@dataclass(frozen=True)
class SkippedImage:
    """What is no case, and why."""

    path: str
    series_uid: str
    reason: str


@dataclass(frozen=True)
class Planned:
    """The cases are known."""

    cases: tuple[PlannedCase, ...]
    skipped: tuple[SkippedImage, ...]


@dataclass(frozen=True)
class CaseStarted:
    """A case was begun; told once more when it is tried again."""

    case: str


@dataclass(frozen=True)
class Seconds:
    """What a case took; `wait` is between the other three, while other cases held what it needed next."""

    read: float
    inference: float
    write: float
    wait: float


@dataclass(frozen=True)
class CaseFinding:
    """One finding of a case, as in its `case.json`.

    Attributes:
        finding: the text as understood.
        voxels: of its mask.
        ml: its volume; null for a picture.
        presence: highest probability that it is there at all; null where not asked.
        uncertainty: mean entropy in bits within the mask; null where that is empty.
        disagreement: mean standard deviation over noise samples within the mask; null without samples or mask.
        warnings: one line each.
    """

    finding: str
    voxels: int
    ml: float | None
    presence: float | None
    uncertainty: float | None
    disagreement: float | None
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class CaseDone:
    """A case is done; notes are about its image."""

    case: str
    seconds: Seconds
    findings: tuple[CaseFinding, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class CaseFailed:
    """A case has failed for good; the message says why, in one line."""

    case: str
    seconds: Seconds
    message: str


@dataclass(frozen=True)
class BatchProgress:
    """The count, earlier runs included.

    Attributes:
        total: cases of this shard.
        done: of them.
        failed: of them.
        left: of them.
        per_hour: cases of this run that end in an hour; null until one has ended.
        seconds_left: at that rate; null likewise.
    """

    total: int
    done: int
    failed: int
    left: int
    per_hour: float | None
    seconds_left: float | None


@dataclass(frozen=True)
class BatchEnd:
    """The last line, unless there is an error.

    Attributes:
        state: `COMPLETE` or `STOPPED`.
        total: cases of this shard.
        done: of them.
        failed: of them.
        left: of them.
        skipped: what is no case.
        output: folder.
        summary_csv: one row a case and finding.
        summary_json: the same, and the time it took.
        use: what results are for.
    """

    state: str
    total: int
    done: int
    failed: int
    left: int
    skipped: int
    output: str
    summary_csv: str
    summary_json: str
    use: str


@dataclass(frozen=True)
class BatchError:
    """Nothing was begun, or the run could not continue; the last line. The exit code is the process's."""

    message: str
    exit_code: int


EVENTS: dict[tuple[str, str], type] = {
    ("looking", ""): Looking,
    ("plan", ""): Planned,
    ("case", STARTED): CaseStarted,
    ("case", DONE): CaseDone,
    ("case", FAILED): CaseFailed,
    ("progress", ""): BatchProgress,
    ("end", ""): BatchEnd,
    ("error", ""): BatchError,
}
"""Events by the key "event", and for a case by "state" too."""


def event_fields(event: Any) -> dict[str, Any]:
    """An event as it travels."""
    [(name, state)] = [key for key, kind in EVENTS.items() if isinstance(event, kind)]
    return {"event": name, **({"state": state} if state else {}), **to_fields(event)}


def event_of(content: Mapping[str, Any]) -> Any:
    """The event in what :func:`event_fields` gave.

    Raises:
        ContractError: there is no such event, or its fields are not as they should be.
    """
    name = content.get("event")
    key = (str(name), str(content.get("state")) if name == "case" else "")
    if key not in EVENTS:
        raise ContractError(f"there is no event {' '.join(key)!r:.60} of a batch")
    envelope = ("event", "state") if key[1] else ("event",)
    try:
        return from_fields(EVENTS[key], {name: value for name, value in content.items() if name not in envelope})
    except ContractError as error:
        raise ContractError(f"{name} of a batch: {error}") from None
