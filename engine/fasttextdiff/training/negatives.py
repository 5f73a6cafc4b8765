"""Makes samples in which findings are known to be absent from labelled ones.

Nearly every image of the data has lesions, and a model trained only on them finds lesions everywhere. Knows samples;
knows nothing about files or wording.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage

from fasttextdiff.training.samples import LUNGS, PULMONARY, Region, Sample

FILLINGS = 12
"""Number of abdomens made from each slice of lung bases."""
SPECK = 0.0005
"""Share of the image; a side with a smaller lesion area counts as clear."""


def with_negatives(samples: Mapping[str, Sequence[Sample]], seed: int) -> dict[str, Sequence[Sample]]:
    """The groups of `load_samples`, with "one_sided", "symmetric", "lungless" and "abdomen" added.

    The samples of "qata" in "one_sided" have lesions on one side only; the other side is empty. Those of "abdomen" are
    made from lung bases next to a liver. There are few of these, so each is filled in several ways.
    """
    rng = np.random.default_rng(seed)
    one_sided = [sample for sample in samples.get("qata", ()) if is_one_sided(sample)]
    ct = [sample for sample in samples.get("ct_lesions", ()) if is_one_sided(sample)]
    return {
        **samples,
        "one_sided": one_sided,
        "symmetric": [made for sample in (*one_sided, *ct) for made in symmetric_chests(sample)],
        "lungless": [without_lungs(sample, rng) for sample in samples.get("ct_lungs", ())],
        "abdomen": [without_lungs(sample, rng) for sample in samples.get("lung_bases", ()) for _ in range(FILLINGS)],
    }


def is_one_sided(sample: Sample) -> bool:
    """Whether there are lesions on one of the patient's sides and none on the other."""
    left = (sample.regions & np.uint8(Region.PATIENT_LEFT)) > 0
    lesions = (sample.regions & np.uint8(Region.LESION)) > 0
    less, more = sorted([(lesions & left).mean(), (lesions & ~left).mean()])
    return bool(less == 0 and more >= SPECK)


def symmetric_chests(sample: Sample) -> Iterator[Sample]:
    """Two chests from a one-sided one: the clear half with its mirror image, and likewise the other half.

    The second prevents symmetry from indicating absence. Only lesions are known in either.
    """
    left = (sample.regions & np.uint8(Region.PATIENT_LEFT)) > 0
    yield _mirrored(sample, left, keep_left=True)
    yield _mirrored(sample, left, keep_left=False)


def _mirrored(sample: Sample, left: NDArray[np.bool_], *, keep_left: bool) -> Sample:
    """One half and its mirror image; extra columns of the other half are black."""
    width = left.shape[1]
    columns, split = np.arange(width), int(np.argmax(left[0]))  # the patient's left half starts at column `split`
    kept = (columns >= split) == keep_left
    source = np.where(kept, columns, 2 * split - 1 - columns)
    inside = (source >= 0) & (source < width)
    source = source.clip(0, width - 1)
    regions = (sample.regions & np.uint8(sample.annotated & PULMONARY))[:, source] * inside.astype(np.uint8)
    regions |= np.where(left, np.uint8(Region.PATIENT_LEFT), np.uint8(0))
    shape = (1, width) if sample.image.ndim == 2 else (1, width, 1)
    image = sample.image[:, source] * inside.reshape(shape).astype(np.uint8)
    return replace(sample, image=image, regions=regions, annotated=sample.annotated & PULMONARY, sentence="", zones={})


def without_lungs(sample: Sample, rng: Generator) -> Sample:
    """A CT slice whose lungs are filled to look like abdominal organs, fat and bowel gas.

    Args:
        sample: a slice with lung masks.
        rng: random generator of the filling.

    Returns:
        A sample in which lungs and lung lesions are known to be absent.
    """
    image = sample.image.astype(np.float32)
    lungs = ndimage.binary_dilation((sample.regions & np.uint8(LUNGS)) > 0, iterations=3)
    # the rest between the lungs (bronchi, the border) is as dark as the lungs
    lungs |= ndimage.binary_fill_holes(lungs) & (image < _tissue_level(image, lungs) * 0.75)
    tissue = _tissue_level(image, lungs)
    fill = tissue * _organs(image.shape, rng)
    fill = np.where(_gas(image.shape, rng), float(np.percentile(image, 2)), fill)
    fill += rng.normal(0, 0.02 * tissue, image.shape)
    soft = ndimage.gaussian_filter(lungs.astype(np.float32), 1.0)
    mixed = image * (1 - soft) + fill * soft
    annotated = LUNGS | PULMONARY
    regions = sample.regions & np.uint8(Region.PATIENT_LEFT)
    return replace(
        sample,
        image=np.round(mixed).clip(0, 255).astype(np.uint8),
        regions=regions,
        annotated=annotated,
        sentence="",
        zones={},
    )


def _tissue_level(image: NDArray[np.float32], lungs: NDArray[np.bool_]) -> float:
    """The grey level of soft tissue: the median outside the lungs of pixels brighter than the lungs."""
    outside = image[~lungs]
    bright = outside[outside > np.median(image[lungs])]
    return float(np.median(bright)) if bright.size else float(image.max())


def _organs(shape: tuple[int, ...], rng: Generator) -> NDArray[np.float32]:
    """Factors on the tissue level: patches of organs (with or without contrast), with fat between them."""
    coarse = rng.normal(size=(int(rng.integers(5, 10)), int(rng.integers(5, 10))))
    scale = (shape[0] / coarse.shape[0], shape[1] / coarse.shape[1])
    field = ndimage.zoom(coarse, scale, order=3)[: shape[0], : shape[1]]
    field = np.pad(field, [(0, shape[0] - field.shape[0]), (0, shape[1] - field.shape[1])], mode="edge")
    contrast = rng.uniform(0.0, 0.12)
    steps = np.select([field < -0.4, field > 0.6], [-rng.uniform(0.08, 0.2), contrast], 0.0)
    return (1 + ndimage.gaussian_filter(steps, 0.8)).astype(np.float32)


def _gas(shape: tuple[int, ...], rng: Generator) -> NDArray[np.bool_]:
    """Up to eight dark bubbles, most of them small."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    gas = np.zeros(shape, bool)
    for _ in range(int(rng.integers(9))):
        height, width = rng.uniform(0.01, 0.05, 2) * shape[0] * (3 if rng.random() < 0.15 else 1)
        row, column = rng.uniform(0.15, 0.85, 2) * shape
        gas |= ((y - row) / height) ** 2 + ((x - column) / width) ** 2 < 1
    return gas
