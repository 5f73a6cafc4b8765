"""Changes the appearance of images to hide their source. Geometry and words do not change.

Normal and abnormal X-rays come from different hospitals, so a model could learn to recognise the hospital instead of
lesions. Knows grey levels; knows nothing about findings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional

from fasttextdiff.image.preprocessing import body_extent
from fasttextdiff.image.volume import Modality
from fasttextdiff.training.samples import Sample

Levels = NDArray[np.float64]
"""Cumulative histogram: share of pixels up to each of 256 grey levels."""
MATCHED, BLURRED, CROPPED = 0.35, 0.25, 0.5
"""Shares of X-rays with the histogram of another, of blurred images, and of CT slices cropped to the body."""
BODY_LEVEL = 26
"""Grey level of a windowed CT slice above which there is body or table."""
COARSEST = 2.5


def grey_levels(image: NDArray[np.uint8]) -> Levels:
    """The image's cumulative histogram."""
    return np.asarray(np.cumsum(np.bincount(image.ravel(), minlength=256)) / image.size)


def altered(sample: Sample, references: Sequence[Levels], rng: Generator) -> Sample:
    """The sample, sometimes with another appearance.

    Args:
        sample: any sample.
        references: histograms of X-rays of all sources.
        rng: random generator.
    """
    if sample.modality is Modality.CT and rng.random() < CROPPED:
        sample = cut_to_body(sample)
    image = sample.image
    if sample.modality is Modality.XRAY and references and image.ndim == 2 and rng.random() < MATCHED:
        image = _matched(image, references[int(rng.integers(len(references)))], float(rng.uniform(0.5, 1)))
    if rng.random() < BLURRED and sample.modality is not Modality.HISTOLOGY:
        image = _coarser(image, float(rng.uniform(1.2, COARSEST)))
    return replace(sample, image=image)


def _matched(image: NDArray[np.uint8], reference: Levels, share: float) -> NDArray[np.uint8]:
    """The image with the grey levels of another, mixed with its own."""
    own = grey_levels(image)
    table = np.interp(own, reference, np.arange(256))
    mixed = share * table + (1 - share) * np.arange(256)
    return np.asarray(np.round(mixed).clip(0, 255).astype(np.uint8)[image])


def _coarser(image: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    """The image, reduced and enlarged again."""
    pixels = torch.from_numpy(np.atleast_3d(image).copy()).permute(2, 0, 1)[None].float()
    size = tuple(max(32, round(n / factor)) for n in image.shape[:2])
    small = functional.interpolate(pixels, size, mode="bilinear", antialias=True)
    large = functional.interpolate(small, image.shape[:2], mode="bilinear")[0].permute(1, 2, 0)
    result = large.round().clamp(0, 255).to(torch.uint8).numpy()
    return result if image.ndim == 3 else result[..., 0]


def cut_to_body(sample: Sample) -> Sample:
    """A CT slice without the air around the body: the bounding box of all its parts as in use, unless it is small."""
    grey = sample.image if sample.image.ndim == 2 else sample.image.max(axis=2)
    parts, count = ndimage.label(ndimage.binary_opening(grey > BODY_LEVEL, iterations=2))
    if not count:
        return sample
    box = body_extent(parts)
    if min(b.stop - b.start for b in box) < min(grey.shape) / 3:
        return sample
    masks = None if sample.masks is None else sample.masks[(slice(None), *box)]
    return replace(sample, image=sample.image[box], regions=sample.regions[box], masks=masks)
