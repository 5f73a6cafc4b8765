"""A cache of what was computed from images, within a memory budget.

Knows arrays and keys; knows nothing about images or models.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Maps = Sequence[NDArray[np.float16]]
"""Maps of one image, (width, h, w) for each scale, coarsest first. Runtimes round them to float16 before every use, so
that a hit of the cache gives the same bits as a miss."""
Arrays = Sequence[NDArray[Any]]
LARGEST = float(np.finfo(np.float16).max)
"""Larger values are clipped before rounding."""


class FeatureCache:
    """Least-recently-used cache on the CPU; an entry holds the feature maps of one image, or the outline of an organ.

    Within a pass over the slices of a volume, nothing is dropped that the pass itself used. Else a volume larger than
    the cache would drop every slice just before the next pass asks for it.

    Args:
        budget: bytes; an entry larger than the whole budget is not kept.
    """

    def __init__(self, budget: int) -> None:
        self.budget, self.used = budget, 0
        self.hits, self.misses = 0, 0
        self._entries: OrderedDict[Hashable, Arrays] = OrderedDict()
        self._in_pass: set[Hashable] = set()

    def start_pass(self) -> None:
        """Start a pass over images; entries of earlier passes may be dropped for it."""
        self._in_pass = set()

    def get(self, key: Hashable) -> Arrays | None:
        """The arrays stored under a key, or None."""
        entry = self._entries.get(key)
        if entry is None:
            self.misses += 1
            return None
        self.hits += 1
        self._entries.move_to_end(key)
        self._in_pass.add(key)
        return entry

    def put(self, key: Hashable, arrays: Arrays) -> None:
        """Store the arrays of an image, if dropping the least recently used ones of earlier passes makes room."""
        size = sum(array.nbytes for array in arrays)
        if size > self.budget or key in self._entries:
            return
        while self.used + size > self.budget:
            oldest = next(iter(self._entries))
            if oldest in self._in_pass:
                return
            self.used -= sum(array.nbytes for array in self._entries.pop(oldest))
        self._entries[key] = arrays
        self._in_pass.add(key)
        self.used += size

    def clear(self) -> None:
        """Remove all entries."""
        self._entries.clear()
        self._in_pass.clear()
        self.used = 0
