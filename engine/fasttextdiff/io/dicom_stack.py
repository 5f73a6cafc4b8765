"""Combines DICOM slices into one regular stack, or says why it cannot. Knows nothing about encodings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.errors import FastTextDiffError
from fasttextdiff.io.dicom_headers import Frame, Header
from fasttextdiff.io.dicom_pixels import LPS_TO_RAS, padding_of, voxels_of

_SAME_POSITION_MM = 1e-3
_SAME_COSINE = 2e-3


@dataclass(frozen=True)
class Stack:
    """Slices sorted by position along the normal.

    Attributes:
        voxels: (k, j, i[, 3]).
        padding: (k, j, i) bool; None if there is no padding.
        ijk_to_ras: 4x4.
        frames: frame of each slice k.
        notes: what was repaired or assumed.
    """

    voxels: NDArray[Any]
    padding: NDArray[np.bool_] | None
    ijk_to_ras: NDArray[np.float64]
    frames: list[Frame]
    notes: list[str]


def read_stack(path: Path, headers: list[Header]) -> Stack:
    """Combine the slices of one series.

    Raises:
        FastTextDiffError: its slices do not form one regular stack, or belong to several acquisitions.
    """
    frames = [frame for header in headers for frame in header.frames]
    _require_one_layout(path, frames)
    voxels, padding = _gather(path, headers)
    normal = np.cross(*_unit_directions(path, frames[0]))
    order = np.argsort([np.dot(frame.position or (), normal) for frame in frames], kind="stable")
    kept = _without_duplicates(path, frames, voxels, order.tolist())
    stack = [frames[n] for n in kept]
    repairs = [f"ignored {len(frames) - len(kept)} repeated slices"] if len(kept) < len(frames) else []
    repairs += _incomplete(headers)
    _require_one_acquisition(path, stack, normal)
    step = _regular_step(path, stack, normal, repairs)
    if kept != list(range(len(frames))):
        voxels, padding = voxels[kept], None if padding is None else padding[kept]
    return Stack(voxels, padding, _stack_matrix(path, stack[0], step, repairs), stack, repairs)


def _incomplete(headers: Sequence[Header]) -> list[str]:
    """A note if a header gives more images than there are."""
    announced = max(header.in_acquisition for header in headers)
    there = len(headers)
    if there >= announced or len(headers[0].frames) > 1:
        return []
    return [f"{announced} images according to the headers, {there} found: slices may be missing"]


def _require_one_acquisition(path: Path, stack: Sequence[Frame], normal: NDArray[np.float64]) -> None:
    """Refuse interleaved acquisitions (breathing phases, kernels, energies), which are not one volume."""
    heights = [float(np.dot(frame.position or (), normal)) for frame in stack]
    for word in dict.fromkeys(word for frame in stack for word, _ in frame.acquired):
        values = [dict(frame.acquired).get(word, "") for frame in stack]
        if _interleave(values, heights):
            found = ", ".join(list(dict.fromkeys(values))[:4])
            raise FastTextDiffError(
                f"{path}: slices of {len(set(values))} acquisitions are interleaved ({word} {found}); export each "
                f"as a separate series"
            )


def _interleave(values: Sequence[str], heights: Sequence[float]) -> bool:
    """Whether groups of slices with equal values overlap; a group of one slice is not a separate acquisition."""
    groups: dict[str, list[float]] = {}
    for value, height in zip(values, heights, strict=True):
        groups.setdefault(value, []).append(height)
    spans = sorted((min(group), max(group)) for group in groups.values() if len(group) > 1)
    return any(low < end for (_, end), (low, _) in pairwise(spans))


def _require_one_layout(path: Path, frames: Sequence[Frame]) -> None:
    """Refuse a series in which a slice differs from most others in size, spacing or orientation."""
    # Rounding only serves to find the most common layout; the comparison itself has a tolerance.
    usual_key = Counter(_layout_key(frame) for frame in frames).most_common(1)[0][0]
    usual = next(frame for frame in frames if _layout_key(frame) == usual_key)
    for frame in frames:
        difference = _layout_difference(frame, usual)
        if difference:
            raise FastTextDiffError(
                f"{path}: slice {frame.name} differs from the others in {difference}; "
                f"move a localizer or a second stack out of the series"
            )


def _layout_key(frame: Frame) -> tuple[object, ...]:
    return frame.is_placed, frame.size, tuple(round(cosine, 2) for cosine in frame.orientation or ())


def _layout_difference(frame: Frame, usual: Frame) -> str:
    """What differs, in words; empty if nothing does."""
    if frame.is_placed != usual.is_placed:
        return "having a position in the patient"
    if frame.size != usual.size:
        return f"size ({frame.size[1]} x {frame.size[0]}, not {usual.size[1]} x {usual.size[0]})"
    if not np.allclose(frame.orientation or (), usual.orientation or (), rtol=0, atol=_SAME_COSINE):
        return "orientation"
    if not np.allclose(frame.spacing or (1, 1), usual.spacing or (1, 1), rtol=1e-3, atol=0):
        return "pixel spacing"
    if (frame.rescale is None) != (usual.rescale is None):
        return "having a Rescale Slope and Intercept"
    return ""


def _unit_directions(path: Path, frame: Frame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Unit vectors in LPS along which the column index and the row index grow."""
    along_row, along_column = np.reshape(frame.orientation or (), (2, 3))
    lengths = np.linalg.norm(along_row), np.linalg.norm(along_column)
    if min(lengths) < 0.5 or abs(np.dot(along_row, along_column)) > 0.01:
        raise FastTextDiffError(f"{path}: slice {frame.name} has a damaged Image Orientation; export it again")
    return along_row / lengths[0], along_column / lengths[1]


