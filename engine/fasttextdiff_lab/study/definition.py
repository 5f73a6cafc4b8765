"""What a study is: the grid of systems, data, labels, texts and seeds, read from one YAML file.

Knows names and ranges; builds and trains nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from fasttextdiff.errors import FastTextDiffError, UsageError
from fasttextdiff.evaluation.metrics import PROTOCOLS
from fasttextdiff.paths import as_path
from fasttextdiff_lab.study.texts import TEXTS

ALL = "all"
"""In `labels`: every training image."""
PATHS = {"folder", "corpus", "vocabulary", "images", "table", "exclude", "healthy"}
"""Fields that are paths, relative to the YAML file; `~` is the home folder."""


@dataclass(frozen=True)
class DataSet:
    """Labelled images.

    Attributes:
        folder: as for `fasttextdiff evaluate`, or the CT and MR atlas.
        test: split that is evaluated; training uses the split `train`.
        every: only every N-th image of the test split.
        structures: of the atlas, the structures to ask for; empty for the other layouts.
        healthy: folder of images without the finding, as negatives for training without masks (the X-ray atlas).
    """

    folder: Path
    test: str = "val"
    every: int = 1
    structures: tuple[str, ...] = ()
    healthy: Path | None = None


@dataclass(frozen=True)
class Encoder:
    """A text encoder, trained here or loaded.

    Attributes:
        architecture: "modernbert" or "bert", for one trained here.
        corpus: text that it is pre-trained on (masked words), a folder or one .txt or .csv file; None for random
            weights.
        vocabulary: text from which the tokenizer is learned, so that encoders of several corpora share it; None for the
            corpus.
        steps: steps of pre-training.
        name: hub id or folder of a finished encoder, instead of all of the above.
        package: installed Python package that carries a finished encoder in its folder `model`.
    """

    architecture: str = "modernbert"
    corpus: Path | None = None
    vocabulary: Path | None = None
    steps: int = 0
    name: str = ""
    package: str = ""


@dataclass(frozen=True)
class Denoiser:
    """A diffusion network, pre-trained here on pictures without labels, or loaded.

    Attributes:
        folder: of a finished one with `unet` and `scheduler`, e.g. a converted model, instead of all of the following.
        images: folder of pictures at any depth, see `fasttextdiff pretrain-denoiser`. None may be one that the study
            evaluates.
        table: CSV file with the columns `Image` and `Split`; only pictures of its split `train` are used. None for all.
        exclude: text file with the names of pictures that are not used, one per line.
        steps: optimiser steps.
        size: side of a training picture in pixels.
        batch: pictures a step.
    """

    folder: Path | None = None
    images: Path | None = None
    table: Path | None = None
    exclude: Path | None = None
    steps: int = 0
    size: int = 128
    batch: int = 8


@dataclass(frozen=True)
class System:
    """A system of the study.

    Attributes:
        kind: name in the registry, or `module:function` of a system of your own.
        learning_rate: peak learning rate; None for the study's.
        weak: whether images without masks teach by their texts.
        options: arguments of the system.
    """

    kind: str
    learning_rate: float | None = None
    weak: bool = False
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def encoder(self) -> str | None:
        """Name of its text encoder in the study."""
        return self.options.get("encoder")

    @property
    def parts(self) -> tuple[tuple[str, str], ...]:
        """The parts of the study that it needs, as their kind and name."""
        return tuple((kind, str(self.options[kind])) for kind in ("encoder", "denoiser") if self.options.get(kind))


@dataclass(frozen=True)
class Budget:
    """Training of every cell: either steps, or seconds without evaluation and checkpoints."""

    steps: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Cell:
    """One training of the grid.

    Attributes:
        data: name of the data set.
        system: name of the system.
        labels: number of images with masks, or "all".
        text: text in training, see `texts`.
        seed: of the draw of labelled images, of initial weights, order, augmentation and noise.
    """

    data: str
    system: str
    labels: int | str
    text: str
    seed: int

    @property
    def name(self) -> str:
        """Name of its folder."""
        return f"{self.data}--{self.system}--{self.labels}--{self.text}--{self.seed}"


@dataclass(frozen=True)
class Study:
    """A study; `<systems> x <data> x <labels> x <texts> x <seeds>` are its cells.

    Attributes:
        title: title of the report.
        question: what it answers.
        where: the machine that it is meant for, e.g. "two CPU cores".
        data: data sets by name.
        systems: systems by name.
        budget: the same for all cells.
        encoders: text encoders by name.
        denoisers: diffusion networks by name.
        labels: numbers of training images with masks.
        texts: texts in training; systems without text have one cell only.
        asked: texts in evaluation; None for that of training.
        seeds: at least one, each once.
        size: side of the square images that all systems see, in pixels.
        batch: images per step.
        learning_rate: peak learning rate (AdamW), unless a system has its own.
        protocols: "native" and "published", see `fasttextdiff evaluate`.
        reference: the system that differences are taken to.
    """

    title: str
    question: str
    where: str
    data: dict[str, DataSet]
    systems: dict[str, System]
    budget: Budget
    reference: str
    encoders: dict[str, Encoder] = field(default_factory=dict)
    denoisers: dict[str, Denoiser] = field(default_factory=dict)
    labels: tuple[int | str, ...] = (ALL,)
    texts: tuple[str, ...] = ("true",)
    asked: tuple[str, ...] | None = None
    seeds: tuple[int, ...] = (0,)
    size: int = 224
    batch: int = 4
    learning_rate: float = 5e-4
    protocols: tuple[str, ...] = PROTOCOLS

    def cells(self, reads_text: Mapping[str, bool]) -> list[Cell]:
        """All cells, seed by seed, so that an interrupted study has whole comparisons.

        Args:
            reads_text: for each system, whether it reads texts.
        """
        return [
            Cell(data, system, labels, text, seed)
            for seed in self.seeds
            for data in self.data
            for labels in self.labels
            for text in self.texts
            for system in self.systems
            if (reads_text[system] or text == self.texts[0]) and (labels != 0 or self.systems[system].weak)
        ]

    def asked_of(self, cell: Cell, reads_text: bool) -> tuple[str, ...]:
        """Texts in the evaluation of a cell; they make no difference to a system without text."""
        return (cell.text,) if self.asked is None or not reads_text else self.asked

    def part(self, kind: str, name: str) -> Encoder | Denoiser:
        """An encoder or a denoiser."""
        return self.encoders[name] if kind == "encoder" else self.denoisers[name]

    def request(self, cell: Cell) -> dict[str, Any]:
        """Everything that determines a cell's result, as JSON values."""
        system = self.systems[cell.system]
        shared = ("asked", "size", "batch", "learning_rate", "protocols")
        content = {
            "data": asdict(self.data[cell.data]),
            "system": asdict(system),
            "parts": {kind: asdict(self.part(kind, name)) for kind, name in system.parts},
            "labels": cell.labels,
            "text": cell.text,
            "seed": cell.seed,
            "budget": asdict(self.budget),
            **{name: getattr(self, name) for name in shared},
        }
        values: dict[str, Any] = plain(content)
        return values


