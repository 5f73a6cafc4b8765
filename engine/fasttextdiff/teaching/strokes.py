"""Corrects the mask of one finding on one slice from a few strokes, at once and without changing the model.

Knows the cached maps of one view (a slice or a tile of it); knows nothing about volumes, caches or where strokes are
drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from fasttextdiff.errors import UsageError
from fasttextdiff.image.preprocessing import Fit
from fasttextdiff.model.fusion import FusionHead, foreground_logit
from fasttextdiff.model.pipeline import FastTextDiffPipeline
from fasttextdiff.model.text_encoder import TextStates
from fasttextdiff.teaching.adapter import Adapter
from fasttextdiff.teaching.decoder import batch_of, hidden_of
from fasttextdiff.teaching.grids import from_input, grey_input, marked

SURE = 4.0
"""Log-odds that a stroke asks for, and bound of the model's own, so that strokes can turn a confident error."""
NOISE = 0.3
"""Variance of a stroke's log-odds: neighbouring strokes are averaged rather than followed to the pixel."""
LIKENESS = 1.0
"""Variance of the likeness of features; features have a mean square norm of 1."""
REACH = 0.1
"""Largest reach of a stroke, as a share of the longer side, in addition to its own length."""
LEAST_REACH = 3.0
"""Least reach of a stroke, in pixels of the model's input."""
EDGE_COST = 30.0
"""Cost of crossing an edge of the image (grey levels 0 to 1, gradient per pixel), in pixels."""
BORDER_COST = 10.0
"""Cost of crossing an edge of the model's probability."""
MOST = 60.0
"""Bound of log-odds, beyond which a probability is 0 or 1 in any case."""
POINTS = 8
"""Pixels of a stroke that are compared with the others."""
MOST_ITERATIONS = 10_000
"""Bound of the solver, which otherwise gives up after three times as many steps as there are pixels of strokes."""


@dataclass(frozen=True)
class Influence:
    """Where one stroke acts.

    Attributes:
        points: indices of its pixels on the head's grid, flat.
        sign: 1 for the finding, -1 against it.
        reach: (pixels, points) from 0 to 1, near and alike.
    """

    points: NDArray[np.intp]
    sign: int
    reach: Tensor


