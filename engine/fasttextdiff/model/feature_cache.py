"""A cache of image features within a memory budget. Knows arrays and keys; knows nothing about images or models."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Maps = Sequence[NDArray[np.float16]]
"""Maps of one image, (width, h, w) for each scale, coarsest first. Runtimes round them to float16 before every use, so
that a hit of the cache gives the same bits as a miss."""
LARGEST = float(np.finfo(np.float16).max)
"""Larger values are clipped before rounding."""


@dataclass(frozen=True)
class _Entry:
    """The maps of one image, and small arrays that were computed from them."""

    maps: Maps
    attached: dict[Hashable, NDArray[Any]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return sum(array.nbytes for array in (*self.maps, *self.attached.values()))


class FeatureCache:
    """Least-recently-used cache on the CPU; each entry holds the feature maps of one image.

    Within a pass over the slices of a volume, nothing is dropped that the pass itself used. Else a volume larger than
    the cache would drop every slice just before the next pass asks for it.

    Args:
        budget: bytes; an entry larger than the whole budget is not kept.
    """

    def __init__(self, budget: int) -> None:
        self.budget, self.used = budget, 0
        self.hits, self.misses = 0, 0
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._in_pass: set[Hashable] = set()

    def start_pass(self) -> None:
        """Start a pass over images; entries of earlier passes may be dropped for it."""
        self._in_pass = set()

    def get(self, key: Hashable) -> Maps | None:
        """The maps stored under a key, or None."""
        entry = self._entries.get(key)
        if entry is None:
            self.misses += 1
            return None
        self.hits += 1
        self._entries.move_to_end(key)
        self._in_pass.add(key)
        return entry.maps

    def put(self, key: Hashable, maps: Maps) -> None:
        """Store the maps of an image, if dropping the least recently used ones of earlier passes makes room."""
        entry = _Entry(maps)
        if entry.size > self.budget or key in self._entries:
            return
        while self.used + entry.size > self.budget:
            oldest = next(iter(self._entries))
            if oldest in self._in_pass:
                return
            self.used -= self._entries.pop(oldest).size
        self._entries[key] = entry
        self._in_pass.add(key)
        self.used += entry.size

    def attach(self, key: Hashable, name: Hashable, array: NDArray[Any]) -> None:
        """Keep a small array with the maps of an image, for as long as these are kept, if they are and there is room.

        Args:
            key: of the maps.
            name: of the array.
            array: computed from the maps.
        """
        entry = self._entries.get(key)
        if entry is not None and name not in entry.attached and self.used + array.nbytes <= self.budget:
            entry.attached[name] = array
            self.used += array.nbytes

    def attached(self, key: Hashable, name: Hashable) -> NDArray[Any] | None:
        """The array that was attached to the maps under a name, or None."""
        entry = self._entries.get(key)
        return None if entry is None else entry.attached.get(name)

    def clear(self) -> None:
        """Remove all entries."""
        self._entries.clear()
        self._in_pass.clear()
        self.used = 0
