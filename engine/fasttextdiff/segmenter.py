"""Segments volumes and pictures from typed findings, slice by slice, in two phases: encode the image, decode findings.

Phase one does not depend on the words: its maps are cached, and any number of findings can be decoded from them.
Knows volumes, findings and the cache; `model.runtime` runs the networks.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from fasttextdiff.contract.findings import distinct
from fasttextdiff.decoding import SliceDecoder, report
from fasttextdiff.errors import UsageError
from fasttextdiff.image.preprocessing import Window
from fasttextdiff.image.slices import PreparedImage, View, prepare
from fasttextdiff.image.volume import Volume
from fasttextdiff.model.feature_cache import FeatureCache, Maps
from fasttextdiff.model.info import ModelInfo, require_findings, require_words
from fasttextdiff.model.recognition import recognised
from fasttextdiff.model.runtime import Runtime, batched
from fasttextdiff.model.runtimes import load_runtime, pipeline_of
from fasttextdiff.option_rules import check_options
from fasttextdiff.outcomes import Outcomes
from fasttextdiff.paths import PathText
from fasttextdiff.progress import Progress
from fasttextdiff.result import SegmentationResult, SliceResults, on_whole_grid
from fasttextdiff.teaching.in_use import LearnedFindings, torch_runtime

if TYPE_CHECKING:
    from fasttextdiff.model.pipeline import FastTextDiffPipeline
    from fasttextdiff.teaching.adapter import Adapter
    from fasttextdiff.teaching.examples import Example

DEFAULT_CACHE_BYTES = 384 << 20


class Segmenter:
    """Applies a model to volumes.

    Args:
        model: a loaded model, a folder, a hub id, or None for the bundled model.
        device: "auto" (a CUDA GPU if there is one), "cpu", "cuda", "cuda:1", "mps"; with OpenVINO "gpu" and "npu".
        dtype: a name, or "auto": bfloat16 where it is fast, else float16 on CUDA devices and float32 elsewhere.
        cache_bytes: budget of the feature cache.
        runtime: what runs the networks, "auto", "torch" or "openvino", see :func:`load_runtime`; or a runtime.
        threads: CPU threads of the model; None for all cores.

    Raises:
        UsageError: the model, the device or the runtime is not there, or the dtype is unknown.
        ModelError: the model's folder cannot be used.
    """

    def __init__(
        self,
        model: FastTextDiffPipeline | PathText | None = None,
        device: str = "auto",
        dtype: str = "auto",
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        runtime: Runtime | str = "auto",
        threads: int | None = None,
    ) -> None:
        if isinstance(runtime, str) or not hasattr(runtime, "answers"):
            runtime = load_runtime(model, device, dtype, str(runtime), threads)
        self.runtime = runtime
        self.cache = FeatureCache(cache_bytes)
        self._learned = LearnedFindings(self.info, partial(pipeline_of, self.runtime, model))
        self._decoder = SliceDecoder(self.runtime, self.cache, self._learned)

    @property
    def info(self) -> ModelInfo:
        """The description of the model."""
        return self.runtime.settings.info

    @property
    def pipeline(self) -> FastTextDiffPipeline:
        """The model in torch.

        Raises:
            UsageError: it runs with another runtime.
        """
        pipeline: FastTextDiffPipeline | None = getattr(self.runtime, "pipeline", None)
        if pipeline is None:
            raise UsageError(f"the model runs with {self.runtime.name}: use runtime='torch' for its networks")
        return pipeline

    @property
    def device(self) -> str:
        """The device that the model runs on, e.g. "cpu", "cuda:0"."""
        return self.runtime.device

    @property
    def dtype_name(self) -> str:
        """The computing dtype as users name it, e.g. "float32"."""
        return self.runtime.dtype

    def use(self, adapters: Sequence[Adapter]) -> None:
        """Answer the findings of these adapters with them, and no others; every other finding keeps its bits.

        Raises:
            UsageError: two adapters have a word in common.
            ModelError: one was learned on another model.
        """
        self._learned.use(adapters)

    def adapt(self, examples: Sequence[Example], *, finding: str, **options: Any) -> Adapter:
        """Learn a finding from slices with masks; arguments and errors as for `teaching.learning.learn`."""
        from fasttextdiff.teaching.learning import learn

        return learn(torch_runtime(self.runtime), examples, finding, **options)

    def segment(
        self,
        volume: Volume,
        findings: Sequence[str],
        *,
        slices: tuple[int, int] | None = None,
        plane: str = "acquisition",
        samples: int = 1,
        seed: int = 0,
        threshold: float | None = None,
        window: Window | None = None,
        slice_by_slice: bool = False,
        try_anyway: bool = False,
        progress: Progress | None = None,
    ) -> SegmentationResult:
        """Segment typed findings.

        Args:
            volume: the image; not changed.
            findings: what to look for, see :func:`fasttextdiff.contract.findings.understood`; different spellings of
                one finding give one result.
            slices: (first, last + 1) along the plane's slice axis, from 0; all if None.
            plane: "acquisition", "axial", "coronal" or "sagittal".
            samples: noise samples to average; more than one also gives their disagreement.
            seed: of the noise; equal seeds give equal bits.
            threshold: probability above which a voxel belongs to the mask; the model's own if None.
            window: (level, width) instead of the one the model was trained with.
            slice_by_slice: keep the result of every slice as the model gives it. By default, findings are smoothed
                across the slices of the request, and implausible parts are removed.
            try_anyway: also segment findings that the model was not taught; by default they are left empty.
            progress: called after every slice.

        Raises:
            UsageError: an option or a finding is not valid.
            FastTextDiffError: the image cannot be segmented.
            Cancelled: `progress` returned False.
        """
        check_options(threshold=threshold, slice_by_slice=slice_by_slice, try_anyway=try_anyway)
        self.check_findings(findings)
        image = self.prepare(volume, slices=slices, plane=plane, samples=samples, seed=seed, window=window)
        return self.decode(
            image,
            findings,
            threshold=threshold,
            slice_by_slice=slice_by_slice,
            try_anyway=try_anyway,
            progress=progress,
        )

    def prepare(
        self,
        volume: Volume,
        *,
        slices: tuple[int, int] | None = None,
        plane: str = "acquisition",
        samples: int = 1,
        seed: int = 0,
        window: Window | None = None,
    ) -> PreparedImage:
        """Check a request, see what kind of image it is, and choose the window; findings are not computed yet.

        Args:
            volume: the image; that of the result has the modality that it shows if nothing states one.
            slices: as for :meth:`segment`, like the other arguments.
            plane: the same.
            samples: the same.
            seed: the same.
            window: the same.

        Raises:
            UsageError: an option is not valid.
            FastTextDiffError: the image cannot be segmented.
        """
        check_options(slices=slices, samples=samples, seed=seed)
        model = self.runtime.settings
        volume = recognised(volume, model, partial(self.maps, seed=0))
        image = prepare(volume, model.preprocessing.of(volume.modality), model.multiple, plane=plane, window=window)
        return image.with_request(slices=slices, samples=samples, seed=seed)

    def encode(self, image: PreparedImage, findings: Sequence[str] = (), *, progress: Progress | None = None) -> None:
        """Phase one: run the denoiser over the requested slices and keep its maps in the cache.

        Args:
            image: from :meth:`prepare`.
            findings: encode the image in the windows of these findings; without any, in the image's own window.
            progress: called after every slice.

        Raises:
            Cancelled: `progress` returned False.
            DeviceMemoryError: the device's memory is too small.
        """
        shown = [one for one, _ in self.windows(image, findings)] or [image]
        for group in self._decoder.groups(image):
            for one in shown:
                views = [view for index in group for view in one.views(index)]
                for sample in range(image.samples):
                    for batch in batched(views, self.runtime.batch):
                        self.maps(one, batch, image.seed + sample)
            report(progress, image.slices.index(group[-1]) + 1, len(image.slices))

    def decode(
        self,
        image: PreparedImage,
        findings: Sequence[str],
        *,
        threshold: float | None = None,
        slice_by_slice: bool = False,
        try_anyway: bool = False,
        progress: Progress | None = None,
    ) -> SegmentationResult:
        """Phase two: probabilities and masks of findings, on the volume's whole grid; missing maps are computed.

        Args:
            image: from :meth:`prepare`.
            findings: as for :meth:`segment`; the empty text gives the text-free result, for evaluation only.
            threshold: as for :meth:`segment`, like the other options.
            slice_by_slice: the same.
            try_anyway: the same.
            progress: called after every slice.

        Raises:
            UsageError: there is no finding, or one cannot be read.
            Cancelled: `progress` returned False.
            DeviceMemoryError: the device's memory is too small.
        """
        options: dict[str, Any] = {"threshold": threshold, "slice_by_slice": slice_by_slice, "try_anyway": try_anyway}
        found = self.decode_slices(image, findings, progress=progress, **options)
        whole = tuple(on_whole_grid(finding, image) for finding in found.findings)
        return SegmentationResult(image.volume, whole, found.provenance)

    def decode_slices(
        self,
        image: PreparedImage,
        findings: Sequence[str],
        *,
        threshold: float | None = None,
        slice_by_slice: bool = False,
        try_anyway: bool = False,
        progress: Progress | None = None,
    ) -> SliceResults:
        """Like :meth:`decode`, but with memory for the requested slices only, however large the volume is.

        Args:
            image: from :meth:`prepare`.
            findings: as for :meth:`decode`, whose errors it has.
            threshold: as for :meth:`segment`, like the other options.
            slice_by_slice: the same.
            try_anyway: the same.
            progress: called after every slice.
        """
        check_options(threshold=threshold, slice_by_slice=slice_by_slice, try_anyway=try_anyway)
        require_findings(findings)
        typed = distinct(findings)
        for finding in filter(str.strip, typed.values()):
            require_words(finding)
        info = self.info
        limit = info.threshold if threshold is None else float(threshold)
        learned = self._learned.among(typed, image.volume.modality)
        outcomes = Outcomes(info, image, limit, slice_by_slice, try_anyway, learned, self.runtime.settings.kinds)
        containment = outcomes.containment(list(typed))
        stack = self._decoder.stack(image, containment, progress)
        if image.volume.padding is not None:
            stack.clear(image.volume.padding[image.requested()])
        found = outcomes.results(typed, stack, containment)
        return SliceResults(found, outcomes.provenance(self.runtime, found[0].window))

    def describe(self, volume: Volume, **request: Any) -> PreparedImage:
        """Former name of :meth:`prepare`."""
        warnings.warn("Segmenter.describe is now Segmenter.prepare", DeprecationWarning, stacklevel=2)
        return self.prepare(volume, **request)

    def encode_slices(self, image: PreparedImage, *, progress: Progress | None = None) -> None:
        """Former name of :meth:`encode`."""
        warnings.warn("Segmenter.encode_slices is now Segmenter.encode", DeprecationWarning, stacklevel=2)
        self.encode(image, progress=progress)

    def check_findings(self, findings: Sequence[str]) -> None:
        """Refuse findings that the model cannot read, before anything is computed.

        Raises:
            UsageError: see :func:`fasttextdiff.model.tokens.require_readable`.
        """
        require_findings(findings)
        for finding in findings:
            self.runtime.check(finding)

    def windows(self, image: PreparedImage, findings: Sequence[str]) -> list[tuple[PreparedImage, list[int]]]:
        """The image in every window of the findings, with the indices of these findings."""
        return self._decoder.windows(image, findings)

    def maps(self, image: PreparedImage, views: Sequence[View], seed: int) -> list[Maps]:
        """Maps of each view, from the cache or computed in one batch; rounded in both cases."""
        return self._decoder.maps(image, views, seed)
