"""Training samples: images with their labels.

Knows the research data sets; knows nothing about wording or augmentation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import IntFlag
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional

from fasttextdiff.evaluation.datasets import (
    IMAGE_SUFFIXES,
    Target,
    excluded,
    load_image,
    load_levels,
    load_targets,
    right_half,
)
from fasttextdiff.image.preprocessing import apply_window, body_box, percentile_window
from fasttextdiff.image.volume import Modality
from fasttextdiff.io.read import read_volume

HISTOLOGY_SCALES = (1.0, 0.5, 0.256)
"""Resolutions of a histology tile in training; the last is that of the published work, 256 px of 1000."""
ENLARGED = 2
"""The smallest of these is also used enlarged, because small tiles are enlarged in use."""
ZONES = ("upper", "middle", "lower", "anterior", "posterior")
ZONED_LUNG = re.compile(rf"\b((?:(?:{'|'.join(ZONES)}|all)\s+)*)(left|right) lung\b")
"""A lung in a sentence of LViT's form: group 1 holds its zones, if any, group 2 its side."""
CT_LUNG_WINDOW = (-400.0, 1200.0)
"""(level, width) in HU that gives air, lung and soft tissue the grey levels of the training slices."""
LONGEST_SIDE = 256
"""Size in pixels at which images of other modalities are kept."""


class Region(IntFlag):
    """Bits of a label image. `PATIENT_LEFT` is the half plane left of the patient's midline."""

    LESION = 1
    GROUND_GLASS = 2
    CONSOLIDATION = 4
    LEFT_LUNG = 8
    RIGHT_LUNG = 16
    HEART = 32
    NUCLEI = 64
    PATIENT_LEFT = 128


@dataclass(frozen=True)
class Sample:
    """One training image.

    Attributes:
        image: (h, w) or (h, w, 3) uint8, windowed.
        regions: (h, w) uint8 of :class:`Region` bits.
        modality: modality of the image.
        annotated: regions that are annotated, so that their absence in `regions` is known; others are unknown.
        sentence: a description with the patient's sides; empty if there is none.
        zones: the zone in the sentence by side, for sides with exactly one zone.
        name: file name, for messages.
        findings: texts of the user's data, with the patient's sides; empty for the research data.
        masks: (n, h, w) uint8, 0 or 1, masks of the n findings.
        mirrored: whether mirror images are realistic; not for sagittal slices.
    """

    image: NDArray[np.uint8]
    regions: NDArray[np.uint8]
    modality: Modality
    annotated: Region
    sentence: str = ""
    zones: dict[str, str] = field(default_factory=dict)
    name: str = ""
    findings: tuple[str, ...] = ()
    masks: NDArray[np.uint8] | None = None
    mirrored: bool = True

    @property
    def source(self) -> str:
        """The labelled file of the sample."""
        return self.name

    def load(self) -> Sample:
        """Return the sample itself, which is already in memory."""
        return self


class Item(Protocol):
    """A training image that is read when drawn."""

    @property
    def source(self) -> str:
        """The labelled file of the image."""
        ...

    def load(self) -> Sample:
        """Read it.

        Raises:
            FastTextDiffError: its file is missing or damaged.
        """
        ...


LUNGS = Region.LEFT_LUNG | Region.RIGHT_LUNG
LESION_CLASSES = Region.GROUND_GLASS | Region.CONSOLIDATION
PULMONARY = Region.LESION | LESION_CLASSES


def load_samples(data: Path) -> dict[str, list[Sample]]:
    """All training samples by group, from the folders that exist (`shared/data/README.md`).

    Returns:
        Samples by group, as named in a configuration's mixture.
    """
    return {
        group: [sample for read, folder in readers if (data / folder).is_dir() for sample in read(data / folder)]
        for group, readers in SOURCES.items()
    }


def single_zones(sentence: str) -> dict[str, str]:
    """The zone by side in a sentence of LViT's form, for sides that occur once and with exactly one zone."""
    phrases: dict[str, list[str]] = {}
    for words, side in ZONED_LUNG.findall(sentence):
        phrases.setdefault(side, []).append(words.strip())
    return {side: named[0] for side, named in phrases.items() if len(named) == 1 and named[0] in ZONES}


