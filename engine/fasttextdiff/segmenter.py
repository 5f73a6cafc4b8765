"""Segments volumes and pictures from typed findings, slice by slice, in two phases: encode the image, decode findings.

Knows volumes, planes, batches and the cache; knows nothing about files, the command line or Slicer.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fasttextdiff.denoiser import seeded_noise
from fasttextdiff.errors import Cancelled, FastTextDiffError, UsageError
from fasttextdiff.feature_cache import FeatureCache, rounded
from fasttextdiff.fusion import foreground_logit
from fasttextdiff.orientation import DisplayPlane, display_plane
from fasttextdiff.pipeline import FastTextDiffPipeline
from fasttextdiff.preprocessing import (
    Fit,
    ImageSettings,
    Tile,
    Window,
    apply_window,
    body_box,
    choose_window,
    tile_weight,
    tiles,
    to_model_range,
)
from fasttextdiff.result import FindingResult, Provenance, SegmentationResult
from fasttextdiff.text_encoder import TextStates, normalise
from fasttextdiff.version import __version__
from fasttextdiff.volume import Modality, Volume

Progress = Callable[[int, int], bool]
"""`progress(done, total)` in slices; False cancels."""

SMALLEST_SIDE = 8
"""Pixels; a smaller slice cannot show anything."""
DEFAULT_CACHE_BYTES = 1 << 30
BATCH_IMAGES = {"cpu": 4, "cuda": 16, "mps": 8}
"""Images (slices or tiles) that go through the denoiser at once, by device type."""


@dataclass(frozen=True)
class EncodedImage:
    """Phase one's result: which slices of a volume are to be segmented, and how they reach the model.

    The features themselves lie in the segmenter's cache; a slice that the cache could not keep is encoded again when
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
    samples: int
    seed: int

    def views(self, index: int) -> list[NDArray[np.float32]]:
        """The tiles of one slice, (h, w) or (h, w, 3) each, windowed to [0, 1]."""
        pixels = apply_window(self.display.to_display(self.volume.array)[index], self.window)
        return [pixels[t.row : t.row + t.height, t.column : t.column + t.width] for t in self.tiles]


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
        self.pipeline = pipeline.to(self.device).eval()
        self.cache = FeatureCache(cache_bytes)
        self._batch = BATCH_IMAGES.get(self.device.type, 4)

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
            findings: what to look for; repeated ones are answered once.
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
        image = self.describe(volume, slices=slices, plane=plane, samples=samples, seed=seed, window=window)
        return self.decode(image, findings, threshold=threshold, progress=progress)

    def encode(self, volume: Volume, *, progress: Progress | None = None, **request: Any) -> EncodedImage:
        """Phase one: run the denoiser over the slices and keep the features in the cache.

        Args:
            volume: the image.
            progress: asked after every slice.
            **request: slices, plane, samples, seed and window as for :meth:`segment`.
        """
        image = self.describe(volume, **request)
        for group in self._groups(image):
            views = [view for index in group for view in image.views(index)]
            for sample in range(image.samples):
                for batch in _batched(views, self._batch):
                    self._features(image, batch, image.seed + sample)
            _report(progress, image.slices.index(group[-1]) + 1, len(image.slices))
        return image

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
        display = display_plane(volume, plane)
        if samples < 1:
            raise UsageError(f"the number of samples must be at least 1, got {samples}")
        if window is not None and (volume.is_color or window[1] <= 0):
            raise UsageError("a window needs a width above 0 and an image without colour")
        _require_content(volume, display)
        settings = self.pipeline.preprocessing.of(volume.modality)
        cut = _tiles(volume, display, settings)
        return EncodedImage(
            volume=volume,
            display=display,
            slices=_slice_range(slices, display),
            window=window or choose_window(volume, settings),
            tiles=cut,
            fit=_fit(cut[0], display, settings, self.pipeline.denoiser.multiple),
            samples=samples,
            seed=seed,
        )

    def decode(
        self,
        image: EncodedImage,
        findings: Sequence[str],
        *,
        threshold: float | None = None,
        progress: Progress | None = None,
    ) -> SegmentationResult:
        """Phase two: findings to probabilities and masks; features come from the cache where it has them.

        Args:
            image: from :meth:`encode`.
            findings: as for :meth:`segment`; the empty text asks for the text-free result and is for evaluation only.
            threshold: as for :meth:`segment`.
            progress: asked after every slice.
        """
        names = list(dict.fromkeys(findings))
        if not names:
            raise UsageError("no finding was given: type what to look for, for example 'left lung'")
        limit = self.pipeline.info.threshold if threshold is None else threshold
        if not 0 < limit < 1:
            raise UsageError(f"the threshold must lie between 0 and 1, got {limit}")
        with torch.inference_mode(), self._autocast():
            text = self.pipeline.text_encoder.encode(names)
            maps = _Maps.empty(len(names), image)
            for group in self._groups(image):
                answers = [self._segment_group(image, group, text, image.seed + n) for n in range(image.samples)]
                for n, index in enumerate(group):
                    maps.store(index, [answer[n] for answer in answers])
                _report(progress, image.slices.index(group[-1]) + 1, len(image.slices))
        return self._result(image, names, maps, limit)

    def check_findings(self, findings: Sequence[str]) -> None:
        """Refuse findings that the model cannot read, before anything is computed.

        Raises:
            UsageError: see :meth:`TextEncoder.check`.
        """
        for finding in findings:
            self.pipeline.text_encoder.check(finding)

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
            features = self._features(image, [view for _, _, view in batch], seed)
            answers = self._halving(lambda part: self._decode_views(part, image.fit, text), features)
            for (blend, tile, _), (logits, presence) in zip(batch, answers, strict=True):
                blend.add(tile, logits, presence)
        return [blend.answer() for blend in sums]

    def _decode_views(
        self, features: Sequence[list[Tensor]], fit: Fit, text: TextStates
    ) -> list[tuple[Tensor, Tensor]]:
        """Log-odds (F, h, w) on a view's own grid and presence (F,), on the CPU, for each view."""
        views, findings = len(features), len(text.states)
        maps = [torch.cat([m.to(self.device, torch.float32) for m in scale]) for scale in zip(*features, strict=True)]
        pairs = [m.repeat_interleave(findings, dim=0) for m in maps]
        words = TextStates(text.states.repeat(views, 1, 1), text.mask.repeat(views, 1))
        output = self.pipeline.decode(pairs, words, fit.padded)
        logits = fit.inverse(foreground_logit(output.logits.float())[:, None])[:, 0].cpu().unflatten(0, (views, -1))
        if output.presence is None:
            presence = logits.sigmoid().amax((2, 3))
        else:
            presence = output.presence.float().sigmoid().cpu().unflatten(0, (views, -1))
        return list(zip(logits, presence, strict=True))

    def _features(self, image: EncodedImage, views: Sequence[NDArray[np.float32]], seed: int) -> list[list[Tensor]]:
        """Feature maps (1, C, h, w) of each view, from the cache or computed in one batch; rounded either way."""
        keys = [self._key(view, image.fit, seed) for view in views]
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

    def _encode_views(self, views: Sequence[NDArray[np.float32]], fit: Fit, seed: int) -> list[list[Tensor]]:
        images = fit.forward(to_model_range(np.stack(views), self.pipeline.preprocessing.channel_order))
        noise = seeded_noise((1, *images.shape[1:]), seed, self.device)
        with torch.inference_mode(), self._autocast():
            features = rounded(self.pipeline.features(images.to(self.device), noise))
        return [[f[n : n + 1] for f in features] for n in range(len(views))]

    def _halving(self, work: Callable[[Any], list[Any]], items: Sequence[Any]) -> list[Any]:
        """Do work on a batch; one that does not fit the GPU's memory is halved, and later batches stay small."""
        try:
            return work(items)
        except torch.OutOfMemoryError:
            if len(items) == 1:
                raise FastTextDiffError(
                    f"{self.device} has too little memory for one slice: use --device cpu"
                ) from None
        torch.cuda.empty_cache()
        self._batch = max(1, len(items) // 2)
        return [answer for half in _batched(items, self._batch) for answer in self._halving(work, half)]

    def _key(self, view: NDArray[np.float32], fit: Fit, seed: int) -> tuple[Any, ...]:
        """What the features depend on; the pixels by content, so that a volume changed in place is not mistaken."""
        pixels = hashlib.blake2b(view.tobytes(), digest_size=16).digest()
        return pixels, fit, seed, self.pipeline.info.weights_sha256

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def _result(self, image: EncodedImage, names: Sequence[str], maps: _Maps, threshold: float) -> SegmentationResult:
        provenance = self._provenance(image, threshold)
        gate = self.pipeline.info.presence_threshold
        findings = []
        for n, name in enumerate(names):
            shown = maps.probability[n]
            there = np.nan_to_num(maps.presence[n], nan=0.0) >= gate
            mask = (shown > threshold) & there[:, None, None]
            spread = None if maps.disagreement is None else image.display.from_display(maps.disagreement[n])
            findings.append(
                FindingResult(
                    finding=name,
                    probability=np.ascontiguousarray(image.display.from_display(shown)),
                    mask=np.ascontiguousarray(image.display.from_display(mask)),
                    disagreement=None if spread is None else np.ascontiguousarray(spread),
                    presence=maps.presence[n],
                    warnings=tuple(self._warnings(name, image.volume)),
                )
            )
        return SegmentationResult(image.volume, tuple(findings), provenance)

    def _warnings(self, finding: str, volume: Volume) -> Iterator[str]:
        info = self.pipeline.info
        if not info.taught:
            return
        if volume.modality.value not in info.taught:
            yield f"the model was not trained on {_modality_name(volume.modality)} images"
        elif not info.knows(finding, volume.modality):
            yield f"'{normalise(finding)[:60]}' is not a finding the model was trained on for {volume.modality.value}"

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
            dtype=str(self.dtype).removeprefix("torch."),
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )


