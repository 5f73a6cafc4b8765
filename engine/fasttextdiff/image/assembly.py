"""Assembles the results of tiles and slices on the volume's grid. Knows geometry; knows nothing about networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from fasttextdiff.image.orientation import DisplayPlane
from fasttextdiff.image.preprocessing import Tile, tile_weight
from fasttextdiff.image.slices import PreparedImage


@dataclass(frozen=True)
class SliceAnswer:
    """The result of one slice for one noise sample.

    Attributes:
        probability: (F, rows, columns), one map per finding.
        presence: (F,).
    """

    probability: NDArray[np.float32]
    presence: NDArray[np.float32]

    def of(self, finding: int) -> SliceAnswer:
        """The result of one finding alone."""
        return SliceAnswer(self.probability[finding : finding + 1], self.presence[finding : finding + 1])


@dataclass
class TileBlend:
    """Log-odds of overlapping tiles, averaged with weights that fall towards the border of a tile.

    Attributes:
        odds: (F, rows, columns), weighted sum.
        weights: (rows, columns), sum of weights.
        presence: (F,), the highest of all tiles.
        only: the only tile, whose log-odds need no weights; None if there are several.
    """

    odds: NDArray[np.float32]
    weights: NDArray[np.float32]
    presence: NDArray[np.float32]
    only: Tile | None

    @classmethod
    def empty(cls, findings: int, image: PreparedImage) -> TileBlend:
        """An empty blend for one slice of an image."""
        rows, columns = image.display.display_shape[1:]
        odds, weights = np.zeros((findings, rows, columns), np.float32), np.zeros((rows, columns), np.float32)
        only = image.tiles[0] if len(image.tiles) == 1 else None
        return cls(odds, weights, np.zeros(findings, np.float32), only)

    def add(self, tile: Tile, logits: NDArray[np.float32], presence: NDArray[np.float32]) -> None:
        """Add a tile's log-odds (F, h, w) and presence (F,)."""
        rows, columns = tile.slices
        self.presence = np.maximum(self.presence, presence)
        if self.only is not None:
            self.odds[:, rows, columns] = logits
            return
        weight = tile_weight(tile.height, tile.width)
        self.odds[:, rows, columns] += logits * weight
        self.weights[rows, columns] += weight

    def answer(self) -> SliceAnswer:
        """Probabilities; 0 outside all tiles."""
        if self.only is not None:
            probability, (rows, columns) = np.zeros_like(self.odds), self.only.slices
            expit(self.odds[:, rows, columns], out=probability[:, rows, columns])
            return SliceAnswer(probability, self.presence)
        seen = self.weights > 0
        return SliceAnswer(expit(self.odds / np.where(seen, self.weights, np.float32(1))) * seen, self.presence)


@dataclass
class SliceStack:
    """Results of the requested slices on the volume's grid, filled slice by slice in display order.

    Attributes:
        display: display plane of these slices only.
        probability: (F, *display.shape), mean over the noise samples.
        disagreement: (F, *display.shape), standard deviation over the noise samples; None for one sample.
        presence: (F, slices), mean over the noise samples.
    """

    display: DisplayPlane
    probability: NDArray[np.float32]
    disagreement: NDArray[np.float32] | None
    presence: NDArray[np.float32]

    @classmethod
    def empty(cls, findings: int, image: PreparedImage) -> SliceStack:
        """An empty stack for the requested slices of an image."""
        display = image.display.of_slices(len(image.slices))
        shape = (findings, *display.shape)
        return cls(
            display,
            np.zeros(shape, np.float32),
            np.zeros(shape, np.float32) if image.samples > 1 else None,
            np.zeros((findings, len(image.slices)), np.float32),
        )

    def store(self, position: int, findings: Sequence[int], answers: Sequence[SliceAnswer]) -> None:
        """Store the mean and standard deviation of one slice over the noise samples.

        Args:
            position: index of the slice in the request.
            findings: indices of the findings.
            answers: results of these findings, one per noise sample; further results in them are not stored.
        """
        count = len(findings)
        self.presence[findings, position] = np.mean([a.presence[:count] for a in answers], axis=0)
        if self.disagreement is None:
            self._show(self.probability, position, findings, answers[0].probability[:count])
            return
        probability = np.stack([a.probability[:count] for a in answers])
        self._show(self.probability, position, findings, probability.mean(0))
        self._show(self.disagreement, position, findings, probability.std(0))

    def clear(self, padding: NDArray[np.bool_]) -> None:
        """Set the results in padding to zero; `padding` is on the grid of the requested slices."""
        self.probability[:, padding] = 0
        if self.disagreement is not None:
            self.disagreement[:, padding] = 0

    def _show(
        self, grids: NDArray[np.float32], position: int, findings: Sequence[int], slices: NDArray[np.float32]
    ) -> None:
        """Write a displayed slice of each finding, (F, rows, columns), to its place in the volume."""
        for finding, pixels in zip(findings, slices, strict=True):
            self.display.to_display(grids[finding])[position] = pixels
