import numpy as np
import pyarrow as pa
import pytest

from immr.readout.user_moments import RatioMoments, aggregate, aggregates_of, rate_difference, users_in_both

RNG = np.random.default_rng(0)
VIEWS = RNG.integers(1, 30, 500).astype(float)
CLICKS = RNG.binomial(VIEWS.astype(int), RNG.beta(1, 9, 500)).astype(float)


def test_moments_agree_with_numpy() -> None:
    moments = RatioMoments.of_users(CLICKS, VIEWS)
    assert moments.numerator_variance == pytest.approx(CLICKS.var(ddof=1))
    assert moments.covariance == pytest.approx(np.cov(CLICKS, VIEWS)[0, 1])
    assert moments.rate == pytest.approx(CLICKS.sum() / VIEWS.sum())
    assert moments.residual_variance(np.asarray(0.1)) == pytest.approx((CLICKS - 0.1 * VIEWS).var(ddof=1))


def test_the_rate_without_users_is_nan() -> None:
    assert np.isnan(RatioMoments.of_users(np.zeros(0), np.zeros(0)).rate)


def test_the_standard_error_of_a_difference_agrees_with_the_bootstrap() -> None:
    sides = [RatioMoments.of_users(CLICKS[part], VIEWS[part]) for part in (slice(250), slice(250, None))]
    difference, error = rate_difference(*sides)
    resampled = []
    for _ in range(2000):
        one, other = RNG.integers(0, 250, 250), RNG.integers(250, 500, 250)
        resampled.append(CLICKS[other].sum() / VIEWS[other].sum() - CLICKS[one].sum() / VIEWS[one].sum())
    assert difference == pytest.approx(float(sides[1].rate - sides[0].rate))
    assert error == pytest.approx(np.std(resampled), rel=0.15)


def test_few_equal_users_do_not_give_a_small_standard_error() -> None:
    many = RatioMoments.of_users(CLICKS, VIEWS)
    two_alike = RatioMoments.of_users(np.array([1.0, 1.0]), np.array([10.0, 10.0]))
    assert float(rate_difference(many, two_alike)[1]) > float(many.rate) / 4


def test_aggregates_of_one_variant() -> None:
    users = pa.table(
        {
            "user_id": ["a", "b", "b"],
            "variant": ["champion", "champion", "challenger"],
            "clicks": [1, 3, 9],
            "impressions": [4, 0, 10],
        }
    )
    assert users_in_both(users) == 1
    champion = aggregate(users, "champion")
    assert (champion.count(), champion.mean("clicks"), champion.var("clicks")) == (2, 2.0, 2.0)
    assert aggregate(users, "challenger").mean("ctr") == 0.9
    assert champion.mean("was_shown") == 0.5
    assert aggregates_of({"clicks": np.zeros(0)}).count() == 0
