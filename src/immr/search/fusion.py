"""Reciprocal rank fusion: one ranking from several.

Cormack, Clarke and Büttcher, "Reciprocal Rank Fusion Outperforms Condorcet and Individual Rank Learning
Methods" (SIGIR 2009). Ranks rather than scores, because a cosine and a BM25 score have no common scale. It is
computed here and not by Qdrant, whose engines differ in their constant and in which of them take weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from immr.types import Candidate

_RANK_OFFSET = 60  # the paper's k


@dataclass(frozen=True, slots=True)
class Fused:
    """A candidate with its share of each ranking; the shares add up to 1 for the first of every ranking."""

    candidate: Candidate
    shares: Mapping[str, float]

    @property
    def relevance(self) -> float:
        """The sum of the shares."""
        return sum(self.shares.values())


def fuse(rankings: Mapping[str, Sequence[Candidate]], weights: Mapping[str, float]) -> list[Fused]:
    """Every candidate of any ranking, best first; equal ones in item_id order.

    Args:
        rankings: by name, best first, each item once.
        weights: of the same names, not negative, at least one above 0.
    """
    total = sum(weights[name] for name in rankings)
    candidates: dict[str, Candidate] = {}
    shares: dict[str, dict[str, float]] = {}
    for name, ranking in rankings.items():
        for rank, candidate in enumerate(ranking):
            candidates.setdefault(candidate.item_id, candidate)
            share = weights[name] / total * (_RANK_OFFSET + 1) / (_RANK_OFFSET + 1 + rank)
            shares.setdefault(candidate.item_id, dict.fromkeys(rankings, 0.0))[name] = share
    fused = [Fused(candidate, shares[item_id]) for item_id, candidate in candidates.items()]
    return sorted(fused, key=lambda each: (-each.relevance, each.candidate.item_id))
