"""The worker's jobs: load a model, open volumes, segment slices and write the arrays to files.

Knows the contract's messages; knows nothing about threads and streams.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fasttextdiff.contract.answers import Done, Opened, Segmented, VolumeOpened
from fasttextdiff.contract.findings import distinct
from fasttextdiff.contract.images import ACQUISITION
from fasttextdiff.contract.requests import (
    CloseVolume,
    ListSeries,
    Measure,
    Open,
    OpenVolume,
    Request,
    SaveDicomSeg,
    Segment,
)
from fasttextdiff.contract.segments import ALGORITHM_TAG, CORRECTED_TAG, SEMIAUTOMATIC
from fasttextdiff.contract.teaching import Correct
from fasttextdiff.contract.words import WeighWords, WordsWeighed
from fasttextdiff.errors import Cancelled, DeviceMemoryError, UsageError, one_line
from fasttextdiff.image.slices import PreparedImage
from fasttextdiff.image.volume import Modality, Volume
from fasttextdiff.io.read import decoded_from_memory, volume_from
from fasttextdiff.model.info import BUNDLED_MODEL, read_info, require_findings
from fasttextdiff.model.runtimes import check_choice
from fasttextdiff.option_rules import check_options
from fasttextdiff.paths import as_path
from fasttextdiff.progress import Progress
from fasttextdiff.result import SliceResults
from fasttextdiff.segmenter import Segmenter
from fasttextdiff.worker.dicom import list_series, save_dicom_seg
from fasttextdiff.worker.measuring import measured
from fasttextdiff.worker.segmented import pair, write_answer
from fasttextdiff.worker.teaching import Teaching, require_torch
from fasttextdiff.worker.values import mapped_array, matrix_of, model_folder_of
from fasttextdiff.worker.words import words_weighed

VOLUMES_KEPT = 4
"""Volumes kept at a time; the least recently used one is dropped."""
TOO_SMALL_GPU = "GPU memory was too small: computed on the CPU"


@dataclass
class _Known:
    """An open volume, and how it is prepared for the current model, by plane as needed."""

    volume: Volume
    images: dict[str, PreparedImage] = field(default_factory=dict)


class Jobs:
    """The state of a worker: one model on one device, and the last few volumes."""

    def __init__(self) -> None:
        self._segmenter: Segmenter | None = None
        self._torch: Segmenter | None = None
        self._folder = BUNDLED_MODEL
        self._volumes: OrderedDict[str, _Known] = OrderedDict()
        self._ahead = _NextSlices()
        self._teaching = Teaching(self)

    def do(self, request: Request, progress: Progress, go_on: Callable[[], bool] = lambda: True) -> Any:
        """Carry out one job.

        Args:
            request: one of the contract's `JOBS`.
            progress: called after every slice of a segmentation, and before a file is moved into place.
            go_on: polled within a slice; as soon as it returns False, the segmentation is cancelled.

        Returns:
            The request's answer.
        """
        work: dict[type, Callable[[Any], Any]] = {
            Open: self.open,
            OpenVolume: self.open_volume,
            CloseVolume: self.close_volume,
            Segment: lambda asked: self.segment(asked, progress, go_on),
            ListSeries: list_series,
            SaveDicomSeg: lambda asked: save_dicom_seg(asked, progress),
            Correct: self.correct,
            Measure: lambda asked: measured(asked, self.image(asked.volume).volume),
            WeighWords: self.weigh_words,
        }
        if type(request) in self._teaching.jobs:
            return self._teaching.jobs[type(request)](request, progress)
        return work[type(request)](request)

    # --- the model ---------------------------------------------------------------------------------------------------

    def open(self, request: Open) -> Opened:
        """Load a model, move it to a device and warm it up.

        Raises:
            UsageError: the device does not exist.
            ModelError: the folder does not exist or cannot be used.
        """
        check_choice(request.device, "auto", request.runtime)  # fail before the model is loaded
        folder = model_folder_of(request.model)
        read_info(folder)  # keep the current model if the new folder is obviously broken
        self._forget_model()
        segmenter, notes = _on_device(folder, request)
        self._segmenter, self._folder = segmenter, folder
        return Opened(segmenter.device, (*segmenter.runtime.notes, *notes), segmenter.runtime.version)

    def _forget_model(self) -> None:
        """Free memory before another model is loaded; prepared images are valid for one model only."""
        self._segmenter = self._torch = None
        self._ahead.forget()
        self._teaching.forget()
        for known in self._volumes.values():
            known.images.clear()

    def segmenter(self) -> Segmenter:
        """The loaded model.

        Raises:
            UsageError: none is loaded.
        """
        if self._segmenter is None:
            raise UsageError("no model is loaded: send 'open' first")
        return self._segmenter

    def with_torch(self) -> Segmenter:
        """The loaded model run by PyTorch, for strokes and for learning.

        Raises:
            UsageError: no model is loaded.
            MissingPackagesError: PyTorch is missing.
        """
        if self._torch is None:
            main = self.segmenter()
            require_torch()
            self._torch = main if main.runtime.name == "torch" else Segmenter(self._folder, "cpu", runtime="torch")
        return self._torch

    # --- volumes -----------------------------------------------------------------------------------------------------

    def open_volume(self, request: OpenVolume) -> VolumeOpened:
        """Open a volume; its file is memory-mapped, never written to, and released by :meth:`close_volume`.

        Raises:
            FastTextDiffError: the volume cannot be segmented.
        """
        decoded = decoded_from_memory(
            mapped_array(request.voxels),
            matrix_of(request.ijk_to_ras),
            name=request.name or "the volume",
            path=None if request.path is None else as_path(request.path),
            dicom_modality=request.dicom_modality,
        )
        known = _Known(volume_from(decoded, Modality.named(request.modality)))
        image = known.images[ACQUISITION] = self.segmenter().prepare(known.volume)
        self._volumes[request.volume] = known
        self._volumes.move_to_end(request.volume)
        self._ahead.forget()
        self._teaching.forget()  # strokes on another image of this name
        while len(self._volumes) > VOLUMES_KEPT:
            self._volumes.popitem(last=False)
        volume, window = image.volume, pair(image.window)
        return VolumeOpened(request.volume, volume.modality.value, volume.is_planar, window, tuple(volume.source.notes))

    def close_volume(self, request: CloseVolume) -> Done:
        """Close a volume, so that its file can be removed; an unknown volume is not an error."""
        self._volumes.pop(request.volume, None)
        self._ahead.forget()
        self._teaching.forget()
        return Done()

    def image(self, volume: str, plane: str = ACQUISITION) -> PreparedImage:
        """An open volume, prepared for the model.

        Raises:
            UsageError: it is not open.
        """
        known = self._volumes.get(volume)
        if known is None:
            raise UsageError(f"there is no volume '{volume}': open it first")
        self._volumes.move_to_end(volume)
        if plane not in known.images:
            known.images[plane] = self.segmenter().prepare(known.volume, plane=plane)
        return known.images[plane]

    # --- segmentation ------------------------------------------------------------------------------------------------

    def segment(self, request: Segment, progress: Progress, go_on: Callable[[], bool]) -> Segmented:
        """Segment findings on some slices, and write the arrays as files to the given folder.

        Raises:
            UsageError: the request is not valid.
            Cancelled: `progress` or `go_on` returned False; no file is left.
        """
        check_options(threshold=request.threshold)
        image, findings, folder = self._asked(request)
        with self.segmenter().runtime.interruptible(go_on):
            results, notes = self._decoded(image, findings, request, progress)
        self._ahead.shown(image, findings)
        notes = [*self._teaching.notes(request.library), *notes]
        axis = image.display.axes[0]
        return write_answer(results, folder, self.segmenter().info, notes, axis=axis)

    def correct(self, request: Correct) -> Segmented:
        """Correct a finding on one slice by strokes, and write the arrays as files to the given folder.

        Raises:
            UsageError: the request is not valid, or a stroke cannot be.
        """
        results = self._teaching.correct(request)
        tags = {}
        if request.strokes:
            tags = {CORRECTED_TAG: f"{request.slice}:{request.slice + 1}", ALGORITHM_TAG: SEMIAUTOMATIC}
        folder, notes = _folder(request.output), self._teaching.notes(request.library)
        return write_answer(results, folder, self.segmenter().info, notes, tags)

    def weigh_words(self, request: WeighWords) -> WordsWeighed:
        """Try a finding without each of its words.

        Raises:
            UsageError: the request is not valid.
        """
        segmenter, image = self.segmenter(), self.image(request.volume)
        self._teaching.use(segmenter, [request.finding], request, image.volume.modality)
        return words_weighed(request, segmenter, image)

    def _asked(self, request: Segment) -> tuple[PreparedImage, list[str], Path]:
        """The prepared image, the findings and the output folder."""
        segmenter, described = self.segmenter(), self.image(request.volume, request.plane)
        require_findings(request.findings)
        findings = list(distinct(request.findings).values())
        segmenter.check_findings(findings)
        folder = _folder(request.output)
        image = described.with_request(slices=request.slices, samples=request.samples, seed=request.seed)
        return image, findings, folder

    def _decoded(
        self, image: PreparedImage, findings: Sequence[str], request: Segment, progress: Progress
    ) -> tuple[SliceResults, list[str]]:
        """The results, and notes. If the GPU's memory is too small, switch to the CPU for good."""
        segmenter = self.segmenter()
        self._teaching.use(segmenter, findings, request, image.volume.modality)
        asked = _options(request)
        try:
            return segmenter.decode_slices(image, findings, progress=progress, **asked), []
        except DeviceMemoryError:
            if segmenter.device == "cpu":
                raise
        # outside the handler, because the error keeps the GPU's tensors alive
        self._segmenter, self._torch = Segmenter(self._folder, "cpu"), None
        segmenter.runtime.release()
        self._teaching.use(self._segmenter, findings, request, image.volume.modality)
        results = self._segmenter.decode_slices(image, findings, progress=progress, **asked)
        return results, [TOO_SMALL_GPU]

    def look_ahead(self, go_on: Callable[[], bool]) -> bool:
        """Encode a neighbour of the last segmented slice in advance, for a user who scrolls.

        Args:
            go_on: polled; as soon as it returns False, the work is dropped.

        Returns:
            Whether another slice may be left to encode.
        """
        image = self._ahead.next()
        if image is None or self._segmenter is None:
            return False
        with suppress(Cancelled, DeviceMemoryError), self._segmenter.runtime.interruptible(go_on):
            self._segmenter.encode(image, self._ahead.findings)
        return True


