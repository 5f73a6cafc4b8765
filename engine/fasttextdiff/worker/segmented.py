"""Writes the results of a segmentation as the contract's answer, with their arrays in files.

Knows results and messages; knows nothing about models and threads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.contract.answers import ArrayFile, FoundFinding, ProposedSlice, Segmented
from fasttextdiff.contract.segments import TERMINOLOGY_TAG
from fasttextdiff.model.info import ModelInfo
from fasttextdiff.result import FindingResult, SliceResults
from fasttextdiff.segments.tags import segment_names, segment_tags
from fasttextdiff.segments.terminology import assign_colors
from fasttextdiff.teaching.proposals import doubts, proposals

PROPOSED = 20
"""Most slices that are proposed for a look."""
FEWEST_SLICES = 3
"""Slices of a run below which none is proposed: they are all looked at anyway."""


def write_answer(
    results: SliceResults,
    folder: Path,
    info: ModelInfo,
    notes: Sequence[str],
    tags: Mapping[str, str] = MappingProxyType({}),
    axis: int = 0,
) -> Segmented:
    """Write results into a folder; no file is left if one cannot be written.

    Args:
        results: of all findings of the request, in its order.
        folder: where the arrays are written.
        info: the model.
        notes: for the user.
        tags: further tags of every segment.
        axis: the axis of the slices, which is the first one in the files.
    """
    files, provenance = _Files(folder), results.provenance
    try:
        answers = tuple(_found(results, info.presence_threshold, files, tags, axis))
    except BaseException:
        files.remove()
        raise
    review = _review(results.findings, provenance.slices, axis)
    return Segmented(provenance.slices, pair(results.findings[0].window), answers, tuple(notes), review)


def _review(found: Sequence[FindingResult], slices: tuple[int, int], axis: int) -> tuple[ProposedSlice, ...]:
    """The slices to review; a slice without neighbours is not compared with any."""
    if slices[1] - slices[0] < FEWEST_SLICES:
        return ()
    doubted = {
        one.finding: doubts(np.moveaxis(one.probability, axis, 0), np.moveaxis(one.mask, axis, 0)) for one in found
    }
    return tuple(
        ProposedSlice(slices[0] + each.slice, each.finding, each.reason, round(each.pixels, 1))
        for each in proposals(doubted, PROPOSED)
    )


def pair(window: tuple[float, float] | None) -> tuple[float, float] | None:
    """A window with Python's own numbers."""
    return None if window is None else (float(window[0]), float(window[1]))


def _found(
    results: SliceResults,
    presence_threshold: float,
    files: _Files,
    more: Mapping[str, str],
    axis: int,
) -> Iterator[FoundFinding]:
    provenance = results.provenance
    texts = [found.finding for found in results.findings]
    for n, (found, name, color) in enumerate(
        zip(results.findings, segment_names(texts), assign_colors(texts), strict=True)
    ):
        tags = {**segment_tags(found, provenance), **more}
        yield FoundFinding(
            finding=found.finding,
            name=name,
            color=color,
            terminology=tags.pop(TERMINOLOGY_TAG),  # separate, because the user may choose another
            tags=tags,
            probability=files.write(f"{n}-probability.raw", np.moveaxis(found.probability, axis, 0)),
            mask=files.write(f"{n}-mask.raw", np.moveaxis(found.mask.view(np.uint8), axis, 0)),
            presence=tuple(None if np.isnan(there) else float(there) for there in found.presence),
            presence_threshold=presence_threshold,
            threshold=provenance.threshold,
            warnings=tuple(found.warnings),
        )


class _Files:
    """The raw arrays of one answer; on an error all are removed.

    Args:
        folder: where they are written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written: list[Path] = []

    def write(self, name: str, array: NDArray[Any]) -> ArrayFile:
        """Write an array in C order; return its description."""
        path = self._folder / name
        self._written.append(path)
        array.tofile(path)
        return ArrayFile(path, array.dtype.name, array.shape)

    def remove(self) -> None:
        """Remove all files written."""
        for path in self._written:
            path.unlink(missing_ok=True)
