"""Examples of a finding: slices with masks, their checks, and variants of them to learn from.

Knows arrays of single slices; knows nothing about volumes, networks or files.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch.nn import functional

from fasttextdiff.contract.findings import shortened
from fasttextdiff.errors import UsageError
from fasttextdiff.image.preprocessing import Fit, Preprocessing, Window, apply_window
from fasttextdiff.image.slices import PreparedImage
from fasttextdiff.image.volume import Modality

FULL = 0.98
"""Share of a slice from which a mask counts as full."""
AGREE = 0.5
"""Dice below which two masks of one slice contradict each other."""
MOST = 200
"""Most slices of a finding, and most slices and tiles that it is learned from."""
ZOOM, ROTATION, SHIFT, GAMMA = 0.2, 12.0, 0.1, 0.35
"""Ranges of variants: log of the zoom, degrees, share of the image, log of gamma."""


@dataclass(frozen=True)
class Example:
    """One slice, or a tile of it, with the true mask of the finding, in radiological orientation.

    Attributes:
        voxels: (h, w) or (h, w, 3), as in the volume.
        mask: (h, w); empty if the finding is absent.
        window: (level, width); None for colour.
        spacing: (row, column) distance in mm, or any common unit.
        modality: modality of the image.
        scale: for tiles, their magnification in the model; 0 for whole slices, which are fitted to the model's size.
        group: what slices of one patient have in common; no name or identifier. Held out together.
        window_of_model: whether the window is the model's own for the modality, so that another model uses its own.
        slice_key: equal for the tiles of one slice, and for no others; empty for whole slices.
    """

    voxels: NDArray[np.generic]
    mask: NDArray[np.bool_]
    window: Window | None
    spacing: tuple[float, float]
    modality: Modality
    scale: float = 0.0
    group: str = ""
    window_of_model: bool = False
    slice_key: str = ""

    def key(self) -> str:
        """Equal for examples on the same voxels."""
        return hashlib.blake2b(np.ascontiguousarray(self.voxels).tobytes(), digest_size=16).hexdigest()

    def lesson(self, preprocessing: Preprocessing, multiple: int) -> Lesson:
        """The example as a model with this preprocessing sees it."""
        shape = self.mask.shape[0], self.mask.shape[1]
        settings = preprocessing.of(self.modality)
        size = round(max(shape) * self.scale) if self.scale else settings.size
        fit = Fit.of(shape, self.spacing, size, multiple)
        window = settings.window if self.window_of_model else self.window
        group = self.group or self.slice_key
        return Lesson(apply_window(self.voxels, window), self.mask, fit, self.modality, group)


@dataclass(frozen=True)
class Lesson:
    """An example, or a variant of it, as the model sees it.

    Attributes:
        pixels: (h, w) or (h, w, 3) float32 in [0, 1].
        mask: (h, w).
        fit: how it is fitted into the model's input.
        modality: modality of the image.
        group: as in :class:`Example`.
    """

    pixels: NDArray[np.float32]
    mask: NDArray[np.bool_]
    fit: Fit
    modality: Modality
    group: str


def examples_of(image: PreparedImage, index: int, mask: NDArray[np.bool_], group: str = "") -> list[Example]:
    """The examples in one slice of a volume: one, or one per tile.

    Args:
        image: the prepared volume.
        index: the slice, in display order.
        mask: the true mask on the volume's grid (k, j, i).
        group: see :class:`Example`.

    Raises:
        UsageError: the mask is on another grid, or the slice does not exist.
    """
    if mask.shape != image.volume.array.shape[:3]:
        has, wanted = (" x ".join(map(str, shape)) for shape in (mask.shape, image.volume.array.shape[:3]))
        raise UsageError(f"the mask has {has} voxels, the image {wanted}: use a mask on the image's grid")
    if not 0 <= index < image.display.n_slices:
        raise UsageError(f"slice {index} is not in this image: it has 0 to {image.display.n_slices - 1}")
    truth = image.display.to_display(mask)[index] > 0
    scale = max(image.fit.resized) / max(image.fit.source) if len(image.tiles) > 1 else 0.0
    spacing = (1.0, 1.0) if scale else image.display.pixel_spacing
    more = (spacing, image.volume.modality, scale, group, image.by_finding)
    found = [
        Example(view.voxels, truth[tile.slices], view.window, *more)
        for tile, view in zip(image.tiles, image.views(index), strict=True)
    ]
    return _tiles_of_one_slice(found, truth) if scale else found


def _tiles_of_one_slice(tiles: Sequence[Example], truth: NDArray[np.bool_]) -> list[Example]:
    parts = "".join(tile.key() for tile in tiles).encode()
    slice_key = hashlib.blake2b(parts + truth.tobytes(), digest_size=16).hexdigest()
    return [replace(tile, slice_key=slice_key) for tile in tiles]


def by_slice(examples: Sequence[Example]) -> list[list[Example]]:
    """The examples of each slice: the whole slice, or its tiles."""
    slices: dict[object, list[Example]] = {}
    for number, example in enumerate(examples):
        slices.setdefault(example.slice_key or number, []).append(example)
    return list(slices.values())


def drawn(examples: Sequence[Example], seed: int) -> list[Example]:
    """At most :data:`MOST` examples, in order; of more, up to half with the finding, drawn by the seed."""
    order = np.random.default_rng(seed).permutation(len(examples)).tolist()
    marked = [n for n in order if examples[n].mask.any()]
    others = [n for n in order if not examples[n].mask.any()]
    share = min(len(marked), max(MOST // 2, MOST - len(others)))
    kept = {*marked[:share], *others[: MOST - share]}
    return [example for n, example in enumerate(examples) if n in kept]


def check_examples(examples: Sequence[Example]) -> None:
    """Refuse examples from which nothing can be learned, before anything is computed.

    Raises:
        UsageError: there are none or too many, all masks are empty, one is full or has another shape than its slice,
            modalities differ, or two masks of one slice contradict each other.
    """
    slices = by_slice(examples)
    if not 1 <= len(slices) <= MOST:
        raise UsageError(f"a finding is learned from 1 to {MOST} slices, got {len(slices)}")
    for number, parts in enumerate(slices, 1):
        _check_slice(number, parts)
    if not any(example.mask.any() for example in examples):
        raise UsageError("all masks of the examples are empty: mark the finding on at least one slice")
    modalities = sorted({example.modality.value for example in examples})
    if len(modalities) > 1:
        raise UsageError(
            f"the examples are of {' and '.join(modalities)}: teach the finding for one modality at a time"
        )
    _check_agreement(slices)


def _check_slice(number: int, parts: Sequence[Example]) -> None:
    for part in parts:
        shape, shown = part.mask.shape, part.voxels.shape[:2]
        if shape != shown:
            raise UsageError(
                f"example {number}: the mask has {shape[0]} x {shape[1]} pixels, its slice {shown[0]} x {shown[1]}"
            )
    if sum(int(part.mask.sum()) for part in parts) > FULL * sum(part.mask.size for part in parts):
        raise UsageError(f"example {number}: the mask covers the whole slice: mark the finding only")


def _check_agreement(slices: Sequence[Sequence[Example]]) -> None:
    """Compare slices with equal voxels; tiles that occur twice in one slice are background."""
    first: dict[str, tuple[int, NDArray[np.bool_]]] = {}
    overlaps: dict[tuple[int, int], NDArray[np.int64]] = {}
    for number, parts in enumerate(slices, 1):
        for part in parts:
            other, mask = first.setdefault(part.key(), (number, part.mask))
            counts = np.array([2 * np.count_nonzero(mask & part.mask), mask.sum() + part.mask.sum()])
            overlaps[other, number] = overlaps.get((other, number), 0) + counts
    for (other, number), (both, total) in overlaps.items():
        if other != number and both < AGREE * total:
            raise UsageError(f"examples {other} and {number} are the same slice with different masks: keep one of them")


def may_mirror(words: Sequence[str], modality: Modality) -> bool:
    """Whether a mirror image still shows what the words name.

    A finding with a side would become the other one, whose mask is not known; organs of the trunk have a side without
    naming it, so that only tissue without orientation is mirrored.
    """
    sided = any(re.search(r"\b(?:left|right)\b", word, re.IGNORECASE) for word in words)
    return modality is Modality.HISTOLOGY and not sided


def variants(lesson: Lesson, count: int, rng: Generator, *, mirror: bool) -> list[Lesson]:
    """The lesson itself and `count` - 1 random views of it: zoomed, turned, shifted, with other grey levels."""
    return [lesson, *(_variant(lesson, rng, mirror) for _ in range(count - 1))]


def _variant(lesson: Lesson, rng: Generator, mirror: bool) -> Lesson:
    height, width = lesson.mask.shape
    zoom, angle = math.exp(rng.uniform(-ZOOM, ZOOM)), math.radians(rng.uniform(-ROTATION, ROTATION))
    flip = -1.0 if mirror and rng.random() < 0.5 else 1.0
    cos, sin = math.cos(angle) / zoom, math.sin(angle) / zoom
    shift = rng.uniform(-SHIFT, SHIFT, 2)
    matrix = [[flip * cos, -sin * height / width, shift[0]], [flip * sin * width / height, cos, shift[1]]]
    layers = np.concatenate([np.atleast_3d(lesson.pixels), lesson.mask[..., None]], axis=2).astype(np.float32)
    grid = functional.affine_grid(torch.tensor(matrix, dtype=torch.float32)[None], [1, 1, height, width], False)
    padding = "reflection" if lesson.modality is Modality.HISTOLOGY else "zeros"
    stack = torch.from_numpy(layers).permute(2, 0, 1)[None]
    moved = functional.grid_sample(stack, grid, "bilinear", padding, False)[0].permute(1, 2, 0).numpy()
    pixels = np.clip(moved[..., :-1], 0, 1) ** np.float32(math.exp(rng.uniform(-GAMMA, GAMMA)))
    shown = np.ascontiguousarray(pixels.reshape(lesson.pixels.shape), np.float32)
    return replace(lesson, pixels=shown, mask=moved[..., -1] > 0.5)


def require_finding(words: Sequence[str]) -> None:
    """Refuse the same word twice among a finding and its synonyms.

    Raises:
        UsageError: a word occurs twice.
    """
    seen: set[str] = set()
    for word in words:
        if word.casefold() in seen:
            raise UsageError(f"'{shortened(word)}' is listed twice among the finding and its synonyms")
        seen.add(word.casefold())
