"""What a worker does with a model in memory: load it, take in volumes, segment slices into files.

Knows the protocol's fields; knows nothing about threads and streams.
"""

from __future__ import annotations

import platform
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from fasttextdiff.environment import cpu_name
from fasttextdiff.errors import Cancelled, DeviceMemoryError, UsageError, one_line
from fasttextdiff.findings import distinct
from fasttextdiff.image.slices import PreparedImage
from fasttextdiff.image.volume import Modality, Volume
from fasttextdiff.io.read import decoded_from_memory, volume_from
from fasttextdiff.model.denoiser import interruptible
from fasttextdiff.model.devices import choose_device, choose_dtype
from fasttextdiff.model.info import read_info
from fasttextdiff.model.pipeline import FastTextDiffPipeline, quiet_libraries
from fasttextdiff.option_rules import check_options
from fasttextdiff.paths import as_path
from fasttextdiff.result import FindingResult, Provenance
from fasttextdiff.segmenter import Progress, Segmenter, SliceResults
from fasttextdiff.segments.tags import segment_tags
from fasttextdiff.version import __version__
from fasttextdiff.worker.dicom import save_dicom_seg, series_files
from fasttextdiff.worker.fields import (
    findings_of,
    mapped_array,
    matrix_of,
    modality_of,
    model_folder_of,
    numbers,
    optional,
    required,
)
from fasttextdiff.worker.questions import model_fields, segment_fields

VOLUMES_KEPT = 4
"""Volumes known at a time; the one that was not asked about for the longest time is forgotten."""
TOO_SMALL_GPU = "GPU memory was too small: computed on the CPU"

Request = Mapping[str, Any]
Answer = dict[str, Any]


@dataclass
class _Known:
    """A volume that was handed over, and its description for the model in use; None until that is asked for."""

    volume: Volume
    image: PreparedImage | None = None


