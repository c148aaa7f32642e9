import numpy as np

from immr.ranking.doubts import by_part, doubts
from tests.ranking.test_propensity import EXAMINED_K, a_log


def test_one_curve_for_all_raises_no_doubt() -> None:
    rng = np.random.default_rng(0)
    item_R, position_R, clicked_R = a_log(rng)
    assert doubts(by_part(item_R, position_R, clicked_R, item_R, rng.random(len(item_R)))) == []


def test_a_bias_that_depends_on_the_query_is_found() -> None:
    rng = np.random.default_rng(0)
    item_R, position_R, _ = a_log(rng)
    cosine_R = rng.random(len(item_R))
    steep_R = np.where(cosine_R >= np.median(cosine_R), 1.0, 2.5)
    attractive_N = rng.beta(1, 3, item_R.max() + 1)
    clicked_R = rng.random(len(item_R)) < EXAMINED_K[position_R - 1] ** steep_R * attractive_N[item_R]
    (doubt,) = doubts(by_part(item_R, position_R, clicked_R, item_R, cosine_R))
    assert doubt.parts == ("clear photos", "unclear photos")
    assert "stronger for unclear photos" in str(doubt)


def test_halves_of_items_have_as_many_impressions() -> None:
    item_R = np.array([0] * 60 + [1] * 20 + [2] * 20 + [3] * 20)
    parts = by_part(item_R, np.ones(120, dtype=int), np.ones(120, dtype=bool), item_R, np.ones(120))
    assert {"popular items", "other items"} <= parts.keys()
