import numpy as np
import pytest

from immr.readout.preference import preference


def test_preference_is_queries_won_minus_queries_lost() -> None:
    rng = np.random.default_rng(0)
    won, lost = rng.integers(0, 5, 400), rng.integers(0, 4, 400)
    found = preference(won + lost + 3, won, lost)
    assert found is not None
    assert found.value == pytest.approx((won.sum() - lost.sum()) / (won.sum() + lost.sum()))
    assert (found.won, found.lost, found.users) == (won.sum(), lost.sum(), ((won + lost) > 0).sum())
    assert found.always_valid.low < found.interval.low < found.value < found.interval.high <= 1
    assert found.p_value < 0.05


def test_without_two_users_who_decided_there_is_no_preference() -> None:
    ones, zeros = np.ones(5, int), np.zeros(5, int)
    assert preference(ones, zeros, zeros) is None  # no query was decided
    assert preference(ones, ones, ones) is None  # all tied
    assert preference(ones, np.array([1, 0, 0, 0, 0]), zeros) is None


def test_equal_versions_differ_at_the_nominal_rate() -> None:
    rng = np.random.default_rng(1)
    missed = 0
    for _ in range(300):
        decided = rng.integers(1, 6, 200)
        won = rng.binomial(decided, rng.beta(2, 2, 200))
        found = preference(decided, won, decided - won)
        assert found is not None
        missed += not found.interval.low <= 0 <= found.interval.high
    assert missed / 300 == pytest.approx(0.05, abs=0.04)


def test_the_p_value_of_a_clear_preference_is_small_and_not_zero() -> None:
    ones = np.ones(1000, int)
    won = (np.arange(1000) % 5 > 0).astype(int)
    found = preference(ones, won, ones - won)
    assert found is not None
    assert 0 < found.p_value < 1e-50


def test_users_who_all_decide_alike_are_evidence() -> None:
    ones, zeros = np.ones(500, int), np.zeros(500, int)
    found = preference(ones, zeros, ones)
    assert found is not None
    assert found.value == -1
    assert found.always_valid.low == -1 < found.always_valid.high < -0.5
    few = preference(ones[:5], ones[:5], zeros[:5])
    assert few is not None
    assert few.always_valid.low < 0


def test_a_few_users_with_most_of_the_queries_do_not_decide() -> None:
    rng = np.random.default_rng(2)
    missed = 0
    for _ in range(300):
        decided = rng.lognormal(0, 2, 200).astype(int) + 1
        won = rng.binomial(decided, rng.beta(1, 1, 200))
        found = preference(decided, won, decided - won)
        assert found is not None
        missed += not found.interval.low <= 0 <= found.interval.high
    assert missed / 300 < 0.08
