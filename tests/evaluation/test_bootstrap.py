from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
from scipy.stats import binomtest
from scipy.stats import bootstrap as scipy_bootstrap
from scipy.stats import t as student

from immr.evaluation.bootstrap import (
    cautious_difference,
    difference_estimate,
    mean_estimate,
    mean_estimates,
    over_clusterings,
)

CLUSTERS, PER_CLUSTER, ICC = 30, 5, 0.3
IDS_Q = np.repeat(np.arange(CLUSTERS), PER_CLUSTER)


def clustered_differences(generator: np.random.Generator) -> np.ndarray:
    """Paired differences of two equal models: mean zero, with the intra-class correlation ICC."""
    shared_Q = np.repeat(generator.normal(0, math.sqrt(ICC), CLUSTERS), PER_CLUSTER)
    return shared_Q + generator.normal(0, math.sqrt(1 - ICC), CLUSTERS * PER_CLUSTER)


def false_alarms(ids_Q: np.ndarray, worlds: int = 600) -> float:
    """Share of worlds in which the lower bound claims a gain of two equal models (nominal 0.025)."""
    generator = np.random.default_rng(1)
    zeros_Q = np.zeros(len(ids_Q))
    claimed = 0
    for seed in range(worlds):
        differences_Q = clustered_differences(generator)
        claimed += difference_estimate(differences_Q, zeros_Q, ids_Q, 200, 0.95, seed).low > 0
    return claimed / worlds


def test_resampling_clusters_keeps_the_error_rate_where_resampling_photos_quadruples_it() -> None:
    assert false_alarms(IDS_Q) <= 0.035
    assert false_alarms(np.arange(len(IDS_Q))) > 0.08


def test_a_few_large_clusters_among_many_small_ones_count_as_few() -> None:
    """Two shoppers took two thirds of the photos: 42 clusters tell hardly more than four."""
    generator, sizes_C = np.random.default_rng(1), np.array([60, 60, 20, *[1] * 40])
    ids_Q, claimed = np.repeat(np.arange(len(sizes_C)), sizes_C), 0
    for seed in range(400):
        shared_Q = generator.normal(0, 1, len(sizes_C))[ids_Q]
        differences_Q = shared_Q + generator.normal(0, 1, len(ids_Q))
        claimed += mean_estimate(differences_Q, ids_Q, 200, 0.95, seed).low > 0
    assert claimed / 400 <= 0.04


def test_one_huge_cluster_among_small_ones_claims_nothing() -> None:
    values_Q, ids_Q = np.repeat([1.0, -0.1], [1000, 2]), np.repeat([0, 1, 2], [1000, 1, 1])
    estimate = mean_estimate(values_Q, ids_Q, 500, 0.95, seed=0)
    assert estimate.low == pytest.approx(-0.1) and estimate.high == 1.0


def test_independent_queries_agree_with_scipy() -> None:
    values_Q = np.random.default_rng(1).random(200)
    ours = mean_estimate(values_Q, np.arange(200), 4000, 0.9, seed=0)
    theirs = scipy_bootstrap(
        (values_Q,), np.mean, n_resamples=4000, confidence_level=0.9, method="percentile", rng=0
    ).confidence_interval
    assert ours.mean == pytest.approx(values_Q.mean())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.005)


def test_an_interval_of_few_clusters_is_as_wide_as_students_t() -> None:
    values_Q = np.random.default_rng(3).normal(size=6)
    ours = mean_estimate(values_Q, np.arange(6), 20_000, 0.9, seed=0)
    half = student.ppf(0.95, 5) * values_Q.std(ddof=1) / math.sqrt(6)
    assert ours.high - ours.low == pytest.approx(2 * half, rel=0.1)


def test_the_interval_covers_the_truth_at_its_confidence() -> None:
    generator = np.random.default_rng(2)
    covered = 0
    for seed in range(300):
        estimate = mean_estimate(generator.random(60) < 0.4, np.arange(60), 300, 0.9, seed)
        covered += estimate.low <= 0.4 <= estimate.high
    assert 0.84 <= covered / 300 <= 0.95