def _gather(path: Path, headers: list[Header]) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """All frames of all files, in the order of the frames' headers, and their padding."""
    frames: list[NDArray[Any]] = []
    paddings: list[NDArray[np.bool_] | None] = []
    for header in headers:
        voxels = voxels_of(header)
        if frames and voxels.shape[1:] != frames[0].shape[1:]:
            raise FastTextDiffError(f"{path}: slice {header.path.name} differs from the others in its pixel layout")
        frames.append(voxels)
        paddings.append(padding_of(header, voxels))
    voxels = np.concatenate(frames) if len(frames) > 1 else frames[0]
    if all(padding is None for padding in paddings):
        return voxels, None
    whole = [
        np.zeros(part.shape, bool) if padding is None else padding
        for part, padding in zip(frames, paddings, strict=True)
    ]
    return voxels, np.concatenate(whole)


def _without_duplicates(path: Path, frames: list[Frame], voxels: NDArray[Any], order: list[int]) -> list[int]:
    """The order without repeated slices; refuses different slices at one position."""
    kept = order[:1]
    for n in order[1:]:
        last = kept[-1]
        distance = np.linalg.norm(np.subtract(frames[n].position or (), frames[last].position or ()))
        if distance > _SAME_POSITION_MM:
            kept.append(n)
        elif not np.array_equal(voxels[n], voxels[last]):
            raise FastTextDiffError(
                f"{path}: {frames[last].name} and {frames[n].name} show different images at the same position "
                f"(time points, echoes or b-values?); export one stack alone"
            )
    return kept


def _regular_step(path: Path, stack: list[Frame], normal: NDArray[np.float64], notes: list[str]) -> NDArray[np.float64]:
    """The LPS vector from one slice to the next; refuses gaps, and slices that are not on a straight line."""
    if len(stack) == 1:
        thickness = stack[0].thickness
        notes.append(f"one slice, assumed {thickness or 1:g} mm thick{'' if thickness else ' (no thickness given)'}")
        return normal * (thickness or 1.0)
    positions = np.array([frame.position for frame in stack])
    _require_even_steps(path, stack, np.diff(positions, axis=0))
    step: NDArray[np.float64] = (positions[-1] - positions[0]) / (len(stack) - 1)
    tilt = float(np.degrees(np.arccos(min(1.0, np.dot(step, normal) / np.linalg.norm(step)))))
    if tilt > 85:
        raise FastTextDiffError(f"{path}: the slices are side by side, not behind one another; give one of them")
    if tilt > 0.1:
        notes.append(f"the stack is sheared by {tilt:.1f} degrees (gantry tilt); kept as it is")
    return step


def _require_even_steps(path: Path, stack: list[Frame], steps: NDArray[np.float64]) -> None:
    lengths = np.linalg.norm(steps, axis=1)
    usual = steps[np.argsort(lengths, kind="stable")[(len(steps) - 1) // 2]]
    distance = float(np.linalg.norm(usual))
    # 5 %; but positions are often rounded to 0.1 mm, which matters for thin slices.
    tolerance = max(0.05 * distance, min(0.1, 0.25 * distance))
    off = np.linalg.norm(steps - usual, axis=1)
    worst = int(off.argmax())
    if off[worst] > tolerance:
        raise FastTextDiffError(
            f"{path}: the slices are not evenly spaced: {lengths[worst]:.2f} mm from {stack[worst].name} "
            f"to {stack[worst + 1].name}, elsewhere {distance:.2f} mm; slices are missing or belong to another stack"
        )


def _stack_matrix(path: Path, first: Frame, step: NDArray[np.float64], notes: list[str]) -> NDArray[np.float64]:
    """The 4x4 matrix from (i, j, k) to RAS (PS3.3 section C.7.6.2.1.1, extended by the step to the next slice)."""
    along_row, along_column = _unit_directions(path, first)
    if first.spacing is None:
        notes.append("no pixel spacing given: 1 mm assumed")
    between_rows, between_columns = first.spacing or (1.0, 1.0)
    if min(between_rows, between_columns) <= 0:
        raise FastTextDiffError(f"{path}: slice {first.name} has a Pixel Spacing that is not positive; export it again")
    to_lps = np.eye(4)
    to_lps[:3, :3] = np.column_stack([along_row * between_columns, along_column * between_rows, step])
    to_lps[:3, 3] = first.position
    return LPS_TO_RAS @ to_lps
