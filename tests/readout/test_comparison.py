import math

import numpy as np
import numpy.typing as npt
import pytest
from tea_tasting.aggr import Aggregates

from benchmarks.experiment.few_users import few_users
from immr.readout.comparison import (
    CTR,
    DEFAULT_LOOK,
    ORDERS_PER_USER,
    compare,
    compare_arm,
    rate,
    standard_error,
)
from immr.readout.user_moments import aggregates_of


def side(users: int, ctr: float, seed: int = 0) -> Aggregates:
    rng = np.random.default_rng(seed)
    views = rng.integers(5, 30, users)
    clicks = rng.binomial(views, rng.beta(10 * ctr, 10 * (1 - ctr), users))
    return aggregates_of({"clicks": clicks, "impressions": views, "orders": clicks > 2})


def test_a_difference_and_its_three_intervals() -> None:
    found = compare(CTR, side(3000, 0.1), side(3000, 0.12, 1))
    assert found is not None
    assert found.difference == pytest.approx(found.challenger - found.champion)
    assert found.relative_lift == pytest.approx(found.difference / found.champion)
    one, always = found.interval, found.always_valid
    assert always.low < one.low < 0.02 < one.high < always.high
    assert found.p_value < 0.001


@pytest.mark.parametrize("champions", [20, 180])
def test_intervals_of_few_unequal_users_cover_the_truth(champions: int) -> None:
    """For one look at 20 users of a challenger, 15 to 18 % of the 95 % intervals of equal versions excluded zero."""
    rng = np.random.default_rng(0)
    covered = {"interval": 0, "lift": 0, "p": 0, "rate": 0}
    for _ in range(250):
        champion, challenger = few_users(rng, champions), few_users(rng, 20)
        found, own = compare(CTR, champion, challenger), rate(CTR, challenger, 0.95)
        assert found is not None and own is not None and own.interval is not None
        covered["interval"] += found.interval.low <= 0 <= found.interval.high
        lift = found.relative_interval
        covered["lift"] += lift is None or lift.low <= 0 <= lift.high
        covered["p"] += found.p_value >= 0.05
        covered["rate"] += own.interval.low <= 0.1 <= own.interval.high
    assert covered["interval"] == covered["p"]
    assert min(covered["interval"], covered["lift"]) >= 0.92 * 250
    assert covered["rate"] >= 0.85 * 250  # it was 77 %


def test_there_is_no_comparison_if_users_do_not_vary() -> None:
    alike = aggregates_of({"clicks": np.ones(50), "impressions": np.full(50, 10.0)})
    assert compare(CTR, alike, alike) is None
    assert standard_error(CTR, alike) == 0
    found = rate(CTR, alike, 0.95)
    assert found is not None and found.value == pytest.approx(0.1) and found.interval is None


def test_users_with_the_same_ratio_do_not_vary_although_rounding_says_so() -> None:
    """Users search differently often, but click on every fourth or third impression: the variance is 0 ± 1e-17."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        views = [12.0 * rng.integers(1, 30, users) for users in rng.integers(2, 300, 2)]
        champion, challenger = (
            aggregates_of({"clicks": seen / part, "impressions": seen})
            for seen, part in zip(views, (4, 3), strict=True)
        )
        assert compare(CTR, champion, challenger) is None


def test_cuped_needs_users_whose_past_does_not_explain_everything() -> None:
    rng = np.random.default_rng(0)
    own = rng.integers(1, 9, 40)

    def of(clicks: npt.NDArray[np.int64]) -> Aggregates:
        views = np.full(40, 20.0)
        sums = {"clicks": clicks, "impressions": views, "clicks_before": own, "impressions_before": views}
        others = ("queries_with_click", "queries", "ctr", "was_shown")
        return aggregates_of(sums | dict.fromkeys(others, np.ones(40)))

    for champion, challenger in ((own, own + 2), (own, own)):
        assert (
            compare_arm("challenger", "immr-2", of(champion), of(challenger), (), DEFAULT_LOOK).cuped is None
        )
    noisy = compare_arm("challenger", "immr-2", of(own), of(own + rng.integers(0, 3, 40)), (), DEFAULT_LOOK)
    assert noisy.cuped is not None and noisy.cuped.standard_error > 0


def test_there_is_no_comparison_without_a_denominator() -> None:
    nothing_shown = aggregates_of({"clicks": np.zeros(5), "impressions": np.zeros(5)})
    assert compare(CTR, side(50, 0.1), nothing_shown) is None


def test_a_rate_stays_within_its_bounds() -> None:
    few = aggregates_of(
        {"clicks": np.array([0.0, 1.0, 2.0]), "impressions": np.full(3, 2.0), "orders": np.ones(3)}
    )
    found = rate(CTR, few, 0.95)
    assert found is not None and found.interval is not None
    assert found.interval.low >= 0 and found.interval.high <= CTR.highest == 1
    assert ORDERS_PER_USER.highest == math.inf
    assert rate(CTR, aggregates_of({"clicks": np.zeros(0), "impressions": np.zeros(0)}), 0.95) is None
