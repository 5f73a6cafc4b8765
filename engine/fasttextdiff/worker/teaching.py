"""The worker's jobs of teaching: strokes, examples, learning, and the library of what was learned.

Knows the contract's messages; knows nothing about threads and streams, or how ordinary findings are segmented.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.contract.findings import understood
from fasttextdiff.contract.requests import Segment
from fasttextdiff.contract.teaching import (
    AddExamples,
    Correct,
    ExamplesAdded,
    ExportLearned,
    ImportLearned,
    Learn,
    LearnedFinding,
    LearnedFindings,
    ListLearned,
    RemoveLearned,
    RenameLearned,
    RollBackLearned,
    StrokeMark,
    SwitchLearned,
)
from fasttextdiff.contract.words import WeighWords
from fasttextdiff.environment import TORCH, problem_with
from fasttextdiff.errors import MissingPackagesError, ModelError, UsageError
from fasttextdiff.image.slices import PreparedImage
from fasttextdiff.image.volume import Modality
from fasttextdiff.option_rules import check_options
from fasttextdiff.paths import as_path
from fasttextdiff.progress import Progress
from fasttextdiff.result import SliceResults
from fasttextdiff.segmenter import Segmenter
from fasttextdiff.worker.values import mapped_array

if TYPE_CHECKING:
    from fasttextdiff.correction import SliceCorrection, Stroke
    from fasttextdiff.teaching.adapter import Adapter
    from fasttextdiff.teaching.examples import Example
    from fasttextdiff.teaching.library import AdapterLibrary, Damaged, Entry


class Model(Protocol):
    """What teaching needs of the worker's state."""

    def segmenter(self) -> Segmenter:
        """The model that was opened."""

    def with_torch(self) -> Segmenter:
        """The same model, run by PyTorch."""

    def image(self, volume: str) -> PreparedImage:
        """An open volume, prepared for the model."""


