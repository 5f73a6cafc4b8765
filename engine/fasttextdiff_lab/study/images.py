"""The images of a study: which ones a cell may learn from, and the batch of every step, the same for every system.

Knows data sets, labels and augmentation; knows nothing about systems.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from fasttextdiff.errors import UsageError
from fasttextdiff.evaluation.datasets import Target, load_image, load_targets
from fasttextdiff.image.resampling import resampled
from fasttextdiff.image.volume import Modality
from fasttextdiff.training.augment import augment
from fasttextdiff.training.batches import as_images
from fasttextdiff.training.samples import Region, Sample, region_bits, shrink, windowed
from fasttextdiff_lab.atlas import CHAMBERS, EMPTY, LEFT_OUT, MODALITIES, read_table, structure_name
from fasttextdiff_lab.study.definition import ALL, Cell, DataSet, Study
from fasttextdiff_lab.study.texts import chosen
from fasttextdiff_lab.study.zones import zone_maps

HEALTHY_TEXT = "No infection."


@dataclass(frozen=True)
class Item:
    """A training image.

    Attributes:
        target: image, mask and true text; the mask of a healthy image is not read.
        text: what is given in training.
        mirrored: whether mirror images are realistic.
        healthy: whether nothing is to be found.
    """

    target: Target
    text: str
    mirrored: bool = True
    healthy: bool = False


@dataclass(frozen=True)
class StudyBatch:
    """The data of one step.

    Attributes:
        images: (B, 3, S, S) in [-1, 1].
        texts: B texts, with the sides of the (perhaps mirrored) picture's patient.
        masks: (B, S, S) float32, 0 or 1; not known to a loss without masks.
        zones: (B, Z, S, S) float32, 0 or 1, see `zones`.
        zone_names: names of the zones of each image.
        noise: (B, 3, S, S), standard normal, for systems that need it.
    """

    images: Tensor
    texts: list[str]
    masks: Tensor
    zones: Tensor
    zone_names: list[tuple[str, ...]]
    noise: Tensor


def training_items(data: DataSet, text: str, seed: int) -> list[Item]:
    """All training images of a data set with their texts, in table order.

    Raises:
        UsageError: the folder has no split `train`.
    """
    if data.structures:
        return [Item(target, target.text, mirrored) for target, mirrored in _atlas_targets(data, "train")]
    kept = load_targets(data.folder, "train")
    texts = chosen([target.text for target in kept], text, seed)
    return [Item(target, line) for target, line in zip(kept, texts, strict=True)]


@lru_cache(maxsize=8)
def test_targets(data: DataSet) -> tuple[Target, ...]:
    """The images of a data set's test split, every N-th of them."""
    if data.structures:
        return tuple(target for target, _ in _atlas_targets(data, data.test))[:: data.every]
    return tuple(load_targets(data.folder, data.test)[:: data.every])


def _atlas_targets(data: DataSet, split: str) -> list[tuple[Target, bool]]:
    """Targets of the CT and MR atlas where the structure is there, and whether the image may be mirrored."""
    rows = [row for row in read_table(data.folder, split) if row["Mask"] != EMPTY and row["Source"] not in LEFT_OUT]
    found = [
        (
            Target(data.folder / row["Image"], data.folder / row["Mask"], name, MODALITIES[row["Modality"]]),
            row["Source"] not in CHAMBERS,
        )
        for row in rows
        if (name := structure_name(row).replace("_", " ")) in data.structures
    ]
    if not found:
        raise UsageError(f"{data.folder} has no masks of {', '.join(data.structures)} in the split '{split}'")
    return found


def healthy_items(folder: Path | None) -> list[Item]:
    """Confirmed normal images of the X-ray atlas."""
    if folder is None:
        return []
    rows = [row for row in read_table(folder) if row["Structure"] == "lesion" and row["Mask"] == EMPTY]
    nowhere = folder / EMPTY
    return [
        Item(Target(folder / "img" / row["Image"], nowhere, HEALTHY_TEXT, Modality.XRAY), HEALTHY_TEXT, healthy=True)
        for row in rows
    ]


@dataclass(frozen=True)
class TrainingSet:
    """What a cell learns from.

    Attributes:
        labelled: images with masks.
        unlabelled: images of which only the text is known, for systems that learn from texts.
        healthy: images without the finding.
    """

    labelled: list[Item]
    unlabelled: list[Item]
    healthy: list[Item]