class Jobs:
    """The state of a worker: one model on one device, and the last few volumes."""

    def __init__(self) -> None:
        self._segmenter: Segmenter | None = None
        self._volumes: OrderedDict[str, _Known] = OrderedDict()
        self._ahead = _Ahead()
        quiet_libraries()

    def do(self, request: Request, progress: Progress) -> Answer:
        """Carry out one request.

        Args:
            request: with one of the operations below.
            progress: asked after every slice of a segmentation, and before a file is put in its place.
        """
        if request["op"] == "segment":
            return self.segment(request, progress)
        if request["op"] == "saveDicomSeg":
            return save_dicom_seg(request, progress)
        return {
            "open": self.open,
            "volume": self.volume,
            "closeVolume": self.close_volume,
            "seriesFiles": series_files,
        }[request["op"]](request)

    # --- the model ---------------------------------------------------------------------------------------------------

    def open(self, request: Request) -> Answer:
        """Load a model, move it to a device and warm it up.

        Raises:
            UsageError: no such device or dtype.
            ModelError: the folder is not there or cannot be used.
        """
        started = time.perf_counter()
        device, dtype = optional(request, "device", str) or "auto", optional(request, "dtype", str) or "auto"
        choose_dtype(dtype, choose_device(device))  # before a model is loaded for nothing
        folder = model_folder_of(request)
        read_info(folder)  # a folder that is obviously broken does not cost the user the model that is in use
        self._forget_model()
        pipeline = FastTextDiffPipeline.from_pretrained(folder)
        self._segmenter, notes = _on_device(pipeline, device, dtype)
        return {
            "device": str(self._segmenter.device),
            "deviceName": _device_name(self._segmenter.device),
            "dtype": self._segmenter.dtype_name,
            "model": {**model_fields(folder, pipeline.info), "weightsSha256": pipeline.info.weights_sha256},
            "versions": _versions(),
            "seconds": round(time.perf_counter() - started, 3),
            "notes": notes,
        }

    def _forget_model(self) -> None:
        """Make room before another model comes; descriptions of volumes are of use with their own model only."""
        self._segmenter = None
        self._ahead.forget()
        for known in self._volumes.values():
            known.image = None

    def _opened(self) -> Segmenter:
        if self._segmenter is None:
            raise UsageError("no model is loaded: ask for 'open' first")
        return self._segmenter

    # --- volumes -----------------------------------------------------------------------------------------------------

    def volume(self, request: Request) -> Answer:
        """Take in a volume; its file is mapped, never written to, and let go by "closeVolume".

        Raises:
            FastTextDiffError: there is nothing in it that could be segmented.
        """
        name = required(request, "volume", str)
        path = optional(request, "path", str)
        decoded = decoded_from_memory(
            mapped_array(request),
            matrix_of(request),
            name=optional(request, "name", str) or "the volume",
            path=None if path is None else as_path(path),
            dicom_modality=optional(request, "dicomModality", str),
        )
        asked = modality_of(request)
        known = _Known(volume_from(decoded, asked))
        known.image = self._opened().prepare(known.volume)
        self._volumes[name] = known
        self._volumes.move_to_end(name)
        self._ahead.forget()
        while len(self._volumes) > VOLUMES_KEPT:
            self._volumes.popitem(last=False)
        return _volume_fields(known.image, is_guessed=asked is None and decoded.modality is None)

    def close_volume(self, request: Request) -> Answer:
        """Forget a volume, so that its file can be removed; one that is not known needs no forgetting."""
        self._volumes.pop(required(request, "volume", str), None)
        self._ahead.forget()
        return {}

    def _described(self, name: str) -> PreparedImage:
        known = self._volumes.get(name)
        if known is None:
            raise UsageError(f"there is no volume '{name}': hand it over first")
        self._volumes.move_to_end(name)
        if known.image is None:
            known.image = self._opened().prepare(known.volume)
        return known.image

    # --- segmentation ------------------------------------------------------------------------------------------------

    def segment(self, request: Request, progress: Progress) -> Answer:
        """Segment findings on some slices, and write the arrays as files into the folder given.

        Raises:
            UsageError: the request cannot be served.
            Cancelled: `progress` returned False; no file stays.
        """
        started = time.perf_counter()
        threshold = optional(request, "threshold", float)
        check_options(threshold=threshold)
        image, findings, folder = self._asked(request)
        results, notes = self._decoded(image, findings, threshold, progress)
        self._ahead.shown(image)
        files = _Files(folder)
        try:
            found = self._finding_fields(results.findings, results.provenance, files)
        except BaseException:
            files.remove()
            raise
        return {
            "slices": list(results.provenance.slices),
            "window": _pair(image.window),
            "seconds": round(time.perf_counter() - started, 3),
            "findings": found,
            "notes": notes,
        }

    def _asked(self, request: Request) -> tuple[PreparedImage, list[str], Path]:
        """What is to be segmented, what to look for, and where the answer goes."""
        segmenter, described = self._opened(), self._described(required(request, "volume", str))
        findings = list(distinct(findings_of(request)).values())
        segmenter.check_findings(findings)
        slices = numbers(request, "slices", int)
        if slices is not None and len(slices) != 2:
            raise UsageError(f"'slices' are the first and the one after the last, got {slices}")
        folder = as_path(required(request, "output", str))
        if not folder.is_dir():
            raise UsageError(f"there is no folder {folder} for the result")
        samples, seed = optional(request, "samples", int), optional(request, "seed", int)
        image = described.with_request(
            slices=None if slices is None else (slices[0], slices[1]),
            samples=1 if samples is None else samples,
            seed=0 if seed is None else seed,
        )
        return image, findings, folder

    def _decoded(
        self, image: PreparedImage, findings: Sequence[str], threshold: float | None, progress: Progress
    ) -> tuple[SliceResults, list[str]]:
        """The results, and notes; where the GPU's memory is too small, from the CPU, which stays in use then."""
        segmenter = self._opened()
        try:
            return segmenter.decode_slices(image, findings, threshold=threshold, progress=progress), []
        except DeviceMemoryError:
            if segmenter.device.type == "cpu":
                raise
        # outside of the handler: the error holds on to the GPU's tensors
        self._segmenter = Segmenter(segmenter.pipeline, "cpu")
        torch.cuda.empty_cache()
        results = self._segmenter.decode_slices(image, findings, threshold=threshold, progress=progress)
        return results, [TOO_SMALL_GPU]

    def look_ahead(self, go_on: Callable[[], bool]) -> bool:
        """Encode one slice beside the one that was segmented last, for a user who scrolls.

        Args:
            go_on: asked again and again; once it returns False, the work is dropped at once.

        Returns:
            whether there is more of it.
        """
        image = self._ahead.next()
        if image is None or self._segmenter is None:
            return False
        with suppress(Cancelled, DeviceMemoryError), interruptible(self._segmenter.pipeline.denoiser, go_on):
            self._segmenter.encode(image)
        return True

    def _finding_fields(self, findings: Sequence[FindingResult], provenance: Provenance, files: _Files) -> list[Answer]:
        gate = self._opened().pipeline.info.presence_threshold
        described = segment_fields([found.finding for found in findings])
        answers = []
        for n, (found, fields) in enumerate(zip(findings, described, strict=True)):
            tags = segment_tags(found, provenance)
            del tags["TerminologyEntry"]  # the user may choose another; it has a field of its own
            spread = found.disagreement
            answers.append(
                {
                    **fields,
                    "probability": files.write(f"{n}-probability.raw", found.probability),
                    "mask": files.write(f"{n}-mask.raw", found.mask.view(np.uint8)),
                    "disagreement": None if spread is None else files.write(f"{n}-disagreement.raw", spread),
                    "presence": [None if np.isnan(there) else float(there) for there in found.presence],
                    "presenceThreshold": gate,
                    "threshold": provenance.threshold,
                    "warnings": list(found.warnings),
                    "tags": tags,
                }
            )
        return answers


