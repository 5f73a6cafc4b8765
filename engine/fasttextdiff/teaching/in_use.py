"""The learned findings that a segmenter uses: which texts they answer, and their answers.

Loads torch only with the first adapter. Knows the runtime's arrays; knows nothing about volumes or images' files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.environment import TORCH, problem_with
from fasttextdiff.errors import MissingPackagesError, UsageError, require_type
from fasttextdiff.image.slices import PreparedImage, View
from fasttextdiff.image.volume import Modality
from fasttextdiff.model.feature_cache import Maps
from fasttextdiff.model.info import ModelInfo
from fasttextdiff.model.runtime import Runtime
from fasttextdiff.paths import PathText
from fasttextdiff.result import Learned
from fasttextdiff.teaching.wording import learned_elsewhere

if TYPE_CHECKING:
    from fasttextdiff.model.pipeline import FastTextDiffPipeline
    from fasttextdiff.model.torch_runtime import TorchRuntime
    from fasttextdiff.teaching.adapter import Adapter
    from fasttextdiff.teaching.answers import Adapters


class LearnedFindings:
    """Adapters in use; none at first.

    Args:
        info: of the model.
        pipeline: the model in PyTorch, loaded with the first adapter; whatever computes the maps stays the same.
    """

    def __init__(self, info: ModelInfo, pipeline: Callable[[], FastTextDiffPipeline]) -> None:
        self._info, self._load = info, pipeline
        self._pipeline: FastTextDiffPipeline | None = None
        self._adapters: Adapters | None = None
        self._answers: dict[tuple[str, Modality], tuple[Adapter | None, str]] = {}

    def use(self, adapters: Sequence[Adapter]) -> None:
        """Use these adapters, and no others.

        Raises:
            UsageError: two have a word in common, or one is no adapter.
            ModelError: one was learned on another model.
            MissingPackagesError: PyTorch is missing.
        """
        require_type(adapters, Sequence, "adapters", "give a list")
        self._answers = {}
        if not adapters:
            self._adapters = None
            return
        from fasttextdiff.teaching.adapter import Adapter
        from fasttextdiff.teaching.answers import Adapters

        for adapter in adapters:
            require_type(adapter, Adapter, "adapter", "use Adapter.load")
        self._adapters = Adapters.for_model(adapters, self._info.weights_sha256, self._info.name)
        self._pipeline = self._pipeline or self._load()

    def about(self, finding: str, modality: Modality) -> Learned | None:
        """What a finding was learned from; None if it was not learned.

        Args:
            finding: the text as read.
            modality: modality of the image.
        """
        adapter, word = self._answering(finding, modality)
        if adapter is None:
            return None
        card = adapter.card
        slices = "1 slice" if card.examples == 1 else f"{card.examples} slices"
        source = f"{card.finding} from {slices}, {card.created[:10]}, {adapter.sha256()}"
        return Learned(source, learned_elsewhere(finding, card, modality), word)

    def _answering(self, finding: str, modality: Modality) -> tuple[Adapter | None, str]:
        """What answers a finding, and which of its words it is."""
        key = finding, modality
        if self._adapters is None:
            return None, ""
        if key not in self._answers:
            from fasttextdiff.teaching.answers import adapter_of

            self._answers[key] = adapter_of(finding, self._adapters.all, self._info, modality)
        return self._answers[key]

    def among(self, findings: Iterable[str], modality: Modality) -> dict[str, Learned]:
        """The learned ones of some findings; see :meth:`about`."""
        about = {finding: self.about(finding, modality) for finding in findings}
        return {finding: learned for finding, learned in about.items() if learned is not None}

    def answer(
        self,
        answers: tuple[NDArray[np.float32], NDArray[np.float32]],
        findings: Sequence[str],
        views: Sequence[View],
        maps: Sequence[Maps],
        image: PreparedImage,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The model's answers with those of learned findings replaced; all others keep their bits.

        Args:
            answers: log-odds (B, F, h, w) and presence (B, F) of the runtime.
            findings: the F findings.
            views: the B views.
            maps: of each view.
            image: that the views are of.
        """
        modality = image.volume.modality
        adapters = {n: a for n, text in enumerate(findings) if (a := self._answering(text, modality)[0]) is not None}
        if not adapters or self._pipeline is None:
            return answers
        from fasttextdiff.teaching.answers import adapted

        odds, presence = (array.copy() for array in answers)
        for n, adapter in adapters.items():
            for v, (view, seen) in enumerate(zip(views, maps, strict=True)):
                odds[v, n], presence[v, n] = adapted(adapter, self._pipeline, view.pixels(), seen, image.fit)
        return odds, presence


def load_adapters(files: Sequence[PathText]) -> list[Adapter]:
    """The adapters in some files; loads torch only if there is one.

    Raises:
        ModelError: a file is missing or damaged.
        MissingPackagesError: PyTorch is missing.
    """
    if not files:
        return []
    if missing := problem_with(TORCH):
        raise MissingPackagesError(f"a learned finding needs PyTorch ({missing}): pip install 'fasttextdiff[torch]'")
    from fasttextdiff.teaching.adapter import Adapter

    return [Adapter.load(file) for file in files]


def torch_runtime(runtime: Runtime) -> TorchRuntime:
    """The runtime, if it is PyTorch.

    Raises:
        UsageError: it is another one.
    """
    if runtime.name != "torch":
        raise UsageError(f"learning needs PyTorch, and the model runs with {runtime.name}: use runtime torch")
    return cast("TorchRuntime", runtime)
