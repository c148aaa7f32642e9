"""Step 4, rank: cosine blended with clicks, stock and freshness. Pure; the caller gives the time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from immr.types import Candidate, Hit, ItemFeatures

LEARNED = "learned"
"""The part of a score that a ranker adds."""
_DAY_S = 24 * 3600


@dataclass(frozen=True)
class RankingRecipe:
    """Weights of the parts that add up to a hit's score (ours).

    cosine: similarity to the query, in −1…1. A query with words has fused ranks in its place, in 0…1.
    words: weight of the ranking by words in that fusion; the ranking by embedding has the weight 1.
    text: share of the text in the embedding of a photo with a text, 0…1; versions with a text tower only.
    ctr: the item's CTR over 7 days, smoothed towards the mean.
    stock: −1 if the item is sold out, else 0; unknown stock counts as available.
    freshness: 1 for an item updated now, halved every `freshness_half_life_days`.
    """

    cosine_weight: float = 1.0
    words_weight: float = 1.0
    text_weight: float = 0.1
    ctr_weight: float = 0.05
    stock_weight: float = 0.1
    freshness_weight: float = 0.0
    freshness_half_life_days: float = 30.0


def rank(
    candidates: Sequence[Candidate],
    features: Mapping[str, ItemFeatures],
    recipe: RankingRecipe,
    k: int,
    now: datetime,
    shares: Mapping[str, Mapping[str, float]] | None = None,
    learned: Mapping[str, float] | None = None,
) -> list[Hit]:
    """The best k, best first; equal scores in item_id order, so that the order does not depend on the index.

    Args:
        candidates: what the index found.
        features: by item_id.
        recipe: the weights.
        k: at most so many.
        now: from which freshness counts.
        shares: by item_id, of a query with words: the shares of the fused rankings, instead of the cosine.
        learned: by item_id, what a ranker adds to the score.
    """
    hits = []
    for candidate in candidates:
        item_id = candidate.item_id
        similarity = shares[item_id] if shares else {"cosine": candidate.cosine}
        added = {} if learned is None else {LEARNED: learned[item_id]}
        hits.append(_hit(candidate, features.get(item_id), similarity, added, recipe, now))
    return sorted(hits, key=lambda hit: (-hit.score, hit.item_id))[:k]


def freshness(updated_at: datetime | None, now: datetime, half_life_days: float) -> float:
    """1 for now or the future, 0.5 after one half-life, 0 if unknown."""
    if updated_at is None:
        return 0.0
    age_days = max(0.0, (now - updated_at).total_seconds() / _DAY_S)
    return float(0.5 ** (age_days / half_life_days))


def _hit(
    candidate: Candidate,
    features: ItemFeatures | None,
    similarity: Mapping[str, float],
    added: Mapping[str, float],
    recipe: RankingRecipe,
    now: datetime,
) -> Hit:
    ctr = stock = fresh = 0.0
    if features is not None:
        ctr = recipe.ctr_weight * features.ctr_7d
        stock = -recipe.stock_weight if features.stock == 0 else 0.0
        if recipe.freshness_weight:
            age = freshness(features.updated_at, now, recipe.freshness_half_life_days)
            fresh = recipe.freshness_weight * age
    parts = {name: recipe.cosine_weight * share for name, share in similarity.items()}
    parts = {**parts, "ctr": ctr, "stock": stock, "freshness": fresh, **added}
    return Hit(
        item_id=candidate.item_id,
        score=sum(parts.values()),
        title=candidate.title,
        category=candidate.category,
        image=candidate.image,
        attributes=candidate.attributes,
        features=features,
        score_parts=parts,
    )