class _Ahead:
    """Which slices a user who looks at one slice after the other may want to see next."""

    def __init__(self) -> None:
        self._last: PreparedImage | None = None
        self._next: list[PreparedImage] = []

    def forget(self) -> None:
        """Hold on to no volume."""
        self._last, self._next = None, []

    def shown(self, image: PreparedImage) -> None:
        """Take note of what was segmented: from a single slice the user may go on, or back."""
        last, self._last = self._last, image
        self._next = []
        if len(image.slices) != 1:
            return
        here = image.slices.start
        step = -1 if last is not None and last.volume is image.volume and last.slices.start > here else 1
        for index in (here - step, here + step):  # the last one comes first
            if 0 <= index < image.display.n_slices:
                one = (index, index + 1)
                self._next.append(image.with_request(slices=one, samples=image.samples, seed=image.seed))

    def next(self) -> PreparedImage | None:
        """The request to encode next, once."""
        return self._next.pop() if self._next else None


class _Files:
    """The raw arrays of one answer: all of them or none.

    Args:
        folder: where they go.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written: list[Path] = []

    def write(self, name: str, array: NDArray[Any]) -> Answer:
        """Write an array in C order; returns how to map it."""
        path = self._folder / name
        self._written.append(path)
        array.tofile(path)
        return {"file": str(path), "dtype": array.dtype.name, "shape": list(array.shape)}

    def remove(self) -> None:
        """Take back what was written."""
        for path in self._written:
            path.unlink(missing_ok=True)


# --- devices ---------------------------------------------------------------------------------------------------------


def _on_device(pipeline: FastTextDiffPipeline, device: str, dtype: str) -> tuple[Segmenter, list[str]]:
    """A warm segmenter, and what the user should know; a GPU that was not asked for by name may fail."""
    try:
        return _warm(Segmenter(pipeline, device, dtype)), []
    except (torch.OutOfMemoryError, DeviceMemoryError):
        if choose_device(device).type == "cpu":
            raise
        note = TOO_SMALL_GPU
    except RuntimeError as error:  # e.g. a GPU that this build of torch has no code for
        if device != "auto" or choose_device(device).type == "cpu":
            raise
        note = f"the GPU does not work with this torch ({one_line(error)}): computed on the CPU"
    torch.cuda.empty_cache()
    return _warm(Segmenter(pipeline, "cpu")), [note]


def _warm(segmenter: Segmenter) -> Segmenter:
    """Segment a little noise, so that the first real request does not pay for what libraries set up on first use."""
    voxels = np.random.default_rng(0).integers(-1000, 1000, (2, 64, 64)).astype(np.int16)
    segmenter.segment(Volume(voxels, np.eye(4), Modality.CT), ["lung"])
    segmenter.cache.clear()
    return segmenter


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()


def _versions() -> dict[str, str]:
    return {
        "fasttextdiff": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "transformers": transformers.__version__,
        "numpy": np.__version__,
    }


# --- volumes ---------------------------------------------------------------------------------------------------------


def _volume_fields(image: PreparedImage, is_guessed: bool) -> Answer:
    volume = image.volume
    return {
        "modality": volume.modality.value,
        "modalityGuessed": is_guessed,
        "planar": volume.is_planar,
        "color": volume.is_color,
        "window": _pair(image.window),
        "notes": list(volume.source.notes),
        "anatomical": image.display.anatomical,
    }


def _pair(window: tuple[float, float] | None) -> list[float] | None:
    return None if window is None else [float(value) for value in window]
