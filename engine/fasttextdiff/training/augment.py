"""Random geometry and grey levels for training samples; a mirror also swaps the sides in texts.

Knows samples; knows nothing about prompts or networks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch.nn import functional

from fasttextdiff.evaluation.datasets import swap_sides
from fasttextdiff.image.volume import Modality
from fasttextdiff.training.samples import Region, Sample

SOFT_TISSUE = 0.6
"""Grey level (0 to 1) of a CT slice in its lung window above which there is neither air nor lung."""

_MIRRORED_BITS = ((Region.LEFT_LUNG, Region.RIGHT_LUNG), (Region.RIGHT_LUNG, Region.LEFT_LUNG))


@dataclass(frozen=True)
class Geometry:
    """Ranges of random geometry for one modality.

    Attributes:
        zoom: smallest and largest magnification, drawn log-uniformly.
        rotation: largest angle, degrees.
        stretch: largest change of the aspect ratio, as a factor of 1 + stretch.
        shift: largest shift, as a share of the image.
        upside_down: whether the picture has no fixed orientation (histology), which adds vertical mirrors and rotations
            by right angles.
        close_up: share of views that show only a part of the image, from anywhere in it. A CT is often reconstructed
            for one organ; a model that never saw the heart fill a slice takes it for consolidation.
    """

    zoom: tuple[float, float]
    rotation: float
    stretch: float
    shift: float
    upside_down: bool = False
    close_up: float = 0.0


CLOSE_UP = (1.2, 2.2)
"""Smallest and largest magnification of a close-up."""

GEOMETRY = {
    Modality.XRAY: Geometry((0.85, 1.2), 10, 0.12, 0.06),
    Modality.CT: Geometry((0.65, 1.15), 10, 0.12, 0.06, close_up=0.25),
    Modality.MR: Geometry((0.8, 1.2), 10, 0.12, 0.06),
    Modality.HISTOLOGY: Geometry((0.75, 1.33), 45, 0.1, 0.0, upside_down=True),
    Modality.OTHER: Geometry((0.8, 1.2), 10, 0.12, 0.06),
}


def augment(sample: Sample, size: int, rng: Generator) -> Sample:
    """A random view of a sample as a square of `size` pixels; regions, masks, sides and words stay correct.

    Images of a patient are fitted into the square as a whole; histology is cropped at the sample's resolution.
    """
    geometry = GEOMETRY[sample.modality]
    mirror = rng.random() < 0.5 and sample.mirrored
    theta = _affine(sample, size, geometry, mirror, rng)
    image, maps = _warp(sample, size, theta)
    masks = None if sample.masks is None else maps[1:]
    moved = replace(sample, image=_grey_levels(image, sample.modality, rng), regions=maps[0], masks=masks)
    return _swap(moved) if mirror and not geometry.upside_down else moved


def _affine(sample: Sample, size: int, geometry: Geometry, mirror: bool, rng: Generator) -> torch.Tensor:
    """The 2x3 matrix from output to input in the normalised coordinates of `affine_grid`."""
    height, width = sample.regions.shape
    is_close = geometry.close_up > 0 and rng.random() < geometry.close_up
    low, high = np.log(CLOSE_UP if is_close else geometry.zoom)
    zoom = math.exp(rng.uniform(low, high))
    stretch = math.exp(rng.uniform(-1, 1) * math.log1p(geometry.stretch) / 2)
    if geometry.upside_down:
        view = size / zoom  # side of the view in pixels of the sample
        room = max(0.0, 1 - view / width), max(0.0, 1 - view / height)
    else:
        view = max(height, width) / zoom
        shift = 1 - 1 / zoom if is_close else geometry.shift
        room = shift, shift
    angle = math.radians(rng.uniform(-1, 1) * geometry.rotation)
    angle += rng.integers(4) * math.pi / 2 if geometry.upside_down else 0
    cos, sin = math.cos(angle), math.sin(angle)
    turn = np.array([[cos, -sin], [sin, cos]]) @ np.diag([-stretch if mirror else stretch, 1 / stretch])
    # the view is square in pixels; grid_sample expects fractions of each axis
    matrix = np.diag([view / width, view / height]) @ turn
    offset = np.array([rng.uniform(-1, 1) * room[0], rng.uniform(-1, 1) * room[1]])
    return torch.tensor(np.concatenate([matrix, offset[:, None]], axis=1), dtype=torch.float32)


def _warp(sample: Sample, size: int, theta: torch.Tensor) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The image, and a stack of label maps (1 + n, size, size): the regions and the masks of findings."""
    image = torch.tensor(np.atleast_3d(sample.image), dtype=torch.float32).permute(2, 0, 1)[None]
    maps = sample.regions[None] if sample.masks is None else np.concatenate([sample.regions[None], sample.masks])
    grid = functional.affine_grid(theta[None], [1, 1, size, size], align_corners=False)
    padding = "reflection" if sample.modality is Modality.HISTOLOGY else "zeros"
    warped = functional.grid_sample(image, grid, "bilinear", padding, align_corners=False)
    labels = torch.tensor(maps, dtype=torch.float32)[None]
    labels = functional.grid_sample(labels, grid, "nearest", padding, align_corners=False)
    pixels = warped[0].permute(1, 2, 0).round().to(torch.uint8).numpy()
    return pixels if sample.image.ndim == 3 else pixels[..., 0], labels[0].to(torch.uint8).numpy()