def _pictures(folder: Path, within: str = "img") -> list[Path]:
    """The files of a data set without a table, in order, without those that must not be trained on."""
    names = excluded(folder)
    return [path for path in sorted((folder / within).iterdir()) if path.stem not in names]


def _qata(folder: Path) -> Iterator[Sample]:
    for target in load_targets(folder, "Train"):
        mask = target.load_mask()
        regions = region_bits({Region.LESION: mask, Region.PATIENT_LEFT: right_half(mask)})
        image = windowed(target.load_image())
        sentence = "" if _contradicts(target.text, mask, regions) else target.text
        zones = single_zones(sentence)
        yield Sample(image, regions, Modality.XRAY, Region.LESION, sentence, zones, target.image.name)


def _contradicts(sentence: str, mask: NDArray[np.bool_], regions: NDArray[np.uint8]) -> bool:
    """Whether a sentence has only one side and most of the mask is on the other, as in 3 % of one-sided sentences."""
    sides = set(re.findall(r"\b(left|right)\b", sentence.lower()))
    if len(sides) != 1:
        return False
    left = (regions & np.uint8(Region.PATIENT_LEFT)) > 0
    on_left = float((mask & left).sum()) / max(1, int(mask.sum()))
    return on_left < 0.5 if sides == {"left"} else on_left > 0.5


def _structures(folder: Path) -> Iterator[Sample]:
    """Radiologists' masks for 56 X-rays: both lungs, heart and mediastinum, ground-glass, consolidation."""
    names = {
        "left_lung": Region.LEFT_LUNG,
        "right_lung": Region.RIGHT_LUNG,
        "heart": Region.HEART,
        "ggo": Region.GROUND_GLASS,
        "consolidation": Region.CONSOLIDATION,
    }
    for path in _pictures(folder):
        image = windowed(load_image(path, grey=True))
        masks = {bit: _mask_or_empty(folder / "targets" / n / path.name, image.shape) for n, bit in names.items()}
        masks[Region.LESION] = masks[Region.GROUND_GLASS] | masks[Region.CONSOLIDATION]
        masks[Region.PATIENT_LEFT] = between_lungs(masks[Region.LEFT_LUNG], masks[Region.RIGHT_LUNG])
        annotated = LUNGS | PULMONARY | Region.HEART
        yield shrink(Sample(image, region_bits(masks), Modality.XRAY, annotated, name=path.name))


def _v7(folder: Path) -> Iterator[Sample]:
    for path in _pictures(folder):
        image = windowed(load_image(path, grey=True))
        left = _mask_or_empty(folder / "left_lung" / path.name, image.shape)
        right = _mask_or_empty(folder / "right_lung" / path.name, image.shape)
        sides = {Region.LEFT_LUNG: left, Region.RIGHT_LUNG: right, Region.PATIENT_LEFT: between_lungs(left, right)}
        yield shrink(Sample(image, region_bits(sides), Modality.XRAY, LUNGS, name=path.name))