class Teaching:
    """The state of teaching: collected examples, the adapters in use, the slice that is being corrected.

    Args:
        model: the worker's model and volumes.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._examples: list[Example] = []
        self._adapters: dict[tuple[Path, int], Adapter] = {}
        self._correction: tuple[tuple[Any, ...], SliceCorrection] | None = None
        self.jobs: dict[type, Callable[[Any, Progress], Any]] = {
            AddExamples: lambda asked, _: self.add_examples(asked),
            Learn: self.learn,
            ListLearned: lambda asked, _: self._listed(asked.library),
            **{kind: lambda asked, _: self.change(asked) for kind in _CHANGES},
        }

    def forget(self) -> None:
        """Forget what belongs to a model or a volume that is no longer there."""
        self._correction = None

    # --- learned findings in use -------------------------------------------------------------------------------------

    def use(
        self, segmenter: Segmenter, findings: Sequence[str], request: Segment | Correct | WeighWords, modality: Modality
    ) -> list[Adapter]:
        """Let a segmenter use the learned findings of a request, if one of its findings is among them.

        Args:
            segmenter: of the model.
            findings: of the request.
            request: names the library, and perhaps a candidate.
            modality: of the image.

        Returns:
            Those that answer one.

        Raises:
            ModelError: what was learned for one of the findings cannot be used with this model.
        """
        usable, unusable = self._in_library(request.library)
        info = self._model.segmenter().info
        candidate = self._loaded(request.candidate) if isinstance(request, Segment) and request.candidate else None
        if candidate is not None:
            candidate.require_base(info.weights_sha256, info.name)
            words = candidate.card.words
            usable = [candidate, *(a for a in usable if not any(a.card.covers(word) for word in words))]
            unusable = [a for a in unusable if not any(a.card.covers(word) for word in words)]
        answered = self._answering(findings, [*usable, *unusable], modality)
        for adapter in answered:
            adapter.require_base(info.weights_sha256, info.name)
        segmenter.use(usable if answered else ())
        return answered

    def _answering(self, findings: Sequence[str], adapters: Sequence[Adapter], modality: Modality) -> list[Adapter]:
        if not adapters:
            return []
        from fasttextdiff.teaching.answers import adapter_of

        found = [adapter_of(each, adapters, self._model.segmenter().info, modality)[0] for each in findings]
        return [one for one in found if one is not None]

    def notes(self, library: Path | None) -> list[str]:
        """What the user should know about a library, one line each."""
        if not _exists(library):
            return []
        if missing := problem_with(TORCH):
            return [f"learned findings are not used, because they need PyTorch ({missing})"]
        return [_damage(one) for one in _library(library).scan()[1]]

    def _in_library(self, library: Path | None) -> tuple[list[Adapter], list[Adapter]]:
        """Adapters that are switched on: those of this model, and those of others; none without PyTorch."""
        if not _exists(library) or problem_with(TORCH):
            return [], []
        base = self._model.segmenter().info.weights_sha256
        enabled = [self._loaded(entry.file) for entry in _library(library).scan()[0] if entry.enabled]
        fitting = [adapter for adapter in enabled if adapter.card.base_weights_sha256 == base]
        return fitting, [adapter for adapter in enabled if adapter not in fitting]

    def _loaded(self, file: Path) -> Adapter:
        """An adapter, read once as long as its file stays the same."""
        from fasttextdiff.teaching.adapter import Adapter

        path = as_path(file)
        key = path, path.stat().st_mtime_ns if path.exists() else 0
        if key not in self._adapters:
            self._adapters = {known: one for known, one in self._adapters.items() if known[0].exists()}
            self._adapters[key] = Adapter.load(path)
        return self._adapters[key]

    # --- strokes -----------------------------------------------------------------------------------------------------

    def correct(self, request: Correct) -> SliceResults:
        """The answer of one slice, corrected by strokes.

        Raises:
            UsageError: the request is not valid, or a stroke cannot be.
        """
        options: dict[str, Any] = {"threshold": request.threshold, "slice_by_slice": request.slice_by_slice}
        check_options(**options)
        image = self._model.image(request.volume)
        one = image.with_request(slices=(request.slice, request.slice + 1), samples=1, seed=request.seed)
        segmenter = self._model.with_torch()
        finding = understood(request.finding)
        segmenter.check_findings([request.finding])
        adapter = next(iter(self.use(segmenter, [finding], request, image.volume.modality)), None)
        made = adapter.sha256() if adapter is not None else ""
        key = (request.volume, request.slice, finding, request.seed, made, *options.values())
        if self._correction is None or self._correction[0] != key:
            from fasttextdiff.correction import SliceCorrection

            self._correction = key, SliceCorrection(segmenter, one, finding, adapter, **options)
        return self._correction[1].result([_stroke(mark) for mark in request.strokes])

    # --- learning ----------------------------------------------------------------------------------------------------

    def add_examples(self, request: AddExamples) -> ExamplesAdded:
        """Collect slices with masks.

        Raises:
            UsageError: a slice does not exist, or the masks are on another grid.
        """
        from fasttextdiff.teaching.examples import by_slice, examples_of

        image = self._model.image(request.volume)
        if request.begin:
            self._examples = []
        masks = mapped_array(request.masks)
        axis = image.display.axes[0]
        shape = tuple(len(request.slices) if n == axis else size for n, size in enumerate(image.display.shape))
        if masks.shape != shape:
            has, wanted = (" x ".join(map(str, each)) for each in (masks.shape, shape))
            raise UsageError(f"the masks have {has} voxels, the slices {wanted}: use masks on the image's grid")
        whole = np.zeros(image.display.shape, bool)
        for place, index in enumerate(request.slices):
            if 0 <= index < image.display.n_slices:
                _slice(whole, axis, index)[...] = _slice(masks, axis, place) != 0
            self._examples += examples_of(image, index, whole, request.group)
        return ExamplesAdded(len(by_slice(self._examples)))

    def learn(self, request: Learn, progress: Progress) -> LearnedFinding:
        """Learn from the collected examples and those kept before; write the adapter, and keep the examples.

        Raises:
            UsageError: nothing can be learned, or a file cannot be written.
            Cancelled: `progress` returned False; nothing is written.
        """
        from fasttextdiff.teaching.adapter import SUFFIX
        from fasttextdiff.teaching.example_files import anonymous, check_examples_folder, save_examples, words_kept

        collected, self._examples = self._examples if request.collected else [], []
        output = as_path(request.output)
        if output.suffix != SUFFIX:
            raise UsageError(f"an adapter must be a {SUFFIX} file, not {output.name}")
        words = [request.finding, *request.synonyms]
        if request.keep is not None:  # refused now, not after the training
            check_examples_folder(request.keep, request.finding)
            words = words_kept(request.keep, words)
        kept = _kept(request)
        new = [replace(e, group=anonymous(request.keep, e.group)) if kept and request.keep else e for e in collected]
        fresh = {example.key() for example in new}
        examples = [*(e for e in kept if e.key() not in fresh), *new]
        adapter = self._model.with_torch().adapt(
            examples, finding=words[0], synonyms=words[1:], seed=request.seed, progress=progress
        )
        adapter.save(output)
        if request.keep is not None and collected:
            save_examples(request.keep, collected, adapter.card.finding, adapter.card.synonyms)
        return _learned(adapter, output)

    # --- the library -------------------------------------------------------------------------------------------------

    def change(self, request: Any) -> LearnedFindings:
        """Change a library as a request says.

        Raises:
            UsageError: the finding was not learned, or the change is not possible.
            ModelError: a file is damaged.
            MissingPackagesError: PyTorch is missing.
        """
        require_torch()
        if isinstance(request, ImportLearned):
            info = self._model.segmenter().info
            self._loaded(request.file).require_base(info.weights_sha256, info.name)
        _CHANGES[type(request)](_library(request.library), request)
        return self._listed(request.library)

    def _listed(self, library: Path) -> LearnedFindings:
        if not _exists(library):
            return LearnedFindings(())
        require_torch()
        entries, damaged = _library(library).scan()
        found = [self._entry(entry) for entry in entries]
        return LearnedFindings((*found, *map(_damaged, damaged)))

    def _entry(self, entry: Entry) -> LearnedFinding:
        adapter, problem = self._loaded(entry.file), ""
        info = self._model.segmenter().info
        try:
            adapter.require_base(info.weights_sha256, info.name)
        except ModelError as error:
            problem = str(error)
        return replace(_learned(adapter, entry.file), versions=entry.versions, enabled=entry.enabled, problem=problem)


def require_torch() -> None:
    """Refuse what only PyTorch can do.

    Raises:
        MissingPackagesError: PyTorch is missing.
    """
    if missing := problem_with(TORCH):
        raise MissingPackagesError(
            f"strokes and learned findings need PyTorch ({missing}): in Slicer, install torch with the "
            "extension PyTorch, type slicer.util.pip_install('diffusers transformers') in the Python console, "
            "and restart; else pip install 'fasttextdiff[torch]'"
        )


def _exists(library: Path | None) -> bool:
    """Whether there may be something in a library; torch is loaded only then."""
    return library is not None and as_path(library).is_dir() and any(as_path(library).iterdir())


def _library(folder: Path | None) -> AdapterLibrary:
    from fasttextdiff.teaching.library import AdapterLibrary

    return AdapterLibrary(folder or Path())


def _stroke(mark: StrokeMark) -> Stroke:
    from fasttextdiff.correction import Stroke

    return Stroke(np.asarray(mapped_array(mark.voxels), bool), mark.present)


def _slice(array: NDArray[Any], axis: int, index: int) -> NDArray[Any]:
    return array[tuple(index if n == axis else slice(None) for n in range(3))]


def _kept(request: Learn) -> list[Example]:
    """The examples of earlier days in the folder of a request."""
    from fasttextdiff.teaching.example_files import INDEX, load_examples

    if request.keep is None or not (as_path(request.keep) / INDEX).exists():
        return []
    return load_examples(request.keep)[0]


def _learned(adapter: Adapter, file: Path) -> LearnedFinding:
    card = adapter.card
    return LearnedFinding(
        finding=card.finding,
        synonyms=card.synonyms,
        modality=card.modality,
        examples=card.examples,
        dice=card.held_out_dice,
        base=card.base,
        versions=1,
        enabled=True,
        file=file,
        digest=adapter.sha256(),
    )


def _damaged(one: Damaged) -> LearnedFinding:
    return LearnedFinding(one.folder.name, (), "", 0, None, "", one.versions, False, one.folder, "", _damage(one))


def _damage(one: Damaged) -> str:
    return f"{one.problem}: roll it back or remove it; until then it is not used"


def _export(library: AdapterLibrary, request: ExportLearned) -> None:
    from fasttextdiff.teaching.adapter import SUFFIX

    if as_path(request.output).suffix != SUFFIX:
        raise UsageError(f"an adapter must be a {SUFFIX} file, not {as_path(request.output).name}")
    library.export(request.finding, request.output)


_CHANGES: dict[type, Callable[[AdapterLibrary, Any], Any]] = {
    ImportLearned: lambda library, asked: library.import_file(asked.file),
    ExportLearned: _export,
    RenameLearned: lambda library, asked: library.rename(asked.finding, asked.name, asked.synonyms),
    SwitchLearned: lambda library, asked: library.enable(asked.finding, asked.enabled),
    RollBackLearned: lambda library, asked: library.roll_back(asked.finding),
    RemoveLearned: lambda library, asked: library.remove(asked.finding),
}
