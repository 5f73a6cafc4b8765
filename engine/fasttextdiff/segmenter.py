"""Segments volumes and pictures from typed findings, slice by slice, in two phases: encode the image, decode findings.

Knows volumes, planes, batches and the cache; knows nothing about files, the command line or Slicer.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fasttextdiff.errors import Cancelled, DeviceMemoryError, FastTextDiffError, UsageError
from fasttextdiff.findings import distinct, understood_note
from fasttextdiff.image.orientation import DisplayPlane, display_plane
from fasttextdiff.image.preprocessing import (
    Fit,
    ImageSettings,
    Tile,
    Window,
    apply_window,
    body_tile,
    choose_window,
    tile_weight,
    tiles,
    to_model_range,
)
from fasttextdiff.image.volume import Volume
from fasttextdiff.model.denoiser import seeded_noise
from fasttextdiff.model.feature_cache import FeatureCache, rounded
from fasttextdiff.model.fusion import foreground_logit
from fasttextdiff.model.info import require_words
from fasttextdiff.model.pipeline import FastTextDiffPipeline
from fasttextdiff.model.text_encoder import TextStates
from fasttextdiff.option_rules import check_options
from fasttextdiff.result import FindingResult, Provenance, SegmentationResult
from fasttextdiff.version import __version__

Progress = Callable[[int, int], bool]
"""`progress(done, total)` in slices; False cancels."""

SMALLEST_SIDE = 8
"""Pixels; a smaller slice cannot show anything."""
DEFAULT_CACHE_BYTES = 1 << 30
BATCH_IMAGES = {"cpu": 4, "cuda": 16, "mps": 8}
"""Images (slices or tiles) that go through the denoiser at once, by device type."""
BATCH_PAIRS = {"cpu": 1, "cuda": 64, "mps": 8}
"""Pairs of an image and a finding that go through the fusion head at once; a CPU's caches hold one map, not many."""


@dataclass(frozen=True)
class EncodedImage:
    """Phase one's result: which slices of a volume are to be segmented, and how they reach the model.

    The maps themselves lie in the segmenter's cache; a slice that the cache could not keep is encoded again when
    needed.

    Attributes:
        volume: the image.
        display: how its slices are shown to the model.
        slices: slice numbers along the display's slice axis, from 0.
        window: (level, width); None for colour.
        tiles: windows of a slice that go through the model one by one; a single one for whole slices.
        fit: how a tile is fitted into the model's input; the same for all.
        samples: noise samples.
        seed: seed of the first sample's noise; sample n uses seed + n.
    """

    volume: Volume
    display: DisplayPlane
    slices: range
    window: Window | None
    tiles: tuple[Tile, ...]
    fit: Fit
    samples: int = 1
    seed: int = 0

    def views(self, index: int) -> list[View]:
        """The tiles of one slice."""
        pixels = self.display.to_display(self.volume.array)[index]
        return [View(pixels[t.slices], self.window) for t in self.tiles]

    def with_request(self, *, slices: tuple[int, int] | None, samples: int, seed: int) -> EncodedImage:
        """Another request on the same volume, without looking at its voxels again.

        Args:
            slices: (first, last + 1) along the display's slice axis, from 0; all if None.
            samples: noise samples.
            seed: of the noise.

        Raises:
            UsageError: there are no such slices, not one sample, or see :func:`check_options`.
        """
        check_options(slices=slices, samples=samples, seed=seed)
        return replace(self, slices=_slice_range(slices, self.display), samples=int(samples), seed=int(seed))


@dataclass(frozen=True)
class View:
    """What the model is shown at once: a slice or a tile of it.

    Attributes:
        voxels: (h, w) or (h, w, 3), as they lie in the volume.
        window: (level, width); None for colour.
    """

    voxels: NDArray[np.generic]
    window: Window | None

    def pixels(self) -> NDArray[np.float32]:
        """Windowed to [0, 1]."""
        return apply_window(self.voxels, self.window)

    def key(self) -> tuple[Any, ...]:
        """Equal for equal pixels; by content, so that a volume changed in place is not mistaken for what it was."""
        return hashlib.blake2b(self.voxels.tobytes(), digest_size=16).digest(), self.voxels.dtype.str, self.window


