from datetime import UTC, datetime, timedelta

import pytest

from immr.search.ranking import RankingRecipe, freshness, rank
from immr.types import Candidate, ItemFeatures

NOW = datetime(2025, 6, 8, 12, tzinfo=UTC)


def candidate(item_id: str, cosine: float) -> Candidate:
    return Candidate(item_id, cosine, item_id.title(), "Fruit", f"{item_id}.jpg")


def clicked(ctr: float) -> ItemFeatures:
    return ItemFeatures(price=1.0, category="Fruit", impressions_7d=10, clicks_7d=1, ctr_7d=ctr)


def known(stock: float | None = None, age: timedelta | None = None) -> ItemFeatures:
    return ItemFeatures(1.0, "Fruit", 10, 1, 0.0, stock, NOW - age if age is not None else None)


def test_clicks_can_lift_an_item_above_a_slightly_closer_one() -> None:
    near, liked = candidate("apple", 0.50), candidate("pear", 0.49)
    recipe = RankingRecipe(cosine_weight=1.0, ctr_weight=0.1)
    assert [hit.item_id for hit in rank([near, liked], {}, recipe, 2, NOW)] == ["apple", "pear"]
    lifted = rank([near, liked], {"pear": clicked(0.3)}, recipe, 2, NOW)
    assert [hit.item_id for hit in lifted] == ["pear", "apple"]


def test_parts_add_up_to_the_score() -> None:
    (hit,) = rank([candidate("apple", 0.5)], {"apple": clicked(0.2)}, RankingRecipe(), 1, NOW)
    assert hit.score == pytest.approx(sum(hit.score_parts.values()))


def test_equal_scores_are_ordered_by_item_id() -> None:
    same = [candidate(name, 0.5) for name in ("c", "a", "b")]
    for order in (same, same[::-1]):
        assert [hit.item_id for hit in rank(order, {}, RankingRecipe(), 2, NOW)] == ["a", "b"]


def test_sold_out_items_drop_and_unknown_stock_changes_nothing() -> None:
    near, far = candidate("apple", 0.50), candidate("pear", 0.45)
    recipe = RankingRecipe(stock_weight=0.1)
    for stock, first in ((None, "apple"), (3.0, "apple"), (0.0, "pear")):
        hits = rank([near, far], {"apple": known(stock)}, recipe, 2, NOW)
        assert hits[0].item_id == first
    assert {hit.item_id: hit.score_parts["stock"] for hit in hits} == {"apple": -0.1, "pear": 0.0}


def test_freshness_lifts_new_items_by_weight_and_half_life() -> None:
    recipe = RankingRecipe(freshness_weight=0.2, freshness_half_life_days=10)
    features = {"old": known(age=timedelta(days=10)), "new": known(age=timedelta(0))}
    hits = rank([candidate("old", 0.5), candidate("new", 0.45)], features, recipe, 2, NOW)
    assert [(hit.item_id, hit.score_parts["freshness"]) for hit in hits] == [("new", 0.2), ("old", 0.1)]
    assert [hit.score for hit in hits] == pytest.approx([0.65, 0.6])


def test_freshness_of_unknown_future_and_very_old_times() -> None:
    assert freshness(None, NOW, 10) == 0.0
    assert freshness(NOW + timedelta(days=3), NOW, 10) == 1.0
    assert freshness(NOW - timedelta(days=10_000), NOW, 10) == pytest.approx(0.0)
