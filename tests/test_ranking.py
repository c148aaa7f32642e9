import pytest

from immr.ranking import RankingRecipe, rank
from immr.types import Candidate, ItemFeatures


def candidate(item_id: str, cosine: float) -> Candidate:
    return Candidate(item_id, cosine, item_id.title(), "Fruit", f"{item_id}.jpg")


def clicked(ctr: float) -> ItemFeatures:
    return ItemFeatures(price=1.0, category="Fruit", impressions_7d=10, clicks_7d=1, ctr_7d=ctr)


def test_clicks_can_lift_an_item_above_a_slightly_closer_one() -> None:
    near, liked = candidate("apple", 0.50), candidate("pear", 0.49)
    recipe = RankingRecipe(cosine_weight=1.0, ctr_weight=0.1)
    assert [hit.item_id for hit in rank([near, liked], {}, recipe, k=2)] == ["apple", "pear"]
    lifted = rank([near, liked], {"pear": clicked(0.3)}, recipe, k=2)
    assert [hit.item_id for hit in lifted] == ["pear", "apple"]


def test_parts_add_up_to_the_score() -> None:
    (hit,) = rank([candidate("apple", 0.5)], {"apple": clicked(0.2)}, RankingRecipe(), k=1)
    assert hit.score == pytest.approx(sum(hit.score_parts.values()))


def test_ties_do_not_depend_on_the_order_of_candidates() -> None:
    same = [candidate(name, 0.5) for name in ("c", "a", "b")]
    for order in (same, same[::-1]):
        assert [hit.item_id for hit in rank(order, {}, RankingRecipe(), k=2)] == ["a", "b"]
