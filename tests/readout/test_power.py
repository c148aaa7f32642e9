"""The plan: against tea-tasting, and over simulated users."""

from __future__ import annotations

import numpy as np
import pytest
from tea_tasting.aggr import Aggregates

from immr.errors import ExperimentError
from immr.readout.comparison import CTR, Look, compare
from immr.readout.power import Plan, plan, planned_users
from immr.readout.user_moments import aggregates_of


def clumpy(rng: np.random.Generator, users: int, lift: float = 0.0) -> Aggregates:
    impressions = 10 * rng.integers(1, 10, users)
    clicks = rng.binomial(impressions, np.minimum(rng.beta(0.8, 3.2, users) * (1 + lift), 1))
    return aggregates_of({"impressions": impressions, "clicks": clicks})


PILOT = clumpy(np.random.default_rng(0), 5000)


def test_users_agree_with_tea_tasting_except_for_the_challengers_variance() -> None:
    import tea_tasting as tt

    metric = tt.RatioOfMeans("clicks", "impressions", rel_effect_size=0.001, use_t=False, equal_var=True)
    [theirs] = metric.solve_power_from_aggregates(PILOT, "n_obs")
    ours = plan(CTR, PILOT, 0.001)
    assert ours is not None
    assert ours.users_one_look == pytest.approx(theirs.n_obs, rel=0.005)


def test_planned_users_find_the_effect_as_often_as_planned() -> None:
    rng = np.random.default_rng(1)
    wanted = plan(CTR, PILOT, 0.2)
    assert wanted is not None
    sides = [
        (clumpy(rng, wanted.users_one_look // 2), clumpy(rng, wanted.users_one_look // 2, 0.2))
        for _ in range(60)
    ]
    found = [compare(CTR, *pair) for pair in sides]
    assert 0.68 < np.mean([each is not None and each.p_value < 0.05 for each in found]) < 0.9


def test_smaller_effects_and_looks_at_any_time_need_more_users() -> None:
    large, small = plan(CTR, PILOT, 0.1), plan(CTR, PILOT, 0.05)
    assert large is not None
    assert small is not None
    assert small.users_one_look == pytest.approx(4 * large.users_one_look, rel=0.1)
    assert large.users_one_look < large.users_always_valid < small.users_always_valid


def test_uneven_shares_and_more_confidence_need_more_users() -> None:
    even, uneven = plan(CTR, PILOT, 0.1), plan(CTR, PILOT, 0.1, share=0.1)
    surer = plan(CTR, PILOT, 0.1, look=Look(confidence=0.99))
    assert even is not None
    assert uneven is not None
    assert surer is not None
    assert uneven.users_one_look > 2 * even.users_one_look
    assert surer.users_one_look > even.users_one_look


def test_days_left() -> None:
    wanted = Plan(0.05, 0.8, users_one_look=1000, users_always_valid=1800)
    assert wanted.days(users_so_far=600, days_so_far=3) == pytest.approx(6)
    assert wanted.days(600, 3, always_valid=False) == pytest.approx(2)
    assert wanted.days(2000, 10) == 0
    assert wanted.days(0, 1) is None


@pytest.mark.parametrize(
    "sums", [{"impressions": [10, 10], "clicks": [0, 0]}, {"impressions": [], "clicks": []}]
)
def test_no_plan_without_clicks(sums: dict[str, list[int]]) -> None:
    users = aggregates_of({name: np.array(values) for name, values in sums.items()})
    assert plan(CTR, users, 0.1) is None


@pytest.mark.parametrize("wrong", [{"effect": 0}, {"effect": -1}, {"share": 1}, {"power": 0.4}, {"power": 1}])
def test_an_invalid_plan_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ExperimentError, match="give an effect"):
        plan(CTR, PILOT, **{"effect": 0.1, **wrong})


def test_an_interval_tuned_to_the_plan_needs_the_fewest_users() -> None:
    users = planned_users(CTR, PILOT, 0.05)
    assert users is not None
    needed = [
        plan(CTR, PILOT, 0.05, look=Look(planned_users=users * factor // 10)) for factor in (1, 10, 100)
    ]
    few, best, many = (each.users_always_valid for each in needed if each is not None)
    assert best == pytest.approx(users, rel=0.001)
    assert few > 1.1 * best
    assert many > 1.1 * best


def test_without_clicks_there_is_no_planned_number() -> None:
    silent = aggregates_of({"impressions": np.array([10, 10]), "clicks": np.array([0, 0])})
    assert planned_users(CTR, silent, 0.05) is None