class _NextSlices:
    """Predicts the slices that a scrolling user sees next."""

    def __init__(self) -> None:
        self._last: PreparedImage | None = None
        self.findings: list[str] = []
        self._next: list[PreparedImage] = []

    def forget(self) -> None:
        """Release the volume."""
        self._last, self.findings, self._next = None, [], []

    def shown(self, image: PreparedImage, findings: list[str]) -> None:
        """Record what was segmented; after a single slice, the next is one of its two neighbours."""
        last, self._last, self.findings = self._last, image, findings
        self._next = []
        if len(image.slices) != 1:
            return
        here = image.slices.start
        step = -1 if last is not None and last.volume is image.volume and last.slices.start > here else 1
        for index in (here - step, here + step):  # the last one is taken first
            if 0 <= index < image.display.n_slices:
                one = (index, index + 1)
                self._next.append(image.with_request(slices=one, samples=image.samples, seed=image.seed))

    def next(self) -> PreparedImage | None:
        """The request to encode next, once."""
        return self._next.pop() if self._next else None


def _options(request: Segment) -> dict[str, Any]:
    """The options of a request that the decoding takes."""
    return {name: getattr(request, name) for name in ("threshold", "slice_by_slice", "try_anyway")}


def _folder(path: Path) -> Path:
    folder = as_path(path)
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder} for the result")
    return folder


# --- devices ---------------------------------------------------------------------------------------------------------


def _on_device(folder: Path, request: Open) -> tuple[Segmenter, list[str]]:
    """A warm segmenter, and notes. If a GPU chosen by "auto" does not work, use the CPU."""
    try:
        return _warm(Segmenter(folder, request.device, runtime=request.runtime)), []
    except DeviceMemoryError:
        if request.device == "cpu":
            raise
        note = TOO_SMALL_GPU
    except RuntimeError as error:  # e.g. a GPU that this build of torch does not support
        if request.device != "auto":
            raise
        note = f"the GPU does not work with this torch ({one_line(error)}): computed on the CPU"
    return _warm(Segmenter(folder, "cpu")), [note]


def _warm(segmenter: Segmenter) -> Segmenter:
    """Segment a little noise, so that one-time set-up of libraries does not slow down the first real request."""
    voxels = np.random.default_rng(0).integers(-1000, 1000, (2, 64, 64)).astype(np.int16)
    segmenter.segment(Volume(voxels, np.eye(4), Modality.CT), ["lung"], try_anyway=True)
    segmenter.cache.clear()
    return segmenter