def training_set(study: Study, cell: Cell) -> TrainingSet:
    """Draw the labelled images by the seed; the first N of one order, so that fewer labels are a part of more.

    Raises:
        UsageError: there are fewer images than labels.
    """
    data = study.data[cell.data]
    items = training_items(data, cell.text, cell.seed)
    count = len(items) if cell.labels == ALL else int(cell.labels)
    if count > len(items):
        raise UsageError(f"{data.folder} has {len(items)} training images, fewer than {count} labels")
    order = np.random.default_rng((cell.seed, len(items))).permutation(len(items))
    labelled = [items[n] for n in sorted(order[:count])]
    return TrainingSet(labelled, [items[n] for n in sorted(order[count:])], healthy_items(data.healthy))


class Batches:
    """The batch of every step; equal items, seed and step give equal batches for all systems.

    Args:
        items: images to draw from.
        size: side in pixels.
        count: images per step.
        seed: of order, augmentation and noise.
        stream: distinguishes batches of several kinds in one training.
    """

    def __init__(self, items: Sequence[Item], size: int, count: int, seed: int, stream: int = 0) -> None:
        self.items, self.size, self.count, self.seed, self.stream = items, size, count, seed, stream
        self._samples: dict[int, Sample] = {}

    def __call__(self, step: int) -> StudyBatch:
        """Draw, augment and collect the images of a step, counted from 0."""
        drawn = np.random.default_rng((self.seed, self.stream, step)).integers(len(self.items), size=self.count)
        rngs = [np.random.default_rng((self.seed, self.stream, step, 1 + place)) for place in range(self.count)]
        views = [augment(self._sample(int(n)), self.size, rng) for n, rng in zip(drawn, rngs, strict=True)]
        masks = np.stack([(view.regions & np.uint8(Region.LESION)) > 0 for view in views])
        zones = np.stack([_zones(view) for view in views])
        return StudyBatch(
            images=as_images([view.image for view in views]),
            texts=[view.sentence for view in views],
            masks=torch.from_numpy(masks.astype(np.float32)),
            zones=torch.from_numpy(zones.astype(np.float32)),
            zone_names=[view.findings for view in views],
            noise=torch.from_numpy(np.stack([_noise(rng, self.size) for rng in rngs])),
        )

    def _sample(self, number: int) -> Sample:
        """The image, kept in memory at its training size."""
        if number not in self._samples:
            self._samples[number] = load_sample(self.items[number], self.size)
        return self._samples[number]


def _noise(rng: Generator, size: int) -> NDArray[np.float32]:
    return rng.standard_normal((3, size, size), dtype=np.float32)


def _zones(view: Sample) -> NDArray[np.uint8]:
    assert view.masks is not None  # every sample here has zones
    return view.masks


def load_sample(item: Item, size: int) -> Sample:
    """The image with its mask as a lesion, its text as the sentence, and the zones as findings."""
    target = item.target
    image = shown_grey(load_image(target.image), target.modality)
    mask = np.zeros(image.shape[:2], bool) if item.healthy else target.load_mask()
    sample = Sample(
        image, region_bits({Region.LESION: mask}), target.modality, Region.LESION, item.text, name=target.image.name,
        mirrored=item.mirrored,
    )  # fmt: skip
    small = shrink(sample, size)
    names, maps = zone_maps((small.regions.shape[0], small.regions.shape[1]), target.modality)
    return replace(small, findings=names, masks=maps)


def shown_grey(image: NDArray[np.uint8], modality: Modality) -> NDArray[np.uint8]:
    """A picture as all systems see it: X-rays in a percentile window; CT and tissue as stored."""
    return windowed(image) if modality is Modality.XRAY else image


def as_input(image: NDArray[np.uint8], modality: Modality, size: int) -> Tensor:
    """A whole picture as input (1, 3, size, size), padded with black to a square as in training."""
    pixels = np.atleast_3d(shown_grey(image, modality))
    side = max(pixels.shape[:2])
    square = np.zeros((side, side, pixels.shape[2]), np.float32)
    top, left = _corner(pixels.shape[:2])
    square[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    small = resampled(np.moveaxis(square, 2, 0), (size, size), antialias=True)
    picture = np.moveaxis(small, 0, 2).round().clip(0, 255).astype(np.uint8)
    return as_images([picture if picture.shape[2] == 3 else picture[..., 0]])


def from_output(probability: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    """The probability (s, s) of :func:`as_input`'s square on the picture's own grid (h, w)."""
    side = max(shape)
    large = resampled(probability, (side, side), antialias=False)
    top, left = _corner(shape)
    return large[top : top + shape[0], left : left + shape[1]]


def _corner(shape: Sequence[int]) -> tuple[int, int]:
    side = max(shape[:2])
    return (side - shape[0]) // 2, (side - shape[1]) // 2