@dataclass(frozen=True)
class SliceResults:
    """What was found on the requested slices of a volume, and on no others.

    Attributes:
        findings: as in a :class:`SegmentationResult`, but with arrays whose slice axis holds the requested slices
            alone; for the acquisition plane (last - first, j, i). `presence` has one entry for each of them.
        provenance: how they were made; `provenance.slices` says which slices these are.
    """

    findings: tuple[FindingResult, ...]
    provenance: Provenance


class Segmenter:
    """Applies a model to volumes.

    Args:
        pipeline: the model.
        device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", "mps".
        dtype: "auto" (bfloat16 on GPUs that have it, float16 on others, float32 on the CPU), or a name.
        cache_bytes: budget of the feature cache.

    Raises:
        UsageError: the device is not there, or the dtype is unknown.
    """

    def __init__(
        self,
        pipeline: FastTextDiffPipeline,
        device: str = "auto",
        dtype: str = "auto",
        cache_bytes: int = DEFAULT_CACHE_BYTES,
    ) -> None:
        self.device = choose_device(device)
        self.dtype = choose_dtype(dtype, self.device)
        self.pipeline = self._in_fast_layout(pipeline.to(self.device).eval())
        self.cache = FeatureCache(cache_bytes)
        self._batch = BATCH_IMAGES[self.device.type]
        self._pairs = BATCH_PAIRS[self.device.type]

    @staticmethod
    def _in_fast_layout(pipeline: FastTextDiffPipeline) -> FastTextDiffPipeline:
        """Channels last in memory, for the networks that convolve."""
        for part in (pipeline.denoiser, pipeline.fusion):
            part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return pipeline

    @property
    def dtype_name(self) -> str:
        """The computing dtype as users name it, e.g. "float32"."""
        return str(self.dtype).removeprefix("torch.")

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
        progress: Progress | None = None,
    ) -> SegmentationResult:
        """Segment typed findings.

        Args:
            volume: the image; never changed.
            findings: what to look for, see :func:`fasttextdiff.findings.understood`; those that are understood as the
                same are answered once.
            slices: (first, last + 1) along the plane's slice axis, from 0; all if None.
            plane: "acquisition", "axial", "coronal" or "sagittal".
            samples: noise samples to average; more than one also gives their disagreement.
            seed: of the noise; equal seeds give equal bits.
            threshold: probability above which a voxel belongs to the mask; the model's own if None.
            window: (level, width) instead of the one the model was trained with.
            progress: asked after every slice.

        Raises:
            UsageError: an option or finding cannot be served.
            FastTextDiffError: the image cannot be segmented.
            Cancelled: `progress` returned False.
        """
        check_options(threshold=threshold)
        self.check_findings(findings)
        image = self.describe(volume, slices=slices, plane=plane, samples=samples, seed=seed, window=window)
        return self.decode(image, findings, threshold=threshold, progress=progress)

    def encode(self, volume: Volume, *, progress: Progress | None = None, **request: Any) -> EncodedImage:
        """Phase one: run the denoiser over the slices and keep its maps in the cache.

        Args:
            volume: the image.
            progress: asked after every slice.
            **request: slices, plane, samples, seed and window as for :meth:`segment`.
        """
        image = self.describe(volume, **request)
        self.encode_slices(image, progress=progress)
        return image

    def encode_slices(self, image: EncodedImage, *, progress: Progress | None = None) -> None:
        """:meth:`encode` of an image that was described before."""
        for group in self._groups(image):
            views = [view for index in group for view in image.views(index)]
            for sample in range(image.samples):
                for batch in _batched(views, self._batch):
                    self._maps(image, batch, image.seed + sample)
            _report(progress, image.slices.index(group[-1]) + 1, len(image.slices))

    def describe(
        self,
        volume: Volume,
        *,
        slices: tuple[int, int] | None = None,
        plane: str = "acquisition",
        samples: int = 1,
        seed: int = 0,
        window: Window | None = None,
    ) -> EncodedImage:
        """Check a request against the volume and settle the window; nothing is computed yet."""
        check_options(slices=slices, plane=plane, samples=samples, seed=seed, window=window)
        display = display_plane(volume, plane)
        if window is not None:
            if volume.is_color:
                raise UsageError("a window is for images without colour: leave it out")
            window = float(window[0]), float(window[1])
        _require_content(volume, display)
        settings = self.pipeline.preprocessing.of(volume.modality)
        cut = _tiles(volume, display, settings)
        image = EncodedImage(
            volume=volume,
            display=display,
            slices=range(display.n_slices),
            window=window or choose_window(volume, settings),
            tiles=cut,
            fit=_fit(cut[0], display, settings, self.pipeline.denoiser.multiple),
        )
        return image.with_request(slices=slices, samples=samples, seed=seed)

    def decode(
        self,
        image: EncodedImage,
        findings: Sequence[str],
        *,
        threshold: float | None = None,
        progress: Progress | None = None,
    ) -> SegmentationResult:
        """Phase two: findings to probabilities and masks; maps come from the cache where it has them.

        Args:
            image: from :meth:`encode`.
            findings: as for :meth:`segment`; the empty text asks for the text-free result and is for evaluation only.
            threshold: as for :meth:`segment`.
            progress: asked after every slice.
        """
        found = self.decode_slices(image, findings, threshold=threshold, progress=progress)
        whole = tuple(_on_whole_grid(finding, image) for finding in found.findings)
        return SegmentationResult(image.volume, whole, found.provenance)

    def decode_slices(
        self,
        image: EncodedImage,
        findings: Sequence[str],
        *,
        threshold: float | None = None,
        progress: Progress | None = None,
    ) -> SliceResults:
        """Phase two at the cost of the requested slices only, however large the volume is.

        Args:
            image: as for :meth:`decode`; so are the other arguments.
            findings: see there.
            threshold: see there.
            progress: see there.

        Raises:
            DeviceMemoryError: the device's memory is too small.
        """
        check_options(threshold=threshold)
        typed = distinct(findings)
        names = list(typed)
        for finding in filter(str.strip, typed.values()):
            require_words(finding)
        if not names:
            raise UsageError("no finding was given: type what to look for, for example 'left lung'")
        limit = self.pipeline.info.threshold if threshold is None else float(threshold)
        maps = _Maps.empty(len(names), image)
        with torch.inference_mode(), self._autocast():
            text = self._encode_text(names)
            for group in self._groups(image):
                answers = [self._segment_group(image, group, text, image.seed + n) for n in range(image.samples)]
                for n, index in enumerate(group):
                    maps.store(image.slices.index(index), [answer[n] for answer in answers])
                _report(progress, image.slices.index(group[-1]) + 1, len(image.slices))
        if image.volume.padding is not None:
            maps.clear(image.volume.padding[_requested(image)])
        return self._results(image, typed, maps, limit)

    def check_findings(self, findings: Sequence[str]) -> None:
        """Refuse findings that the model cannot read, before anything is computed.

        Raises:
            UsageError: see :meth:`TextEncoder.check`.
        """
        for finding in findings:
            self.pipeline.text_encoder.check(finding)

    def _encode_text(self, findings: Sequence[str]) -> TextStates:
        try:
            return self.pipeline.text_encoder.encode(findings)
        except torch.OutOfMemoryError:
            raise self._too_little_memory("the text encoder") from None

    def _too_little_memory(self, what: str) -> DeviceMemoryError:
        return DeviceMemoryError(f"{self.device} has too little memory for {what}: use --device cpu")

    def _groups(self, image: EncodedImage) -> Iterator[range]:
        """Slices that are worked on together: as many as make up one batch."""
        together = max(1, self._batch // len(image.tiles))
        yield from (image.slices[start : start + together] for start in range(0, len(image.slices), together))

    def _segment_group(self, image: EncodedImage, group: range, text: TextStates, seed: int) -> list[_Answer]:
        """One noise sample's answer for each slice of a group."""
        sums = [_Blend.empty(len(text.states), image) for _ in group]
        work = [
            (blend, tile, view)
            for blend, index in zip(sums, group, strict=True)
            for tile, view in zip(image.tiles, image.views(index), strict=True)
        ]
        for batch in _batched(work, self._batch):
            maps = self._maps(image, [view for _, _, view in batch], seed)
            together = [torch.cat([m.float() for m in scale]) for scale in zip(*maps, strict=True)]
            answers = self._answers(together, image.fit, text)
            for (blend, tile, _), logits, presence in zip(batch, *answers, strict=True):
                blend.add(tile, logits, presence)
        return [blend.answer() for blend in sums]

    def _answers(self, maps: Sequence[Tensor], fit: Fit, text: TextStates) -> tuple[Tensor, Tensor]:
        """Log-odds (B, F, h, w) on a view's own grid and presence (B, F), on the CPU.

        As many pairs of a view and a finding at once as the device takes; fewer from then on where it does not.

        Args:
            maps: (B, width, h_k, w_k) of B views, float32, on the CPU.
            fit: of all of them.
            text: F findings.
        """
        views, findings = len(maps[0]), len(text.states)
        if views * findings <= self._pairs:
            try:
                return self._answers_at_once(maps, fit, text)
            except torch.OutOfMemoryError:
                if views * findings == 1:
                    raise self._too_little_memory("one slice") from None
            torch.cuda.empty_cache()
            self._pairs = views * findings // 2
        if views > 1:
            parts = [self._answers([m[n] for m in maps], fit, text) for n in _halves(views)]
            return torch.cat([odds for odds, _ in parts]), torch.cat([presence for _, presence in parts])
        parts = [self._answers(maps, fit, text.part(n.start, n.stop)) for n in _halves(findings)]
        return torch.cat([odds for odds, _ in parts], dim=1), torch.cat([presence for _, presence in parts], dim=1)

    def _answers_at_once(self, maps: Sequence[Tensor], fit: Fit, text: TextStates) -> tuple[Tensor, Tensor]:
        views = len(maps[0])
        words = TextStates(text.states.repeat(views, 1, 1), text.mask.repeat(views, 1))
        output = self.pipeline.answer([m.to(self.device) for m in maps], words, fit.padded)
        logits = fit.inverse(foreground_logit(output.logits.float())[:, None])[:, 0].cpu().unflatten(0, (views, -1))
        if output.presence is None:
            return logits, logits.sigmoid().amax((2, 3))
        return logits, output.presence.float().sigmoid().cpu().unflatten(0, (views, -1))

    def _maps(self, image: EncodedImage, views: Sequence[View], seed: int) -> list[list[Tensor]]:
        """Maps (1, width, h, w) of each view, from the cache or computed in one batch; rounded either way."""
        keys = [(view.key(), image.fit, seed, self.pipeline.info.weights_sha256) for view in views]
        found = {n: entry for n, key in enumerate(keys) if (entry := self.cache.get(key)) is not None}
        missing = [n for n in range(len(views)) if n not in found]
        if missing:
            computed = self._halving(
                lambda part: self._encode_views(part, image.fit, seed), [views[n] for n in missing]
            )
            for n, maps in zip(missing, computed, strict=True):
                found[n] = maps
                self.cache.put(keys[n], maps)
        return [found[n] for n in range(len(views))]

    def _encode_views(self, views: Sequence[View], fit: Fit, seed: int) -> list[list[Tensor]]:
        pixels = np.stack([view.pixels() for view in views])
        images = fit.forward(to_model_range(pixels, self.pipeline.preprocessing.channel_order))
        noise = seeded_noise((1, *images.shape[1:]), seed, self.device)
        with torch.inference_mode(), self._autocast():
            maps = self.pipeline.maps(images.to(self.device), noise)
            # rounded one by one: a part of a batch would keep all of it in memory
            return [self._kept([m[n : n + 1] for m in maps]) for n in range(len(views))]

    @staticmethod
    def _kept(maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps as the cache holds them, whether it does or not."""
        return rounded(maps)

    def _halving(self, work: Callable[[Any], list[Any]], items: Sequence[Any]) -> list[Any]:
        """Do work on a batch; one that does not fit the GPU's memory is halved, and later batches stay small."""
        try:
            return work(items)
        except torch.OutOfMemoryError:
            if len(items) == 1:
                raise self._too_little_memory("one slice") from None
        torch.cuda.empty_cache()
        self._batch = max(1, len(items) // 2)
        return [answer for half in _batched(items, self._batch) for answer in self._halving(work, half)]

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def _results(self, image: EncodedImage, typed: Mapping[str, str], maps: _Maps, threshold: float) -> SliceResults:
        info = self.pipeline.info
        along_slices = [-1 if axis == image.display.axes[0] else 1 for axis in range(3)]
        findings = []
        for n, (name, text) in enumerate(typed.items()):
            there = np.nan_to_num(maps.presence[n], nan=0.0) >= info.presence_threshold
            warnings = understood_note(text), info.warning(name, image.volume.modality)
            findings.append(
                FindingResult(
                    finding=name,
                    probability=maps.probability[n],
                    mask=(maps.probability[n] > threshold) & there.reshape(along_slices),
                    disagreement=None if maps.disagreement is None else maps.disagreement[n],
                    presence=maps.presence[n],
                    warnings=tuple(filter(None, warnings)),
                    typed=text if warnings[0] else "",
                )
            )
        return SliceResults(tuple(findings), self._provenance(image, threshold))

    def _provenance(self, image: EncodedImage, threshold: float) -> Provenance:
        info = self.pipeline.info
        return Provenance(
            model=info.name,
            weights_sha256=info.weights_sha256,
            software=f"fasttextdiff {__version__}",
            seed=image.seed,
            samples=image.samples,
            timesteps=self.pipeline.denoiser.plan.timesteps,
            plane=image.display.plane,
            slices=(image.slices.start, image.slices.stop),
            window=image.window,
            threshold=threshold,
            device=str(self.device),
            dtype=self.dtype_name,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )


@dataclass
class _Maps:
    """Results on the requested slices of the volume's own grid, filled slice by slice in display order."""

    display: DisplayPlane  # of these slices alone
    probability: NDArray[np.float32]  # (F, *display.shape)
    disagreement: NDArray[np.float32] | None
    presence: NDArray[np.float32]  # (F, slices)

    @classmethod
    def empty(cls, findings: int, image: EncodedImage) -> _Maps:
        display = image.display.of_slices(len(image.slices))
        shape = (findings, *display.shape)
        return cls(
            display,
            np.zeros(shape, np.float32),
            np.zeros(shape, np.float32) if image.samples > 1 else None,
            np.zeros((findings, len(image.slices)), np.float32),
        )

    def store(self, position: int, answers: Sequence[_Answer]) -> None:
        """Keep one slice's mean and spread over the noise samples."""
        probability = torch.stack([a.probability for a in answers])
        self._show(self.probability, position, probability.mean(0))
        self.presence[:, position] = torch.stack([a.presence for a in answers]).mean(0).numpy()
        if self.disagreement is not None:
            self._show(self.disagreement, position, probability.std(0, correction=0))

    def clear(self, padding: NDArray[np.bool_]) -> None:
        """Nothing is found where nothing of the patient is."""
        self.probability[:, padding] = 0
        if self.disagreement is not None:
            self.disagreement[:, padding] = 0

    def _show(self, grids: NDArray[np.float32], position: int, slices: Tensor) -> None:
        """Write a displayed slice of each finding, (F, rows, columns), to where it lies in the volume."""
        for grid, pixels in zip(grids, slices, strict=True):
            self.display.to_display(grid)[position] = pixels.numpy()


def _requested(image: EncodedImage) -> tuple[slice, ...]:
    """The requested slices, as an index of the volume's grid."""
    axis, slices = image.display.axes[0], image.slices
    return tuple(slice(slices.start, slices.stop) if n == axis else slice(None) for n in range(3))


def _on_whole_grid(found: FindingResult, image: EncodedImage) -> FindingResult:
    """A finding of some slices on the grid of the whole volume: nothing is found on the others."""
    slices = image.slices
    if len(slices) == image.display.n_slices:
        return found
    part = _requested(image)

    def embedded(array: NDArray[Any]) -> NDArray[Any]:
        whole = np.zeros(image.display.shape, array.dtype)
        whole[part] = array
        return whole

    presence = np.full(image.display.n_slices, np.nan, np.float32)
    presence[slices.start : slices.stop] = found.presence
    return replace(
        found,
        probability=embedded(found.probability),
        mask=embedded(found.mask),
        disagreement=None if found.disagreement is None else embedded(found.disagreement),
        presence=presence,
    )


@dataclass(frozen=True)
class _Answer:
    """One slice with one noise."""

    probability: Tensor  # (F, rows, columns)
    presence: Tensor  # (F,)


@dataclass
class _Blend:
    """Log-odds of overlapping tiles, averaged with weights that fall towards a tile's border."""

    odds: Tensor  # (F, rows, columns), weighted sum
    weights: Tensor  # (rows, columns)
    presence: Tensor  # (F,), the highest of all tiles

    @classmethod
    def empty(cls, findings: int, image: EncodedImage) -> _Blend:
        rows, columns = image.display.display_shape[1:]
        return cls(torch.zeros(findings, rows, columns), torch.zeros(rows, columns), torch.zeros(findings))

    def add(self, tile: Tile, logits: Tensor, presence: Tensor) -> None:
        """Add a tile's log-odds (F, h, w) and presence (F,)."""
        rows, columns = tile.slices
        weight = tile_weight(tile.height, tile.width)
        self.odds[:, rows, columns] += logits * weight
        self.weights[rows, columns] += weight
        self.presence = torch.maximum(self.presence, presence)

    def answer(self) -> _Answer:
        """Probabilities; 0 where no tile lies."""
        seen = self.weights > 0
        return _Answer((self.odds / self.weights.where(seen, 1)).sigmoid() * seen, self.presence)


def choose_device(name: str) -> torch.device:
    """The device for a name.

    Raises:
        UsageError: it is not a device, or not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"'{name}' is not a device: use auto, cpu, cuda, cuda:1 or mps") from None
    there: dict[str, Callable[[], bool]] = {
        "cuda": torch.cuda.is_available,
        "mps": torch.backends.mps.is_available,
        "cpu": lambda: True,
    }
    if device.type not in there or not there[device.type]():
        raise UsageError(f"this computer has no usable '{name}' device: use --device cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"there is no {name}: this computer has {torch.cuda.device_count()} CUDA devices")
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The computing dtype for a name.

    Raises:
        UsageError: no such dtype, or not on this device.
    """
    if name == "auto":
        if device.type == "cuda":
            return torch.bfloat16 if _has_bfloat16(device) else torch.float16
        return torch.float32
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name not in known:
        raise UsageError(f"'{name}' is not a dtype: use auto, {', '.join(known)}")
    if name == "bfloat16" and not _has_bfloat16(device):
        raise UsageError(f"{device} cannot compute in bfloat16: use --dtype auto, float16 or float32")
    return known[name]


def _has_bfloat16(device: torch.device) -> bool:
    """Whether a device computes in bfloat16 itself; torch would imitate it on older GPUs, slower than float32."""
    if device.type == "cuda":
        return torch.version.hip is not None or torch.cuda.get_device_capability(device)[0] >= 8
    return device.type != "mps" or torch.backends.mps.is_macos_or_newer(14, 0)


def _tiles(volume: Volume, display: DisplayPlane, settings: ImageSettings) -> tuple[Tile, ...]:
    rows, columns = display.display_shape[1:]
    if settings.crop_to_body and not volume.is_planar and not volume.is_color:
        return (body_tile(volume, display),)
    longest = max(rows, columns)
    side = math.ceil(settings.size / _magnification(longest, settings)) if settings.tiled else longest
    return tuple(tiles((rows, columns), side))


def _magnification(longest: int, settings: ImageSettings) -> float:
    """How much a tiled image whose longer side has `longest` pixels is enlarged."""
    return max(1.0, settings.enlarge_to / longest)


def _fit(tile: Tile, display: DisplayPlane, settings: ImageSettings, multiple: int) -> Fit:
    """Tiles keep their pixels or are enlarged; whole slices are resized to the model's size, in square millimetres."""
    shape = tile.height, tile.width
    if settings.tiled:
        size = round(max(shape) * _magnification(max(display.display_shape[1:]), settings))
        return Fit.of(shape, (1.0, 1.0), size, multiple)
    return Fit.of(shape, display.pixel_spacing, settings.size, multiple)


def _slice_range(slices: tuple[int, int] | None, display: DisplayPlane) -> range:
    if slices is None:
        return range(display.n_slices)
    first, end = slices
    if not 0 <= first < end <= display.n_slices:
        raise UsageError(
            f"slices {first}:{end} are not in this volume: it has {display.n_slices} in the {display.plane} plane "
            f"(0:{display.n_slices})"
        )
    return range(first, end)


def _require_content(volume: Volume, display: DisplayPlane) -> None:
    """Refuse images in which nothing can be seen."""
    rows, columns = display.display_shape[1:]
    if min(rows, columns) < SMALLEST_SIDE:
        raise FastTextDiffError(
            f"{volume.source.path or 'the image'}: slices of {rows} x {columns} pixels are too small to segment"
        )
    if volume.array.min() == volume.array.max():
        raise FastTextDiffError(
            f"{volume.source.path or 'the image'}: all voxels are {volume.array.flat[0]}: there is nothing to segment"
        )


def _report(progress: Progress | None, done: int, total: int) -> None:
    if progress is not None and not progress(done, total):
        raise Cancelled(f"cancelled after {done} of {total} slices; nothing was changed")


def _halves(count: int) -> tuple[slice, slice]:
    return slice(0, count // 2), slice(count // 2, count)


def _batched(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    yield from (items[start : start + size] for start in range(0, len(items), size))
