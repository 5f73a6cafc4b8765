"""Bilinear resampling of images and maps. Knows arrays; knows nothing about windows or models."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse


def resampled(images: NDArray[np.float32], size: tuple[int, int], *, antialias: bool) -> NDArray[np.float32]:
    """Resample the last two axes with pixel areas aligned, as `torch.nn.functional.interpolate` does.

    Args:
        images: (..., h, w).
        size: new (rows, columns).
        antialias: whether the filter is widened when an image shrinks, so that fine structures are averaged.

    Returns:
        (..., *size) float32.
    """
    rows, columns = (_weights(old, new, antialias) for old, new in zip(images.shape[-2:], size, strict=True))
    planes = images.reshape(-1, *images.shape[-2:])
    out = np.empty((len(planes), *size), np.float32)
    for plane, result in zip(planes, out, strict=True):
        result[:] = (columns @ (rows @ plane).T).T
    return out.reshape(*images.shape[:-2], *size)


@lru_cache(maxsize=64)
def _weights(old: int, new: int, antialias: bool) -> Any:
    """The sparse matrix (new, old) that resamples an axis: a triangle filter around each new pixel's centre."""
    scale = old / new
    reach = max(scale, 1.0) if antialias else 1.0
    centers = (np.arange(new) + 0.5) * scale
    if not antialias:  # beyond the outermost centres the border is repeated
        centers = centers.clip(0.5, old - 0.5)
    taps = int(2 * np.ceil(reach) + 1)
    pixels = np.floor(centers - reach).astype(int)[:, None] + np.arange(taps)
    weights = (1 - np.abs((pixels + 0.5 - centers[:, None]) / reach)).clip(min=0)
    weights[(pixels < 0) | (pixels >= old)] = 0
    weights /= weights.sum(axis=1, keepdims=True)
    there = weights > 0
    rows = np.broadcast_to(np.arange(new)[:, None], pixels.shape)
    return sparse.csr_matrix((weights[there].astype(np.float32), (rows[there], pixels[there])), (new, old))
