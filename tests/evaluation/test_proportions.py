"""Intervals of means whose trials depend on each other by user, by product, or both."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest, norm

from immr.evaluation.proportions import mean_estimates, share_interval, wilson


def covered(
    of_user: float,
    of_product: float,
    level: float,
    clusters: tuple[int, int] = (60, 60),
    photos: int = 300,
    by: tuple[str, ...] = ("user", "product"),
    runs: int = 300,
) -> float:
    """Share of simulated judgements whose 95 % interval contains the recall on other users and other products."""
    truth = norm.cdf(level / math.sqrt(1 + of_user**2 + of_product**2))
    rng, found = np.random.default_rng(0), 0
    popular = np.arange(1, clusters[1] + 1) ** -0.5
    for _ in range(runs):
        ids = {
            "user": rng.choice(clusters[0], photos),
            "product": rng.choice(clusters[1], photos, p=popular / popular.sum()),
        }
        skill = level + rng.normal(0, of_user, clusters[0])[ids["user"]]
        skill = skill + rng.normal(0, of_product, clusters[1])[ids["product"]]
        right_Q = (rng.normal(size=photos) < skill).astype(np.float64)
        [estimate] = mean_estimates(right_Q[:, None], [ids[name] for name in by])
        found += estimate.low <= truth <= estimate.high
    return found / runs


@pytest.mark.parametrize(
    ("of_user", "of_product", "level"),
    [(0, 0, 1.0), (0.7, 0, 1.0), (0, 1.0, 1.0), (0.7, 0.7, 1.0), (0.5, 0.5, -2.5), (0, 0, 2.5)],
)
def test_intervals_cover_the_recall_on_other_users_and_products(
    of_user: float, of_product: float, level: float
) -> None:
    assert covered(of_user, of_product, level) >= 0.925


def test_intervals_by_user_alone_miss_it() -> None:
    assert covered(0, 1.0, 1.0, by=("user",)) < 0.8
    assert covered(0, 1.0, 1.0, clusters=(300, 30)) >= 0.91


def test_independent_trials_have_wilsons_interval() -> None:
    right_Q = np.repeat([1.0, 0.0], [81, 182])
    [estimate] = mean_estimates(right_Q[:, None], [range(263)])
    assert (estimate.low, estimate.high) == pytest.approx(wilson(81, 263), abs=2e-3)
    assert (estimate.mean, *share_interval(81 / 263, 263)) == pytest.approx(
        (0.3080, 0.2553, 0.3662), abs=1e-4
    )  # Newcombe (1998), table I


def test_photos_that_are_all_right_do_not_make_a_version_perfect() -> None:
    [estimate] = mean_estimates(np.ones((40, 1)), [range(40)])
    assert estimate.low == pytest.approx(wilson(40, 40)[0], abs=0.01)
    assert (estimate.mean, estimate.high) == (1.0, 1.0)
    [of_eight] = mean_estimates(np.ones((40, 1)), [np.repeat(np.arange(8), 5)])
    assert of_eight.low < wilson(8, 8)[0]


def test_values_between_zero_and_one_have_a_narrower_interval_than_shares() -> None:
    rng = np.random.default_rng(1)
    graded_Q, ids = 0.4 + 0.2 * rng.random(500), range(500)
    [estimate] = mean_estimates(graded_Q[:, None], [ids])
    half = 1.96 * graded_Q.std() / math.sqrt(500)
    assert estimate.high - estimate.low == pytest.approx(2 * half, rel=0.02)


def test_one_cluster_tells_nothing() -> None:
    [estimate] = mean_estimates(np.array([[1.0], [0.0]]), [["u", "u"]])
    assert (estimate.mean, estimate.low, estimate.high) == (0.5, 0.0, 1.0)
    [crossed] = mean_estimates(np.array([[1.0], [0.0]]), [["u", "u"], ["a", "b"]])
    assert (crossed.low, crossed.high) == (0.0, 1.0)


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="Q ≥ 1"):
        mean_estimates(np.ones((0, 1)), [[]])
    for clusterings in ([], [["a"]], [["a", "b"]] * 3):
        with pytest.raises(ValueError, match="one or two clusterings"):
            mean_estimates(np.ones((2, 1)), clusterings)


@pytest.mark.parametrize(("successes", "trials"), [(0, 5), (5, 5), (10, 100), (1, 3000)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_the_interval_agrees_with_scipy(successes: int, trials: int, confidence: float) -> None:
    theirs = binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    assert wilson(successes, trials, confidence) == pytest.approx((theirs.low, theirs.high))


def test_without_trials_the_interval_is_everything() -> None:
    assert wilson(0, 0) == (0, 1)
