from immr.search.facets import filtered, without
from immr.types import Condition, Filters

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
