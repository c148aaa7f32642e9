"""Always-valid inference: the formulas, and their error rates over all looks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from immr.readout.sequential import always_valid_half_width, log_likelihood_ratio, tuned_rho


def test_half_width_is_the_papers_formula() -> None:
    t, rho, sigma, alpha = 400, 0.1, 2.0, 0.05
    paper = sigma * math.sqrt(
        2 * (t * rho**2 + 1) / (t**2 * rho**2) * math.log(math.sqrt(t * rho**2 + 1) / alpha)
    )
    assert always_valid_half_width(sigma / math.sqrt(t), t, rho, alpha) == pytest.approx(paper)


def test_tuned_rho_is_near_the_narrowest() -> None:
    users, alpha = 2000, 0.05
    best = tuned_rho(users, alpha)
    widths = [
        always_valid_half_width(1.0, users, best * factor, alpha) for factor in np.geomspace(0.2, 5, 101)
    ]
    assert always_valid_half_width(1.0, users, best, alpha) <= min(widths) * 1.001


def test_it_is_wider_than_one_look_and_shrinks() -> None:
    rho = tuned_rho(1000, 0.05)
    assert always_valid_half_width(1.0, 1000, rho, 0.05) > 1.96
    widths = [always_valid_half_width(1 / math.sqrt(t), t, rho, 0.05) for t in (100, 1000, 10_000)]
    assert widths == sorted(widths, reverse=True)


def test_peeking_at_every_user_keeps_the_error_rate() -> None:
    """A/A with a look after each user: a fixed interval errs often, the sequence at most at its rate."""
    runs, users, alpha = 400, 1500, 0.05
    rng = np.random.default_rng(0)
    means = rng.normal(size=(runs, users)).cumsum(axis=1) / np.arange(1, users + 1)
    rho = tuned_rho(users, alpha)
    looks = np.arange(30, users + 1)
    fixed = 1.96 / np.sqrt(looks)
    valid = np.array([always_valid_half_width(1 / math.sqrt(t), int(t), rho, alpha) for t in looks])
    erred_fixed = (np.abs(means[:, 29:]) > fixed).any(axis=1).mean()
    erred_valid = (np.abs(means[:, 29:]) > valid).any(axis=1).mean()
    assert erred_fixed > 0.2
    assert erred_valid <= alpha


def test_the_likelihood_ratio_is_that_of_two_normal_distributions() -> None:
    by_hand = norm.logpdf(-0.3, -0.5, 0.2) - norm.logpdf(-0.3, 0, 0.2)
    assert log_likelihood_ratio(-0.3, 0.2, -0.5) == pytest.approx(by_hand)
    assert log_likelihood_ratio(-0.25, 0.2, -0.5) == pytest.approx(0)
    assert log_likelihood_ratio(-0.3, 0.0, -0.5) == -np.inf


def test_the_likelihood_ratio_rarely_errs_at_any_look_and_finds_its_alternative_sooner() -> None:
    runs, users, alpha, loss = 400, 1500, 0.05, -0.2
    rng = np.random.default_rng(0)
    looks = np.arange(1, users + 1)
    means = rng.normal(size=(runs, users)).cumsum(axis=1) / looks
    error = 1 / np.sqrt(looks)
    limit = math.log(1 / alpha)
    assert (log_likelihood_ratio(means, error, loss) > limit).any(axis=1).mean() <= alpha
    assert (log_likelihood_ratio(means + 0.05, error, loss) > limit).any(axis=1).mean() < alpha / 2
    found = log_likelihood_ratio(means + loss, error, loss) > limit
    half = always_valid_half_width(error, looks, tuned_rho(300, 2 * alpha), 2 * alpha)
    by_interval = means + loss + half < 0
    assert np.median(found.argmax(axis=1)) < np.median(by_interval.argmax(axis=1))
