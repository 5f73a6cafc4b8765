"""Compares OpenVINO's answer on this computer with PyTorch's answer from when the model was converted.

Knows one small image; loads no torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from fasttextdiff.errors import one_line
from fasttextdiff.image.preprocessing import Fit
from fasttextdiff.model.runtime import Runtime
from fasttextdiff.model.settings import ModelSettings

if TYPE_CHECKING:
    from fasttextdiff.model.openvino.runtime import OpenVinoRuntime

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


def problem_here(runtime: OpenVinoRuntime, check: Mapping[str, Any], kept: Path) -> str:
    """As :func:`problem`, but what has passed is not checked again at every start.

    Args:
        runtime: runs the model whose answer was stored.
        check: the stored answer.
        kept: folder that remembers what passed on this kind of processor.
    """
    content = json.dumps([runtime.identity, check], sort_keys=True)
    passed = kept / f"{hashlib.sha256(content.encode()).hexdigest()[:24]}.checked"
    if passed.is_file():
        return ""
    wrong = problem(runtime, check)
    if not wrong:
        with suppress(OSError):  # a folder that may only be read
            passed.parent.mkdir(parents=True, exist_ok=True)
            passed.touch()
    return wrong


def problem(runtime: Runtime, check: Mapping[str, Any]) -> str:
    """What is wrong with a runtime's answer, in one line; empty if it agrees.

    Args:
        runtime: runs the model whose answer was stored.
        check: the stored answer.
    """
    image = check_image(runtime.settings)
    size = (image.shape[2], image.shape[3])
    fit = Fit(size, size, size)
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
