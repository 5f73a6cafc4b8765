"""Corrects a finding on one slice of a volume by strokes, from the slice's cached maps; nothing is learned.

Knows volumes and tiles; `teaching.strokes` corrects each tile. Knows nothing about where strokes are drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import expit, logit

from fasttextdiff.contract.segments import SLICE_BY_SLICE, is_there
from fasttextdiff.errors import UsageError
from fasttextdiff.image.preprocessing import tile_weight
from fasttextdiff.image.slices import PreparedImage
from fasttextdiff.result import SliceResults
from fasttextdiff.segmenter import Segmenter
from fasttextdiff.teaching.adapter import Adapter
from fasttextdiff.teaching.strokes import StrokeCorrector, check_stroke

SUREST = 1e-6
"""Probabilities nearer to 0 or 1 than this count as this near, so that their log-odds are finite."""


@dataclass(frozen=True)
class Stroke:
    """One stroke on a slice.

    Attributes:
        mark: bool, the stroke's pixels on the slice's own grid: (1, j, i) for slices along k.
        present: whether the finding is there.
    """

    mark: NDArray[np.bool_]
    present: bool


class SliceCorrection:
    """The mask of one finding on one slice, corrected by strokes.

    Args:
        segmenter: with PyTorch; its model and its learned findings are only read.
        image: prepared, with a request of one slice and one noise sample.
        finding: its text; the model is asked for it even if it was not taught it.
        adapter: the learned finding that answers for it, if the segmenter uses one.
        threshold: probability above which a voxel is in the mask; None for the model's own.
        slice_by_slice: whether nothing is left out because it lies outside an organ.

    Raises:
        UsageError: the request is of several slices, or the finding cannot be read.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        image: PreparedImage,
        finding: str,
        adapter: Adapter | None = None,
        threshold: float | None = None,
        slice_by_slice: bool = False,
    ) -> None:
        if len(image.slices) != 1 or image.samples != 1:
            raise UsageError("strokes correct one slice from one noise sample: ask for these")
        self._segmenter, self._image, self._finding, self._adapter = segmenter, image, finding, adapter
        self._display = image.display.of_slices(1)
        decode = partial(segmenter.decode_slices, image, [finding], threshold=threshold, try_anyway=True)
        self._own = plain = decode(slice_by_slice=slice_by_slice)
        if plain.findings[0].consistency != SLICE_BY_SLICE:  # something may have been left out
            plain = decode(slice_by_slice=True)
        self._plain = plain.findings[0].probability
        self._left_out = (self._plain > 0) & (self._own.findings[0].probability == 0)
        self._strokes: list[Stroke] = []
        self._tiles: dict[int, StrokeCorrector] = {}

    def result(self, strokes: Sequence[Stroke]) -> SliceResults:
        """The model's own answer, corrected by these strokes; without any it is the model's own.

        What was left out of it, because it lies outside an organ, comes back only where a stroke says that it is there.

        Strokes in common with the last call are not computed again. Every stroke holds exactly. With a stroke for the
        finding it counts as present, whatever the model thinks.

        Raises:
            UsageError: a stroke is empty, on another grid, or contradicts another; the last result stays valid.
        """
        self._check(strokes)
        try:
            self._draw(strokes)
        except BaseException:  # e.g. out of memory: nothing half done may stay
            self._strokes, self._tiles = [], {}
            raise
        return self._result() if self._strokes else self._own

    def _draw(self, strokes: Sequence[Stroke]) -> None:
        same = 0
        while same < min(len(strokes), len(self._strokes)) and _equal(strokes[same], self._strokes[same]):
            same += 1
        while same < len(self._strokes):
            self._undo()
        for stroke in strokes[len(self._strokes) :]:
            self._add(stroke)

    def _check(self, strokes: Sequence[Stroke]) -> None:
        for number, stroke in enumerate(strokes):
            check_stroke(
                stroke.mark, stroke.present, self._display.shape, [(s.mark, s.present) for s in strokes[:number]]
            )

    def _add(self, stroke: Stroke) -> None:
        shown = self._display.to_display(stroke.mark.astype(bool))[0]
        self._strokes.append(stroke)
        for number, tile in enumerate(self._image.tiles):
            if shown[tile.slices].any():
                self._corrector(number).add(shown[tile.slices], stroke.present)

    def _undo(self) -> None:
        stroke = self._strokes.pop()
        shown = self._display.to_display(stroke.mark.astype(bool))[0]
        for number, tile in enumerate(self._image.tiles):
            if shown[tile.slices].any():
                self._tiles[number].undo()
                if not len(self._tiles[number]):
                    del self._tiles[number]

    def _corrector(self, number: int) -> StrokeCorrector:
        if number not in self._tiles:
            (image, _), *_ = self._segmenter.windows(self._image, [self._finding])
            view = image.views(image.slices[0])[number]
            (maps,) = self._segmenter.maps(image, [view], image.seed)
            self._tiles[number] = StrokeCorrector.of(
                self._segmenter.pipeline, view.pixels(), maps, image.fit, self._finding, self._adapter
            )
        return self._tiles[number]

    def _result(self) -> SliceResults:
        (own,) = self._own.findings
        probability = self._probability(self._plain)
        probability[self._left_out & ~self._asked_for(probability > self._own.provenance.threshold)] = 0
        presence = own.presence
        if any(stroke.present for stroke in self._strokes):
            presence = np.ones_like(presence)
        there = bool(is_there(presence, self._segmenter.info.presence_threshold).all())
        mask = (probability > self._own.provenance.threshold) & there
        return replace(self._own, findings=(replace(own, probability=probability, mask=mask, presence=presence),))

    def _asked_for(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The parts of a mask that strokes for the finding touch."""
        parts, _ = ndimage.label(mask)
        marks = [parts[stroke.mark.astype(bool)] for stroke in self._strokes if stroke.present]
        found: NDArray[np.bool_] = mask & np.isin(parts, np.concatenate(marks)) if marks else np.zeros_like(mask)
        return found

    def _probability(self, own: NDArray[np.float32]) -> NDArray[np.float32]:
        """Each tile moves the model's log-odds by what its strokes changed, as far as the tile counts in the blend."""
        odds = _log_odds(own)
        shown, total = self._display.to_display(odds)[0], np.zeros(self._display.display_shape[1:], np.float32)
        moved_there = np.zeros(self._display.shape, bool)
        for tile in self._image.tiles:
            total[tile.slices] += tile_weight(tile.height, tile.width)
        for number, corrector in self._tiles.items():
            tile = self._image.tiles[number]
            moved = _log_odds(corrector.probability()) - _log_odds(corrector.uncorrected())
            shown[tile.slices] += moved * tile_weight(tile.height, tile.width) / total[tile.slices]
            self._display.to_display(moved_there)[0][tile.slices] = True
        probability: NDArray[np.float32] = np.where(moved_there, expit(odds), own)
        for stroke in self._strokes:
            probability[stroke.mark.astype(bool)] = float(stroke.present)
        return probability


def _equal(one: Stroke, other: Stroke) -> bool:
    return one.present == other.present and np.array_equal(one.mark, other.mark)


def _log_odds(probability: NDArray[np.float32]) -> NDArray[np.float32]:
    odds: NDArray[np.float32] = logit(probability.clip(SUREST, 1 - SUREST).astype(np.float32))
    return odds
