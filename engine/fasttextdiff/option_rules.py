"""Valid values of segmentation options and training settings: one rule each, for the CLI, library, batch and worker.

Knows neither images nor models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fasttextdiff.contract.images import PLANES
from fasttextdiff.errors import UsageError

_LARGEST_SEED = 2**63 - 1
"""The largest seed of torch's generators and of a result's provenance."""
_COUNTS = {
    "samples": (1, 1000),
    "workers": (1, 256),
    "repeats": (1, 1000),
    "steps": (0, 10**9),
    "size": (16, 2048),
    "batch": (1, 4096),
    "prompts": (2, 64),
    "vocabulary": (300, 250_000),
    "presence_batches": (0, 100_000),
    "calibration_batches": (0, 100_000),
}
"""Minimum and maximum. A typing error above the maximum would seem to hang, or fill the memory."""
_SMALLEST, _LARGEST = 1e-37, 3e38
"""Range of float32, in which a window is applied."""


def check_options(**options: Any) -> None:
    """Refuse invalid option values before any work is done.

    Args:
        **options: slices, plane, samples, seed, threshold, window, slice_by_slice and try_anyway as for
            :meth:`Segmenter.segment`, and the counts of batches, trainings and benchmarks; None if not given.

    Raises:
        UsageError: a value is out of range, of the wrong type, or not finite.
    """
    for name, value in options.items():
        is_right, rule = _RULES[name]
        if value is not None and not is_right(value):
            shown = _SEPARATORS[name].join(map(str, value)) if name in _SEPARATORS and _is_pair(value) else repr(value)
            raise UsageError(f"'{name}' must be {rule}, got {shown:.60}")


_SEPARATORS = {"slices": ":", "window": ","}


def _is_whole(value: object, least: int, most: float = float("inf")) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and least <= int(value) <= most


def _whole(least: int, most: int) -> tuple[Callable[[Any], bool], str]:
    """Check for a whole number in a range, and the rule in words."""
    return lambda value: _is_whole(value, least, most), f"a whole number from {least} to {most}"


def _is_number(value: object) -> bool:
    if not isinstance(value, (int, float, np.integer, np.floating)) or isinstance(value, bool):
        return False
    return bool(-_LARGEST < value < _LARGEST)


def _is_pair(value: object) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == 2


_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "slices": (
        lambda s: _is_pair(s) and _is_whole(s[0], 0) and _is_whole(s[1], 1) and s[0] < s[1],
        "A:B, two whole numbers with A below B, from 0",
    ),
    "plane": (lambda plane: plane in PLANES, " or ".join(PLANES)),
    **{name: _whole(*limits) for name, limits in _COUNTS.items()},
    "seed": (lambda seed: _is_whole(seed, 0, _LARGEST_SEED), "a whole number from 0 to 2^63 - 1"),
    "threshold": (lambda threshold: _is_number(threshold) and 0 < threshold < 1, "a number between 0 and 1"),
    "slice_by_slice": (lambda value: isinstance(value, bool), "true or false"),
    "try_anyway": (lambda value: isinstance(value, bool), "true or false"),
    "window": (
        lambda w: _is_pair(w) and all(map(_is_number, w)) and w[1] > _SMALLEST,
        "LEVEL,WIDTH, two finite numbers with a width above 0",
    ),
}


def check_training(run: Any, where: str) -> None:
    """Refuse training settings that cannot work, before days are spent on NaN or unchanged weights.

    Args:
        run: a :class:`~fasttextdiff.training.config.TrainingConfig`.
        where: the configuration file, for the message.

    Raises:
        UsageError: a number is not finite, out of range or of the wrong type, or the optimiser is unknown.
    """
    for name, value, is_right, rule in _training_numbers(run):
        if not is_right(value):
            raise UsageError(f"{where}: '{name}' must be {rule}, got {value!r:.60}")


def _training_numbers(run: Any) -> Iterator[tuple[str, Any, Callable[[Any], bool], str]]:
    """(name, value, check, rule in words) of every number, and of the optimiser."""
    yield "optimizer", run.optimizer, lambda name: name in ("adamw", "muon"), "adamw or muon"
    yield "learning_rate", run.learning_rate, lambda rate: _is_number(rate) and 0 < rate <= 1, "above 0 and at most 1"
    yield "ema", run.ema, lambda decay: _is_number(decay) and 0 <= decay < 1, "0 or more and below 1"
    for name in ("text_learning_rate", "weight_decay", "cooldown"):
        yield name, getattr(run, name), lambda share: _is_number(share) and 0 <= share <= 1, "a number from 0 to 1"
    shares = {f"mixture: {name}": share for name, share in run.mixture.items()}
    weights = {name: getattr(run, name) for name in ("denoising_weight", "presence_weight")}
    for name, value in {**shares, **weights}.items():
        yield name, value, lambda weight: _is_number(weight) and weight >= 0, "a finite number, 0 or more"
    for name in ("warmup", "seed"):
        yield name, getattr(run, name), lambda count: _is_whole(count, 0, _LARGEST_SEED), "a whole number, 0 or more"
    for name in ("prompts", "presence_batches", "calibration_batches"):
        yield name, getattr(run, name), *_RULES[name]
    if run.labels is not None:
        yield "labels", run.labels, lambda images: _is_whole(images, 1), "a whole number, 1 or more"
    yield "checkpoint_every", run.checkpoint_every, lambda steps: _is_whole(steps, 1), "a whole number, 1 or more"
    for stage in run.stages:
        for name in ("steps", "size", "batch"):
            yield name, getattr(stage, name), *_RULES[name]
