"""Computes the numbers of a report, each with its 95 % interval: the content of report.json.

Knows which statistics are reported; knows nothing about models or the page.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from fasttextdiff.evaluation.bootstrap import Bootstrap, Indices, Interval, Statistics
from fasttextdiff.evaluation.calibration import Reliability, auroc, spearman
from fasttextdiff.evaluation.caption_baseline import CaptionBaseline
from fasttextdiff.evaluation.metrics import Score, groups_by_text, protocol_i, protocol_p
from fasttextdiff.evaluation.report_measure import UNCERTAINTIES, Measurement, TargetResult
from fasttextdiff.evaluation.side_control import Answer, summary


def report_numbers(
    measured: Measurement, baseline: tuple[CaptionBaseline, Sequence[Score]] | None, *, seed: int = 0
) -> dict[str, Any]:
    """All numbers as JSON values; null if a number is not defined.

    Args:
        measured: at least one case.
        baseline: the caption-only baseline and its scores; None without a training split.
        seed: seed of the bootstrap.
    """
    cases = measured.cases
    bootstrap = Bootstrap([case.target.image for case in cases], seed)
    true = [case.by_text["true"] for case in cases]
    content = {
        "n": len(cases),
        "n_images": len({case.target.image for case in cases}),
        "n_empty": sum(score.truth_px == 0 for score in true),
        "protocols": {
            "native": _both_pools(bootstrap, true),
            "published": _both_pools(bootstrap, [case.published for case in cases]),
        },
        "findings": _findings(cases, true, seed),
        "texts": {mode: _text_mode(bootstrap, cases, mode) for mode in cases[0].by_text},
        "caption_baseline": None if baseline is None else _baseline(bootstrap, *baseline, true),
        "calibration": _calibration(bootstrap, measured),
        "sides": _sides(measured.answers, seed) if measured.answers else None,
        "images": [_case_numbers(case) for case in cases],
    }
    plain: dict[str, Any] = _plain(content)
    return plain


def _both_pools(bootstrap: Bootstrap, scores: Sequence[Score]) -> dict[str, dict[str, Interval]]:
    return {
        "I": bootstrap.intervals(lambda cases: protocol_i(_chosen(scores, cases))),
        "P": bootstrap.intervals(lambda cases: protocol_p(_chosen(scores, cases))),
    }


def _chosen(scores: Sequence[Score], cases: Indices) -> list[Score]:
    return [scores[n] for n in cases]


def _findings(cases: Sequence[TargetResult], true: Sequence[Score], seed: int) -> dict[str, dict[str, Any]]:
    """Protocol I of each finding; empty if texts are sentences about whole images."""
    if not all(case.target.of_finding for case in cases):
        return {}
    groups = groups_by_text(true, [case.target for case in cases])
    return {text: {"n": len(group), **_of_group(group, seed)} for text, group in groups.items()}


def _of_group(group: Sequence[Score], seed: int) -> dict[str, Interval]:
    bootstrap = Bootstrap([score.image for score in group], seed)
    return bootstrap.intervals(lambda cases: protocol_i(_chosen(group, cases)))


def _text_mode(bootstrap: Bootstrap, cases: Sequence[TargetResult], mode: str) -> dict[str, Any]:
    scores, true = [case.by_text[mode] for case in cases], [case.by_text["true"] for case in cases]
    changed = sum(score.text != own.text for score, own in zip(scores, true, strict=True))
    return {"n_changed": changed, **bootstrap.intervals(_against_true(scores, true))}


def _against_true(scores: Sequence[Score], true: Sequence[Score]) -> Statistics:
    """Dice in both pools, and its difference to that of the true texts on the same images."""

    def statistics(cases: Indices) -> dict[str, float]:
        chosen, own = _chosen(scores, cases), _chosen(true, cases)
        dice_i, dice_p = protocol_i(chosen)["dice"], protocol_p(chosen)["dice"]
        return {"dice_i": dice_i, "difference_i": dice_i - protocol_i(own)["dice"], "dice_p": dice_p}

    return statistics


def _baseline(
    bootstrap: Bootstrap, baseline: CaptionBaseline, scores: Sequence[Score], true: Sequence[Score]
) -> dict[str, Any]:
    return {
        "level": baseline.level,
        "n_train": baseline.n_train,
        "n_unknown": sum(score.text not in baseline.by_caption for score in scores),
        **bootstrap.intervals(_against_true(scores, true)),
    }


def _calibration(bootstrap: Bootstrap, measured: Measurement) -> dict[str, Any]:
    sampled = [case.sampled for case in measured.cases]
    scores = [one.score for one in sampled]
    return {
        **bootstrap.intervals(lambda cases: {"dice_i": protocol_i(_chosen(scores, cases))["dice"]}),
        "uncertainty": {kind: _uncertainty(bootstrap, measured, kind) for kind in UNCERTAINTIES},
        "pixels": _curve(measured.pixels.everywhere),
        "pixels_at_border": _curve(measured.pixels.at_border),
    }


def _uncertainty(bootstrap: Bootstrap, measured: Measurement, kind: str) -> dict[str, Any]:
    sampled = [case.sampled for case in measured.cases]
    uncertainty = np.array([one.uncertainty[kind] for one in sampled])
    loss = np.array([1 - one.score.dice for one in sampled])
    borders = np.array([one.border_auroc[kind] for one in sampled])

    def statistics(cases: Indices) -> dict[str, float]:
        there = borders[cases][~np.isnan(borders[cases])]
        return {
            "spearman": spearman(uncertainty[cases], loss[cases]),
            "border_auroc": float(there.mean()) if there.size else float("nan"),
        }

    return {
        **bootstrap.intervals(statistics),
        "n_borders": int((~np.isnan(borders)).sum()),
        "border_auroc_pooled": measured.pixels.auroc[kind].value(),
    }


def _curve(reliability: Reliability) -> dict[str, Any]:
    return {"n": int(reliability.n.sum()), "ece": reliability.expected_error(), "bins": reliability.rows()}


def _sides(answers: Sequence[Answer], seed: int) -> dict[str, Any]:
    """How well words steer to a side, and the calibration of presence."""
    presence = np.array([answer.presence for answer in answers])
    there = np.array([answer.there for answer in answers])

    def statistics(cases: Indices) -> dict[str, float]:
        steering = summary([answers[n] for n in cases])
        return {
            **{name: steering[name] for name in ("dice", "wrong_side", "absent_empty")},
            "presence_auroc": auroc(presence[cases], there[cases]),
        }

    reliability = Reliability()
    reliability.add(presence, there)
    return {
        "n_there": int(there.sum()),
        "n_absent": int((~there).sum()),
        **Bootstrap([answer.image for answer in answers], seed).intervals(statistics),
        "presence": _curve(reliability),
    }


def _case_numbers(case: TargetResult) -> dict[str, Any]:
    true = case.by_text["true"]
    return {
        "image": true.image,
        "text": true.text,
        "truth_px": true.truth_px,
        "mask_px": true.mask_px,
        "dice": {mode: score.dice for mode, score in case.by_text.items()},
        "asked": {mode: score.text for mode, score in case.by_text.items()},
        "dice_published": case.published.dice,
        "dice_sampled": case.sampled.score.dice,
        "uncertainty": case.sampled.uncertainty,
        "border_auroc": case.sampled.border_auroc,
    }


def _plain(value: Any) -> Any:
    """Convert intervals and NaN, which JSON does not have."""
    if isinstance(value, Interval):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and math.isnan(value) else value
