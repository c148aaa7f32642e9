"""Step 4, rank: cosine blended with clicks, stock and freshness. Pure; the caller gives the time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter

from immr.types import Candidate, Hit, ItemFeatures, Positive, Share, SignedWeight, Weight

LEARNED = "learned"
"""The part of a score that a ranker adds."""
_DAY_S = 24 * 3600
_NOTHING_KNOWN = (0.0, 0.0, 0.0)


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

    cosine_weight: SignedWeight = 1.0
    words_weight: Weight = 1.0
    text_weight: Share = 0.1
    ctr_weight: SignedWeight = 0.05
    stock_weight: SignedWeight = 0.1
    freshness_weight: SignedWeight = 0.0
    freshness_half_life_days: Positive = 30.0


@dataclass(frozen=True)
class Ranking:
    """Orders the candidates of one query. Hits are built only for those that a page shows.

    Attributes:
        features: by item_id.
        recipe: the weights.
        now: from which freshness counts.
        shares: by item_id, of a query with words: the shares of the fused rankings, instead of the cosine.
        learned: by item_id, what a ranker adds to the score.
    """

    features: Mapping[str, ItemFeatures]
    recipe: RankingRecipe
    now: datetime
    shares: Mapping[str, Mapping[str, float]] | None = None
    learned: Mapping[str, float] | None = None

    def best_first(self, candidates: Iterable[Candidate]) -> list[Candidate]:
        """Equal scores in item_id order, so that the order does not depend on the index."""
        scored = [(-self._score(candidate), candidate.item_id, candidate) for candidate in candidates]
        scored.sort(key=itemgetter(0, 1))
        return [candidate for _, _, candidate in scored]

    def hit(self, candidate: Candidate) -> Hit:
        """The candidate with its score and the parts of the score."""
        item_id = candidate.item_id
        similarity = self.shares[item_id] if self.shares else {"cosine": candidate.cosine}
        ctr, stock, fresh = self._of_features(item_id)
        parts = {name: self.recipe.cosine_weight * share for name, share in similarity.items()}
        parts |= {"ctr": ctr, "stock": stock, "freshness": fresh}
        if self.learned is not None:
            parts[LEARNED] = self.learned[item_id]
        return Hit(
            item_id=item_id,
            score=self._score(candidate),
            title=candidate.title,
            category=candidate.category,
            image=candidate.image,
            attributes=candidate.attributes,
            features=self.features.get(item_id),
            score_parts=parts,
        )

    def _score(self, candidate: Candidate) -> float:
        item_id = candidate.item_id
        similarity = sum(self.shares[item_id].values()) if self.shares else candidate.cosine
        learned = 0.0 if self.learned is None else self.learned[item_id]
        return self.recipe.cosine_weight * similarity + sum(self._of_features(item_id)) + learned

    def _of_features(self, item_id: str) -> tuple[float, float, float]:
        """The parts for CTR, stock and freshness."""
        features, recipe = self.features.get(item_id), self.recipe
        if features is None:
            return _NOTHING_KNOWN
        stock = -recipe.stock_weight if features.stock == 0 else 0.0
        fresh = 0.0
        if recipe.freshness_weight:
            age = freshness(features.updated_at, self.now, recipe.freshness_half_life_days)
            fresh = recipe.freshness_weight * age
        return recipe.ctr_weight * features.ctr_7d, stock, fresh


def rank(
    candidates: Sequence[Candidate],
    features: Mapping[str, ItemFeatures],
    recipe: RankingRecipe,
    k: int,
    now: datetime,
    shares: Mapping[str, Mapping[str, float]] | None = None,
    learned: Mapping[str, float] | None = None,
) -> list[Hit]:
    """The hits of the best k candidates; for the other arguments, see `Ranking`."""
    ranking = Ranking(features, recipe, now, shares, learned)
    return [ranking.hit(candidate) for candidate in ranking.best_first(candidates)[:k]]


def freshness(updated_at: datetime | None, now: datetime, half_life_days: float) -> float:
    """1 for now or the future, 0.5 after one half-life, 0 if unknown."""
    if updated_at is None:
        return 0.0
    age_days = max(0.0, (now - updated_at).total_seconds() / _DAY_S)
    return float(0.5 ** (age_days / half_life_days))
