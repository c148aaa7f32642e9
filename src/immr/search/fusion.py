"""Reciprocal rank fusion: one ranking from several.

Cormack, Clarke and Büttcher, "Reciprocal Rank Fusion Outperforms Condorcet and Individual Rank Learning
Methods" (SIGIR 2009). Ranks rather than scores, because a cosine and a BM25 score have no common scale. It is
computed here and not by Qdrant, whose engines differ in their constant and in which of them take weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_RANK_OFFSET = 60  # the paper's k


@dataclass(frozen=True, slots=True)
class Fused:
    """A document with its share of each ranking; the shares add up to 1 for the first of every ranking."""

    id: str
    shares: Mapping[str, float]

    @property
    def relevance(self) -> float:
        """The sum of the shares."""
        return sum(self.shares.values())


def fuse(
    rankings: Mapping[str, Sequence[str]],
    weights: Mapping[str, float],
    start: int = 0,
    end: int | None = None,
) -> list[Fused]:
    """The documents of any ranking, best first; equal ones in order of their ids.

    Args:
        rankings: ids by name, best first, each once.
        weights: of the same names, not negative, at least one above 0.
        start: how many of the best documents to leave out.
        end: where to stop; None returns all that follow.
    """
    total = sum(weights[name] for name in rankings)
    shares = {
        name: {
            id: weights[name] / total * (_RANK_OFFSET + 1) / (_RANK_OFFSET + 1 + rank)
            for rank, id in enumerate(ranking)
        }
        for name, ranking in rankings.items()
    }
    relevance: dict[str, float] = {}
    for of_ranking in shares.values():
        for id, share in of_ranking.items():
            relevance[id] = relevance.get(id, 0.0) + share
    best = sorted(relevance, key=lambda id: (-relevance[id], id))[start:end]
    return [Fused(id, {name: shares[name].get(id, 0.0) for name in rankings}) for id in best]
