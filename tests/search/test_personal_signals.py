import math

import numpy as np
import pytest

from immr.search.personal_signals import personal_names, personal_signals
from immr.types import AttributeKind, Candidate, ItemFeatures, UserFeatures

KINDS: dict[str, AttributeKind] = {"brand": "keyword", "size": "number"}
USER = UserFeatures(
    items=("a", "b", "a", "c"),
    categories=("Shoes/Red", "Shoes/Blue", "Shoes/Red", "Hats"),
    prices=(10.0, 10.0, 40.0, 40.0),
    attributes=({"brand": "x", "size": 41.0}, {"brand": "y", "size": 43.0}, {"brand": "x"}, {}),
)


def candidate(item_id: str, category: str, **attributes: str | float) -> Candidate:
    return Candidate(item_id, 0.5, "", category, "", attributes)


def of(one: Candidate, price: float | None = 40.0) -> dict[str, float]:
    known = {} if price is None else {one.item_id: ItemFeatures(price, one.category, 0, 0, 0.0)}
    [row] = personal_signals([one], known, USER, KINDS)
    return dict(zip(personal_names(KINDS), row.tolist(), strict=True))


def test_signals_compare_an_item_with_the_users_clicks() -> None:
    found = of(candidate("a", "Shoes/Red", brand="x", size=44.0))
    assert found == {
        "clicks": 4,
        "clicked_before": 2,
        "category_affinity": 0.5,
        "top_category_affinity": 0.75,
        "price_from_usual": pytest.approx(math.log(2)),
        "price_spread": pytest.approx(math.log(2)),
        "brand_affinity": pytest.approx(2 / 3),
        "size_from_usual": 2.0,
    }


def test_what_is_not_known_is_nan() -> None:
    found = of(candidate("new", "Bags"), price=None)
    assert found["clicked_before"] == found["category_affinity"] == 0
    assert np.isnan([found["price_from_usual"], found["brand_affinity"], found["size_from_usual"]]).all()
    assert of(candidate("new", "Bags", brand="z"))["brand_affinity"] == 0
    assert np.isnan(of(candidate("free", "Bags"), price=0.0)["price_from_usual"])


def test_no_candidates_give_no_rows() -> None:
    assert personal_signals([], {}, USER, KINDS).shape == (0, len(personal_names(KINDS)))


def test_what_a_user_clicked_is_not_in_the_text_of_the_features() -> None:
    assert "Shoes" not in repr(USER)
