from datetime import UTC, datetime, timedelta

import numpy as np

from immr.search.signals import names, signals
from immr.types import AttributeKind, Candidate, ItemFeatures

NOW = datetime(2026, 3, 1, tzinfo=UTC)
KINDS: dict[str, AttributeKind] = {"brand": "keyword", "size": "number"}


def candidate(item_id: str, cosine: float, category: str = "Fruit", **attributes: str | float) -> Candidate:
    return Candidate(item_id, cosine, "", category, "", attributes)


HEAD = [
    candidate("a", 0.9, brand="Nike", size=40.0),
    candidate("b", 0.8, brand="Puma"),
    candidate("c", 0.7, "Milk", brand="Nike"),
    candidate("d", 0.6),
]


def test_similarity_is_also_relative_to_the_best_and_to_the_head() -> None:
    (row,) = signals([HEAD[2]], [3], HEAD, {}, NOW, KINDS)
    found = dict(zip(names(KINDS), row, strict=True))
    assert (found["cosine"], found["first_rank"], found["category_share"]) == (0.7, 3, 0.25)
    assert np.isclose(found["cosine_behind"], 0.2)
    assert found["brand_share"] == 0.5


def test_what_is_unknown_is_nan() -> None:
    (row,) = signals([HEAD[3]], [4], HEAD, {}, NOW, KINDS)
    found = dict(zip(names(KINDS), row, strict=True))
    unknown = {name for name, value in found.items() if np.isnan(value)}
    assert unknown == {
        "price",
        "ctr_7d",
        "impressions_7d",
        "clicks_7d",
        "age_days",
        "brand_share",
        "size",
    }


def test_item_features_and_numbers_are_signals_themselves() -> None:
    known = ItemFeatures(9.5, "Fruit", 100, 7, 0.07, 0.0, NOW - timedelta(days=3))
    (row,) = signals([HEAD[0]], [1], HEAD, {"a": known}, NOW, KINDS)
    found = dict(zip(names(KINDS), row, strict=True))
    assert (found["price"], found["ctr_7d"], found["impressions_7d"], found["clicks_7d"]) == (
        9.5,
        0.07,
        100,
        7,
    )
    assert (found["age_days"], found["size"]) == (3, 40)


def test_an_item_that_has_changed_since_the_query_has_no_known_age() -> None:
    later = ItemFeatures(9.5, "Fruit", 100, 7, 0.07, None, NOW + timedelta(days=1))
    (row,) = signals([HEAD[0]], [1], HEAD, {"a": later}, NOW, {})
    assert np.isnan(row[names({}).index("age_days")])


def test_no_candidates_give_no_rows() -> None:
    assert signals([], [], [], {}, NOW, KINDS).shape == (0, len(names(KINDS)))


def test_a_list_is_no_signal_even_if_it_was_a_keyword_once() -> None:
    listed = Candidate("a", 0.5, "a", "Tea", "", {"shade": ["pale", "warm"]})
    found_NF = signals([listed], [1], [listed], {}, NOW, {"shade": "keyword"})
    assert np.isnan(found_NF[0, names({"shade": "keyword"}).index("shade_share")])