class StrokeCorrector:
    """The mask of one finding on one view, corrected by strokes.

    The log-odds of the slice are modelled as a Gaussian process with the model's answer as its mean: each stroke
    observes them at its pixels, and pixels that are near and look alike follow. Gradient steps on a last linear
    layer that is drawn towards the model's answer would approach the same. "Near" is measured along paths that avoid
    edges of the image (fast marching), "alike" by the head's maps and hidden layers. Without strokes, the result is
    the model's own.

    Args:
        fusion: the head; only read.
        pixels: (h, w) or (h, w, 3) in [0, 1], the view as the model sees it.
        maps: from the runtime.
        fit: fit of the view into the model's input.
        text: token states of the finding, batch 1.
        size: (H, W) of the head's grid.
        own: (H, W) log-odds to correct, e.g. of an adapter; the model's own if None.
    """

    def __init__(
        self,
        fusion: FusionHead,
        pixels: NDArray[np.float32],
        maps: Sequence[Any],
        fit: Fit,
        text: TextStates,
        size: tuple[int, int],
        own: Tensor | None = None,
    ) -> None:
        self.fit, self.size = fit, size
        image = grey_input(pixels, fit)
        with torch.inference_mode():
            scales, hidden = batch_of(maps), hidden_of(fusion, maps, text, size)
            self.own = foreground_logit(hidden.logits)[0] if own is None else own
            self._features = _features([*scales, hidden.first, hidden.second], image, size)
            self._cost = _cost(image, self.own)
        self._strokes: list[tuple[NDArray[np.bool_], bool, Influence]] = []
        self._answers = [self._answer()]

    @classmethod
    def of(
        cls,
        pipeline: FastTextDiffPipeline,
        pixels: NDArray[np.float32],
        maps: Sequence[Any],
        fit: Fit,
        finding: str,
        adapter: Adapter | None = None,
    ) -> StrokeCorrector:
        """Correct a finding of a model, or one that was learned.

        Args:
            pipeline: the model; only read.
            pixels: as for the class, like `maps` and `fit`.
            maps: from the runtime.
            fit: fit of the view.
            finding: its text.
            adapter: the one that answers for the finding.
        """
        patch = pipeline.denoiser.plan.patch_size
        size = fit.padded[0] // patch, fit.padded[1] // patch
        text = pipeline.text_encoder.encode([adapter.card.text if adapter else finding])
        own = adapter.odds(pipeline.fusion, maps, grey_input(pixels, fit), text, size) if adapter else None
        return cls(pipeline.fusion, pixels, maps, fit, text, size, own)

    def __len__(self) -> int:
        """Number of strokes."""
        return len(self._strokes)

    def add(self, mark: NDArray[np.bool_], present: bool) -> None:
        """Add a stroke.

        Args:
            mark: (h, w), the stroke's pixels.
            present: True if the finding is there, False if it is not.

        Raises:
            UsageError: the stroke is empty, on another grid, or marks pixels of an earlier stroke of the other sign.
                After any error, the strokes are as before.
        """
        mark = np.asarray(mark)
        check_stroke(mark, present, self.fit.source, [(other, sign) for other, sign, _ in self._strokes])
        mark = mark.astype(bool)
        self._strokes.append((mark, bool(present), self._influence(mark, present)))
        try:
            self._answers.append(self._answer())
        except BaseException:  # e.g. out of memory
            self._strokes.pop()
            raise

    def undo(self) -> None:
        """Take the last stroke back.

        Raises:
            UsageError: there is none.
        """
        if not self._strokes:
            raise UsageError("there is no stroke to undo")
        self._strokes.pop()
        self._answers.pop()

    def probability(self) -> NDArray[np.float32]:
        """(h, w); exactly 1 on strokes for the finding and 0 on strokes against it."""
        return self._answers[-1].copy()

    def uncorrected(self) -> NDArray[np.float32]:
        """(h, w), the probability without any stroke."""
        return self._answers[0].copy()

    def mask(self, threshold: float = 0.5) -> NDArray[np.bool_]:
        """(h, w), where :meth:`probability` is above the threshold."""
        return self.probability() > threshold

    def _answer(self) -> NDArray[np.float32]:
        odds = from_input(self._corrected()[None, None], self.fit)
        probability = (1 / (1 + np.exp(-odds.clip(-MOST, MOST)))).astype(np.float32)
        for mark, present, _ in self._strokes:
            probability[mark] = float(present)
        return probability

    @torch.inference_mode()
    def _influence(self, mark: NDArray[np.bool_], present: bool) -> Influence:
        source = marked(mark, self.fit, self._cost.shape)
        reach = self._reach(source, present)
        near = torch.from_numpy(np.exp(-_travelled(self._cost, source, 6 * reach) / reach)).float()
        near = functional.interpolate(near[None, None], self.size, mode="area").flatten()
        points = np.flatnonzero(marked(mark, self.fit, self.size))
        points = points[np.linspace(0, len(points) - 1, min(POINTS, len(points))).astype(int)]
        chosen = self._features[:, points]
        distance = (self._features**2).sum(0)[:, None] + (chosen**2).sum(0)[None] - 2 * self._features.T @ chosen
        alike = (-distance.clamp_min(0) / (2 * LIKENESS)).exp()
        return Influence(points, 1 if present else -1, alike * near[:, None])

    def _reach(self, source: NDArray[np.bool_], present: bool) -> float:
        """How far a stroke acts, in pixels of the input: its length, and as far as it is from the present border.

        A stroke near the border moves the border; one far inside or outside makes or removes a region.
        """
        rows, columns = np.nonzero(source)
        answer = functional.interpolate(self._corrected()[None, None], self._cost.shape, mode="bilinear")[0, 0] > 0
        wrong = answer.numpy() != present
        inside = ndimage.distance_transform_edt(wrong) if not wrong.all() else np.full(wrong.shape, np.inf)
        border = float(inside[source].max())
        return max(LEAST_REACH, min(border, REACH * max(wrong.shape)) + float(np.hypot(np.ptp(rows), np.ptp(columns))))

    @torch.inference_mode()
    def _corrected(self) -> Tensor:
        """Log-odds (H, W) on the head's grid."""
        if not self._strokes:
            return self.own
        influences = [influence for _, _, influence in self._strokes]
        prior = self.own.flatten().clamp(-SURE, SURE)
        points = np.concatenate([i.points for i in influences])
        reach = torch.cat([i.reach for i in influences], dim=1)
        signs = np.concatenate([np.full(len(i.points), i.sign) for i in influences])
        missing = (SURE - signs * prior[points].numpy()).astype(np.float64)
        weights = _positive_weights(reach[points].numpy() * signs[:, None] * signs, missing)
        return (prior + reach @ torch.from_numpy((signs * weights).astype(np.float32))).view(self.size)