def test_clusters_of_different_sizes_keep_the_mean_over_queries() -> None:
    estimate = mean_estimate(np.array([1.0, 1.0, 1.0, 0.0]), ["a", "a", "a", "b"], 500, 0.95, seed=0)
    assert (estimate.mean, estimate.low, estimate.high) == (0.75, 0.0, 1.0)


def test_same_seed_same_interval() -> None:
    values_QM = np.random.default_rng(3).random((30, 2))
    first = mean_estimates(values_QM, np.arange(30), 100, 0.95, seed=7)
    assert mean_estimates(values_QM, np.arange(30), 100, 0.95, seed=7) == first
    assert mean_estimates(values_QM, np.arange(30), 100, 0.95, seed=8) != first


def test_many_clusters_are_drawn_in_blocks_and_match_the_normal_interval() -> None:
    values_Q = np.random.default_rng(5).random(5000)
    estimate = mean_estimate(values_Q, np.arange(5000), 1000, 0.95, seed=0)
    half = 1.96 * values_Q.std() / np.sqrt(5000)
    expected = (values_Q.mean() - half, values_Q.mean() + half)
    assert (estimate.low, estimate.high) == pytest.approx(expected, abs=0.1 * half)


def test_pairing_detects_a_small_constant_gain() -> None:
    champion_Q = np.random.default_rng(4).random(100)
    difference = difference_estimate(champion_Q + 0.01, champion_Q, np.arange(100), 500, 0.95, seed=0)
    assert (difference.mean, difference.low, difference.high) == pytest.approx((0.01, 0.01, 0.01))


def test_one_cluster_has_an_infinite_interval() -> None:
    estimate = mean_estimate(np.array([1.0, 0.0]), ["u", "u"], 10, 0.95, seed=0)
    assert (estimate.mean, estimate.low, estimate.high) == (0.5, -math.inf, math.inf)


def test_invalid_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="Q ≥ 1"):
        mean_estimate(np.array([]), [], 10, 0.95, seed=0)
    with pytest.raises(ValueError, match="confidence"):
        mean_estimate(np.ones(3), [0, 1, 2], 10, 1.5, seed=0)
    with pytest.raises(ValueError, match="2 cluster ids do not match 3 queries"):
        mean_estimate(np.ones(3), [0, 1], 10, 0.95, seed=0)
    with pytest.raises(ValueError, match="equal shapes"):
        difference_estimate(np.ones(3), np.ones(4), [0, 1, 2], 10, 0.95, seed=0)


MARGIN = -0.05
CANDIDATES = 200


def passes(clusters: int, size: int, whole: bool, interval: object = cautious_difference) -> float:
    """Share of worlds in which a version that answers 5 % fewer photos right comes out above the margin.

    It fails on photos at random, or (`whole`) on all photos of a cluster.
    """
    generator = np.random.default_rng(1)
    ids_Q = np.repeat(np.arange(clusters), size)
    right_Q, passed = np.ones(clusters * size), 0
    for seed in range(CANDIDATES):
        lost_Q = generator.random(clusters)[ids_Q] if whole else generator.random(clusters * size)
        worse_Q = (lost_Q > 0.05).astype(np.float64)
        passed += interval(worse_Q, right_Q, ids_Q, 200, 0.95, seed).low > MARGIN  # type: ignore[operator]
    return passed / CANDIDATES


@pytest.mark.parametrize(
    ("clusters", "size", "whole"),
    [(10, 1, False), (40, 1, False), (80, 1, False), (3, 20, True), (6, 20, True), (20, 5, True)],
)
def test_a_worse_version_rarely_passes_however_few_photos(clusters: int, size: int, whole: bool) -> None:
    assert passes(clusters, size, whole) <= 0.03


