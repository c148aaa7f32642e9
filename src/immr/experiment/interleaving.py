"""Interleaving: both versions answer one query, and the clicks show whose items shoppers prefer.

Team draft, after F. Radlinski, M. Kurup and T. Joachims, *How Does Clickthrough Data Reflect Retrieval
Quality?*, CIKM 2008. Each user is their own control, so it takes far fewer users than an A/B test to find the
better ranking. How many clicks or orders that is worth, only an A/B test can measure.
`immr.readout.preference` tests the preference. Pure functions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from immr.experiment.definition import CHALLENGER, CHAMPION


@dataclass(frozen=True, slots=True)
class Drafted:
    """An item and the variant that picked it."""

    item_id: str
    team: str  # "champion" or "challenger"


def draft(champion: Sequence[str], challenger: Sequence[str], length: int, seed: str) -> tuple[Drafted, ...]:
    """Merge two rankings: the variants take turns to pick their best remaining item.

    In each round a coin decides which variant picks first.

    Args:
        champion: Distinct item ids, best first.
        challenger: The same.
        length: Number of items wanted; fewer are returned if both rankings together have fewer.
        seed: Seed of the coins, for example the query id.
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


def _coins(seed: str) -> Iterator[int]:
    """An endless sequence of fair coins from a seed."""
    block = 0
    while True:
        for byte in hashlib.sha256(f"{seed}/{block}".encode()).digest():
            yield byte & 1
        block += 1
