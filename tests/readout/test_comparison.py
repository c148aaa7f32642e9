import math

import numpy as np
import pytest
from tea_tasting.aggr import Aggregates

from immr.readout.comparison import CTR, ORDERS_PER_USER, compare, rate, standard_error
from immr.readout.users import aggregates_of


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


def test_there_is_no_comparison_if_users_do_not_vary() -> None:
    alike = aggregates_of({"clicks": np.ones(50), "impressions": np.full(50, 10.0)})
    assert compare(CTR, alike, alike) is None
    assert standard_error(CTR, alike) == 0
    found = rate(CTR, alike, 0.95)
    assert found is not None and found.value == pytest.approx(0.1) and found.interval is None


def test_a_rate_stays_within_its_bounds() -> None:
    few = aggregates_of(
        {"clicks": np.array([0.0, 1.0, 2.0]), "impressions": np.full(3, 2.0), "orders": np.ones(3)}
    )
    found = rate(CTR, few, 0.95)
    assert found is not None and found.interval is not None
    assert found.interval.low >= 0 and found.interval.high <= CTR.highest == 1
    assert ORDERS_PER_USER.highest == math.inf
    assert rate(CTR, aggregates_of({"clicks": np.zeros(0), "impressions": np.zeros(0)}), 0.95) is None
