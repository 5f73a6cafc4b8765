"""A batch as seen by another process: its options and the events of `batch --json`.

Knows names and types; knows nothing about files, models or processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from .fields import ContractError, from_fields, to_fields

REQUEST_FILE, NAMES_FILE = "request.local.json", "names.local.csv"
"""Files in an output folder: the options, and the file of each case. Both may name patients."""
WAITING, STARTED, DONE, FAILED = "waiting", "started", "done", "failed"
"""States of a case."""
COMPLETE, STOPPED = "complete", "stopped"
"""Final states of a run."""
_ONE_EACH = {"findings": "--finding", "formats": "--format", "adapters": "--adapter"}
"""Options that are repeated for each value."""


@dataclass(frozen=True)
class BatchOptions:
    """The options of a batch, with the names, defaults and meanings of the command line.

    Attributes:
        source: folder tree, job table, DICOMDIR or image.
        output: folder for all results.
        findings: what to look for; may be empty if the job table lists findings.
        formats: output formats.
        fractional: probabilities in DICOM SEG.
        modality: only images of this modality.
        series: only DICOM series that match this regular expression.
        largest_series: only the largest series of each study.
        plane: "acquisition", "axial", "coronal" or "sagittal".
        samples: noise samples.
        seed: of the noise.
        threshold: probability above which a voxel belongs to the mask; the model's own if None.
        model: folder or hub id; the bundled one if None.
        device: e.g. "auto".
        dtype: e.g. "auto".
        workers: processes on this machine.
        scheduler: address of a Dask scheduler, used instead of local processes.
        tls_ca_file: certificate of the cluster's certificate authority, for a `tls://` scheduler.
        tls_cert: our certificate.
        tls_key: its private key.
        nan_as_air: treat NaN voxels as air around the patient.
        slice_by_slice: segment each slice separately, without smoothing across slices or removal of parts.
        try_anyway: also segment findings that the model was not taught; by default they are left empty.
        runtime: "auto", "torch" or "openvino".
        adapters: files of learned findings.
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
    slice_by_slice: bool = False
    try_anyway: bool = False
    runtime: str = "auto"
    adapters: tuple[str, ...] = ()


def option_name(name: str) -> str:
    """The name of an option on the command line: "--largest-series" for `largest_series`."""
    return _ONE_EACH.get(name) or "--" + name.replace("_", "-")


def command_line(options: BatchOptions) -> Iterator[str]:
    """The arguments after `batch`; options at their default are left out."""
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
    """How many input files have been scanned; sent at every hundredth part."""

    done: int
    total: int


@dataclass(frozen=True)
class PlannedCase:
    """One image of a batch.

    Attributes:
        case: name.
        state: `WAITING`, or `DONE` or `FAILED` in an earlier run.
        path: the file, or the folder of the series. May name a patient.
        series_uid: Series Instance UID; empty where there is none.
        modality: null if it is not known before the image is read.
        images: number of files or frames.
        description: Series Description.
        findings: what to look for.
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
    """An input that is not a case, and why."""

    path: str
    series_uid: str
    reason: str


@dataclass(frozen=True)
class Planned:
    """The list of cases."""

    cases: tuple[PlannedCase, ...]
    skipped: tuple[SkippedImage, ...]


@dataclass(frozen=True)
class CaseStarted:
    """A case was started; sent again for a second try."""

    case: str


@dataclass(frozen=True)
class Seconds:
    """Time spent on a case; `wait` is the time between the other three steps."""

    read: float
    inference: float
    write: float
    wait: float


@dataclass(frozen=True)
class CaseFinding:
    """One finding of a case, as in its `case.json`.

    Attributes:
        finding: the text as it was read.
        voxels: number of voxels in the mask.
        ml: volume of the mask; null for a picture.
        presence: highest probability that it is there at all; null if not computed.
        uncertainty: mean entropy in bits within the mask; null if the mask is empty.
        disagreement: mean standard deviation over noise samples within the mask; null for one sample or an empty mask.
        warnings: one line each.
        window: (level, width) that it was segmented in; null for colour.
        untaught: why the model was not taught it, in one line; empty if it was.
        adapter: the adapter that answered, in one line; empty for the model itself.
    """

    finding: str
    voxels: int
    ml: float | None
    presence: float | None
    uncertainty: float | None
    disagreement: float | None
    warnings: tuple[str, ...]
    window: tuple[float, float] | None = None
    untaught: str = ""
    adapter: str = ""


@dataclass(frozen=True)
class CaseDone:
    """A case is done; `notes` are about its image."""

    case: str
    seconds: Seconds
    findings: tuple[CaseFinding, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class CaseFailed:
    """A case has finally failed; the message gives the reason in one line."""

    case: str
    seconds: Seconds
    message: str


@dataclass(frozen=True)
class BatchProgress:
    """Counts of cases, including earlier runs.

    Attributes:
        total: cases of this shard.
        done: cases that are done.
        failed: cases that have failed.
        left: cases still to do.
        per_hour: cases per hour in this run; null until the first has ended.
        seconds_left: estimated from that rate; null until the first has ended.
    """

    total: int
    done: int
    failed: int
    left: int
    per_hour: float | None
    seconds_left: float | None


@dataclass(frozen=True)
class BatchEnd:
    """The last line, unless the run ends with an error.

    Attributes:
        state: `COMPLETE` or `STOPPED`.
        total: cases of this shard.
        done: cases that are done.
        failed: cases that have failed.
        left: cases still to do.
        skipped: number of inputs that are not cases.
        output: folder.
        summary_csv: table with one row for each finding of each case.
        summary_json: the same content and the timings.
        use: intended use of the results.
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
    """The run could not start or continue; the last line. `exit_code` is the exit code of the process."""

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
"""Event classes by the key "event", for cases by "event" and "state"."""


def event_fields(event: Any) -> dict[str, Any]:
    """An event as JSON fields."""
    [(name, state)] = [key for key, kind in EVENTS.items() if isinstance(event, kind)]
    return {"event": name, **({"state": state} if state else {}), **to_fields(event)}


def event_of(content: Mapping[str, Any]) -> Any:
    """The event in fields made by :func:`event_fields`.

    Raises:
        ContractError: the event is unknown, or its fields are wrong.
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
