"""Searches by words and embedding, whose rankings become one by reciprocal rank fusion.

Cormack, Clarke and Büttcher, "Reciprocal Rank Fusion Outperforms Condorcet and Individual Rank Learning
Methods" (SIGIR 2009). Ranks rather than scores, because a cosine and a BM25 score have no common scale. It is
computed here and not by Qdrant, whose engines differ in their constant and in which of them take weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from immr.index.vector_index import Collection
from immr.types import Candidate, Filters, FloatArray

_RANK_OFFSET = 60  # the paper's k
_FUSED_CANDIDATES = 200  # of each ranking, so that a search with photo and words has at most 400 hits


@dataclass(frozen=True, slots=True)
class Fused:
    """A document with its share of each ranking; the shares add up to 1 for the first of every ranking."""

    id: int
    shares: Mapping[str, float]

    @property
    def relevance(self) -> float:
        """The sum of the shares."""
        return sum(self.shares.values())


def ranked_by_words(collection: Collection, text: str, filters: Filters) -> list[int]:
    """The ranking by words that joins one by embedding: ids, best first.

    Raises:
        IndexUnavailableError: the vector database does not answer.
    """
    [ranking] = collection.matching_ids(text, _FUSED_CANDIDATES, [filters])
    return ranking


def search_fused(
    collection: Collection,
    embedding_D: FloatArray | None,
    text: str,
    by_words: Sequence[int] | None,
    filters: Filters,
    start: int,
    k: int,
    words_weight: float,
) -> tuple[list[Candidate], dict[str, Mapping[str, float]]]:
    """Documents by words, by embedding, or by both.

    The order of two rankings depends on how long they are, so their length is the same for all pages. Only the
    documents that are returned are read, which takes longer than ranking them.

    Args:
        collection: of the version.
        embedding_D: (D,) unit vector of the query; None searches by words alone.
        text: the words.
        by_words: their ranking, as `ranked_by_words` gave it; None searches for them.
        filters: which documents may be found.
        start: how many of the best documents to skip.
        k: the largest number to return.
        words_weight: of the ranking by words beside the one by embedding, whose weight is 1.

    Returns:
        The documents, best first, and their shares of each ranking by item_id.

    Raises:
        IndexUnavailableError: the vector database does not answer.
    """
    rankings: dict[str, Sequence[int]] = {}
    cosines: dict[int, float] = {}
    if embedding_D is not None:
        [cosines] = collection.similar_ids(embedding_D, _FUSED_CANDIDATES, [filters])
        rankings["embedding"] = list(cosines)
    if by_words is not None:
        rankings["words"] = by_words
    elif collection.has_words and rankings:
        rankings["words"] = ranked_by_words(collection, text, filters)
    elif collection.has_words:
        [rankings["words"]] = collection.matching_ids(text, start + k, [filters])
    weights = {"embedding": 1.0, "words": words_weight if len(rankings) > 1 else 1.0}
    fused = fuse(rankings, weights, start, start + k)
    found = collection.candidates({each.id: cosines.get(each.id, 0.0) for each in fused})
    there = [each for each in fused if each.id in found]  # others were deleted meanwhile
    shares = {found[each.id].item_id: each.shares for each in there}
    return [found[each.id] for each in there], shares


def fuse(
    rankings: Mapping[str, Sequence[int]],
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
    shares: dict[str, dict[int, float]] = {}
    relevance: dict[int, float] = {}
    for name, ranking in rankings.items():
        first = weights[name] / total * (_RANK_OFFSET + 1)
        shares[name] = {id: first / rank for rank, id in enumerate(ranking, _RANK_OFFSET + 1)}
        for id, share in shares[name].items():
            relevance[id] = relevance.get(id, 0.0) + share
    best = sorted(relevance)
    best.sort(key=relevance.__getitem__, reverse=True)  # stable: equal ones stay in order of their ids
    return [Fused(id, {name: shares[name].get(id, 0.0) for name in rankings}) for id in best[start:end]]
