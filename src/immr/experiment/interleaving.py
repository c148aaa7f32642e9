"""Interleaving: both versions answer one query, the shopper's clicks say whose items were better.

Team draft, after F. Radlinski, M. Kurup and T. Joachims, *How Does Clickthrough Data Reflect Retrieval
Quality?*, CIKM 2008. Every user is their own control, so it takes far fewer of them than an A/B to see which
ranking is better. What that is worth in clicks or orders it does not say: that is the A/B's. The test of
the preference is in `immr.readout.preference`. Pure functions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from immr.experiment.definition import CHALLENGER, CHAMPION


@dataclass(frozen=True, slots=True)
class Drafted:
    """An item and the variant that it stands for."""

    item_id: str
    team: str  # "champion" or "challenger"


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


def _coins(seed: str) -> Iterator[int]:
    """Fair coins without end, the same for the same seed."""
    block = 0
    while True:
        for byte in hashlib.sha256(f"{seed}/{block}".encode()).digest():
            yield byte & 1
        block += 1
