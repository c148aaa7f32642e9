from __future__ import annotations

import math

import numpy as np
import pytest

from immr.evaluation.bootstrap import difference_estimate
from immr.evaluation.paired import paired_difference

MARGIN = -0.05
WORLDS = 200


def passes(clusters: int, size: int, whole: bool, interval: object = paired_difference) -> float:
    """Share of worlds in which a version that answers 5 % fewer photos right comes out above the margin.

    It fails on photos at random, or (`whole`) on all photos of a cluster.
    """
    generator = np.random.default_rng(1)
    ids_Q = np.repeat(np.arange(clusters), size)
    right_Q, passed = np.ones(clusters * size), 0
    for seed in range(WORLDS):
        lost_Q = generator.random(clusters)[ids_Q] if whole else generator.random(clusters * size)
        worse_Q = (lost_Q > 0.05).astype(np.float64)
        passed += interval(worse_Q, right_Q, ids_Q, 200, 0.95, seed).low > MARGIN  # type: ignore[operator]
    return passed / WORLDS


@pytest.mark.parametrize(
    ("clusters", "size", "whole"),
    [(10, 1, False), (40, 1, False), (80, 1, False), (3, 20, True), (6, 20, True), (20, 5, True)],
)
def test_a_worse_version_rarely_passes_however_few_photos(clusters: int, size: int, whole: bool) -> None:
    assert passes(clusters, size, whole) <= 0.03


def test_the_bootstrap_alone_lets_a_worse_version_pass() -> None:
    assert passes(10, 1, False, difference_estimate) > 0.5
    assert passes(3, 20, True, difference_estimate) > 0.5


def test_where_nothing_differs_the_interval_is_wilsons() -> None:
    ones_Q = np.ones(100)
    estimate = paired_difference(ones_Q, ones_Q, np.arange(100), 200, 0.95, seed=0)
    assert estimate.mean == 0
    assert (-estimate.low, estimate.high, estimate.unseen) == pytest.approx((0.0384,) * 3, abs=1e-4)


def test_photos_of_one_user_that_may_fail_together_count_once() -> None:
    ones_Q = np.ones(100)
    estimate = paired_difference(ones_Q, ones_Q, np.repeat(np.arange(20), 5), 200, 0.95, seed=0)
    assert estimate.high == pytest.approx(5 * 0.0384, abs=1e-3)


def test_with_many_photos_the_interval_is_the_bootstraps() -> None:
    generator = np.random.default_rng(2)
    one_Q, other_Q = (generator.random((2, 4000)) < 0.7).astype(np.float64)
    ids_Q = np.repeat(np.arange(800), 5)
    wide = paired_difference(one_Q, other_Q, ids_Q, 500, 0.95, seed=0)
    narrow = difference_estimate(one_Q, other_Q, ids_Q, 500, 0.95, seed=0)
    assert wide.high - wide.low == pytest.approx(narrow.high - narrow.low, rel=0.01)
    assert wide.mean == narrow.mean


def test_one_cluster_has_an_infinite_interval() -> None:
    estimate = paired_difference(np.array([1.0, 0.0]), np.zeros(2), ["u", "u"], 10, 0.95, seed=0)
    assert (estimate.low, estimate.high) == (-math.inf, math.inf)
