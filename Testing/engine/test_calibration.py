"""Uncertainty measures and bootstrap intervals, compared with values computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from fasttextdiff.evaluation.bootstrap import Bootstrap
from fasttextdiff.evaluation.calibration import PooledAuroc, Reliability, auroc, near_border, slice_score, spearman
from fasttextdiff.result import entropy

RNG = np.random.default_rng(0)


def test_auroc_counts_ordered_pairs_and_half_of_the_ties():
    positive = np.array([True, True, False, False])
    assert auroc(np.array([0.9, 0.8, 0.2, 0.1]), positive) == 1
    assert auroc(np.array([0.1, 0.2, 0.8, 0.9]), positive) == 0
    assert auroc(np.array([0.5, 0.9, 0.5, 0.1]), positive) == pytest.approx((0.5 + 1 + 1 + 1) / 4)
    assert auroc(np.ones(4), positive) == 0.5
    assert np.isnan(auroc(np.ones(4), np.ones(4, bool)))


def test_auroc_over_all_pixels_equals_that_of_the_concatenated_images():
    pooled, parts = PooledAuroc(), []
    for shift in (0.0, 0.3, 0.9):
        scores = (RNG.random(500) * 0.5 + shift).astype(np.float16).astype(np.float32)
        positive = RNG.random(500) < scores
        pooled.add(scores, positive)
        parts.append((scores, positive))
    scores, positive = (np.concatenate(rows) for rows in zip(*parts, strict=True))
    assert pooled.value() == pytest.approx(auroc(scores, positive))
    assert 0.6 < pooled.value() < 0.95
    assert np.isnan(PooledAuroc().value())


def test_spearman_equals_scipys_and_is_undefined_for_a_constant():
    first, second = RNG.integers(0, 9, 60), RNG.integers(0, 9, 60)
    assert spearman(first, second + first) == pytest.approx(stats.spearmanr(first, second + first).statistic)
    assert spearman(np.array([1.0, 2, 30]), np.array([3.0, 4, 5])) == pytest.approx(1)
    assert np.isnan(spearman(np.ones(3), np.array([1.0, 2, 3])))


def test_entropy_is_one_bit_at_one_half_and_zero_at_certainty():
    assert entropy(np.float32([0, 1, 0.5, 0.25])) == pytest.approx([0, 0, 1, 0.811278], abs=1e-5)


def test_pixels_near_a_border_are_on_both_sides_but_not_at_the_images_edge():
    mask = np.zeros((40, 60), bool)
    mask[:, :30] = True
    near = near_border(mask)
    assert near.all(axis=0).nonzero()[0].tolist() == list(range(22, 38))
    assert near.any(axis=0).sum() == 16
    assert not near_border(np.ones((9, 9), bool)).any()
    assert not near_border(np.zeros((9, 9), bool)).any()


def test_a_slices_score_is_the_uncertainty_for_each_expected_pixel():
    assert slice_score(np.full((2, 2), 0.5), np.array([[1.0, 1.0], [1.0, 0.0]])) == pytest.approx(2 / 4)
    assert slice_score(np.zeros((2, 2)), np.zeros((2, 2))) == 0


def test_reliability_equals_a_hand_computed_example():
    curve = Reliability()
    curve.add(np.array([[0.1, 0.15], [1.0, 0.95]]), np.array([[False, True], [True, True]]))
    curve.add(np.array([0.95]), np.array([False]))
    low, high = curve.rows()
    assert low == pytest.approx({"from": 0.1, "to": 0.2, "n": 2, "predicted": 0.125, "observed": 0.5})
    assert high == pytest.approx({"from": 0.9, "to": 1.0, "n": 3, "predicted": 2.9 / 3, "observed": 2 / 3})
    assert curve.expected_error() == pytest.approx((2 * 0.375 + 3 * 0.3) / 5)


def test_calibrated_probabilities_have_no_calibration_error():
    probability = RNG.random(200_000)
    curve = Reliability()
    curve.add(probability, RNG.random(200_000) < probability)
    assert curve.expected_error() < 0.005
    curve.add(probability, np.zeros(200_000, bool))
    assert curve.expected_error() > 0.2


def test_an_interval_has_no_width_for_a_constant_and_the_textbook_width_for_a_mean():
    constant = Bootstrap(range(30)).intervals(lambda cases: {"mean": float(np.full(30, 0.7)[cases].mean())})["mean"]
    assert (constant.value, constant.low, constant.high) == pytest.approx((0.7, 0.7, 0.7))
    values = RNG.normal(size=400)
    mean = Bootstrap(range(400)).intervals(lambda cases: {"mean": values[cases].mean()})["mean"]
    error = 1.96 * values.std() / 20
    assert (mean.low, mean.high) == pytest.approx((values.mean() - error, values.mean() + error), abs=0.015)


def test_cases_of_one_image_are_resampled_together_and_the_seed_determines_the_draws():
    images = ["a"] * 5 + ["b"] * 5
    values = np.array([0.0] * 5 + [1.0] * 5)

    def share(cases):
        return {"share": values[cases].mean()}

    together = Bootstrap(images).intervals(share)["share"]
    assert (together.low, together.high) == (0, 1)
    apart = Bootstrap(range(10)).intervals(share)["share"]
    assert apart.low > 0
    assert Bootstrap(range(10)).intervals(share)["share"] == apart


def test_undefined_draws_do_not_count():
    def only_with_first(cases):
        return {"one": 2.0 if 0 in cases else float("nan"), "never": float("nan")}

    found = Bootstrap(range(4)).intervals(only_with_first)
    assert (found["one"].low, found["one"].high) == (2, 2)
    assert np.isnan(found["never"].low)
