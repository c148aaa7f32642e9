"""Whether one position bias holds for the whole log: it is estimated again for parts of it.

Propensities by position assume that examination depends on the position alone. If it also depends on the item
or the query, as with trust in the first results, eye-catching items or two kinds of page, parts of the log
have different curves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from immr.ranking.click_log import Bools, Ints
from immr.ranking.propensity import Propensities, estimate

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


def by_part(
    stratum_R: Ints, position_R: Ints, clicked_R: Bools, item_R: Ints, best_cosine_R: np.ndarray
) -> dict[str, Propensities]:
    """Propensities of halves of the log: popular and other items, clear and unclear photos.

    Args:
        stratum_R: see `propensity.strata`.
        position_R: from 1.
        clicked_R: of the same impressions.
        item_R: of the same impressions.
        best_cosine_R: the largest cosine that the impression's query has with any item.
    """
    shown_N = np.bincount(item_R)
    order = np.argsort(-shown_N, kind="stable")
    popular_N = np.zeros(len(shown_N), dtype=np.bool_)
    popular_N[order[np.cumsum(shown_N[order]) <= len(item_R) / 2]] = True
    clear_R = best_cosine_R >= np.median(best_cosine_R)
    parts = {
        "popular items": popular_N[item_R],
        "other items": ~popular_N[item_R],
        "clear photos": clear_R,
        "unclear photos": ~clear_R,
    }
    return {
        name: estimate(stratum_R[rows], position_R[rows], clicked_R[rows])
        for name, rows in parts.items()
        if rows.any()
    }


def doubts(parts: Mapping[str, Propensities]) -> list[Doubt]:
    """The pairs of parts that differ by more than chance and by enough to matter."""
    pairs = (("popular items", "other items"), ("clear photos", "unclear photos"))
    found = [
        _compare(pair, parts[pair[0]], parts[pair[1]])
        for pair in pairs
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
