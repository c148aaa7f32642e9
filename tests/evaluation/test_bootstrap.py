from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap as scipy_bootstrap

from immr.evaluation.bootstrap import difference_interval, mean_interval, mean_intervals


def test_agrees_with_scipy() -> None:
    values_Q = np.random.default_rng(1).random(200)
    ours = mean_interval(values_Q, 4000, 0.9, seed=0)
    theirs = scipy_bootstrap(
        (values_Q,), np.mean, n_resamples=4000, confidence_level=0.9, method="percentile", rng=0
    ).confidence_interval
    assert ours.mean == pytest.approx(values_Q.mean())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.005)


def test_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(2)
    covered = 0
    for round_number in range(300):
        interval = mean_interval(generator.random(60) < 0.4, 300, 0.9, seed=round_number)
        covered += interval.low <= 0.4 <= interval.high
    assert 0.84 <= covered / 300 <= 0.95


def test_same_seed_same_interval() -> None:
    values_QM = np.random.default_rng(3).random((30, 2))
    first = mean_intervals(values_QM, 100, 0.95, seed=7)
    assert mean_intervals(values_QM, 100, 0.95, seed=7) == first
    assert mean_intervals(values_QM, 100, 0.95, seed=8) != first


def test_many_queries_go_block_by_block_and_meet_the_normal_interval() -> None:
    values_Q = np.random.default_rng(5).random(5000)
    interval = mean_interval(values_Q, 1000, 0.95, seed=0)
    half = 1.96 * values_Q.std() / np.sqrt(5000)
    expected = (values_Q.mean() - half, values_Q.mean() + half)
    assert (interval.low, interval.high) == pytest.approx(expected, abs=0.1 * half)


def test_pairing_sees_a_small_steady_gain() -> None:
    champion_Q = np.random.default_rng(4).random(100)
    difference = difference_interval(champion_Q + 0.01, champion_Q, 500, 0.95, seed=0)
    assert (difference.mean, difference.low, difference.high) == pytest.approx((0.01, 0.01, 0.01))


def test_one_query_is_enough_to_answer() -> None:
    interval = mean_interval(np.array([1.0]), 10, 0.95, seed=0)
    assert (interval.mean, interval.low, interval.high) == (1.0, 1.0, 1.0)


def test_what_makes_no_interval_is_refused() -> None:
    with pytest.raises(ValueError, match="Q ≥ 1"):
        mean_interval(np.array([]), 10, 0.95, seed=0)
    with pytest.raises(ValueError, match="confidence"):
        mean_interval(np.ones(3), 10, 1.5, seed=0)
    with pytest.raises(ValueError, match="equal shapes"):
        difference_interval(np.ones(3), np.ones(4), 10, 0.95, seed=0)
