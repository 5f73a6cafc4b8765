"""Chooses the consistency rule of a finding: organs have a number of parts, lesions a minimum size.

A finding that matches no rule keeps all its parts. Knows words; `image.consistency` knows voxels.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.contract.abnormalities import FOCAL as FOCAL_WORDS
from fasttextdiff.contract.abnormalities import PATCHY as PATCHY_WORDS
from fasttextdiff.contract.findings import shortened, understood
from fasttextdiff.image.consistency import ConsistencyRule, Settled, SliceGrid, settle
from fasttextdiff.segments.anatomy import Build, build_of, sides_in

_ORGAN_MM, _OTHER_MM = 3.0, 1.5
"""Smoothing along the slices. 3 mm suits organs; a nodule of 4 mm would lose half its probability."""
_NECK_MM = 3.0
_NODULE_MM3, _PATCH_MM3 = 14.0, 65.0
"""Volumes of spheres of 3 and 5 mm in diameter."""
_TOO_MUCH = 0.1
"""Removing more than this share of an organ gives a warning."""

ORGAN = ConsistencyRule(_ORGAN_MM, parts=1, neck=_NECK_MM)
ORGANS = ConsistencyRule(_ORGAN_MM, parts=2, neck=_NECK_MM)
"""The largest part of each side."""
SLENDER = ConsistencyRule(_OTHER_MM, parts=1)
"""One part, but too thin for the neck criterion."""
SLENDER_PAIR = ConsistencyRule(_OTHER_MM, parts=2)
FOCAL = ConsistencyRule(_OTHER_MM, smallest=_NODULE_MM3)
PATCHY = ConsistencyRule(_OTHER_MM, smallest=_PATCH_MM3)
UNKNOWN = ConsistencyRule(_OTHER_MM)
_RULES = {
    (Build.COMPACT, False): ORGAN,
    (Build.COMPACT, True): ORGAN,
    (Build.COMPACT_PAIR, False): ORGAN,
    (Build.COMPACT_PAIR, True): ORGANS,
    (Build.SLENDER, False): SLENDER,
    (Build.SLENDER, True): SLENDER_PAIR,
    (Build.SLENDER_PAIR, False): SLENDER,
    (Build.SLENDER_PAIR, True): SLENDER_PAIR,
}
"""By build, and whether both sides are asked for."""


def rule_of(finding: str) -> ConsistencyRule:
    """The rule for a finding in any spelling; an unknown finding keeps all its parts.

    Args:
        finding: a text in English; it has an organ's rule only if it names nothing else.
    """
    words = understood(finding).casefold()
    if FOCAL_WORDS.search(words):
        return FOCAL
    if PATCHY_WORDS.search(words):
        return PATCHY
    sides, build = sides_in(words), build_of(words)
    if build in (Build.COMPACT_PAIR, Build.SLENDER_PAIR):
        is_pair = sides not in ({"left"}, {"right"})
    else:
        is_pair = bool(sides & {"both", "bilateral"}) or sides >= {"left", "right"}
    return _RULES.get((build, is_pair), UNKNOWN)


def hold_together(
    findings: Mapping[str, str],
    probability: NDArray[np.float32],
    presence: NDArray[np.float32],
    grid: SliceGrid,
    *,
    threshold: float,
    presence_threshold: float,
    padding: NDArray[np.bool_] | None = None,
) -> dict[str, tuple[str, str]]:
    """Apply the rules of findings to their voxels, in place; see :func:`fasttextdiff.image.consistency.settle`.

    Args:
        findings: normalised findings, each with the name of the taught finding that it is as a whole, or an empty
            text: "show the liver" has the rule of "liver".
        probability: (F, k, j, i) of neighbouring slices.
        presence: (F, slices).
        grid: grid of the voxels.
        threshold: probability above which a voxel belongs to the finding.
        presence_threshold: presence below which a slice is empty.
        padding: (k, j, i), padding voxels; None if there are none.

    Returns:
        For each finding, one line on what was done, for the segment's tag, and a warning, which may be empty.
    """
    outcomes = {}
    limits = {"threshold": threshold, "presence_threshold": presence_threshold}
    for n, (finding, name) in enumerate(findings.items()):
        rule = rule_of(finding)
        if rule == UNKNOWN and name:
            rule = rule_of(name)
        done = settle(probability[n], presence[n], grid, rule, padding=padding, **limits)
        voxel_ml = grid.voxel_mm3 / 1000
        outcomes[finding] = _outcome(rule, done, voxel_ml), _warning(finding, rule, done, voxel_ml)
    return outcomes


def _outcome(rule: ConsistencyRule, done: Settled, voxel_ml: float) -> str:
    """For example "smoothed by 3 mm; largest part; left out: 12 of 0.20 ml"."""
    steps = [f"smoothed by {rule.smoothing:g} mm"] if done.is_smoothed else []
    if rule.parts:
        steps.append("largest part" if rule.parts == 1 else f"largest {rule.parts} parts")
    else:
        steps.append(f"parts from {rule.smallest:g} mm3 on" if rule.smallest else "all parts")
    if done.left_out:
        steps.append(f"left out: {done.left_out} of {done.voxels * voxel_ml:.2f} ml")
    return "; ".join(steps)


def _warning(finding: str, rule: ConsistencyRule, done: Settled, voxel_ml: float) -> str:
    """A warning if much of an organ was removed, or all of a finding; else empty."""
    if done.before and not done.kept:
        missing = f"nothing was kept of {done.before * voxel_ml:.2f} ml on single slices or in small parts"
    elif rule.parts and done.voxels > _TOO_MUCH * done.kept:
        missing = f"{done.voxels * voxel_ml:.1f} ml apart from the largest part were left out"
    else:
        return ""
    return f"'{shortened(finding)}': {missing}: compare with the image, or segment slice by slice"
