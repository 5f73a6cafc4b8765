"""Compares OpenVINO's answer on this computer with PyTorch's answer from when the model was converted.

Knows one small image; loads no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from fasttextdiff.errors import one_line
from fasttextdiff.image.preprocessing import Fit
from fasttextdiff.model.runtime import Runtime
from fasttextdiff.model.settings import ModelSettings

SEED = 0
LEAST_DICE = 0.995
"""Agreement of the masks at the model's threshold."""
LARGEST_DIFFERENCE = 0.02
"""Of the mean probability of a pixel, and of presence."""
_SIDE = 96


def check_finding(settings: ModelSettings) -> str:
    """A finding that the model was taught."""
    taught = [finding.name for findings in settings.info.taught.values() for finding in findings]
    return "left lung" if not taught or "left lung" in taught else taught[0]


def check_image(settings: ModelSettings) -> NDArray[np.float32]:
    """A sketch of a chest X-ray, (1, 3, H, W) in [-1, 1]: two dark lungs in a bright body."""
    side = -(-_SIDE // settings.multiple) * settings.multiple
    y, x = np.mgrid[:side, :side] / side
    body = 0.7 - 0.3 * np.hypot(x - 0.5, y - 0.5)
    lungs = sum(expit(60 * (0.17 - np.hypot(x - centre, 0.6 * (y - 0.5)))) for centre in (0.3, 0.7))
    grey = (body - 0.5 * lungs + 0.02 * np.sin(40 * x) * np.cos(30 * y)).clip(0, 1)
    return np.repeat(2 * grey[None, None] - 1, 3, axis=1).astype(np.float32)


def problem(runtime: Runtime, check: Mapping[str, Any]) -> str:
    """What is wrong with a runtime's answer, in one line; empty if it agrees.

    Args:
        runtime: runs the model whose answer was stored.
        check: the stored answer.
    """
    image = check_image(runtime.settings)
    fit = Fit(*[image.shape[2:]] * 3)
    pixels = (image[0, 0] + 1) / 2
    try:
        maps = runtime.maps([pixels], fit, SEED)
        odds, presence = runtime.answers(maps, fit, runtime.text([check["finding"]]))
    except RuntimeError as error:
        return one_line(error)
    wanted = fit.inverse(np.array(check["odds"], np.float32)[None, None])
    ours, theirs = expit(odds), expit(wanted)
    difference = max(float(np.abs(ours - theirs).mean()), abs(float(presence[0, 0]) - check["presence"]))
    if not difference <= LARGEST_DIFFERENCE:  # also refuses NaN
        return f"its probabilities differ from PyTorch's by {difference:.3f}"
    threshold = runtime.settings.info.threshold
    dice = _dice(ours > threshold, theirs > threshold)
    return "" if dice >= LEAST_DICE else f"its mask agrees with PyTorch's only to Dice {dice:.3f}"


def _dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    total = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / total if total else 1.0