def _swap(sample: Sample) -> Sample:
    """Swap left and right in regions, sentence, findings and zones, after a mirror."""
    old = sample.regions
    kept = old & ~np.uint8(Region.LEFT_LUNG | Region.RIGHT_LUNG | Region.PATIENT_LEFT)
    for source, goal in _MIRRORED_BITS:
        kept |= np.where(old & np.uint8(source), np.uint8(goal), np.uint8(0))
    kept |= np.where(old & np.uint8(Region.PATIENT_LEFT), np.uint8(0), np.uint8(Region.PATIENT_LEFT))
    zones = {swap_sides(side): zone for side, zone in sample.zones.items()}
    findings = tuple(map(swap_sides, sample.findings))
    return replace(sample, regions=kept, sentence=swap_sides(sample.sentence), zones=zones, findings=findings)


def with_contrast(image: NDArray[np.floating[Any]], rng: Generator) -> NDArray[np.floating[Any]]:
    """A CT slice with some soft tissue as bright as blood with contrast agent.

    The research data have no contrast, and a model should not be confused by a bright heart.
    """
    coarse = torch.from_numpy(rng.normal(size=(1, 1, 6, 6)).astype(np.float32))
    field = functional.interpolate(coarse, image.shape[:2], mode="bicubic", align_corners=False)[0, 0].numpy()
    field = field.reshape(field.shape + (1,) * (image.ndim - 2))
    patches = (field > rng.uniform(0.0, 0.8)) & (image > SOFT_TISSUE)
    return np.where(patches, image + (1 - image) * np.float32(rng.uniform(0.4, 1.0)), image)


def _grey_levels(image: NDArray[np.uint8], modality: Modality, rng: Generator) -> NDArray[np.uint8]:
    """Random gamma, contrast and brightness, colour for stains, and some blur or noise."""
    x: NDArray[np.floating[Any]] = image.astype(np.float32) / 255
    spread = 0.5 if modality is Modality.CT else 0.3
    if modality is Modality.HISTOLOGY and x.ndim == 3:  # a grey tile has no stain
        x = x ** np.exp(rng.uniform(-0.25, 0.25, 3).astype(np.float32))
        x = x * rng.uniform(0.85, 1.1, 3).astype(np.float32)
    if modality is Modality.CT and rng.random() < 0.4:
        x = np.minimum(
            x * np.float32(rng.uniform(1.0, 1.8)), 1
        )  # vessels with contrast agent saturate, soft tissue may
    elif modality is Modality.CT and rng.random() < 0.5:
        x = with_contrast(x, rng)
    x = x ** np.float32(math.exp(rng.uniform(-spread, spread)))
    x = (x - 0.5) * np.float32(rng.uniform(0.8, 1.2)) + np.float32(0.5 + rng.uniform(-0.1, 0.1))
    if rng.random() < 0.3:
        x = x + rng.normal(0, rng.uniform(0.005, 0.03), x.shape).astype(np.float32)
    return np.round(np.clip(x, 0, 1) * 255).astype(np.uint8)