def check_stroke(
    mark: NDArray[Any], present: bool, shape: Sequence[int], others: Sequence[tuple[NDArray[Any], bool]]
) -> None:
    """Refuse a stroke that cannot be.

    Args:
        mark: the stroke's pixels.
        present: whether the finding is there.
        shape: of the slice.
        others: earlier strokes and their signs.

    Raises:
        UsageError: the stroke is empty, on another grid, or marks pixels of an earlier stroke of the other sign.
    """
    if mark.shape != tuple(shape):
        shown, wanted = (" x ".join(map(str, each)) for each in (mark.shape, shape))
        raise UsageError(f"the stroke is on a grid of {shown} pixels, the slice has {wanted}")
    if not mark.any():
        raise UsageError("the stroke marks no pixel of the slice: draw inside the image")
    both = sum(int(((mark != 0) & (other != 0)).sum()) for other, sign in others if bool(sign) != bool(present))
    if both:
        raise UsageError(f"{both} pixels are marked as finding and as background: undo one of the two strokes")


def _positive_weights(influence: NDArray[np.floating[Any]], missing: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights w >= 0 that minimise |influence w - missing|^2 + NOISE |w|^2.

    They are not negative, so that no stroke works against its sign to make up for others.
    """
    from scipy.optimize import nnls

    damped = np.vstack([influence, NOISE**0.5 * np.eye(len(missing))])
    weights: NDArray[np.float64] = nnls(
        damped, np.concatenate([missing, np.zeros(len(missing))]), maxiter=MOST_ITERATIONS
    )[0]
    return weights


def _features(maps: Sequence[Tensor], image: Tensor, size: tuple[int, int]) -> Tensor:
    """(channels, pixels) on the head's grid, standardised over the slice; every map has the same weight."""
    levels = functional.interpolate(image, size, mode="area")
    parts = [functional.interpolate(m, size, mode="bilinear")[0].flatten(1) for m in maps]
    parts.append(levels.flatten(2)[0])
    unit = [(p - p.mean(1, keepdim=True)) / (p.std(1, keepdim=True) + 1e-3) / len(p) ** 0.5 for p in parts]
    return torch.cat(unit) / len(unit) ** 0.5


def _cost(image: Tensor, own: Tensor) -> NDArray[np.float32]:
    """Cost of one pixel's way on the model's input grid: 1, and more across edges of image and answer."""
    probability = functional.interpolate(own.sigmoid()[None, None], image.shape[2:], mode="bilinear")
    edges, borders = (ndimage.gaussian_gradient_magnitude(x[0, 0].numpy(), 1.0) for x in (image, probability))
    cost: NDArray[np.float32] = (1 + EDGE_COST * edges + BORDER_COST * borders).astype(np.float32)
    return cost


def _travelled(cost: NDArray[np.float32], source: NDArray[np.bool_], farthest: float) -> NDArray[np.float32]:
    """Length of the cheapest path from the source to each pixel (eikonal equation, Sethian 1996)."""
    import SimpleITK

    march = SimpleITK.FastMarchingImageFilter()
    march.SetTrialPoints([(int(x), int(y)) for y, x in zip(*np.nonzero(source), strict=True)])
    march.SetStoppingValue(farthest)
    arrival: NDArray[np.float32] = SimpleITK.GetArrayFromImage(march.Execute(SimpleITK.GetImageFromArray(1 / cost)))
    return arrival
