"""The sequential sample-ratio test: its formula, its error rate over all looks, and what it finds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import betabinom, binom, chi2

from immr.readout.sample_ratio import ALPHA, OF_FEW, mismatch_p_values, sample_ratio

EVEN = {"champion": 0.5, "challenger": 0.5}


def test_p_value_is_the_inverse_bayes_factor_by_hand() -> None:
    found = sample_ratio({"champion": 0.9, "challenger": 0.1}, {"champion": 800, "challenger": 200})
    assert found is not None
    factors = [
        betabinom(1000, k * 0.1, k * 0.9).pmf(200) / binom(1000, 0.1).pmf(200) for k in (300, 10_000, 300_000)
    ]
    assert found.p_value == pytest.approx(1 / np.mean(factors))
    assert found.expected == {"champion": 900, "challenger": 100}
    assert not found.ok


def test_a_sound_test_is_seldom_withheld_at_any_look() -> None:
    """400 tests with 400 looks each, where chi-square at 0.1 % withholds several times as many."""
    rng = np.random.default_rng(0)
    challenger_RL = rng.binomial(25, 0.5, (400, 400)).cumsum(axis=1).astype(np.float64)
    total_L = 25.0 * np.arange(1, 401)
    withheld = [
        (mismatch_p_values(np.stack([total_L - users_L, users_L]), np.array([0.5, 0.5])) < ALPHA).any()
        for users_L in challenger_RL
    ]
    by_chi_square = chi2.sf((challenger_RL - total_L / 2) ** 2 / (total_L / 4), 1) < 0.001
    assert np.mean(withheld) <= 0.0075
    assert by_chi_square.any(axis=1).mean() > 0.01


@pytest.mark.parametrize("share", [0.5, 0.1])
def test_a_test_of_few_users_is_seldom_withheld_and_finds_large_mismatches(share: float) -> None:
    rng, weights_V = np.random.default_rng(0), np.array([1 - share, share])
    challenger_RL = (rng.random((2000, 100)) < share).cumsum(axis=1).astype(np.float64)
    total_L = np.arange(1.0, 101.0)
    withheld = [
        (mismatch_p_values(np.stack([total_L - users_L, users_L]), weights_V, OF_FEW) < ALPHA).any()
        for users_L in challenger_RL
    ]
    assert np.mean(withheld) <= 0.006
    found = sample_ratio(
        {"champion": 1 - share, "challenger": share}, {"champion": 1, "challenger": 20}, OF_FEW
    )
    assert found is not None and not found.ok


def test_lost_users_are_found() -> None:
    found = sample_ratio(EVEN, {"champion": 150_600, "challenger": 147_000})
    assert found is not None and not found.ok
    assert "the challenger has 147,000 users instead of 148,800" in found.sentence


def test_without_a_second_weight_or_users_there_is_nothing_to_test() -> None:
    assert sample_ratio({"champion": 1.0}, {"champion": 7}) is None
    assert sample_ratio({"champion": 1.0, "challenger": 0.0}, {"champion": 7, "challenger": 0}) is None
    assert sample_ratio(EVEN, {"champion": 0, "challenger": 0}) is None