@dataclass
class _Maps:
    """Results in display order, filled slice by slice."""

    probability: NDArray[np.float32]  # (F, slices, rows, columns)
    disagreement: NDArray[np.float32] | None
    presence: NDArray[np.float32]  # (F, slices), NaN where not asked

    @classmethod
    def empty(cls, findings: int, image: EncodedImage) -> _Maps:
        shape = (findings, *image.display.display_shape)
        return cls(
            np.zeros(shape, np.float32),
            np.zeros(shape, np.float32) if image.samples > 1 else None,
            np.full(shape[:2], np.nan, np.float32),
        )

    def store(self, index: int, answers: Sequence[_Answer]) -> None:
        """Keep one slice's mean and spread over the noise samples."""
        probability = torch.stack([a.probability for a in answers])
        self.probability[:, index] = probability.mean(0).numpy()
        self.presence[:, index] = torch.stack([a.presence for a in answers]).mean(0).numpy()
        if self.disagreement is not None:
            self.disagreement[:, index] = probability.std(0, correction=0).numpy()


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
        rows, columns = slice(tile.row, tile.row + tile.height), slice(tile.column, tile.column + tile.width)
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
        UsageError: no such dtype.
    """
    if name == "auto":
        if device.type == "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        return torch.float32
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name not in known:
        raise UsageError(f"'{name}' is not a dtype: use auto, {', '.join(known)}")
    return known[name]


def _tiles(volume: Volume, display: DisplayPlane, settings: ImageSettings) -> tuple[Tile, ...]:
    rows, columns = display.display_shape[1:]
    if settings.crop_to_body and not volume.is_planar and not volume.is_color:
        return (body_box(display.to_display(volume.array)),)
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


def _batched(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    yield from (items[start : start + size] for start in range(0, len(items), size))


def _modality_name(modality: Modality) -> str:
    return "such" if modality is Modality.OTHER else modality.value
