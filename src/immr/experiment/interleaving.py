"""Interleaving: both versions answer one query, the shopper's clicks say whose items were better.

Team draft, after F. Radlinski, M. Kurup and T. Joachims, *How Does Clickthrough Data Reflect Retrieval
Quality?*, CIKM 2008. Every user is their own control, so it takes far fewer of them than an A/B to see which
ranking is better. What that is worth in clicks or orders it does not say: that is the A/B's. The test on
users, not on queries, and its always-valid interval are ours. Pure functions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy.typing as npt

from immr.experiment.definition import CHALLENGER, CHAMPION
from immr.readout.comparison import DEFAULT_LOOK, Interval, Look, Ratio, standard_error
from immr.readout.sequential import always_valid_half_width, tuned_rho
from immr.readout.users import aggregates_of

PREFERENCE = Ratio("preference", "balance", "decided")


@dataclass(frozen=True, slots=True)
class Drafted:
    """An item and the variant that it stands for."""

    item_id: str
    team: str  # "champion" or "challenger"


@dataclass(frozen=True, slots=True)
class Preference:
    """Queries that the challenger won minus those that it lost, per query that was decided: −1 to 1."""

    users: int  # with a decided query
    queries: int  # that showed items of both
    won: int  # where the challenger's items got more clicks
    lost: int
    value: float
    interval: Interval  # for one look
    always_valid: Interval  # for any number of looks
    p_value: float


def draft(champion: Sequence[str], challenger: Sequence[str], length: int, seed: str) -> tuple[Drafted, ...]:
    """One ranking of two: teams pick in turns the best item that is left to them; a coin says who is first.

    Args:
        champion: Item ids, best first, none twice.
        challenger: The same.
        length: Items wanted; fewer come back where both rankings together have fewer.
        seed: The same seed throws the same coins: take the query's id.
    """
    rankings = {CHAMPION: champion, CHALLENGER: challenger}
    picked: dict[str, str] = {}
    next_place = {CHAMPION: 0, CHALLENGER: 0}
    sizes = {CHAMPION: 0, CHALLENGER: 0}
    coins = _coins(seed)
    while len(picked) < length:
        for team, ranking in rankings.items():
            while next_place[team] < len(ranking) and ranking[next_place[team]] in picked:
                next_place[team] += 1
        able = [team for team, ranking in rankings.items() if next_place[team] < len(ranking)]
        if not able:
            break
        fewest = min(sizes[team] for team in able)
        behind = [team for team in able if sizes[team] == fewest]
        team = behind[next(coins)] if len(behind) == 2 else behind[0]
        picked[rankings[team][next_place[team]]] = team
        sizes[team] += 1
    return tuple(Drafted(item_id, team) for item_id, team in picked.items())


def credit(drafted: Sequence[Drafted], clicked: Collection[str]) -> int:
    """Who won a query: 1 the challenger, −1 the champion, 0 where both teams got as many clicked items."""
    balance = sum(1 if one.team == CHALLENGER else -1 for one in drafted if one.item_id in clicked)
    return (balance > 0) - (balance < 0)


def preference(
    queries_U: npt.NDArray[Any], won_U: npt.NDArray[Any], lost_U: npt.NDArray[Any], look: Look = DEFAULT_LOOK
) -> Preference | None:
    """Which version shoppers prefer; None where no two users decided, or all decided alike.

    Args:
        queries_U: Per user, their queries.
        won_U: Those whose `credit` is 1.
        lost_U: Those whose `credit` is −1.
        look: Confidence, and where the always-valid interval is narrowest.
    """
    decided_U = won_U + lost_U
    there = decided_U > 0
    users = int(there.sum())
    if users < 2:
        return None
    sums = aggregates_of({"balance": (won_U - lost_U)[there], "decided": decided_U[there]})
    error = standard_error(PREFERENCE, sums)
    if error == 0:
        return None
    value = float((won_U - lost_U).sum() / decided_U.sum())
    alpha = 1 - look.confidence
    half = NormalDist().inv_cdf(1 - alpha / 2) * error
    always = always_valid_half_width(error, users, tuned_rho(look.tuned_for_users, alpha), alpha)
    return Preference(
        users=users,
        queries=int(queries_U.sum()),
        won=int(won_U.sum()),
        lost=int(lost_U.sum()),
        value=value,
        interval=_within(value, half),
        always_valid=_within(value, always),
        p_value=2 * NormalDist().cdf(-abs(value) / error),
    )


def _within(value: float, half: float) -> Interval:
    return Interval(max(value - half, -1.0), min(value + half, 1.0))


def _coins(seed: str) -> Iterator[int]:
    """Fair coins without end, the same for the same seed."""
    block = 0
    while True:
        for byte in hashlib.sha256(f"{seed}/{block}".encode()).digest():
            yield byte & 1
        block += 1