def between_lungs(left: NDArray[np.bool_], right: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The patient's left half plane, beyond the column midway between the inner thirds of the lungs."""
    width = left.shape[1]
    if not (left.any() and right.any()):
        return np.broadcast_to(np.arange(width) >= width / 2, left.shape)
    split = (np.percentile(np.nonzero(left)[1], 10) + np.percentile(np.nonzero(right)[1], 90)) / 2
    return np.broadcast_to(np.arange(width) >= split, left.shape)


def _monuseg(folder: Path) -> Iterator[Sample]:
    for target in load_targets(folder, "Train"):
        yield from nuclei_samples(target)


def _dsb(folder: Path) -> Iterator[Sample]:
    for path in _pictures(folder):
        target = Target(path, folder / "labelcol" / f"{path.stem}.png", "", Modality.HISTOLOGY)
        yield from nuclei_samples(target)


def nuclei_samples(target: Target) -> Iterator[Sample]:
    """A histology tile at every training resolution."""
    mask = target.load_mask()
    regions, name = region_bits({Region.NUCLEI: mask}), target.image.name
    whole = Sample(target.load_image(), regions, Modality.HISTOLOGY, Region.NUCLEI, target.text, name=name)
    for scale in HISTOLOGY_SCALES:
        side = round(scale * max(mask.shape))
        if side >= 128 or scale == 1.0:
            yield shrink(whole, side)
    smallest = round(HISTOLOGY_SCALES[-1] * max(mask.shape))
    if smallest >= 128:
        blurred = _resize(shrink(whole, smallest).image, ENLARGED)
        yield replace(shrink(whole, max(blurred.shape)), image=blurred)


def _resize(image: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Enlarge (h, w) or (h, w, 3) bilinearly."""
    pixels = torch.from_numpy(np.atleast_3d(image).copy()).permute(2, 0, 1)[None].float()
    large = functional.interpolate(pixels, scale_factor=factor, mode="bilinear", align_corners=False)
    enlarged = large[0].permute(1, 2, 0).round().to(torch.uint8).numpy()
    return enlarged if image.ndim == 3 else enlarged[..., 0]


def _bjorke(folder: Path) -> Iterator[Sample]:
    for target in load_targets(folder, "Train"):
        labels = load_levels(target.mask.parent.parent / "label_multi" / target.mask.name)
        image = target.load_image()
        masks = {Region.LESION: labels > 0, Region.GROUND_GLASS: labels == 1, Region.CONSOLIDATION: labels == 2}
        masks |= weak_ct_lungs(image, masks[Region.LESION])
        annotated = PULMONARY | (LUNGS if masks[Region.LEFT_LUNG].any() else Region(0))
        regions = region_bits(masks)
        zones, name = single_zones(target.text), target.image.name
        yield shrink(Sample(image, regions, Modality.CT, annotated, target.text, zones, name))


def _unlabelled_ct(folder: Path) -> Iterator[Sample]:
    """Slices without lesion labels, with weak labels of the lungs."""
    for path in _pictures(folder, within=""):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            image = load_image(path, grey=True)
            masks = weak_ct_lungs(image, np.zeros(image.shape, bool))
            if masks[Region.LEFT_LUNG].any() and masks[Region.RIGHT_LUNG].any():
                yield shrink(Sample(image, region_bits(masks), Modality.CT, LUNGS, name=path.name))


def _liver_ct(folder: Path) -> Iterator[Sample]:
    """Three slices of one patient at the level of the liver, with clear lung bases."""
    for path in sorted(folder.glob("0*.dcm")):
        voxels = read_volume(path).array
        inside = voxels[(0, *body_box(voxels).slices)]
        image = np.round(apply_window(inside, CT_LUNG_WINDOW) * 255).astype(np.uint8)
        masks = weak_ct_lungs(image, np.zeros(image.shape, bool))
        yield shrink(Sample(image, region_bits(masks), Modality.CT, LUNGS | PULMONARY, name=path.name))


def weak_ct_lungs(image: NDArray[np.uint8], lesions: NDArray[np.bool_]) -> dict[Region, NDArray[np.bool_]]:
    """Weak labels of the lungs in a lung-window slice, by threshold, hole filling and a split.

    The lungs are large dark components (with known lesions) that contain no corner of the picture; the published slices
    are cropped so tightly that lungs reach the border, but never a corner.

    Args:
        image: (h, w), patient right on the left of the picture.
        lesions: (h, w), known lesions, which belong to the lungs although they are bright.

    Returns:
        Left lung, right lung and the patient's left half plane; empty if the lungs could not be separated.
    """
    smooth = ndimage.gaussian_filter(image.astype(np.float32), 1.0)
    parts, count = ndimage.label((smooth < otsu_threshold(smooth)) | lesions)
    corners = {parts[0, 0], parts[0, -1], parts[-1, 0], parts[-1, -1]}
    areas = np.bincount(parts.ravel(), minlength=count + 1)
    large = [n for n in range(1, count + 1) if n not in corners and areas[n] > 0.02 * image.size]
    lungs = np.isin(parts, large)
    nothing = np.zeros(image.shape, bool)
    midline = _midline(lungs)
    left_half = np.broadcast_to(np.arange(image.shape[1]) >= midline, image.shape)
    left, right = nothing.copy(), nothing.copy()
    for part in (parts == n for n in large):
        share = (part & left_half).sum() / part.sum()
        left |= part if share > 0.8 else part & left_half if share > 0.2 else nothing
        right |= part if share < 0.2 else part & ~left_half if share < 0.8 else nothing
    if min(left.sum(), right.sum()) < 0.04 * image.size:
        left, right = nothing, nothing
    sides = {Region.LEFT_LUNG: _solid(left), Region.RIGHT_LUNG: _solid(right) & ~_solid(left)}
    return {**sides, Region.PATIENT_LEFT: left_half}


def _midline(lungs: NDArray[np.bool_]) -> float:
    """The column between the lungs: the one with fewest pixels in the middle third of their extent."""
    columns = np.nonzero(lungs.any(axis=0))[0]
    if not columns.size:
        return lungs.shape[1] / 2
    first, last = columns[0], columns[-1]
    middle = np.arange(first + (last - first) // 3, last - (last - first) // 3 + 1)
    filled = ndimage.uniform_filter1d(lungs.sum(axis=0).astype(float), 9)[middle]
    centre = np.abs(middle - (first + last) / 2) / lungs.shape[1]
    return float(middle[np.argmin(filled / lungs.shape[0] + centre)])


def _solid(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Fill in vessels and small lesions."""
    padded = np.pad(mask, 8)
    closed = ndimage.binary_closing(padded, ndimage.generate_binary_structure(2, 1), iterations=6)
    return ndimage.binary_fill_holes(closed)[8:-8, 8:-8]


def otsu_threshold(image: NDArray[np.float32]) -> float:
    """The grey level that separates dark from bright with the largest between-class variance (Otsu 1979)."""
    counts, edges = np.histogram(image, bins=128)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(centres[int(np.nanargmax(between))])


def _mask_or_empty(path: Path, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    return load_levels(path) > 0 if path.is_file() else np.zeros(shape[:2], bool)


def region_bits(masks: Mapping[Region, NDArray[np.bool_]]) -> NDArray[np.uint8]:
    """(h, w) bits of masks (h, w)."""
    regions = np.zeros(next(iter(masks.values())).shape, np.uint8)
    for bit, mask in masks.items():
        regions[mask] |= np.uint8(bit)
    return regions


def windowed(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture as the model sees it in use: percentile window, 8 bits."""
    shown = apply_window(image, percentile_window(image, (0.5, 99.5)))
    return np.round(shown * 255).astype(np.uint8)


def shrink(sample: Sample, longest: int = LONGEST_SIDE) -> Sample:
    """The sample with its longer side at most `longest` pixels; regions by majority (over half of the area)."""
    height, width = sample.regions.shape
    if max(height, width) <= longest:
        return sample
    size = (round(height * longest / max(height, width)), round(width * longest / max(height, width)))
    bits = np.stack([(sample.regions & bit) > 0 for bit in Region])
    image, masks = resize(sample.image, bits, size)
    return replace(sample, image=image, regions=region_bits({bit: masks[n] for n, bit in enumerate(Region)}))


def resize(
    image: NDArray[np.uint8], masks: NDArray[np.bool_], size: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Resize an image by :func:`resize_image`, and its masks (n, h, w) by majority, to `size`."""
    areas = functional.interpolate(torch.from_numpy(masks)[None].float(), size, mode="area")[0].numpy()
    return resize_image(image, size), areas >= 0.5


def resize_image(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize an image (h, w) or (h, w, 3) to `size`, bilinear and anti-aliased."""
    colour = torch.from_numpy(np.atleast_3d(image).copy()).permute(2, 0, 1)[None].float()
    resized = functional.interpolate(colour, size, mode="bilinear", antialias=True)[0].permute(1, 2, 0)
    pixels = resized.round().clamp(0, 255).to(torch.uint8).numpy()
    return pixels if image.ndim == 3 else pixels[..., 0]


SOURCES: Mapping[str, tuple[tuple[Callable[[Path], Iterator[Sample]], str], ...]] = {
    "qata": ((_qata, "qata_cov19_v2_2"),),
    "structures": ((_structures, "covid_cxr_structures/train"), (_v7, "cxr_lungs_v7")),
    "monuseg": ((_monuseg, "monuseg_2"),),
    "stained": ((_dsb, "dsb2018/stained"),),
    "ct_lesions": ((_bjorke, "MosMedDataPlus_bjorke"),),
    "ct_lungs": ((_unlabelled_ct, "unlabelled_ct"),),
    "lung_bases": ((_liver_ct, "../samples/ct_liver_dcmqi"),),
}
"""By group: a loader and the folder that it reads, below the folder of all data."""
