"""Sums of users as statistics take them: counts, means, variances and covariances. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    import numpy.typing as npt
    from tea_tasting.aggr import Aggregates

COUNTS = (
    "queries",
    "queries_with_click",
    "queries_without_result",
    "impressions",
    "clicks",
    "orders",
    "first_impressions",  # at position 1
    "first_clicks",
    "weighted_clicks",  # by how seldom their position is looked at
)
BEFORE = ("impressions_before", "clicks_before")
POSITION_BIAS = 1.0  # η: a position p is looked at with the chance p^−η
MAX_CLICK_WEIGHT = 10.0


def users_in_both(users: pa.Table) -> int:
    """Users with a row in more than one variant."""
    return int(users.num_rows - pc.count_distinct(users["user_id"]).as_py())


def aggregate(users: pa.Table, variant: str) -> Aggregates:
    """Count, means, variances and covariances over the variant's users."""
    of_variant = users.filter(pc.equal(users["variant"], variant))
    names = [name for name in (*COUNTS, *BEFORE) if name in users.column_names]
    return aggregates_of({name: of_variant[name].to_numpy() for name in names})


def aggregates_of(sums: Mapping[str, npt.NDArray[Any]]) -> Aggregates:
    """Count, means, variances and covariances of sums of users, each of shape (N,)."""
    import numpy as np
    from tea_tasting.aggr import Aggregates

    names = list(sums)
    values_KN = np.stack([np.asarray(values, dtype=np.float64) for values in sums.values()])
    n = values_KN.shape[1]
    means_K = values_KN.mean(axis=1) if n else np.zeros(len(names))
    cov_KK = np.cov(values_KN).reshape(len(names), -1) if n > 1 else np.zeros((len(names), len(names)))
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
