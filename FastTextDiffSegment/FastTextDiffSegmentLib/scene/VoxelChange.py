"""Which voxels of a segment an edit changed, packed. Knows arrays, neither segments nor edits."""

import zlib
from dataclasses import dataclass, replace

import numpy as np

from .SegmentVoxels import Index, boundingBox, overlap


@dataclass(frozen=True)
class VoxelChange:
    """The voxels that an edit changed in one segment.

    Attributes:
        grid: (4, 4) of the segment, from indices (i, j, k) to the coordinates of its node, in mm.
        start: index (i, j, k) of the first voxel of the box.
        shape: size of the box along k, j and i.
        changed: the voxels that changed, packed.
        wanted: those that belong to the segment after the edit, packed.
    """

    grid: np.ndarray
    start: Index
    shape: Index
    changed: bytes
    wanted: bytes

    @classmethod
    def of(cls, grid: np.ndarray, start: Index, changed: np.ndarray, wanted: np.ndarray) -> "VoxelChange | None":
        """The change of a box (k, j, i), cut to what changed; None if nothing did."""
        box = boundingBox(changed)
        if box is None:
            return None
        k, j, i = (side.start for side in box)
        inside = changed[box]
        place = (start[0] + i, start[1] + j, start[2] + k)
        return cls(grid, place, inside.shape, packed(inside), packed(wanted[box] & inside))

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.changed) + len(self.wanted)

    def voxels(self) -> tuple[np.ndarray, np.ndarray]:
        """(changed, wanted), (k, j, i) bool each."""
        return unpacked(self.changed, self.shape), unpacked(self.wanted, self.shape)

    def inverse(self) -> "VoxelChange":
        """The change that takes this one back."""
        changed, wanted = self.voxels()
        return replace(self, wanted=packed(changed & ~wanted))

    def then(self, later: "VoxelChange") -> "VoxelChange | None":
        """Both changes as one, on an equal grid; None if they cancel out."""
        ends = [np.add(each.start[::-1], each.shape) for each in (self, later)]
        low, high = np.minimum(self.start[::-1], later.start[::-1]), np.maximum(*ends)
        shape, start = tuple(int(side) for side in high - low), tuple(int(number) for number in low[::-1])
        first, second = self.spread(start, shape), later.spread(start, shape)
        # a voxel that both changed is back where it was before the first, unless it was edited in between
        both = first[0] & second[0]
        changed = (first[0] ^ second[0]) | (both & (first[1] == second[1]))
        return VoxelChange.of(self.grid, start, changed, np.where(second[0], second[1], first[1]))

    def spread(self, start: Index, shape: Index) -> tuple[np.ndarray, np.ndarray]:
        """(changed, wanted) in a larger box."""
        target, source = overlap(start, shape, self.start, self.shape)
        changed, wanted = np.zeros(shape, bool), np.zeros(shape, bool)
        changed[target], wanted[target] = (part[source] for part in self.voxels())
        return changed, wanted


def packed(voxels: np.ndarray) -> bytes:
    """A mask in little memory; :func:`unpacked` takes it back."""
    return zlib.compress(np.packbits(voxels).tobytes(), 1)


def unpacked(part: bytes, shape: Index) -> np.ndarray:
    """The mask (k, j, i) bool of :func:`packed`."""
    bits = np.unpackbits(np.frombuffer(zlib.decompress(part), np.uint8), count=int(np.prod(shape)))
    return bits.astype(bool).reshape(shape)