SECTIONS: dict[str, type] = {"data": DataSet, "encoders": Encoder, "denoisers": Denoiser, "systems": System}
"""Parts of the file with named entries."""


def read_study(path: Path) -> Study:
    """Read and check a YAML file.

    Raises:
        UsageError: the file does not exist, a data set is missing, a name is unknown, or a seed occurs twice.
        FastTextDiffError: it is not valid YAML, lacks a field, or has an unknown field.
    """
    import yaml

    if not path.is_file():
        raise UsageError(f"there is no study {path}")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        values["budget"] = _build(Budget, values["budget"], path)
        for name, kind in SECTIONS.items():
            named = values.get(name, {})
            values[name] = {str(key): _build(kind, _system(one, kind), path) for key, one in named.items()}
        study: Study = _build(Study, values, path)
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise FastTextDiffError(f"the study {path} cannot be used: {reason}") from error
    _check(study, path)
    return study


def _system(values: Any, kind: type) -> dict[str, Any]:
    """A system's own arguments, which are given among its other fields in the file, as `options`."""
    if kind is not System:
        return dict(values)
    own = {key: value for key, value in values.items() if key in ("kind", "learning_rate", "weak")}
    return {**own, "options": {key: value for key, value in values.items() if key not in own}}


def _build(kind: Any, values: Mapping[str, Any], path: Path) -> Any:
    """A dataclass from the file's values: lists become tuples, "1e-4" a number, paths absolute."""
    unknown = set(values) - {one.name for one in fields(kind)}
    if unknown:
        raise ValueError(f"unknown fields {sorted(unknown)}")
    types = {one.name: str(one.type) for one in fields(kind)}
    return kind(**{name: _value(name, value, types[name], path) for name, value in values.items()})


