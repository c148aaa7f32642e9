"""How candidates become hits: cosine blended with what shoppers did. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from immr.types import Candidate, Hit, ItemFeatures


@dataclass(frozen=True)
class RankingRecipe:
    """score = cosine_weight × cosine + ctr_weight × smoothed CTR."""

    cosine_weight: float = 1.0
    ctr_weight: float = 0.05


def rank(
    candidates: Sequence[Candidate], features: Mapping[str, ItemFeatures], recipe: RankingRecipe, k: int
) -> list[Hit]:
    """Best first; ties go to the smaller item_id, so that the order never depends on the engine."""
    hits = [_hit(candidate, features.get(candidate.item_id), recipe) for candidate in candidates]
    return sorted(hits, key=lambda hit: (-hit.score, hit.item_id))[:k]


def _hit(candidate: Candidate, features: ItemFeatures | None, recipe: RankingRecipe) -> Hit:
    parts = {
        "cosine": recipe.cosine_weight * candidate.cosine,
        "ctr": recipe.ctr_weight * features.ctr_7d if features else 0.0,
    }
    return Hit(
        item_id=candidate.item_id,
        score=sum(parts.values()),
        title=candidate.title,
        category=candidate.category,
        image=candidate.image,
        features=features,
        score_parts=parts,
    )
