"""A cache of image features within a memory budget. Knows tensors and keys; knows nothing about images or models."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

CACHE_DTYPE = torch.float16
"""Features are rounded to this dtype before every use, so that a hit gives the same bits as a miss."""


class FeatureCache:
    """Least-recently-used cache on the CPU; each entry holds the feature maps of one image.

    Args:
        budget: bytes; an entry larger than the whole budget is not kept.
    """

    def __init__(self, budget: int) -> None:
        self.budget, self.used = budget, 0
        self.hits, self.misses = 0, 0
        self._entries: OrderedDict[Hashable, list[Tensor]] = OrderedDict()

    def get(self, key: Hashable) -> list[Tensor] | None:
        """The maps stored under a key, or None."""
        entry = self._entries.get(key)
        if entry is None:
            self.misses += 1
            return None
        self.hits += 1
        self._entries.move_to_end(key)
        return entry

    def put(self, key: Hashable, features: Sequence[Tensor]) -> None:
        """Store maps from :func:`rounded`, dropping the least recently used ones to stay within the budget."""
        size = sum(f.numel() * f.element_size() for f in features)
        if size > self.budget or key in self._entries:
            return
        self._entries[key] = list(features)
        self.used += size
        while self.used > self.budget:
            _, dropped = self._entries.popitem(last=False)
            self.used -= sum(f.numel() * f.element_size() for f in dropped)

    def clear(self) -> None:
        """Remove all entries."""
        self._entries.clear()
        self.used = 0


def rounded(features: Sequence[Tensor]) -> list[Tensor]:
    """Maps in the cache's dtype, on the CPU; values are clipped to its range."""
    limit = torch.finfo(CACHE_DTYPE).max
    return [f.clamp(-limit, limit).to("cpu", CACHE_DTYPE) for f in features]
