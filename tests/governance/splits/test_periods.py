import numpy as np
import pyarrow as pa
import pytest

from immr.governance.governance_recipe import GovernanceRecipe
from immr.governance.splits.periods import DAY_US, Periods, periods


def split(users: list[str], days: list[float] | None = None, **recipe: float) -> Periods:
    time_N = (np.array(days or [0.0] * len(users)) * DAY_US).astype(np.int64)
    return periods(pa.chunked_array([users]), time_N, np.ones(len(users), bool), GovernanceRecipe(**recipe))


def held(users: list[str], days: list[float] | None = None, **recipe: float) -> set[str]:
    found = split(users, days, **recipe)
    return {name for name, is_held in zip(users, found.held_user_N, strict=True) if is_held}


@pytest.mark.parametrize(
    ("users", "share", "count"), [(10, 0.2, 2), (10, 0.01, 1), (10, 0.0, 0), (1, 0.5, 0)]
)
def test_a_share_of_users_is_held_out_but_never_all(users: int, share: float, count: int) -> None:
    names = [f"u{n}" for n in range(users) for _ in range(2)]
    assert len(held(names, held_out_share=share)) == count


def test_new_users_rarely_change_the_side_of_others() -> None:
    before, after = ([f"u{n}" for n in range(count)] for count in (50, 55))
    assert len(held(before, held_out_share=0.2) & held(after, held_out_share=0.2)) >= 8


@pytest.mark.parametrize("users", [2, 40])
def test_a_device_that_many_shoppers_share_is_not_held_out(users: int) -> None:
    """Whatever its id: with 40 users, about four of 40 ids would be chosen by their hash."""
    for shared in range(users):
        names = [f"u{n}" for n in range(users) for _ in range(30 if n == shared else 1)]
        chosen = held(names, held_out_share=0.1)
        assert chosen and f"u{shared}" not in chosen


DAYS = [day for day in range(100) for _ in range(100)]


@pytest.mark.parametrize(
    ("days", "recipe"),
    [
        (DAYS, {"held_out_gap_days": 0.0}),
        (DAYS[:2000], {"held_out_gap_days": 1.0}),  # too few held-out photos
        (DAYS, {"held_out_gap_days": 15.0}),  # the gap would cost more photos than are held out
        ([0] * 10_000, {}),
        ([0] * 5_000 + [1] * 5_000, {}),
    ],
)
def test_users_of_all_days_are_held_out_where_time_cannot_divide(
    days: list[float], recipe: dict[str, float]
) -> None:
    users = [f"u{n // 4}" for n in range(len(days))]
    found = split(users, days, **recipe)
    assert not found.after_training and found.late_N.all()
    assert 0.05 < found.held_user_N.mean() < 0.15


def test_new_users_are_held_out_and_returning_ones_up_to_the_share() -> None:
    regulars = [f"regular-{n % 50}" for n in range(len(DAYS))]
    new = [f"new-{n}" for n in range(len(DAYS))]
    users = [one if n % 2 else other for n, (one, other) in enumerate(zip(regulars, new, strict=True))]
    found = split(users, DAYS, held_out_gap_days=2.0)
    assert found.after_training
    late_new = {name for name, late in zip(users, found.late_N, strict=True) if late and "new" in name}
    chosen = held(users, DAYS, held_out_gap_days=2.0)
    assert late_new <= chosen
    assert any("regular" in name for name in chosen)
    assert (found.early_N & found.held_user_N).sum() <= 0.1 * len(DAYS)
    assert found.early_N.sum() == 9_000  # up to the gap of two days before the last week
    assert not (found.early_N & found.late_N).any()


@pytest.mark.parametrize("wrong", [1, 40, 400])
def test_clocks_that_are_years_ahead_change_nothing(wrong: int) -> None:
    users = [f"u{n}" for n in range(len(DAYS))]
    days = DAYS.copy()
    days[: wrong * 20 : 20] = [9999] * wrong
    right, found = split(users, DAYS), split(users, days)
    assert right.after_training and found.after_training
    assert right.late_N.tolist() == found.late_N.tolist()
    assert right.early_N.sum() - found.early_N.sum() == wrong