def _value(name: str, value: Any, kind: str, path: Path) -> Any:
    if name == "options":
        return {key: _value(key, one, "", path) for key, one in value.items()}
    if isinstance(value, list):
        return tuple(value)
    if name in PATHS and value is not None:
        return (path.parent / as_path(value)).resolve()
    return float(value) if kind.startswith("float") and value is not None else value


def _check(study: Study, path: Path) -> None:
    """Refuse what cannot be run, each in one line that says what to do."""
    for name in ("seeds", "labels", "texts", "asked"):
        _require_once(name, getattr(study, name) or (), path)
    for text in (*study.texts, *(study.asked or ())):
        _require_known("text", text, TEXTS, path)
    for protocol in study.protocols:
        _require_known("protocol", protocol, PROTOCOLS, path)
    _require_known("reference", study.reference, study.systems, path)
    for system in study.systems.values():
        for kind, part in system.parts:
            _require_known(kind, part, study.encoders if kind == "encoder" else study.denoisers, path)
    _check_paths(study, path)
    _check_numbers(study, path)


def _check_paths(study: Study, path: Path) -> None:
    """Refuse missing text and pictures before hours are spent on other cells."""
    sections: tuple[Mapping[str, Any], ...] = (study.data, study.encoders, study.denoisers)
    for section in sections:
        for name, one in section.items():
            for key in PATHS:
                place = getattr(one, key, None)
                if place is not None and not place.exists():
                    raise UsageError(f"{path}: {key} of '{name}' is missing: {place}")


def _check_numbers(study: Study, path: Path) -> None:
    budget = study.budget
    if (budget.steps > 0) == (budget.seconds > 0):
        raise UsageError(f"{path}: the budget needs either steps or seconds above 0")
    if not study.seeds or not study.systems or not study.data:
        raise UsageError(f"{path}: a study needs at least one system, one data set and one seed")
    wrong = [n for n in study.labels if n != ALL and (not isinstance(n, int) or n < 0)]
    if wrong:
        raise UsageError(f"{path}: labels are numbers from 0 or '{ALL}', not {wrong[0]!r}")
    if 0 in study.labels and not any(system.weak for system in study.systems.values()):
        raise UsageError(f"{path}: with 0 labels only systems with 'weak: true' can learn: there is none")
    names = [name for group in (study.data, study.systems) for name in group if "--" in name or not _plain_name(name)]
    if names:
        raise UsageError(f"{path}: '{names[0]}' names a folder: use letters, digits, '-', '_' and '.'")


def _plain_name(name: str) -> bool:
    return name.replace("-", "").replace("_", "").replace(".", "").isalnum()


def _require_once(name: str, values: Sequence[Any], path: Path) -> None:
    twice = next((value for value in values if list(values).count(value) > 1), None)
    if twice is not None:
        raise UsageError(f"{path}: {twice!r} is listed twice under {name}")


def _require_known(what: str, name: str, known: Mapping[str, Any] | Sequence[str], path: Path) -> None:
    if name not in known:
        raise UsageError(f"{path}: the {what} '{name}' is unknown: use {', '.join(known)}")


def plain(value: Any) -> Any:
    """A value as JSON values: paths as text, tuples as lists."""
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value
