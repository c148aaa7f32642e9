"""Sums per user, and the moments over users that the statistics need. Pure functions over arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from tea_tasting.aggr import Aggregates

COUNTS = (
    "queries",
    "queries_with_click",
    "queries_without_result",
    "impressions",
    "clicks",
    "orders",
    "own_impressions",  # of queries that the user's own variant answered
    "own_clicks",
    "first_impressions",  # at position 1
    "first_clicks",
    "weighted_clicks",  # each weighted by the inverse propensity of its position
    "has_ordered",  # 1 or 0
    "revenue",
    "priced_orders",  # orders with an amount
)
BEFORE = ("impressions_before", "clicks_before", "revenue_before")
POSITION_BIAS = 1.0  # η: position p is examined with probability p^−η
MAX_CLICK_WEIGHT = 10.0
Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RatioMoments:
    """Means, variances and covariance of a ratio's numerator and denominator over one variant's users.

    All fields have the same shape: () for one look, (L,) for L looks.
    """

    users: Values
    numerator: Values  # mean per user, as is the denominator
    denominator: Values
    numerator_variance: Values
    denominator_variance: Values
    covariance: Values

    @classmethod
    def of_sums(
        cls,
        users: npt.ArrayLike,
        numerator: npt.ArrayLike,
        denominator: npt.ArrayLike,
        numerator_squares: npt.ArrayLike,
        denominator_squares: npt.ArrayLike,
        products: npt.ArrayLike,
    ) -> RatioMoments:
        """From sums over users: of both columns, of their squares and of their product."""
        count, x, y, x_squares, y_squares, xy = (
            np.asarray(values, np.float64)
            for values in (users, numerator, denominator, numerator_squares, denominator_squares, products)
        )
        n, less_one = np.maximum(count, 1), np.maximum(count - 1, 1)
        return cls(
            users=count,
            numerator=x / n,
            denominator=y / n,
            numerator_variance=np.maximum((x_squares - x**2 / n) / less_one, 0),
            denominator_variance=np.maximum((y_squares - y**2 / n) / less_one, 0),
            covariance=(xy - x * y / n) / less_one,
        )

    @classmethod
    def of_users(cls, numerator_U: npt.NDArray[Any], denominator_U: npt.NDArray[Any]) -> RatioMoments:
        """From one value per user, both (U,)."""
        x_U, y_U = numerator_U.astype(np.float64), denominator_U.astype(np.float64)
        return cls.of_sums(len(x_U), x_U.sum(), y_U.sum(), x_U @ x_U, y_U @ y_U, x_U @ y_U)

    @property
    def rate(self) -> Values:
        """The ratio of both sums; NaN where the denominator is zero."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(self.numerator / self.denominator)

    def residual_variance(self, rate: Values) -> Values:
        """Variance over users of `numerator − rate × denominator`."""
        found = self.numerator_variance - 2 * rate * self.covariance + rate**2 * self.denominator_variance
        return np.asarray(np.maximum(found, 0))


def rate_difference(champion: RatioMoments, challenger: RatioMoments) -> tuple[Values, Values]:
    """Challenger's ratio minus champion's, and a standard error that also holds for few, unequal users.

    The delta method (A. Deng, U. Knoblich, J. Lu, KDD 2018) with each variant's own variance is too small if
    a variant has few users: without a heavy clicker among them, both the ratio and its variance are low. So
    the standard error is the larger of two: that one, and the one with all users pooled, as if the variants
    were equal (ours). With many users both agree.

    Returns:
        Difference and standard error, shaped like the moments; NaN where a variant has no denominator.
    """
    sides = (champion, challenger)
    with np.errstate(invalid="ignore", divide="ignore"):
        scale, other_scale = (1 / (side.users * side.denominator**2) for side in sides)
        own, other_own = (side.residual_variance(side.rate) for side in sides)
        clicks, views = (
            champion.users * getattr(champion, name) + challenger.users * getattr(challenger, name)
            for name in ("numerator", "denominator")
        )
        rate = np.asarray(clicks / views)
        square, other_square = (
            side.residual_variance(rate) + (side.numerator - rate * side.denominator) ** 2 for side in sides
        )
        users = champion.users + challenger.users
        pooled = (champion.users * square + challenger.users * other_square) / users
        error = np.sqrt(np.maximum(own * scale + other_own * other_scale, pooled * (scale + other_scale)))
    return np.asarray(challenger.rate - champion.rate), np.asarray(error)


def users_in_both(users: pa.Table) -> int:
    """Number of users with a row in more than one variant."""
    return int(users.num_rows - pc.count_distinct(users["user_id"]).as_py())


def aggregate(users: pa.Table, variant: str) -> Aggregates:
    """Moments over one variant's users of all sums, and of each user's own CTR."""
    of_variant = users.filter(pc.equal(users["variant"], variant))
    names = [name for name in (*COUNTS, *BEFORE) if name in users.column_names]
    sums = {name: of_variant[name].to_numpy() for name in names}
    impressions_U = sums["impressions"]
    own = {"ctr": sums["clicks"] / np.maximum(impressions_U, 1), "was_shown": impressions_U > 0}
    return aggregates_of(sums | own)


def aggregates_of(sums: Mapping[str, npt.NDArray[Any]]) -> Aggregates:
    """Count, means, variances and covariances, for tea-tasting, of columns (U,) with one value per user."""
    from tea_tasting.aggr import Aggregates

    names = list(sums)
    values_KU = np.stack([np.asarray(values, dtype=np.float64) for values in sums.values()])
    n = values_KU.shape[1]
    means_K = values_KU.mean(axis=1) if n else np.zeros(len(names))
    cov_KK = np.cov(values_KU).reshape(len(names), -1) if n > 1 else np.zeros((len(names), len(names)))
    return Aggregates(
        count_=n,
        mean_={name: float(means_K[i]) for i, name in enumerate(names)},
        var_={name: float(cov_KK[i, i]) for i, name in enumerate(names)},
        cov_={
            (left, right): float(cov_KK[i, j])
            for i, left in enumerate(names)
            for j, right in enumerate(names)
            if left < right
        },
    )


def of_columns(users: Aggregates, names: Sequence[str]) -> Aggregates:
    """The same users' count, and moments of these columns alone, whose names are sorted."""
    from tea_tasting.aggr import Aggregates

    return Aggregates(
        count_=users.count_,
        mean_={name: users.mean_[name] for name in names},
        var_={name: users.var_[name] for name in names},
        cov_={pair: users.cov_[pair] for pair in combinations(names, 2)},
    )
