"""Whether one position bias holds for the whole log: it is estimated again for parts of it.

Propensities by position assume that examination depends on the position alone. If it also depends on the item
or the query, as with trust in the first results, eye-catching items or two kinds of page, parts of the log
have different curves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from immr.ranking.click_log import Bools, ClickLog, Ints
from immr.ranking.propensity import Propensities, estimate

_PAIRS = (
    ("popular items", "other items"),
    ("clear photos", "unclear photos"),
    ("users who click far down", "other users"),
)
_SURE = 0.001  # probability of a difference by chance
_LARGE = 0.15  # of the logarithm, mean over places: examination differs by 15 %
_KNOWN = 0.2  # places with a larger standard error in either part are not compared


@dataclass(frozen=True)
class Doubt:
    """Two parts of a log whose curves differ."""

    parts: tuple[str, str]
    difference: float  # of the logarithm, second minus first, mean over places
    p_value: float

    def __str__(self) -> str:
        """A sentence for people."""
        steeper = self.parts[self.difference < 0]
        return (
            f"position bias is not the same for {self.parts[0]} and {self.parts[1]} (stronger for {steeper}), "
            "so it depends on more than the position"
        )


def by_part(log: ClickLog, stratum_R: Ints, best_cosine_R: np.ndarray) -> dict[str, Propensities]:
    """Propensities of parts of a log: popular and other items, clear and unclear photos, two kinds of users.

    Args:
        log: the impressions.
        stratum_R: see `propensity.strata`.
        best_cosine_R: the largest cosine that the impression's query has with any item.
    """
    shown_N = np.bincount(log.item_R)
    order = np.argsort(-shown_N, kind="stable")
    popular_N = np.zeros(len(shown_N), dtype=np.bool_)
    popular_N[order[np.cumsum(shown_N[order]) <= len(log.item_R) / 2]] = True
    popular_R, clear_R = popular_N[log.item_R], best_cosine_R >= np.median(best_cosine_R)
    patient_R, impatient_R = _by_depth(log)
    rows_of = dict(
        zip(
            (name for pair in _PAIRS for name in pair),
            (popular_R, ~popular_R, clear_R, ~clear_R, patient_R, impatient_R),
            strict=True,
        )
    )
    return {
        name: estimate(stratum_R[rows], log.position_R[rows], log.clicked_R[rows])
        for name, rows in rows_of.items()
        if rows.any()
    }


def _by_depth(log: ClickLog) -> tuple[Bools, Bools]:
    """(R,) each: the impressions of users who click far down, and of the others.

    How far down a user clicks is taken from every other of their queries, and these are not among the
    impressions: the same clicks must not both choose the users and be compared.
    """
    users, user_Q = np.unique(log.user_Q, return_inverse=True)
    queries_before_Q = np.empty(len(user_Q), dtype=np.int64)
    order = np.argsort(user_Q, kind="stable")
    first_U = np.searchsorted(user_Q[order], np.arange(len(users)))
    queries_before_Q[order] = np.arange(len(user_Q)) - first_U[user_Q[order]]
    chooses_R = (queries_before_Q % 2 == 0)[log.query_R]
    user_R = user_Q[log.query_R]
    clicked_R = log.clicked_R & chooses_R
    clicks_U = np.bincount(user_R, clicked_R, len(users))
    depth_U = np.bincount(user_R, clicked_R * log.position_R, len(users)) / np.maximum(clicks_U, 1)
    known_U = clicks_U > 0
    middle = np.median(depth_U[known_U]) if known_U.any() else 0.0
    compared_R = known_U[user_R] & ~chooses_R
    far_R = depth_U[user_R] > middle
    return compared_R & far_R, compared_R & ~far_R


def doubts(parts: Mapping[str, Propensities]) -> list[Doubt]:
    """The pairs of parts that differ by more than chance and by enough to matter."""
    found = [
        _compare(pair, parts[pair[0]], parts[pair[1]])
        for pair in _PAIRS
        if pair[0] in parts and pair[1] in parts
    ]
    return [
        doubt
        for doubt in found
        if doubt is not None and doubt.p_value < _SURE and abs(doubt.difference) > _LARGE
    ]


def _compare(names: tuple[str, str], one: Propensities, other: Propensities) -> Doubt | None:
    """Wald's test over the places that both parts know."""
    from scipy.stats import chi2

    known = np.flatnonzero((one.error_K < _KNOWN) & (other.error_K < _KNOWN))[1:]
    if not len(known):
        return None
    difference = other.log_K[known] - one.log_K[known]
    covariance = (one.covariance_KK + other.covariance_KK)[np.ix_(known, known)]
    statistic = float(difference @ np.linalg.solve(covariance, difference))
    return Doubt(names, float(difference.mean()), float(chi2.sf(statistic, len(known))))
