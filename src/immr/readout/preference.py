"""The preference that interleaving shows: which version's items get more clicks, tested on users. (ours)

The unit is the user, not the query, and the interval is always valid. Pure functions over arrays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from immr.readout.comparison import DEFAULT_LOOK, Interval, Look, Ratio, standard_error
from immr.readout.user_moments import aggregates_of

PREFERENCE = Ratio("preference", "balance", "decided")


@dataclass(frozen=True, slots=True)
class Preference:
    """Queries the challenger won minus queries it lost, per decided query: −1 to 1."""

    users: int  # with at least one decided query
    queries: int  # that showed items of both versions
    won: int  # the challenger's items got more clicks
    lost: int
    value: float
    interval: Interval  # for one look
    always_valid: Interval  # for any number of looks
    p_value: float


def preference(
    queries_U: npt.NDArray[Any], won_U: npt.NDArray[Any], lost_U: npt.NDArray[Any], look: Look = DEFAULT_LOOK
) -> Preference | None:
    """Which version shoppers prefer; None if fewer than two users decided a query.

    The delta method's standard error is too small if one user decided most of the queries, since the estimate then
    follows that user, and zero if all users decided alike. So it is at least the one for versions that are equal,
    where a user's queries won minus lost vary around zero.

    Args:
        queries_U: Queries per user.
        won_U: Queries per user that the challenger won.
        lost_U: Queries per user that the champion won.
        look: Confidence, and the number of users at which the always-valid interval is narrowest.
    """
    decided_U = won_U + lost_U
    there = decided_U > 0
    users = int(there.sum())
    if users < 2:
        return None
    balance_U = (won_U - lost_U)[there].astype(np.float64)
    sums = aggregates_of({"balance": balance_U, "decided": decided_U[there]})
    decided = float(decided_U.sum())
    error_if_equal = math.sqrt(float(balance_U @ balance_U)) / decided
    error = max(standard_error(PREFERENCE, sums), error_if_equal)
    if error == 0:  # all users tied
        return None
    value = float(balance_U.sum()) / decided
    return Preference(
        users=users,
        queries=int(queries_U.sum()),
        won=int(won_U.sum()),
        lost=int(lost_U.sum()),
        value=value,
        interval=_within(value, look.z * error),
        always_valid=_within(value, look.always_valid(error, users)),
        p_value=math.erfc(abs(value) / error / math.sqrt(2)),  # 2 · (1 − Φ) would be 0 from eight sigma on
    )


def _within(value: float, half: float) -> Interval:
    return Interval(max(value - half, -1.0), min(value + half, 1.0))
