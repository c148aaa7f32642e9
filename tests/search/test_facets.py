from __future__ import annotations

from typing import cast

import pytest

from immr.index.vector_index import Collection
from immr.search.facets import KEPT_S, RecentFacets, filtered, without
from immr.types import Condition, Facet, Filters

COLOUR, SIZE = Condition("colour", ("red",)), Condition("size", ("xl",))
FILTERS = Filters("Clothes", price_min=1.0, price_max=9.0, exclude="shirt", conditions=(COLOUR, SIZE))


def test_filtered_names_are_listed_once() -> None:
    assert filtered(FILTERS) == ["colour", "size", "category", "price"]
    assert filtered(Filters(conditions=(COLOUR, Condition("colour", ("blue",), negated=True)))) == ["colour"]
    assert filtered(Filters(exclude="shirt")) == []


def test_a_facet_counts_under_the_other_filters() -> None:
    assert without(FILTERS, "colour").conditions == (SIZE,)
    assert without(FILTERS, "category").category is None
    price = without(FILTERS, "price")
    assert (price.price_min, price.price_max) == (None, None)
    assert all(without(FILTERS, name).exclude == "shirt" for name in ("colour", "category", "price"))


class Counted:
    """A collection that counts how often it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Filters]] = []

    def facet(self, name: str, filters: Filters) -> Facet:
        if name == "unknown":
            raise KeyError(name)
        self.asked.append((name, filters))
        return Facet({"red": len(self.asked)})


def test_counts_are_read_again_when_they_are_old() -> None:
    collection, now = Counted(), [0.0]
    recent = RecentFacets(cast(Collection, collection), clock=lambda: now[0])
    assert recent.read("colour", FILTERS).counts == {"red": 1}
    other_colour = Filters("Clothes", 1.0, 9.0, "shirt", (Condition("colour", ("blue",)), SIZE))
    now[0] = KEPT_S - 0.1
    assert recent.read("colour", other_colour).counts == {"red": 1}  # its own filter does not count
    assert recent.read("size", FILTERS).counts == {"red": 2}
    now[0] = KEPT_S
    assert recent.read("colour", FILTERS).counts == {"red": 3}
    assert collection.asked[0] == ("colour", without(FILTERS, "colour"))


def test_an_unknown_attribute_is_an_error_every_time() -> None:
    recent = RecentFacets(cast(Collection, Counted()))
    for _ in range(2):
        with pytest.raises(KeyError):
            recent.read("unknown", FILTERS)