def test_the_bootstrap_alone_lets_a_worse_version_pass() -> None:
    assert passes(10, 1, False, difference_estimate) > 0.5
    assert passes(3, 20, True, difference_estimate) > 0.5


def test_where_nothing_differs_the_interval_reaches_about_as_far_as_wilsons() -> None:
    ones_Q = np.ones(100)
    estimate = cautious_difference(ones_Q, ones_Q, np.arange(100), 200, 0.95, seed=0)
    wilson = binomtest(0, 100).proportion_ci(0.95, method="wilson").high
    assert estimate.mean == 0 and estimate.high > wilson
    assert (-estimate.low, estimate.high, estimate.unseen) == pytest.approx((wilson,) * 3, rel=0.04)


def test_photos_of_one_user_that_may_fail_together_count_once() -> None:
    ones_Q = np.ones(100)
    estimate = cautious_difference(ones_Q, ones_Q, np.repeat(np.arange(20), 5), 200, 0.95, seed=0)
    assert estimate.high == pytest.approx(5 * 0.0384, abs=1e-3)


def test_with_many_photos_the_interval_is_the_bootstraps() -> None:
    generator = np.random.default_rng(2)
    one_Q, other_Q = (generator.random((2, 4000)) < 0.7).astype(np.float64)
    ids_Q = np.repeat(np.arange(800), 5)
    wide = cautious_difference(one_Q, other_Q, ids_Q, 500, 0.95, seed=0)
    narrow = difference_estimate(one_Q, other_Q, ids_Q, 500, 0.95, seed=0)
    assert wide.high - wide.low == pytest.approx(narrow.high - narrow.low, rel=0.01)
    assert wide.mean == narrow.mean


def test_a_shopper_with_nearly_all_photos_leaves_the_interval_within_what_a_metric_can_be() -> None:
    ids_Q = np.minimum(np.arange(101), 1)[::-1]
    estimate = cautious_difference(np.arange(101) % 2.0, np.zeros(101), ids_Q, 200, 0.95, seed=0)
    assert (estimate.low, estimate.high) == (-1, 1)


def test_the_difference_on_one_cluster_has_an_infinite_interval() -> None:
    estimate = cautious_difference(np.array([1.0, 0.0]), np.zeros(2), ["u", "u"], 10, 0.95, seed=0)
    assert (estimate.low, estimate.high) == (-math.inf, math.inf)


@pytest.mark.parametrize(("of_user", "of_product"), [(0.0, 0.5), (0.5, 0.0), (0.4, 0.4)])
def test_a_difference_that_depends_on_users_and_products_covers_both(
    of_user: float, of_product: float
) -> None:
    """Equal versions; by users alone, the interval excluded zero for 31, 7 and 20 % of them."""
    rng, missed = np.random.default_rng(0), 0
    for seed in range(200):
        users_Q, products_Q = rng.choice(50, 250), rng.choice(50, 250)
        difference_Q = rng.normal(0, of_user, 50)[users_Q] + rng.normal(0, of_product, 50)[products_Q]
        difference_Q = difference_Q + rng.normal(0, 0.7, 250)
        estimate = partial(
            difference_estimate, difference_Q, np.zeros(250), rounds=200, confidence=0.95, seed=seed
        )
        found = over_clusterings(estimate, [users_Q.astype(str).tolist(), products_Q.astype(str).tolist()])
        missed += not found.low <= 0 <= found.high
    assert missed <= 0.09 * 200


def test_one_clustering_is_used_as_it_is() -> None:
    estimate = partial(cautious_difference, np.ones(6), np.zeros(6), rounds=50, confidence=0.95, seed=0)
    one = estimate(list("abcdef"))
    assert over_clusterings(estimate, [list("abcdef")]) == one
    crossed = over_clusterings(estimate, [list("abcdef"), ["x"] * 6])
    assert (crossed.low, crossed.high, crossed.mean) == (-math.inf, math.inf, 1.0)
