"""Checks whether one position bias holds for the whole log, by estimating it again for parts of the log.

Propensities by position assume that examination depends on the position alone. If it also depends on the item
or the query, as with trust in the first results, eye-catching items or two page layouts, parts of the log
have different curves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from immr.ranking.click_log import Bools, ClickLog, Ints
from immr.ranking.propensity import Propensities, estimate

_ITEMS = ("popular items", "other items")
_PHOTOS = ("clear photos", "unclear photos")
_USERS = ("users who click far down", "other users")
_FAR_ITEMS = ("items that are clicked far down", "items that are clicked high up")
_PAIRS = (_ITEMS, _PHOTOS, _USERS, _FAR_ITEMS)
_SURE = 0.001  # largest p-value of a difference
_LARGE = 0.15  # of the logarithm, mean over places: examination differs by 15 %
_KNOWN = 0.2  # places with a larger standard error in either part are not compared


@dataclass(frozen=True)
class BiasDifference:
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


def by_part(
    log: ClickLog, stratum_R: Ints, best_cosine_R: np.ndarray, first: int = 0
) -> dict[str, Propensities]:
    """Propensities of parts of a log: popular and other items, clear and unclear photos, …

    Args:
        log: the impressions.
        stratum_R: see `propensity.strata`.
        best_cosine_R: the largest cosine that the impression's query has with any item.
        first: the reference place.
    """
    shown_N = np.bincount(log.item_R)
    order = np.argsort(-shown_N, kind="stable")
    popular_N = np.zeros(len(shown_N), dtype=np.bool_)
    popular_N[order[np.cumsum(shown_N[order]) <= len(log.item_R) / 2]] = True
    clear_R = best_cosine_R >= np.median(best_cosine_R)
    user_Q = np.unique(log.user_Q, return_inverse=True)[1]
    chooses_R = _every_other(user_Q)[log.query_R]
    rows_of = {
        _ITEMS: (popular_N[log.item_R], ~popular_N[log.item_R]),
        _PHOTOS: (clear_R, ~clear_R),
        _USERS: _by_depth(log, user_Q[log.query_R], chooses_R),
        _FAR_ITEMS: _by_depth(log, log.item_R, chooses_R),
    }
    return {
        name: estimate(stratum_R[rows], log.position_R[rows], log.clicked_R[rows], first)
        for pair, halves in rows_of.items()
        for name, rows in zip(pair, halves, strict=True)
        if rows.any()
    }


def _every_other(user_Q: Ints) -> Bools:
    """(Q,) every other query of each user."""
    before_Q = np.empty(len(user_Q), dtype=np.int64)
    order = np.argsort(user_Q, kind="stable")
    first_U = np.searchsorted(user_Q[order], np.arange(user_Q.max(initial=-1) + 1))
    before_Q[order] = np.arange(len(user_Q)) - first_U[user_Q[order]]
    alternate_Q: Bools = before_Q % 2 == 0
    return alternate_Q


def _by_depth(log: ClickLog, group_R: Ints, chooses_R: Bools) -> tuple[Bools, Bools]:
    """(R,) each: impressions of groups clicked far down relative to where they are shown, and of the others.

    Some impressions (`chooses_R`) assign the groups and only the rest are compared, so no click does both.
    """
    clicks_G, clicked_at_G = _counts(group_R, log.position_R, chooses_R & log.clicked_R)
    shown_G, shown_at_G = _counts(group_R, log.position_R, chooses_R)
    known_G = clicks_G > 0
    depth_G = clicked_at_G / np.maximum(clicks_G, 1) - shown_at_G / np.maximum(shown_G, 1)
    far_G = depth_G > (np.median(depth_G[known_G]) if known_G.any() else 0.0)
    compared_R = known_G[group_R] & ~chooses_R
    return compared_R & far_G[group_R], compared_R & ~far_G[group_R]


def _counts(group_R: Ints, position_R: Ints, rows_R: Bools) -> tuple[np.ndarray, np.ndarray]:
    """(G,) impressions of each group, and the sum of their positions."""
    groups = int(group_R.max(initial=-1)) + 1
    return np.bincount(group_R, rows_R, groups), np.bincount(group_R, rows_R * position_R, groups)


def bias_differences(parts: Mapping[str, Propensities]) -> list[BiasDifference]:
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


def _compare(names: tuple[str, str], one: Propensities, other: Propensities) -> BiasDifference | None:
    """Hotelling's test over the places whose propensity is known in both parts."""
    from scipy.stats import f

    parts = (one, other)
    known_K = np.all([part.uncertainty_K < _KNOWN for part in parts], axis=0)
    known_K[one.first] = False
    known = np.flatnonzero(known_K)
    if not len(known):
        return None
    difference = other.log_K[known] - one.log_K[known]
    covariance = (one.covariance_KK + other.covariance_KK)[np.ix_(known, known)]
    statistic = float(difference @ np.linalg.solve(covariance, difference)) / len(known)
    degrees = min(float(part.degrees_K[known].min()) for part in parts)
    left = degrees - len(known) + 1
    p_value = float(f.sf(statistic * left / degrees, len(known), left)) if left > 0 else 1.0
    return BiasDifference(names, float(difference.mean()), p_value)
