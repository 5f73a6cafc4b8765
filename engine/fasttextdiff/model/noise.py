"""The diffusion noise of a seed: the same for every runtime and device.

Knows numbers only; loads no torch.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_PAIRS = 8
"""Box-Muller makes two blocks of this many normal numbers from two blocks of uniform ones."""


@lru_cache(maxsize=8)
def standard_normal(shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    """Standard normal noise that depends only on shape and seed.

    From sixteen numbers on, they are those of `torch.randn` with a CPU generator of this seed, up to rounding: models
    were trained and measured with these. torch takes the lower 24 bits of each word of a Mersenne Twister as a uniform
    number, and turns blocks of sixteen into normal numbers (Box and Muller 1958). A last, incomplete block is drawn
    again.

    Args:
        shape: of the result.
        seed: only its lower 32 bits count.

    Returns:
        float32, read-only because it is cached.
    """
    generator = np.random.RandomState(seed & 0xFFFFFFFF)
    count = math.prod(shape)
    noise = _normal(generator, -(-count // (2 * _PAIRS)))[:count]
    if count % (2 * _PAIRS) and count > 2 * _PAIRS:
        # the last sixteen numbers are replaced, because torch fills up the incomplete block in this way
        noise[-2 * _PAIRS :] = _normal(_after(seed, count), 1)
    result = noise.reshape(shape)
    result.flags.writeable = False
    return result


def _after(seed: int, count: int) -> np.random.RandomState:
    """The generator of a seed after `count` numbers."""
    generator = np.random.RandomState(seed & 0xFFFFFFFF)
    generator.bytes(4 * count)
    return generator


def _normal(generator: np.random.RandomState, blocks: int) -> NDArray[np.float32]:
    words = np.frombuffer(generator.bytes(8 * _PAIRS * blocks), "<u4")
    uniform = (words & 0xFFFFFF).astype(np.float32) * np.float32(2**-24)
    first, second = uniform.reshape(blocks, 2, _PAIRS).transpose(1, 0, 2)
    radius, angle = np.sqrt(-2 * np.log1p(-first)), np.float32(2 * math.pi) * second
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).ravel()
